//! Tensor helpers that several losses share. All have finite gradients everywhere.

use burn::tensor::Tensor;

/// The smallest norm that vectors are divided by unless a loss says otherwise, as in PyTorch's `normalize`.
pub(super) const EPSILON: f64 = 1e-12;

/// The square root, with gradient zero instead of infinite at zero.
pub(super) fn safe_sqrt<const D: usize>(square: Tensor<D>) -> Tensor<D> {
    let zero = square.clone().lower_equal_elem(0.0);
    square.mask_fill(zero.clone(), 1.0).sqrt().mask_fill(zero, 0.0)
}

/// Euclidean norm along `dim`, which stays with size 1; the gradient at a zero vector is zero.
pub(super) fn norm<const D: usize>(x: Tensor<D>, dim: usize) -> Tensor<D> {
    safe_sqrt(x.square().sum_dim(dim))
}

/// Euclidean norm of every row, `[rows, columns]` to `[rows]`.
pub(super) fn row_norms(rows: Tensor<2>) -> Tensor<1> {
    norm(rows, 1).squeeze_dim::<1>(1)
}

/// Vectors along `dim` divided by `max(norm, epsilon)`. Zero vectors stay zero and take no gradient: they have no direction to turn.
pub(super) fn unit<const D: usize>(x: Tensor<D>, dim: usize, epsilon: f64) -> Tensor<D> {
    let norm = norm(x.clone(), dim);
    let zero = norm.clone().lower_equal_elem(0.0);
    x * norm.mask_fill(zero.clone(), 1.0).clamp_min(epsilon).recip().mask_fill(zero, 0.0)
}

/// `$|x|^p$`; the gradient at zero is zero, also for `$p \le 1$`.
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

/// `$x^p$` for a whole `$p$`, negative where `$x$` is negative and `$p$` odd; `$\mathrm{sign}(x)|x|^p$` for a broken one.
pub(super) fn signed_power<const D: usize>(tensor: Tensor<D>, p: f64) -> Tensor<D> {
    if p == 1.0 {
        return tensor;
    }
    let magnitude = abs_power(tensor.clone(), p);
    if p % 2.0 == 0.0 { magnitude } else { magnitude * tensor.sign().detach() }
}

/// The same numbers as a constant, also where `x` is a leaf of the autodiff graph.
pub(super) fn constant<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.detach().set_require_grad(false)
}

/// `$\log \sum \exp$` along `axis`, which stays with size 1.
pub(super) fn log_sum_exp<const D: usize>(x: Tensor<D>, axis: usize) -> Tensor<D> {
    let top = constant(x.clone().max_dim(axis));
    (x - top.clone()).exp().sum_dim(axis).log() + top
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::tensor::{Device, Tolerance};

    fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn zero_vectors_have_zero_norm_zero_direction_and_zero_gradient() {
        let device = Device::flex().autodiff();
        let rows = Tensor::<2>::from_floats([[0.0, 0.0], [3.0, 4.0]], &device).require_grad();
        assert_eq!(numbers(row_norms(rows.clone())), [0.0, 5.0]);
        for epsilon in [EPSILON, 1e-30] {
            let unit = unit(rows.clone(), 1, epsilon);
            let expected = Tensor::<2>::from_floats([[0.0, 0.0], [0.6, 0.8]], &device).into_data();
            unit.clone().into_data().assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-6));
            // d(x / |x|) along the first axis: (y², -xy) / |x|³.
            let first = unit.narrow(1, 0, 1).sum();
            let gradient = numbers(rows.grad(&(first + row_norms(rows.clone()).sum()).backward()).unwrap());
            assert_eq!(gradient[..2], [0.0, 0.0]);
            let exact = [16.0 / 125.0 + 0.6, -12.0 / 125.0 + 0.8];
            assert!(gradient[2..].iter().zip(exact).all(|(g, e)| (g - e).abs() < 1e-6), "{gradient:?}");
        }
    }

    #[test]
    fn a_vector_shorter_than_epsilon_is_divided_by_epsilon() {
        let rows = Tensor::<2>::from_floats([[3e-9, 4e-9]], &Device::flex());
        let numbers = numbers(unit(rows, 1, 1e-8));
        assert!((numbers[0] - 0.3).abs() < 1e-6 && (numbers[1] - 0.4).abs() < 1e-6, "{numbers:?}");
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
    fn a_constant_copy_of_a_leaf_takes_no_gradient() {
        let device = Device::flex().autodiff();
        let x = Tensor::<1>::from_floats([2.0], &device).require_grad();
        let value = x.clone() * constant(x.clone());
        let gradient = x.grad(&value.backward()).unwrap().into_scalar::<f32>();
        assert_eq!(gradient, 2.0);
    }

    #[test]
    fn log_sum_exp_of_large_scores_is_finite() {
        let x = Tensor::<2>::from_floats([[-3000.0, -3000.0]], &Device::flex());
        let value = log_sum_exp(x, 1).into_scalar::<f32>();
        assert!((value - (-3000.0 + 2f32.ln())).abs() < 1e-3, "{value}");
    }
}
