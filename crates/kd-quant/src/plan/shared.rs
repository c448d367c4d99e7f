//! Weights that share a few trained values.

use burn::tensor::Tensor;
use kd_graph::Value;

use crate::QuantError;
use crate::data::tensor;
use crate::sharing::{Codebook, KMeans};

/// Centroids, and the code of every element in the weight's shape: -1 for a zero, which stays one.
pub(super) fn start<const D: usize>(x: Tensor<D>, kmeans: KMeans) -> Result<Vec<Value>, QuantError> {
    let device = x.device();
    let book = Codebook::fit_by(&x, kmeans)?;
    let codes = book.codes().iter().map(|code| code.map_or(-1.0, |code| code as f32)).collect();
    Ok(vec![book.centroids(&device).into(), tensor(codes, x.dims(), &device).into()])
}

/// The weight of these centroids; theirs are the summed gradients of the elements that share them.
pub(super) fn weight<const D: usize>(centroids: Tensor<1>, codes: Tensor<D>) -> Tensor<D> {
    let shape = codes.dims();
    let elements: usize = shape.iter().product();
    let codes = codes.detach().reshape([elements]);
    let kept = codes.clone().greater_equal_scalar(0.0).float();
    let chosen = centroids.select(0, codes.clamp_min(0.0).int());
    (chosen * kept).reshape(shape)
}
