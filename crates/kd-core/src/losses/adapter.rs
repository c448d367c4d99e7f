//! A learned 1×1 convolution from the student's channels to the teacher's, made only where they differ.

use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Distribution, Tensor};

use crate::term::{Probe, TermError, TermParams};

/// Makes the adapter called `name` if the channel counts differ: `[to, from]`, uniform as in He et al. 2015.
pub(super) fn init(
    name: &str,
    [from, to]: [usize; 2],
    probe: &Probe,
    params: &mut TermParams<'_>,
) -> Result<(), TermError> {
    if from == to {
        return Ok(());
    }
    let bound = (6.0 / from.max(1) as f64).sqrt();
    params.insert(name, Tensor::<2>::random([to, from], Distribution::Uniform(-bound, bound), &probe.device))
}

/// `map` `[batch, from, h, w]` with `to` channels, through the adapter called `name` where the counts differ.
pub(super) fn apply(
    name: &str,
    map: Tensor<4>,
    to: usize,
    params: &TermParams<'_>,
) -> Result<Tensor<4>, TermError> {
    let [_, from, ..] = map.dims();
    if from == to {
        return Ok(map);
    }
    let weight = params.get::<2>(name)?;
    let [to, from] = weight.dims();
    Ok(conv2d(map, weight.reshape([to, from, 1, 1]), None, ConvOptions::new([1, 1], [0, 0], [1, 1], 1)))
}
