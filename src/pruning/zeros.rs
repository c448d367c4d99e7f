//! What a network has at zero, masked and removed.

use kd_graph::Graph;
use kd_prune::{Mask, Masks, PruneError, plan_zeros};

use super::magnitude::stored;
use super::sparse::subject;
use super::{Pruned, ToPrune};
use crate::experiment::StudyError;

/// Masks of the weights that are zero.
pub(super) fn mask_zeros(network: &ToPrune<'_>) -> Result<Pruned, StudyError> {
    let weights = subject(network.graph).weights()?;
    let masks: Masks = weights.into_iter().map(|(path, weight)| (path, Mask::of_nonzeros(&weight))).collect();
    Ok(Pruned { notes: vec![stored(network.pass, &masks)], masks, ..Default::default() })
}

/// Removes channels of which all weights are zero, and masks what is left of the zeros in some weights. What removed channels still gave is absorbed.
pub(super) fn remove_zeros<'a>(
    graph: &Graph,
    weights: impl IntoIterator<Item = &'a String>,
    network: &ToPrune<'_>,
) -> Result<Pruned, PruneError> {
    let plan = plan_zeros(graph)?;
    let (small, _) = plan.absorb(graph, &network.stopwatch.device)?;
    let masks = masks_of_zeros(&small, weights)?;
    let notes = vec![format!("Removed physically: {}.", plan.cost(graph)?)];
    Ok(Pruned { plans: vec![plan], masks, graph: Some(small), notes, ..Default::default() })
}

/// Masks of those weights that are zero somewhere.
pub(super) fn masks_of_zeros<'a>(
    graph: &Graph,
    weights: impl IntoIterator<Item = &'a String>,
) -> Result<Masks, PruneError> {
    let weights = subject(graph).only(weights)?.weights()?;
    let masks = weights.into_iter().map(|(path, weight)| (path, Mask::of_nonzeros(&weight)));
    Ok(masks.filter(|(_, mask)| mask.keep().contains(&false)).collect())
}
