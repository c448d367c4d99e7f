//! What removed channels still gave to the layers that read them: constants, which belong in a bias.

use std::collections::BTreeSet;

use burn::tensor::{Device, TensorData};
use kd_graph::{Graph, GraphError, GraphModule, Kind, Node, NodeId, Op, Position, Role, Value};

use crate::subject::value;
use crate::{Array, PruneError, PrunePlan};

/// Images that tell whether a channel is constant.
const IMAGES: usize = 8;

/// How far a channel's value may differ from place to place, and from input to input, to count as constant; relative to the value, or to 1.
const CONSTANT: f32 = 1e-5;

/// What became of the constants that a layer read from removed channels.
#[derive(Clone, Debug, PartialEq)]
pub struct Absorbed {
    /// Name of the layer that read them.
    pub layer: String,
    /// The largest change of its bias.
    pub shift: f32,
    /// Whether the layer computes what it did.
    pub exactness: Exactness,
}

/// Whether a layer computes the same with a bias in the place of constant channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exactness {
    /// Everywhere.
    Exact,
    /// But at the border, where a convolution saw zeros instead of the constant.
    Interior,
    /// No: at least one channel was not constant, or the layer is one whose bias can't be changed. Such channels are lost.
    Lost,
}

impl PrunePlan {
    /// As [`apply`](Self::apply), and what the removed channels still gave goes into the layers that read them.
    ///
    /// A channel whose scale $\gamma_c$ is small is removed as if it were zero. Its shift $\beta_c$ is not: behind a ReLU the channel is the constant
    /// $r_c = \max(0, \beta_c)$, and every layer that read it gets
    ///
    /// $$b_o \leftarrow b_o + \sum_c r_c \sum_k w_{o c k}$$
    ///
    /// in its bias, or takes it off the running mean of the normalisation behind it. What a channel gives is found by running the network on
    /// two batches, as it is and with the scales at zero, so that it does not matter what lies between: poolings, reshapes, sums. For a linear layer,
    /// and a convolution without zero padding, the result computes exactly what the network did with channels that are constant as it is (all
    /// weights of the filter are zero, say), and with zero scales for the others. `device` is where the network is run.
    ///
    /// # Errors
    /// As [`apply`](Self::apply), and [`PruneError::Run`] when the network can't be run.
    pub fn absorb(&self, graph: &Graph, device: &Device) -> Result<(Graph, Vec<Absorbed>), PruneError> {
        let mut smaller = self.apply(graph)?;
        let removed = self.removed(graph)?;
        let dependencies = graph.dependencies();
        let lost = |id: NodeId, axis: usize| gone(dependencies.kept(id, axis, &removed), graph, id, axis);
        let mut readers = Vec::new();
        for (id, node) in graph.nodes() {
            if let Some(reader) = Reader::of(node)
                && let channels = lost(reader.weight, reader.inputs)
                && !channels.is_empty()
            {
                readers.push((id, node, reader, channels));
            }
        }
        let taps: Vec<NodeId> =
            readers.iter().flat_map(|(_, _, reader, _)| [reader.source, reader.weight]).collect();
        let silent = without_scales(graph, &removed)?;
        let as_it_is = Responses::of(graph, device, &taps, IMAGES)?;
        let silenced = Responses::of(&silent, device, &taps, IMAGES)?;
        let mut report = Vec::new();
        for (index, (id, node, reader, channels)) in readers.into_iter().enumerate() {
            let (source, weight) = (2 * index, 2 * index + 1);
            let outputs = lost(reader.weight, reader.outputs);
            let found = [&as_it_is, &silenced].map(|responses| responses.constants(source, reader.channels));
            let Some(weight) = as_it_is.first.get(weight) else { continue };
            let (shift, constant) = reader.shift(&found, weight, &channels);
            let kept: Vec<f32> = shift
                .iter()
                .enumerate()
                .filter(|(output, _)| !outputs.contains(output))
                .map(|(_, shift)| *shift)
                .collect();
            let largest = kept.iter().fold(0.0f32, |largest, shift| largest.max(shift.abs()));
            let taken = largest == 0.0 || reader.whole && add_to_bias(&mut smaller, id, &kept)?;
            let exactness = match (constant && taken, reader.padded && largest > 0.0) {
                (false, _) => Exactness::Lost,
                (true, false) => Exactness::Exact,
                (true, true) => Exactness::Interior,
            };
            report.push(Absorbed { layer: node.name().to_owned(), shift: largest, exactness });
        }
        Ok((smaller, report))
    }
}

