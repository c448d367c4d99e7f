//! What a layer's rounded weights are to reproduce.

use burn::tensor::{Device, Tensor};

use super::patches::Patches;
use crate::data::tensor;

/// The function behind a layer, between two bounds the identity, and the layer's bias in front of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Behind {
    pub low: f32,
    pub high: f32,
    /// One for each output channel of the group.
    pub bias: Vec<f32>,
}

/// The squared error of a layer's output, as a function of its weights `[channels, width]`.
pub(super) struct Target {
    /// The Gram matrix of the inputs `[width, width]`: the error is a quadratic form, whatever the number of places. Behind a function, the inputs.
    inputs: Tensor<2>,
    /// The outputs' correlation with the inputs `[channels, width]`. Behind a function, the outputs there.
    outputs: Tensor<2>,
    /// The bias `[1, channels]` and the bounds of the function behind.
    behind: Option<(Tensor<2>, [f32; 2])>,
}

impl Target {
    pub fn new(patches: &Patches, device: &Device) -> Self {
        let n = patches.rows();
        let x: Tensor<2> = tensor(patches.inputs.clone(), [n, patches.width], device);
        let y: Tensor<2> = tensor(patches.outputs.clone(), [n, patches.channels], device);
        let Some(Behind { low, high, bias }) = &patches.behind else {
            let inputs = x.clone().transpose().matmul(x.clone()) / n as f64;
            return Self { inputs, outputs: y.transpose().matmul(x) / n as f64, behind: None };
        };
        let bias: Tensor<2> = tensor(bias.clone(), [1, patches.channels], device);
        let outputs = (y + bias.clone()).clamp(*low, *high);
        Self { inputs: x, outputs, behind: Some((bias, [*low, *high])) }
    }

    /// The mean error of a place, but for a constant; `[1]`.
    pub fn loss(&self, weights: Tensor<2>) -> Tensor<1> {
        let (inputs, outputs) = (self.inputs.clone(), self.outputs.clone());
        let Some((bias, [low, high])) = &self.behind else {
            let product = weights.clone().matmul(inputs);
            return (weights * (product - outputs * 2.0)).sum();
        };
        let [places, _] = inputs.dims();
        let ours = (inputs.matmul(weights.transpose()) + bias.clone()).clamp(*low, *high);
        (ours - outputs).square().sum() / places.max(1) as f64
    }
}
