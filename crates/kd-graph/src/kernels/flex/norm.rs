//! Batch normalisation by the batch's statistics.

use burn_flex::FlexTensor;
use kd_kernels::norm::{BatchNorm, Gate, Gradients, Statistics, statistics};

use super::{Norm, SavedNorm, channels_last, dense, dims, filled, images, numbers};
use crate::kernels::pooled::{Buffer, POOL};

pub(super) fn forward(
    x: FlexTensor,
    gamma: &FlexTensor,
    beta: &FlexTensor,
    residual: Option<FlexTensor>,
    norm: Norm,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let [_, channels, ..] = dims(&x);
    let rows = channels_last(x.clone());
    let mut variance = Buffer::new(channels);
    let mean = filled(channels, |mean| statistics(numbers(&rows), mean, variance.slice(), &POOL));
    let (mean, variance) = (dense(mean, [channels]), dense(variance, [channels]));
    let y = apply(&x, [gamma, beta, &mean, &variance], residual, norm);
    (y, mean, variance)
}

/// `relu?(norm(x) (+ residual))` with the statistics given: `parts` are gamma, beta, mean, variance.
pub(super) fn apply(
    x: &FlexTensor,
    parts: [&FlexTensor; 4],
    residual: Option<FlexTensor>,
    norm: Norm,
) -> FlexTensor {
    let shape = dims(x);
    let (x, residual) = (channels_last(x.clone()), residual.map(channels_last));
    let parts = parts.map(FlexTensor::to_contiguous);
    let y = filled(numbers(&x).len(), |y| {
        let residual = residual.as_ref().map(numbers);
        with(&parts, norm).forward(numbers(&x), residual, norm.relu, y, &POOL)
    });
    images(y, shape)
}

fn with([gamma, beta, mean, variance]: &[FlexTensor; 4], norm: Norm) -> BatchNorm<'_> {
    BatchNorm {
        gamma: numbers(gamma),
        beta: numbers(beta),
        mean: numbers(mean),
        variance: numbers(variance),
        epsilon: norm.epsilon as f32,
    }
}

pub(super) fn gradients(
    saved: SavedNorm<burn::backend::Flex>,
    dy: FlexTensor,
    wants_residual: bool,
) -> [Option<FlexTensor>; 4] {
    let SavedNorm { x, gamma, beta, mean, variance, y, norm } = saved;
    let shape = dims(&x);
    let [_, channels, ..] = shape;
    let (x, y) = (channels_last(x), y.map(channels_last));
    let parts = [gamma, beta, mean, variance].map(|part| part.to_contiguous());
    let gate = match &y {
        Some(y) => Gate::Output(numbers(y)),
        None if norm.relu => Gate::Recomputed,
        None => Gate::Open,
    };
    // Without a rectifier the residual's gradient is `dy` itself.
    let passed = (wants_residual && !norm.relu).then(|| dy.clone());
    let dy = channels_last(dy);
    let len = numbers(&x).len();
    let mut residual = (wants_residual && norm.relu).then(|| Buffer::new(len));
    let (mut gamma, mut beta) = (Buffer::new(channels), Buffer::new(channels));
    let dx = filled(len, |dx| {
        let gradients = Gradients {
            x: dx,
            residual: residual.as_mut().map(Buffer::slice),
            gamma: gamma.slice(),
            beta: beta.slice(),
        };
        let norm = with(&parts, norm);
        norm.backward(numbers(&x), numbers(&dy), gate, Statistics::Batch, gradients, &POOL)
    });
    let residual = residual.map(|residual| images(residual, shape)).or(passed);
    let [gamma, beta] = [gamma, beta].map(|part| Some(dense(part, [channels])));
    [Some(images(dx, shape)), gamma, beta, residual]
}
