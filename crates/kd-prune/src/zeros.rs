//! Zeros that can be removed physically: channels that nobody makes or nobody reads.

use std::collections::BTreeSet;

use kd_graph::{Dependencies, Graph, Group, Member, Op, Position, Side};

use crate::subject::{readers, value};
use crate::{PruneError, PrunePlan};

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
