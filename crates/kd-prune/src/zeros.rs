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

/// Sums of which one side is constant get that constant as a parameter, and the layers that computed it go: what structured sparsity learning
/// calls depth. Returns the names of the sums.
///
/// A branch is constant when zero weights cut it off from the input; what is found by running the network on two inputs, on `device`. A sum of a
/// branch of zeros goes altogether.
///
/// # Errors
/// [`PruneError::Run`] when the network can't be run.
pub fn remove_constant_branches(graph: &mut Graph, device: &Device) -> Result<Vec<String>, PruneError> {
    let mut removed = Vec::new();
    // One after the other: a sum may be part of a branch itself.
    while let Some((sum, side, constant)) = constant_branch(graph, device)? {
        let node = graph.node(sum)?;
        let name = node.name().to_owned();
        let other = node.inputs().get(1 - side).copied().unwrap_or(sum);
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

/// A sum with a constant side that is computed, which side that is, and the constant, of the shape `[1, channels, 1, ..]` if it is the same at all positions.
fn constant_branch(graph: &Graph, device: &Device) -> Result<Option<(NodeId, usize, Array)>, PruneError> {
    let sums: Vec<_> = graph
        .nodes()
        .filter(|(_, node)| *node.op() == Op::Binary(Binary::Add))
        .map(|(id, node)| (id, node))
        .collect();
    let taps: Vec<NodeId> = sums.iter().flat_map(|(_, node)| node.inputs().iter().copied()).collect();
    let responses = Responses::of(graph, device, &taps)?;
    for (index, (id, node)) in sums.iter().enumerate() {
        let computed = |side: usize| {
            let input = node.inputs().get(side).and_then(|id| graph.node(*id).ok());
            input.is_some_and(|input| !input.op().is_leaf() && input.output() == node.output())
        };
        for side in (0..2).filter(|side| computed(*side) && computed(1 - side)) {
            let tap = 2 * index + side;
            let (Some(first), Some(second)) = (responses.first.get(tap), responses.second.get(tap)) else {
                continue;
            };
            if first != second {
                continue;
            }
            let channels = responses.constants(tap, Some(1));
            let constant = match channels.iter().copied().collect::<Option<Vec<f64>>>() {
                Some(channels) => {
                    let mut shape = vec![1; first.shape().len()];
                    if let Some(slot) = shape.get_mut(1) {
                        *slot = channels.len();
                    }
                    Array::new(shape, channels.into_iter().map(|value| value as f32).collect())?
                }
                None => first.clone(),
            };
            return Ok(Some((*id, side, constant)));
        }
    }
    Ok(None)
}
