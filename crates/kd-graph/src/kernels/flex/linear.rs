//! Fully connected layers.

use burn_flex::FlexTensor;
use kd_kernels::linear::{Linear, WeightLayout};

use super::{dense, filled, numbers};
use crate::kernels::pooled::POOL;

/// Rows, inputs and outputs of `x [rows, in] · weight [in, out]`.
fn layer(x: &FlexTensor, weight: &FlexTensor) -> Linear {
    let size = |tensor: &FlexTensor, axis: usize| tensor.layout().shape().get(axis).copied().unwrap_or(0);
    let layout = WeightLayout::InputsFirst;
    Linear { rows: size(x, 0), inputs: size(weight, 0), outputs: size(weight, 1), layout }
}

pub(super) fn forward(
    x: &FlexTensor,
    weight: &FlexTensor,
    bias: Option<&FlexTensor>,
    relu: bool,
) -> FlexTensor {
    let layer = layer(x, weight);
    let (x, weight, bias) = (x.to_contiguous(), weight.to_contiguous(), bias.map(FlexTensor::to_contiguous));
    let y = filled(layer.rows * layer.outputs, |y| {
        layer.forward(numbers(&x), numbers(&weight), bias.as_ref().map(numbers), relu, y)
    });
    dense(y, [layer.rows, layer.outputs])
}

pub(super) fn gradients(
    x: &FlexTensor,
    weight: &FlexTensor,
    dy: &FlexTensor,
    [wants_x, wants_weight, wants_bias]: [bool; 3],
) -> [Option<FlexTensor>; 3] {
    let layer = layer(x, weight);
    let Linear { rows, inputs, outputs, .. } = layer;
    let [x, weight, dy] = [x, weight, dy].map(FlexTensor::to_contiguous);
    let dx = wants_x.then(|| {
        let dx = filled(rows * inputs, |dx| layer.input_gradient(numbers(&dy), numbers(&weight), dx));
        dense(dx, [rows, inputs])
    });
    let dw = wants_weight.then(|| {
        let dw = filled(inputs * outputs, |dw| layer.weight_gradient(numbers(&x), numbers(&dy), dw));
        dense(dw, [inputs, outputs])
    });
    let db = wants_bias.then(|| {
        let db = filled(outputs, |db| layer.bias_gradient(numbers(&dy), db, &POOL));
        dense(db, [outputs])
    });
    [dx, dw, db]
}
