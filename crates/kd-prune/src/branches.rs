//! Whole layers of which nothing is left: branches that add a constant.

use std::collections::BTreeSet;

use burn::tensor::Device;
use kd_graph::{Binary, Graph, NodeId, Op, Role};

use crate::absorb::Responses;
use crate::subject::value;
use crate::{Array, PruneError};

/// Sums of which one side does not depend on the input get that side as a parameter, and the layers that computed it go. Where the branch adds zero, the sum
/// goes altogether. Returns the names of the sums.
///
/// This is what structured sparsity learning calls depth: Wen et al., *Learning Structured Sparsity in Deep Neural Networks* (2016), on residual networks. A branch is
/// cut off from the input by a layer whose weight is all zero, or by a normalisation whose scale is; a mask that prunes everything counts as well. What
/// the branch still adds are shifts. They are found by running the network, in evaluation, on `device`.
///
/// ```
/// use burn::tensor::{Device, TensorData};
/// use kd_graph::{Binary, Graph, Op, Role, Shape, TensorType};
/// use kd_prune::remove_constant_branches;
///
/// let mut graph = Graph::new();
/// let x = graph.input("x", TensorType::float(Shape::batched([2])))?;
/// let weight = graph.parameter("fc.weight", Role::Weight, TensorData::zeros::<f32, _>([2, 2]))?;
/// let branch = graph.add("fc", Op::Linear, &[x, weight])?;
/// let sum = graph.add("sum", Op::Binary(Binary::Add), &[x, branch])?;
/// graph.set_outputs(&[sum])?;
/// assert_eq!(remove_constant_branches(&mut graph, &Device::flex())?, ["sum"]);
/// assert_eq!(graph.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`PruneError::Run`] when the network can't be run.
pub fn remove_constant_branches(graph: &mut Graph, device: &Device) -> Result<Vec<String>, PruneError> {
    let mut removed = Vec::new();
    // One after the other: a sum may be part of a branch itself.
    while let Some((sum, side)) = constant_branch(graph, None)? {
        let node = graph.node(sum)?;
        let name = node.name().to_owned();
        let inputs = [side, 1 - side].map(|input| node.inputs().get(input).copied().unwrap_or(sum));
        let [branch, other] = inputs;
        let constant = constant(graph, device, branch)?;
        let path = graph.free_name(&format!("{name}.constant"));
        let zero = constant.values().iter().all(|value| *value == 0.0);
        graph.edit(|edit| {
            if zero {
                edit.rewire(sum, 0, other)?;
                return edit.remove(sum);
            }
            let constant = edit.add_parameter(&path, Role::Weight, constant.to_data())?;
            edit.rewire(sum, side, constant)
        })?;
        graph.remove_dead()?;
        removed.push(name);
    }
    Ok(removed)
}

/// Whether a shortcut carries on what a weight no longer does: [`remove_constant_branches`] would remove layers if all of the weight were zero.
///
/// # Errors
/// [`GraphError::UnknownName`](kd_graph::GraphError::UnknownName) with the nearest names.
pub fn has_shortcut(graph: &Graph, weight: &str) -> Result<bool, PruneError> {
    let weight = graph.find(weight)?;
    Ok(constant_branch(graph, Some(weight))?.is_some())
}

/// A sum with a side that is computed but does not depend on the input, and which side that is. One more parameter may be taken for zero.
fn constant_branch(
    graph: &Graph,
    taken_for_zero: Option<NodeId>,
) -> Result<Option<(NodeId, usize)>, PruneError> {
    let (mut constant, mut zero) = (BTreeSet::new(), BTreeSet::new());
    for (id, node) in graph.nodes() {
        let inputs = node.inputs();
        let is_in =
            |set: &BTreeSet<NodeId>, side: usize| inputs.get(side).is_some_and(|input| set.contains(input));
        if *node.op() == Op::Binary(Binary::Add) {
            let wide = |side: usize| {
                let input = inputs.get(side).and_then(|id| graph.node(*id).ok());
                input.is_some_and(|input| !input.op().is_leaf() && input.output() == node.output())
            };
            // What stays is as wide as the sum, or the sum has something to do.
            let stays = |side: usize| {
                let input = inputs.get(side).and_then(|id| graph.node(*id).ok());
                input.is_some_and(|input| input.output() == node.output())
            };
            let found = (0..2).find(|side| {
                is_in(&constant, *side) && !is_in(&constant, 1 - side) && wide(*side) && stays(1 - side)
            });
            if let Some(side) = found {
                return Ok(Some((id, side)));
            }
        }
        let is_zero = match node.op() {
            op if op.holds_tensor() => {
                Some(id) == taken_for_zero
                    || value(graph, node.name()).is_ok_and(|data| data.values().iter().all(|x| *x == 0.0))
            }
            Op::Binary(Binary::Mul) => is_in(&zero, 0) || is_in(&zero, 1),
            _ => false,
        };
        let is_cut = match node.op() {
            Op::Conv(_) | Op::ConvTranspose(_) | Op::Linear | Op::BatchNorm(_) => is_in(&zero, 1),
            _ => false,
        };
        if is_zero {
            zero.insert(id);
        }
        let all = !inputs.is_empty() && (0..inputs.len()).all(|side| is_in(&constant, side));
        if node.op().holds_tensor() || is_zero || is_cut || all {
            constant.insert(id);
        }
    }
    Ok(None)
}

/// What a node gives for any input, of the shape `[1, channels, 1, ..]` if it is the same at all positions.
fn constant(graph: &Graph, device: &Device, node: NodeId) -> Result<Array, PruneError> {
    let responses = Responses::of(graph, device, &[node], 1)?;
    let channels = responses.constants(0, Some(1)).into_iter().collect::<Option<Vec<f64>>>();
    match (channels, responses.first.into_iter().next()) {
        (Some(channels), Some(response)) => {
            let axes = response.shape().len();
            let shape: Vec<usize> =
                (0..axes).map(|axis| if axis == 1 { channels.len() } else { 1 }).collect();
            Array::new(shape, channels.into_iter().map(|value| value as f32).collect())
        }
        (None, Some(response)) => Ok(response),
        (_, None) => Ok(Array::empty()),
    }
}
