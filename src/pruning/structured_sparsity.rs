//! `method = "structured-sparsity"`: whole groups of weights that a group lasso drives to zero.

use kd_graph::{Graph, Op};
use kd_prune::{
    PruneError, SparsifyGroups, WeightGroup, has_shortcut, remove_constant_branches, zero_small_groups,
};
use kd_train::Hook;
use serde::{Deserialize, Serialize};

use super::channels::setting;
use super::zeros::{masks_of_zeros, remove_zeros};
use super::{Method, Net, Pruned, ToPrune};
use crate::experiment::StudyError;

/// Structured sparsity learning. Wen et al., *Learning Structured Sparsity in Deep Neural Networks* (2016).
///
/// Filters and channels go physically; shapes, the same place in all filters, are masked. Layers, the depth of the paper, go physically where a shortcut carries on what
/// they did, with everything else on their branch.
///
/// | key | default | range |
/// |---|---|---|
/// | `group` | `filter` | `filter`, `channel`, `shape`, `layer` |
/// | `lambda` | 1e-3 | above 0: factor of the sum of the groups' norms |
/// | `threshold` | 0.1 | above 0, at most 1: groups go whose root mean square is below this share of their layer's, and layers below this share of all layers' |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct StructuredSparsity {
    /// What goes as one.
    pub group: WeightGroup,
    /// Factor of the penalty.
    pub lambda: f64,
    /// What counts as zero in the end.
    pub threshold: f64,
}

impl Default for StructuredSparsity {
    fn default() -> Self {
        Self { group: WeightGroup::Filter, lambda: 1e-3, threshold: 0.1 }
    }
}

impl Method for StructuredSparsity {
    fn validate(&self) -> Result<(), PruneError> {
        let lambda = self.lambda > 0.0 && self.lambda.is_finite();
        setting("lambda", self.lambda, lambda, "a number above 0")?;
        let threshold = self.threshold > 0.0 && self.threshold <= 1.0;
        setting("threshold", self.threshold, threshold, "above 0, at most 1")
    }

    fn hooks(&self, graph: &Graph) -> Result<Vec<Box<dyn Hook<Net>>>, StudyError> {
        let mut hook = SparsifyGroups::default();
        for (weight, _) in removable_weights(graph, self.group)? {
            hook.add(graph, &weight, self.group, self.lambda)?;
        }
        Ok(vec![Box::new(hook)])
    }

    fn prune(&self, network: &ToPrune<'_>) -> Result<Pruned, StudyError> {
        let mut graph = network.graph.clone();
        let weights = removable_weights(&graph, self.group)?;
        let groups: Vec<_> = weights.into_iter().map(|(weight, _)| (weight, self.group)).collect();
        let counts = zero_small_groups(&mut graph, &groups, self.threshold)?;
        let (gone, all) = counts.values().fold((0, 0), |(gone, all), (g, a)| (gone + g, all + a));
        let mut notes = vec![format!("{gone} of {all} groups were small enough to go.")];
        if self.group != WeightGroup::Layer {
            let pruned = remove_zeros(&graph, counts.keys(), network)?;
            notes.extend(pruned.notes);
            return Ok(Pruned { notes, ..pruned });
        }
        let sums = remove_constant_branches(&mut graph, &network.stopwatch.device)?;
        notes.push(format!("{} branches became constant and went: {}.", sums.len(), sums.join(", ")));
        let zero = counts.into_iter().filter(|(_, (gone, _))| *gone > 0).map(|(weight, _)| weight);
        let (skipped, left): (Vec<_>, Vec<_>) = zero.partition(|weight| graph.find(weight).is_err());
        let masks = masks_of_zeros(&graph, &left)?;
        Ok(Pruned { skipped, masks, graph: Some(graph), notes, ..Default::default() })
    }
}

/// The weights of convolutions and linear layers of which groups can go, with the axis along which groups lie if it is a single one: not the filters of the last
/// layer, which are classes, nor the channels of the first, which are the image's, nor layers without a shortcut.
pub(super) fn removable_weights(
    graph: &Graph,
    group: WeightGroup,
) -> Result<Vec<(String, Option<usize>)>, PruneError> {
    let dependencies = graph.dependencies();
    let mut weights = Vec::new();
    for (id, node) in graph.parameters() {
        let reader = graph.users(id).find(|(_, user)| {
            user.inputs().get(1) == Some(&id) && matches!(user.op(), Op::Conv(_) | Op::Linear)
        });
        let Some((_, reader)) = reader else { continue };
        let axis = match (group, reader.op()) {
            (WeightGroup::Filter, Op::Conv(_)) | (WeightGroup::Channel, Op::Linear) => Some(0),
            (WeightGroup::Filter | WeightGroup::Channel, _) => Some(1),
            (WeightGroup::Shape | WeightGroup::Layer, _) => None,
        };
        let can_go = match axis {
            Some(axis) => {
                let groups = dependencies.groups_of(node.name(), axis)?;
                groups.iter().any(|group| group.unprunable().is_none())
            }
            None => group == WeightGroup::Shape || has_shortcut(graph, node.name())?,
        };
        if can_go {
            weights.push((node.name().to_owned(), axis));
        }
    }
    setting(
        "group",
        format!("{group:?}").to_lowercase(),
        !weights.is_empty(),
        "one that the network has: channels and filters of hidden layers, layers beside shortcuts",
    )?;
    Ok(weights)
}
