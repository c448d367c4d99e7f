//! Tensor helpers that several losses share. All have finite gradients everywhere.

use burn::tensor::Tensor;
use burn::tensor::module::adaptive_avg_pool2d;

use crate::term::TermError;

/// The smallest norm that rows are divided by unless a loss says otherwise, as in PyTorch's `normalize`.
pub(super) const EPSILON: f64 = 1e-12;

/// The square root, with gradient zero instead of infinite at zero.
pub(super) fn safe_sqrt<const D: usize>(square: Tensor<D>) -> Tensor<D> {
    let zero = square.clone().lower_equal_elem(0.0);
    square.mask_fill(zero.clone(), 1.0).sqrt().mask_fill(zero, 0.0)
}

/// Euclidean norm of every row, `[rows, columns]` to `[rows]`; the gradient at a zero row is zero.
pub(super) fn row_norms(rows: Tensor<2>) -> Tensor<1> {
    safe_sqrt(rows.square().sum_dim(1)).squeeze_dim::<1>(1)
}

/// Divides along `dim` by `max(norm, epsilon)`: zero vectors stay zero.
pub(super) fn l2_normalize<const D: usize>(tensor: Tensor<D>, dim: usize, epsilon: f64) -> Tensor<D> {
    let square = tensor.clone().square().sum_dim(dim);
    let floor = (epsilon * epsilon).max(f64::from(f32::MIN_POSITIVE));
    tensor / square.clamp_min(floor).sqrt()
}

/// $|x|^p$; the gradient at zero is zero, also for $p \le 1$.
pub(super) fn abs_power<const D: usize>(tensor: Tensor<D>, p: f64) -> Tensor<D> {
    if p == 1.0 {
        return tensor.abs();
    }
    if p == 2.0 {
        return tensor.square();
    }
    let zero = tensor.clone().equal_elem(0.0);
    tensor.abs().mask_fill(zero.clone(), 1.0).powf_scalar(p).mask_fill(zero, 0.0)
}

/// $x^p$ for a whole $p$, negative where $x$ is negative and $p$ odd; $\mathrm{sign}(x)|x|^p$ for a broken one.
pub(super) fn signed_power<const D: usize>(tensor: Tensor<D>, p: f64) -> Tensor<D> {
    if p == 1.0 {
        return tensor;
    }
    let magnitude = abs_power(tensor.clone(), p);
    if p % 2.0 == 0.0 { magnitude } else { magnitude * tensor.sign().detach() }
}

/// The larger of two maps, average-pooled to the size of the smaller. The higher map is the larger; among equally high ones the wider.
pub(super) fn pool_larger(left: Tensor<4>, right: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
    let size = |map: &Tensor<4>| {
        let [_, _, height, width] = map.dims();
        [height, width]
    };
    let (ours, theirs) = (size(&left), size(&right));
    match ours.cmp(&theirs) {
        std::cmp::Ordering::Greater => (adaptive_avg_pool2d(left, theirs), right),
        std::cmp::Ordering::Less => (left, adaptive_avg_pool2d(right, ours)),
        std::cmp::Ordering::Equal => (left, right),
    }
}

/// Refuses maps of which one is higher and the other wider: neither can be pooled to the other.
pub(super) fn poolable(what: &str, left: &[usize], right: &[usize]) -> Result<(), TermError> {
    let (Some([height, width]), Some([their_height, their_width])) = (left.get(2..4), right.get(2..4)) else {
        let advice = "both must be maps `[batch, channel, height, width]`";
        return TermError::same_shape(what, left, right, advice);
    };
    if (height >= their_height && width >= their_width) || (height <= their_height && width <= their_width) {
        return Ok(());
    }
    let advice = "one map is higher and the other wider: choose taps of which one can be pooled to the other";
    TermError::same_shape(what, &[*height, *width], &[*their_height, *their_width], advice)
}

/// The largest number in every window of `[batch, channel, h, w]`, with the windows of adaptive average pooling.
pub(super) fn adaptive_max_pool2d(map: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    let [_, _, height, width] = map.dims();
    let rows = adaptive_max(map, 2, height, size[0]);
    adaptive_max(rows, 3, width, size[1])
}

fn adaptive_max(map: Tensor<4>, dim: usize, from: usize, to: usize) -> Tensor<4> {
    if from == to {
        return map;
    }
    let window = |i: usize| {
        let (start, end) = (i * from / to, ((i + 1) * from).div_ceil(to));
        map.clone().narrow(dim, start, end - start).max_dim(dim)
    };
    Tensor::cat((0..to).map(window).collect(), dim)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::tensor::{Device, Int, Tolerance};

    fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn zero_vectors_have_zero_norm_zero_direction_and_zero_gradient() {
        let device = Device::flex().autodiff();
        let rows = Tensor::<2>::from_floats([[0.0, 0.0], [3.0, 4.0]], &device).require_grad();
        assert_eq!(numbers(row_norms(rows.clone())), [0.0, 5.0]);
        let unit = l2_normalize(rows.clone(), 1, EPSILON);
        assert_eq!(numbers(unit.clone()), [0.0, 0.0, 0.6, 0.8]);
        let grads = (row_norms(rows.clone()).sum() + unit.square().sum()).backward();
        let gradient = rows.grad(&grads).unwrap().into_data();
        gradient.assert_approx_eq::<f32>(
            &Tensor::<2>::from_floats([[0.0, 0.0], [0.6, 0.8]], &device).into_data(),
            Tolerance::absolute(1e-6),
        );
    }

    #[test]
    fn powers_have_the_sign_and_the_gradient_of_their_formula() {
        let device = Device::flex().autodiff();
        for p in [0.5, 1.0, 2.0, 3.0, 2.5] {
            let x = Tensor::<1>::from_floats([-2.0, 0.0, 2.0], &device).require_grad();
            let value = abs_power(x.clone(), p);
            let gradient = numbers(x.grad(&value.clone().sum().backward()).unwrap());
            let slope = (p * 2f64.powf(p - 1.0)) as f32;
            for (ours, exact) in gradient.iter().zip([-slope, 0.0, slope]) {
                assert!((ours - exact).abs() < 1e-5 * slope, "p = {p}: {gradient:?}");
            }
            let signed = numbers(signed_power(x, p));
            let expected = if p == 2.0 { 1.0 } else { -1.0 };
            assert_eq!(signed[0] / numbers(value)[0], expected, "p = {p}");
        }
    }

    #[test]
    fn max_pooling_takes_overlapping_windows_where_sizes_do_not_divide() {
        let map = Tensor::<1, Int>::arange(0..15, &Device::flex()).float().reshape([1, 1, 3, 5]);
        let pooled = adaptive_max_pool2d(map, [2, 2]);
        assert_eq!(numbers(pooled), [7.0, 9.0, 12.0, 14.0]);
    }

    #[test]
    fn only_the_larger_map_is_pooled() {
        let device = Device::flex();
        let (small, large) =
            (Tensor::<4>::ones([1, 2, 3, 3], &device), Tensor::<4>::ones([1, 5, 4, 6], &device));
        let (left, right) = pool_larger(large, small);
        assert_eq!((left.dims(), right.dims()), ([1, 5, 3, 3], [1, 2, 3, 3]));
        assert!(poolable("maps", &[1, 1, 4, 2], &[1, 1, 2, 4]).is_err());
    }
}
