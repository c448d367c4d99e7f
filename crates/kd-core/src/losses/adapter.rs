//! Learned 1×1 convolutions from the student's channels to the teacher's.

use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Distribution, Tensor};

use crate::term::{Probe, TermError, TermParams};

/// A new weight `[to, from]`, uniform as in He et al. 2015.
pub(super) fn weight([from, to]: [usize; 2], device: &Device) -> Tensor<2> {
    let bound = (6.0 / from.max(1) as f64).sqrt();
    Tensor::random([to, from], Distribution::Uniform(-bound, bound), device)
}

/// `map` `[batch, from, h, w]` by `weight` `[to, from]`, position by position.
pub(super) fn project(map: Tensor<4>, weight: Tensor<2>) -> Tensor<4> {
    let [to, from] = weight.dims();
    conv2d(map, weight.reshape([to, from, 1, 1]), None, ConvOptions::new([1, 1], [0, 0], [1, 1], 1))
}

/// Makes the adapter called `name` if the channel counts differ.
pub(super) fn init(
    name: &str,
    [from, to]: [usize; 2],
    probe: &Probe,
    params: &mut TermParams<'_>,
) -> Result<(), TermError> {
    if from == to { Ok(()) } else { params.insert(name, weight([from, to], &probe.device)) }
}

/// `map` `[batch, from, h, w]` with `to` channels, through the adapter called `name` where the counts differ.
pub(super) fn apply(
    name: &str,
    map: Tensor<4>,
    to: usize,
    params: &TermParams<'_>,
) -> Result<Tensor<4>, TermError> {
    let [_, from, ..] = map.dims();
    if from == to { Ok(map) } else { Ok(project(map, params.get(name)?)) }
}
