//! Bringing feature maps to a common size.

use burn::tensor::Tensor;
use burn::tensor::module::adaptive_avg_pool2d;

use crate::term::TermError;

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
    use burn::tensor::{Device, Int};

    #[test]
    fn max_pooling_takes_overlapping_windows_where_sizes_do_not_divide() {
        let map = Tensor::<1, Int>::arange(0..15, &Device::flex()).float().reshape([1, 1, 3, 5]);
        let pooled = adaptive_max_pool2d(map, [2, 2]);
        assert_eq!(pooled.into_data().try_to_vec::<f32>().unwrap(), [7.0, 9.0, 12.0, 14.0]);
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
