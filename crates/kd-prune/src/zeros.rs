//! Zeros that can be removed physically: channels that nobody makes or nobody reads, and branches that add a constant.

use std::collections::BTreeSet;

use burn::tensor::Device;
use kd_graph::{Binary, Dependencies, Graph, Group, Member, NodeId, Op, Position, Role, Side};

use crate::absorb::Responses;
use crate::subject::{readers, value};
use crate::{Array, PruneError, PrunePlan};

/// The positions of which all weights that make them, or all weights that read them, are exactly zero. Of every group one position stays.
///
/// What is made by zero weights is a constant: [`PrunePlan::absorb`] gives it to the layers that read it, so that removing changes nothing. What nobody reads
/// is of no consequence. Group lasso, gates that are closed, and masks that hit whole units leave such positions.
///
/// # Errors
/// [`PruneError::Shape`] for a weight that can't be read.
pub fn zero_positions(graph: &Graph, dependencies: &Dependencies) -> Result<BTreeSet<Position>, PruneError> {
    let mut removed = BTreeSet::new();
    for group in dependencies.groups().iter().filter(|group| group.unprunable().is_none()) {
        let [made, read] = [Side::Output, Side::Input].map(|side| dead(graph, group, side));
        let (made, read) = (made?, read?);
        let free = |index: &usize| group.fixed.get(*index).is_some_and(Option::is_none);
        let is = |dead: &[bool], index: usize| dead.get(index).copied().unwrap_or(false);
        let mut going: Vec<usize> =
            (0..group.len()).filter(free).filter(|&index| is(&made, index) || is(&read, index)).collect();
        if going.len() == group.len() {
            going.pop();
        }
        removed.extend(going.into_iter().map(|index| group.position(index)));
    }
    Ok(removed)
}

/// A plan that removes [`zero_positions`].
///
/// # Errors
/// As [`zero_positions`] and [`PrunePlan::new`].
pub fn plan_zeros(graph: &Graph) -> Result<PrunePlan, PruneError> {
    let removed = zero_positions(graph, &graph.dependencies())?;
    PrunePlan::new(graph, removed)
}

/// For every position, whether there are weights on this side and all of them are zero.
fn dead(graph: &Graph, group: &Group, side: Side) -> Result<Vec<bool>, PruneError> {
    let mut seen = vec![(false, true); group.len()];
    for member in group.members.iter().filter(|member| member.side == side && is_weight(graph, member)) {
        let sums = value(graph, &member.parameter)?.sums(member.axis, |w| f64::from(w.abs()));
        let sums = sums.unwrap_or_default();
        for ((any, zero), indices) in seen.iter_mut().zip(&member.indices) {
            *any |= !indices.is_empty();
            *zero &= indices.iter().all(|index| sums.get(*index) == Some(&0.0));
        }
    }
    Ok(seen.into_iter().map(|(any, zero)| any && zero).collect())
}

/// Whether a member is the weight of a layer, and not its bias or a normalisation's vector.
fn is_weight(graph: &Graph, member: &Member) -> bool {
    let layer = |(op, input): &(&Op, usize)| {
        *input == 1 && matches!(op, Op::Conv(_) | Op::ConvTranspose(_) | Op::Linear)
    };
    readers(graph, member.node).iter().any(layer)
}

/// Sums of which one side does not depend on the input get that side as a parameter, and the layers that computed it go: what structured sparsity
/// learning calls depth. Returns the names of the sums.
///
/// A branch is cut off from the input by a layer whose weights are all zero; what it still adds are shifts, which
/// [`remove_zero_branches`](crate::remove_zero_branches) leaves alone. They are found by running the network, in evaluation, on `device`. Where the branch adds
/// zero, the sum goes altogether.
///
/// # Errors
/// [`PruneError::Run`] when the network can't be run.
pub fn remove_constant_branches(graph: &mut Graph, device: &Device) -> Result<Vec<String>, PruneError> {
    let mut removed = Vec::new();
    // One after the other: a sum may be part of a branch itself.
    while let Some((sum, side)) = constant_branch(graph)? {
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

/// A sum with a side that is computed but does not depend on the input, and which side that is.
fn constant_branch(graph: &Graph) -> Result<Option<(NodeId, usize)>, PruneError> {
    let mut constant = BTreeSet::new();
    for (id, node) in graph.nodes() {
        let is_constant = |side: usize| node.inputs().get(side).is_some_and(|input| constant.contains(input));
        if *node.op() == Op::Binary(Binary::Add) {
            let wide = |side: usize| {
                let input = node.inputs().get(side).and_then(|id| graph.node(*id).ok());
                input.is_some_and(|input| !input.op().is_leaf() && input.output() == node.output())
            };
            let found = (0..2)
                .find(|side| is_constant(*side) && !is_constant(1 - side) && wide(*side) && wide(1 - side));
            if let Some(side) = found {
                return Ok(Some((id, side)));
            }
        }
        let cut = matches!(node.op(), Op::Conv(_) | Op::ConvTranspose(_) | Op::Linear)
            && node.inputs().get(1).is_some_and(|weight| {
                graph
                    .value(*weight)
                    .and_then(|data| Array::from_data(data).ok())
                    .is_some_and(|w| w.values().iter().all(|w| *w == 0.0))
            });
        let inputs = node.inputs();
        if node.op().holds_tensor() || cut || (!inputs.is_empty() && (0..inputs.len()).all(is_constant)) {
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
