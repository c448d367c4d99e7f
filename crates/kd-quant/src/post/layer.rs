//! A quantised layer in two graphs: the float one and the one with quantisers.

use burn::tensor::{Tensor, TensorData};
use kd_graph::{Activation, Binary, Edit, Graph, GraphError, NodeId, Op, Value};

use super::pairs::host;
use crate::QuantError;
use crate::analysis::Distortion;
use crate::data::{numbers, tensor};
use crate::plan::{Quantizer, Site, sites};

/// A convolution or linear layer whose weight is quantised.
pub(super) struct Layer {
    /// Its number among these layers.
    pub index: usize,
    /// The node, in both graphs.
    pub node: NodeId,
    pub name: String,
    /// The parameter behind the quantiser.
    pub weight: NodeId,
    pub path: String,
    pub bias: Option<NodeId>,
    pub site: Site,
    /// Shape of the weight.
    pub shape: Vec<usize>,
    pub op: Op,
    /// Output channels.
    pub channels: usize,
}

/// Layers with a quantised weight of their own, in execution order. A weight that several read belongs to the first.
pub(super) fn layers(graph: &Graph) -> Result<Vec<Layer>, QuantError> {
    let sites = sites(graph)?;
    let mut layers: Vec<Layer> = Vec::new();
    for (node, of) in graph.nodes() {
        let (Op::Conv(_) | Op::Linear) = of.op() else { continue };
        let &[_, weight, ref bias @ ..] = of.inputs() else { continue };
        let Some(site) = sites.iter().find(|site| site.node == weight) else { continue };
        let Some(parameter) = site.weight else { continue };
        if layers.iter().any(|layer| layer.weight == parameter) {
            continue;
        }
        let held = graph.node(parameter)?;
        let shape = held.output().shape.at(1);
        let channels = match of.op() {
            Op::Linear => shape.get(1),
            _ => shape.first(),
        };
        layers.push(Layer {
            index: layers.len(),
            node,
            name: of.name().to_owned(),
            weight: parameter,
            path: held.name().to_owned(),
            bias: bias.first().copied(),
            site: site.clone(),
            channels: channels.copied().unwrap_or(0),
            shape,
            op: of.op().clone(),
        });
    }
    Ok(layers)
}

impl Layer {
    /// The weights as rows, one per output channel: what the layer computes with, masks applied.
    ///
    /// # Errors
    /// [`QuantError::Plan`] for weights that are computed otherwise than by masks.
    pub fn rows(&self, graph: &Graph) -> Result<Vec<f32>, QuantError> {
        let wrong = |why: String| QuantError::Plan { name: self.path.clone(), why };
        let values = masked(graph, self.site.source)?;
        let values = values
            .ok_or_else(|| wrong("is computed otherwise than by a mask; fold that before".to_owned()))?;
        Ok(self.turned(&values))
    }

    /// Between the weight's own order and rows of output channels; for a matrix the two are each other's transpose.
    fn turned(&self, values: &[f32]) -> Vec<f32> {
        match (&self.op, self.shape.as_slice()) {
            (Op::Linear, &[inputs, outputs]) => transposed(values, inputs, outputs),
            _ => values.to_vec(),
        }
    }

    /// Puts rows of weights in place of the parameter's.
    pub fn set_rows(&self, edit: &mut Edit, rows: Vec<f32>) -> Result<(), GraphError> {
        let values = match (&self.op, self.shape.as_slice()) {
            (Op::Linear, &[inputs, outputs]) => transposed(&rows, outputs, inputs),
            _ => rows,
        };
        edit.set_value(self.weight, TensorData::new(values, self.shape.clone()))
    }

    /// The bounds of the rectifier or clamp that alone reads the layer's result.
    pub fn rectifier(&self, graph: &Graph) -> Option<[f32; 2]> {
        let mut users = graph.users(self.node);
        let (Some((_, next)), None) = (users.next(), users.next()) else { return None };
        match next.op() {
            _ if graph.outputs().contains(&self.node) => None,
            Op::Activation(Activation::Relu) => Some([0.0, f32::INFINITY]),
            Op::Clamp { min, max } if min <= max => Some([*min as f32, *max as f32]),
            _ => None,
        }
    }

    /// The numbers of the quantiser's parameters.
    pub fn parameters(&self, graph: &Graph) -> Vec<Vec<f32>> {
        let of =
            |id: &NodeId| graph.value(*id).map(|value| value.iter::<f32>().collect()).unwrap_or_default();
        self.site.parameters.iter().map(of).collect()
    }

    /// Rows as their quantiser gives them.
    ///
    /// # Errors
    /// As [`Quantizer::quantize`].
    pub fn quantised(&self, graph: &Graph, rows: &[f32]) -> Result<Vec<f32>, QuantError> {
        let device = host();
        // Methods with a second weight beside the first are none of post-training's.
        let vector = |values: Vec<f32>| {
            let length = values.len();
            Value::from(tensor::<1>(values, [length], &device))
        };
        let parameters: Vec<Value> = self.parameters(graph).into_iter().map(vector).collect();
        let width = rows.len() / self.channels.max(1);
        let x: Tensor<2> = tensor(rows.to_vec(), [self.channels, width], &device);
        numbers("the quantised weight", self.site.quantizer.quantize(x, &parameters)?)
    }

    /// Whether a row's block of scales does not depend on other rows' places: what rounding by rows needs.
    pub fn uniform(&self) -> Option<crate::plan::Uniform> {
        match &self.site.quantizer {
            Quantizer::Uniform(uniform) => Some(*uniform),
            _ => None,
        }
    }
}

/// Signal to noise in decibel.
pub(super) fn sqnr(signal: &[f32], noisy: &[f32]) -> Result<f64, QuantError> {
    let device = host();
    let of = |values: &[f32]| tensor::<1>(values.to_vec(), [values.len()], &device);
    Ok(Distortion::of(of(signal), of(noisy))?.sqnr)
}

fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let column = |column: usize| values.iter().skip(column).step_by(columns.max(1)).take(rows).copied();
    (0..columns).flat_map(column).collect()
}

/// A parameter times its masks, or none for anything else.
fn masked(graph: &Graph, id: NodeId) -> Result<Option<Vec<f32>>, GraphError> {
    let node = graph.node(id)?;
    match (node.op(), node.inputs()) {
        (Op::Parameter { .. }, _) => Ok(graph.value(id).map(|value| value.iter::<f32>().collect())),
        (Op::Binary(Binary::Mul), &[a, b]) => Ok(match (masked(graph, a)?, masked(graph, b)?) {
            (Some(a), Some(b)) if a.len() == b.len() => Some(a.iter().zip(b).map(|(a, b)| a * b).collect()),
            _ => None,
        }),
        _ => Ok(None),
    }
}
