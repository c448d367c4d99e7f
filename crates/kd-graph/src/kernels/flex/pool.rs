//! Pooling.

use burn_flex::FlexTensor;
use kd_kernels::KernelError;
use kd_kernels::pool::{Pool2d, Window};

use super::{Pooling, channels_last, dims, filled, images, numbers};

/// The windows of a pooling over `x [n, c, h, w]`.
fn windows([batch, channels, height, width]: [usize; 4], pooling: &Pooling) -> Result<Pool2d, KernelError> {
    let input = [height, width];
    match *pooling {
        Pooling::Max { kernel, stride, padding, dilation } => {
            Pool2d::new(batch, input, channels, Window { kernel, stride, padding, dilation })
        }
        Pooling::Average { kernel, stride, padding, .. } => {
            Pool2d::new(batch, input, channels, Window { kernel, stride, padding, dilation: [1; 2] })
        }
        Pooling::Adaptive { size } => Pool2d::adaptive(batch, input, channels, size),
    }
}

/// Sizes of the result in burn's order; 0 where the pooling is impossible.
fn output(windows: &Result<Pool2d, KernelError>, [batch, channels, ..]: [usize; 4]) -> [usize; 4] {
    let [_, height, width, _] = windows.as_ref().map_or([0; 4], Pool2d::output_shape);
    [batch, channels, height, width]
}

fn counts_padding(pooling: &Pooling) -> bool {
    matches!(pooling, Pooling::Average { count_padding: true, .. })
}

pub(super) fn forward(x: FlexTensor, pooling: &Pooling) -> FlexTensor {
    let windows = windows(dims(&x), pooling);
    let shape = output(&windows, dims(&x));
    let x = channels_last(x);
    let y = filled(shape.iter().product(), |y| match pooling {
        Pooling::Max { .. } => windows?.max(numbers(&x), y),
        _ => windows?.average(numbers(&x), counts_padding(pooling), y),
    });
    images(y, shape)
}

/// As [`forward`], with the place that won in every window of a maximum.
pub(super) fn forward_with_winners(x: FlexTensor, pooling: &Pooling) -> (FlexTensor, Option<Vec<u16>>) {
    if !matches!(pooling, Pooling::Max { .. }) {
        return (forward(x, pooling), None);
    }
    let windows = windows(dims(&x), pooling);
    let shape = output(&windows, dims(&x));
    let x = channels_last(x);
    let mut winners = vec![0; shape.iter().product()];
    let y = filled(winners.len(), |y| windows?.max_with_winners(numbers(&x), y, &mut winners));
    (images(y, shape), Some(winners))
}

pub(super) fn gradient(
    dy: FlexTensor,
    input: [usize; 4],
    pooling: &Pooling,
    winners: Option<&[u16]>,
) -> FlexTensor {
    let windows = windows(input, pooling);
    let dy = channels_last(dy);
    let dx = filled(input.iter().product(), |dx| match winners {
        Some(winners) => windows?.max_backward(numbers(&dy), winners, dx),
        None => windows?.average_backward(numbers(&dy), counts_padding(pooling), dx),
    });
    images(dx, input)
}
