//! The float network beside the quantised one.

use burn::tensor::{Device, Tensor};
use kd_graph::{Graph, GraphModule, NodeId, Op, Value};

use super::bias_correction_without_data;
use super::layer::Layer;
use super::pairs::host;
use crate::QuantError;
use crate::data::{numbers, tensor};
use crate::plan::kernels;
use burn::tensor::TensorData;

/// The float network and what both are shown.
pub(super) struct Beside<'a> {
    pub float: &'a Graph,
    pub batches: &'a [Vec<Value>],
    pub device: &'a Device,
}

/// Numbers with their shape.
pub(super) type Array = (Vec<f32>, Vec<usize>);

/// The part of a network that a node needs, with that node as its result.
pub(super) fn up_to(graph: &Graph, node: NodeId, device: &Device) -> Result<GraphModule, QuantError> {
    let mut part = graph.clone();
    part.set_outputs(&[node])?;
    part.remove_dead()?;
    let kernels = kernels(&part)?;
    GraphModule::with_kernels(part, device, &kernels)
        .map_err(|error| QuantError::Run { why: error.to_string() })
}

/// The result of a network of one result.
pub(super) fn result(module: &GraphModule, batch: &[Value]) -> Result<Array, QuantError> {
    let failed = |why: String| QuantError::Run { why };
    let outputs = module.run(batch.to_vec()).map_err(|error| failed(error.to_string()))?;
    let output = outputs.first().ok_or_else(|| failed("it has no result".to_owned()))?;
    let data = output.data().map_err(|error| failed(error.to_string()))?;
    Ok((data.iter::<f32>().collect(), output.shape()))
}

/// What quantisation did to a layer's output, added up.
#[derive(Clone, Debug)]
pub(super) struct Errors {
    /// Of `float - quantised`, by channel.
    sums: Vec<f64>,
    /// Values of a channel.
    count: f64,
    signal: f64,
    noise: f64,
}

impl Errors {
    /// The mean of every channel: what its bias lacks.
    pub fn means(&self) -> Vec<f64> {
        self.sums.iter().map(|sum| sum / self.count.max(1.0)).collect()
    }

    /// Signal to noise in decibel, without the noise that a corrected bias takes back.
    pub fn sqnr(&self, corrected: bool) -> f64 {
        let taken: f64 = self.sums.iter().map(|sum| sum * sum / self.count.max(1.0)).sum();
        let noise = if corrected { (self.noise - taken).max(0.0) } else { self.noise };
        if noise > 0.0 { 10.0 * (self.signal / noise).log10() } else { f64::INFINITY }
    }
}

impl Beside<'_> {
    /// Compares a layer's output in both networks.
    pub fn errors(&self, quantised: &Graph, layer: &Layer) -> Result<Errors, QuantError> {
        let (float, now) =
            (up_to(self.float, layer.node, self.device)?, up_to(quantised, layer.node, self.device)?);
        let channels = layer.channels.max(1);
        let mut errors = Errors { sums: vec![0.0; channels], count: 0.0, signal: 0.0, noise: 0.0 };
        for batch in self.batches {
            let ((y, shape), (q, _)) = (result(&float, batch)?, result(&now, batch)?);
            crate::data::check_finite("the output of a layer", &y)?;
            // Channels are the second axis of a convolution's output, the last of a linear layer's.
            let inner: usize = match layer.op {
                Op::Linear => 1,
                _ => shape.iter().skip(2).product(),
            };
            for (at, (y, q)) in y.iter().zip(&q).enumerate() {
                let (y, error) = (f64::from(*y), f64::from(*y) - f64::from(*q));
                if let Some(sum) = errors.sums.get_mut(at / inner.max(1) % channels) {
                    *sum += error;
                }
                errors.signal += y * y;
                errors.noise += error * error;
            }
            errors.count += (y.len() / channels) as f64;
        }
        Ok(errors)
    }
}

/// Adds to a layer's bias; the largest change, or why it can't be.
pub(super) fn add_to_bias(
    graph: &mut Graph,
    layer: &Layer,
    shift: &[f64],
) -> Result<Result<f64, String>, QuantError> {
    let Some(bias) = layer.bias else { return Ok(Err("it has no bias to correct".to_owned())) };
    let (Some(value), 1) = (graph.value(bias), graph.users(bias).count()) else {
        return Ok(Err("its bias is computed, or read elsewhere too".to_owned()));
    };
    let new: Vec<f32> = value.iter::<f64>().zip(shift).map(|(bias, shift)| (bias + shift) as f32).collect();
    let length = new.len();
    graph.edit(|edit| edit.set_value(bias, TensorData::new(new, [length])))?;
    Ok(Ok(shift.iter().fold(0.0, |largest, shift| shift.abs().max(largest))))
}

/// What a bias lacks if a layer's input has these means by channel.
pub(super) fn shift_without_data(
    layer: &Layer,
    float: &[f32],
    quantised: &[f32],
    means: &[f64],
) -> Result<Vec<f64>, QuantError> {
    let device = host();
    let groups = match &layer.op {
        Op::Conv(conv) => conv.groups.max(1),
        _ => 1,
    };
    let (channels, inputs) = (layer.channels / groups, means.len() / groups);
    let part = (float.len() / groups).max(1);
    let window = part / (channels * inputs).max(1);
    let mut shift = Vec::with_capacity(layer.channels);
    for ((float, quantised), means) in
        float.chunks(part).zip(quantised.chunks(part)).zip(means.chunks(inputs.max(1)))
    {
        let weight =
            |values: &[f32]| -> Tensor<3> { tensor(values.to_vec(), [channels, inputs, window], &device) };
        if float.len() != channels * inputs * window {
            let (got, wanted) = (means.len(), float.len() / channels.max(1));
            return Err(QuantError::Length { what: "the means of the layer's input", got, wanted });
        }
        let means: Vec<f32> = means.iter().map(|&mean| mean as f32).collect();
        let means: Tensor<1> = tensor(means, [inputs], &device);
        let of_group = bias_correction_without_data(weight(float), weight(quantised), means)?;
        shift.extend(numbers("the correction", of_group)?.into_iter().map(f64::from));
    }
    Ok(shift)
}