/// A layer that sums over channels.
struct Reader {
    source: NodeId,
    weight: NodeId,
    /// The weight's axes.
    inputs: usize,
    outputs: usize,
    /// The channels' axis of what it reads, from the front; none is the last.
    channels: Option<usize>,
    /// Whether zeros are seen beyond the border.
    padded: bool,
    /// Whether every output sees every channel.
    whole: bool,
}

impl Reader {
    fn of(node: &Node) -> Option<Self> {
        let [source, weight, ..] = *node.inputs() else { return None };
        Some(match node.op() {
            Op::Linear => {
                Self { source, weight, inputs: 0, outputs: 1, channels: None, padded: false, whole: true }
            }
            Op::Conv(conv) => Self {
                source,
                weight,
                inputs: 1,
                outputs: 0,
                channels: Some(1),
                padded: conv.padding.iter().any(|padding| *padding != (0, 0)),
                whole: conv.groups == 1,
            },
            _ => return None,
        })
    }

    /// What every output gets from some channels, and whether all of these are constant: as the network is, or else with zero scales.
    fn shift(&self, found: &[Vec<Option<f64>>; 2], weight: &Array, channels: &[usize]) -> (Vec<f32>, bool) {
        let constant = |channel: usize| found.iter().find_map(|found| *found.get(channel)?);
        let all = channels.iter().all(|channel| constant(*channel).is_some());
        let size = weight.shape().get(self.inputs).copied().unwrap_or(0);
        let gives =
            |channel| if channels.contains(&channel) { constant(channel).unwrap_or(0.0) } else { 0.0 };
        let gives: Vec<f64> = (0..size).map(gives).collect();
        let mut shift = vec![0.0f64; weight.shape().get(self.outputs).copied().unwrap_or(0)];
        let along = |axis| weight.along(axis).into_iter().flatten();
        for ((input, output), w) in along(self.inputs).zip(along(self.outputs)).zip(weight.values()) {
            if let (Some(constant), Some(sum)) = (gives.get(input), shift.get_mut(output)) {
                *sum += f64::from(*w) * constant;
            }
        }
        (shift.into_iter().map(|shift| shift as f32).collect(), all)
    }
}

/// What some nodes compute in evaluation on two batches.
pub(crate) struct Responses {
    pub first: Vec<Array>,
    pub second: Vec<Array>,
}

impl Responses {
    pub(crate) fn of(
        graph: &Graph,
        device: &Device,
        taps: &[NodeId],
        batch: usize,
    ) -> Result<Self, PruneError> {
        let [first, second] = [0, 1].map(|which| responses(graph, device, taps, which, batch));
        Ok(Self { first: first?, second: second? })
    }

    /// The value of every index of an axis (the last one, if none is named) of a node, where that is the same everywhere.
    pub(crate) fn constants(&self, tap: usize, axis: Option<usize>) -> Vec<Option<f64>> {
        let (Some(first), Some(second)) = (self.first.get(tap), self.second.get(tap)) else {
            return Vec::new();
        };
        let axis = axis.unwrap_or(first.shape().len().saturating_sub(1));
        let mut range =
            vec![(f32::INFINITY, f32::NEG_INFINITY); first.shape().get(axis).copied().unwrap_or(0)];
        for values in [first, second] {
            for (index, value) in values.along(axis).into_iter().flatten().zip(values.values()) {
                if let Some((low, high)) = range.get_mut(index) {
                    (*low, *high) = (low.min(*value), high.max(*value));
                }
            }
        }
        let constant = |(low, high): (f32, f32)| {
            (high - low <= CONSTANT * high.abs().max(1.0)).then_some(0.5 * (f64::from(low) + f64::from(high)))
        };
        range.into_iter().map(constant).collect()
    }
}

/// The indices of an axis that are not kept.
fn gone(kept: Option<Vec<usize>>, graph: &Graph, id: NodeId, axis: usize) -> Vec<usize> {
    let size = graph.node(id).ok().and_then(|node| node.output().shape.at(1).get(axis).copied());
    let (Some(kept), Some(size)) = (kept, size) else { return Vec::new() };
    let kept: BTreeSet<usize> = kept.into_iter().collect();
    (0..size).filter(|index| !kept.contains(index)).collect()
}

