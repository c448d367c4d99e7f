//! A learned 1×1 convolution without bias, then batch normalisation, from the student's channels to the teacher's.

use burn::tensor::Tensor;
use burn::tensor::module::batch_norm_train;

use super::adapter;
use crate::term::{Probe, TermError, TermParams};

/// What the batch's variance is enlarged by, as in every public batch normalisation.
pub(super) const EPSILON: f64 = 1e-5;

/// Makes the connector of `tap`: `<tap>.connector.weight` `[to, from]` (uniform as in He et al. 2015), `.gamma` and `.beta` `[to]`.
pub(super) fn init(
    tap: &str,
    [from, to]: [usize; 2],
    probe: &Probe,
    params: &mut TermParams<'_>,
) -> Result<(), TermError> {
    params.insert(&format!("{tap}.connector.weight"), adapter::weight([from, to], &probe.device))?;
    params.insert(&format!("{tap}.connector.gamma"), Tensor::<1>::ones([to], &probe.device))?;
    params.insert(&format!("{tap}.connector.beta"), Tensor::<1>::zeros([to], &probe.device))
}

/// `map` `[batch, from, h, w]` through the connector of `tap`.
pub(super) fn apply(tap: &str, map: Tensor<4>, params: &TermParams<'_>) -> Result<Tensor<4>, TermError> {
    let part = |part: &str| format!("{tap}.connector.{part}");
    let norm = [params.get::<1>(&part("gamma"))?, params.get::<1>(&part("beta"))?];
    Ok(connect(map, params.get(&part("weight"))?, norm, EPSILON))
}

/// `map` `[batch, from, h, w]` by `weight` `[to, from]`, normalised by the batch's own statistics; `gamma`, `beta`: `[to]`.
pub(super) fn connect(
    map: Tensor<4>,
    weight: Tensor<2>,
    [gamma, beta]: [Tensor<1>; 2],
    epsilon: f64,
) -> Tensor<4> {
    batch_norm_train(adapter::project(map, weight), gamma, beta, epsilon).output
}
