//! `method = "structured-sparsity"`: whole groups of weights that a group lasso drives to zero.

use kd_graph::{Graph, Op};
use kd_prune::{
    Mask, Masks, PruneError, SparsifyGroups, Subject, WeightGroup, plan_zeros, zero_small_groups,
};
use kd_train::Hook;
use serde::{Deserialize, Serialize};

use super::channels::setting;
use super::{Method, Net, Pruned, ToPrune};
use crate::experiment::StudyError;

/// Structured sparsity learning. Wen et al., *Learning Structured Sparsity in Deep Neural Networks* (2016).
///
/// Filters and channels go physically; shapes, the same place in all filters, are masked.
///
/// | key | default | range |
/// |---|---|---|
/// | `group` | `filter` | `filter`, `channel`, `shape` |
/// | `lambda` | 1e-3 | above 0: factor of the sum of the groups' norms |
/// | `threshold` | 0.1 | above 0, at most 1: groups go whose root mean square is below this share of their layer's |
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

impl StructuredSparsity {
    /// The weights of convolutions and linear layers whose groups can go: not the filters of the last layer, which are classes, nor the channels of the first,
    /// which are the image's.
    fn weights(&self, graph: &Graph) -> Result<Vec<String>, PruneError> {
        let dependencies = graph.dependencies();
        let mut weights = Vec::new();
        for (id, node) in graph.parameters() {
            let reader = graph.users(id).find(|(_, user)| {
                user.inputs().get(1) == Some(&id) && matches!(user.op(), Op::Conv(_) | Op::Linear)
            });
            let Some((_, reader)) = reader else { continue };
            let axis = match (self.group, reader.op()) {
                (WeightGroup::Filter, Op::Conv(_)) | (WeightGroup::Channel, Op::Linear) => Some(0),
                (WeightGroup::Filter, _) | (WeightGroup::Channel, _) => Some(1),
                _ => None,
            };
            let groups = axis.map(|axis| dependencies.groups_of(node.name(), axis)).transpose()?;
            if groups.is_none_or(|groups| groups.iter().any(|group| group.unprunable().is_none())) {
                weights.push(node.name().to_owned());
            }
        }
        Ok(weights)
    }
}

impl Method for StructuredSparsity {
    fn validate(&self) -> Result<(), PruneError> {
        let lambda = self.lambda > 0.0 && self.lambda.is_finite();
        setting("lambda", self.lambda, lambda, "a number above 0")?;
        let threshold = self.threshold > 0.0 && self.threshold <= 1.0;
        setting("threshold", self.threshold, threshold, "above 0, at most 1")?;
        let known = self.group != WeightGroup::Layer;
        setting(
            "group",
            "layer",
            known,
            "filter, channel or shape; whole layers go with `remove_constant_branches` of the library",
        )
    }

    fn sparsify(&self, graph: &Graph) -> Result<Option<Box<dyn Hook<Net>>>, StudyError> {
        let mut hook = SparsifyGroups::default();
        for weight in self.weights(graph)? {
            hook.add(graph, &weight, self.group, self.lambda)?;
        }
        Ok(Some(Box::new(hook)))
    }

    fn prune(&self, network: &ToPrune<'_>) -> Result<Pruned, StudyError> {
        let mut graph = network.graph.clone();
        let groups: Vec<_> = self.weights(&graph)?.into_iter().map(|weight| (weight, self.group)).collect();
        let counts = zero_small_groups(&mut graph, &groups, self.threshold)?;
        let plan = plan_zeros(&graph)?;
        let (small, _) = plan.absorb(&graph, &network.stopwatch.device)?;
        let mut masks = Masks::new();
        for (weight, array) in
            Subject::new(&small, &network.stopwatch.device).only(counts.keys())?.weights()?
        {
            let mask = Mask::of_nonzeros(&array);
            if mask.keep().contains(&false) {
                masks.insert(weight, mask);
            }
        }
        let (gone, all) = counts.values().fold((0, 0), |(gone, all), (g, a)| (gone + g, all + a));
        let cost = plan.cost(network.graph)?;
        let notes =
            vec![format!("{gone} of {all} groups were small enough to go; removed physically: {cost}.")];
        Ok(Pruned { plans: vec![plan], masks, graph: Some(small), notes })
    }
}