/// The network with zeros in the scales of removed channels; their shifts stay.
fn without_scales(graph: &Graph, removed: &BTreeSet<Position>) -> Result<Graph, PruneError> {
    let dependencies = graph.dependencies();
    let mut scales = Vec::new();
    for (_, node) in graph.nodes().filter(|(_, node)| matches!(node.op(), Op::BatchNorm(_))) {
        let Some(&gamma) = node.inputs().get(1) else { continue };
        let lost = gone(dependencies.kept(gamma, 0, removed), graph, gamma, 0);
        if !lost.is_empty() && graph.value(gamma).is_some() {
            let mut channel = 0..;
            let scale = value(graph, graph.node(gamma)?.name())?.map_in_order(|scale| {
                if channel.next().is_some_and(|c| lost.contains(&c)) { 0.0 } else { scale }
            });
            scales.push((gamma, scale));
        }
    }
    let mut silent = graph.clone();
    silent.edit(|edit| scales.iter().try_for_each(|(id, scale)| edit.set_value(*id, scale.to_data())))?;
    Ok(silent)
}

/// What some nodes compute in evaluation on one of two batches: one of equal images, or one of patterns.
fn responses(
    graph: &Graph,
    device: &Device,
    taps: &[NodeId],
    which: usize,
    batch: usize,
) -> Result<Vec<Array>, PruneError> {
    let device = device.clone().without_autodiff();
    let mut inputs = Vec::new();
    for &id in graph.inputs() {
        let node = graph.node(id)?;
        let shape = node.output().shape.at(batch);
        let numbers =
            (0..shape.iter().product::<usize>()).map(|i| (which * (i * 7919 % 97)) as f32 / 48.0 - 1.0);
        let data = TensorData::new(numbers.collect::<Vec<_>>(), shape);
        inputs.push(input(node, data, &device)?);
    }
    let (_, values) = GraphModule::new(graph.clone(), &device)?.run_tapped(inputs, taps)?;
    values.iter().map(|value| Array::from_data(&value.data()?)).collect()
}

/// A tensor of an input's kind and rank.
fn input(node: &Node, data: TensorData, device: &Device) -> Result<Value, PruneError> {
    use burn::tensor::{Int, Tensor};
    let rank = data.shape().len();
    let refused = || {
        let reason =
            "a network with such an input can't be run to find out what its channels give".to_owned();
        PruneError::Shape {
            what: format!("the input `{}`", node.name()),
            shape: data.shape().to_vec(),
            reason,
        }
    };
    macro_rules! of {
        ($($rank:literal)*) => {
            match (node.output().kind, rank) {
                $((Kind::Float, $rank) => Ok(Tensor::<$rank>::from_data(data, device).into()),)*
                // The first token, or class: an index that is always there.
                $((Kind::Int, $rank) => {
                    Ok(Tensor::<$rank, Int>::zeros(data.shape().clone(), device).into())
                })*
                _ => Err(refused()),
            }
        };
    }
    of!(1 2 3 4 5)
}

/// Adds numbers to a layer's bias, or takes them off the mean of the normalisation behind it. False if there is neither place.
pub(crate) fn add_to_bias(graph: &mut Graph, layer: NodeId, shift: &[f32]) -> Result<bool, PruneError> {
    let node = graph.node(layer)?.clone();
    let alone = |graph: &Graph, id: NodeId| graph.users(id).count() == 1 && graph.value(id).is_some();
    let changed = |graph: &Graph, id: NodeId, sign: f32| -> Result<TensorData, PruneError> {
        let old = value(graph, graph.node(id)?.name())?;
        Ok(old.zip(&Array::new(old.shape(), shift.to_vec())?, |old, shift| old + sign * shift)?.to_data())
    };
    if let Some(&bias) = node.inputs().get(2) {
        if !alone(graph, bias) {
            return Ok(false);
        }
        let data = changed(graph, bias, 1.0)?;
        graph.edit(|edit| edit.set_value(bias, data))?;
        return Ok(true);
    }
    let users: Vec<_> = graph.users(layer).collect();
    if let [(_, norm)] = users.as_slice()
        && matches!(norm.op(), Op::BatchNorm(_))
        && let Some(&mean) = norm.inputs().get(3)
        && norm.inputs().first() == Some(&layer)
        && alone(graph, mean)
    {
        let data = changed(graph, mean, -1.0)?;
        graph.edit(|edit| edit.set_value(mean, data))?;
        return Ok(true);
    }
    let inputs: Vec<NodeId> = node.inputs().to_vec();
    let name = graph.free_name(&format!("{}.bias", node.name()));
    let data = TensorData::new(shift.to_vec(), [shift.len()]);
    graph.edit(|edit| {
        let bias = edit.add_parameter(&name, Role::Weight, data)?;
        let inputs: Vec<_> = inputs.into_iter().chain([bias]).collect();
        edit.replace(layer, node.op().clone(), &inputs)
    })?;
    Ok::<_, GraphError>(true).map_err(PruneError::from)
}
