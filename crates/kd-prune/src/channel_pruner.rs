//! Channel pruning in one call.

use std::collections::BTreeSet;

use kd_graph::{Dependencies, Graph, Position};
use serde::{Deserialize, Serialize};

use crate::{
    Allocation, Budget, ChannelImportance, ChannelLimits, GroupScores, PruneError, PrunePlan, Stopwatch,
    channel_positions,
};

/// Removes the least important channels until a network is small enough: what a channel is worth, where channels go, how much is left.
///
/// Fang et al., *DepGraph: Towards Any Structural Pruning* (2023), with [`ChannelImportance`] over all layers that a channel goes through; Li et al.,
/// *Pruning Filters for Efficient ConvNets* (2017), with the L1 norm of the filter that makes it ([`Reduce::First`](crate::Reduce::First)).
///
/// ```
/// use burn::tensor::{Device, TensorData};
/// use kd_graph::{Graph, Op, Role, Shape, TensorType};
/// use kd_prune::{Budget, ChannelPruner, Stopwatch};
/// # let mut graph = Graph::new();
/// # let x = graph.input("x", TensorType::float(Shape::batched([2])))?;
/// # let a = graph.parameter("a", Role::Weight, TensorData::from([[1.0f32, 9.0, 2.0, 8.0], [1.0, 9.0, 2.0, 8.0]]))?;
/// # let b = graph.parameter("b", Role::Weight, TensorData::ones::<f32, _>([4, 3]))?;
/// # let hidden = graph.add("hidden", Op::Linear, &[x, a])?;
/// # let logits = graph.add("logits", Op::Linear, &[hidden, b])?;
/// # graph.set_outputs(&[logits])?;
///
/// let pruner = ChannelPruner::new(Budget::Macs(0.5.into()));
/// let plan = pruner.plan(&graph, &Stopwatch::new(&Device::flex()))?;
/// assert_eq!(plan.kept("a", 1), Some(&[1, 3][..]));
/// assert_eq!(plan.apply(&graph)?.cost(1)?.macs, graph.cost(1)?.macs / 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelPruner {
    /// What a channel is worth.
    #[serde(default)]
    pub importance: ChannelImportance,
    /// Where channels go: [`Allocation::Global`], all layers in one ranking, unless said otherwise. A per-layer table names layers by the weight that
    /// makes the channels; it says all, and the budget is not looked at.
    #[serde(default = "global")]
    pub allocation: Allocation,
    /// What is left.
    pub budget: Budget,
    /// What every layer keeps.
    #[serde(default)]
    pub limits: ChannelLimits,
}

fn global() -> Allocation {
    Allocation::Global
}

impl ChannelPruner {
    /// The squared L2 norm, averaged over the layers that a channel goes through; all layers in one ranking.
    pub fn new(budget: Budget) -> Self {
        let (importance, limits) = Default::default();
        Self { importance, allocation: global(), budget, limits }
    }

    /// What a channel is worth.
    #[must_use]
    pub fn importance(self, importance: ChannelImportance) -> Self {
        Self { importance, ..self }
    }

    /// Where channels go.
    #[must_use]
    pub fn allocation(self, allocation: Allocation) -> Self {
        Self { allocation, ..self }
    }

    /// What every layer keeps.
    #[must_use]
    pub fn limits(self, limits: ChannelLimits) -> Self {
        Self { limits, ..self }
    }

    /// What to remove of a network. `stopwatch` is used for a budget of milliseconds only.
    ///
    /// # Errors
    /// [`PruneError::Setting`] for a budget or a table out of range, [`PruneError::Unreachable`] with what is left at best, and
    /// [`GraphError::UnknownName`](kd_graph::GraphError::UnknownName) with the nearest names for a layer that is not there.
    pub fn plan(&self, graph: &Graph, stopwatch: &Stopwatch) -> Result<PrunePlan, PruneError> {
        let scores = self.importance.score(graph, &graph.dependencies())?;
        self.plan_by(graph, &scores, stopwatch)
    }

    /// As [`plan`](Self::plan), by scores from elsewhere.
    ///
    /// # Errors
    /// As [`plan`](Self::plan).
    pub fn plan_by(
        &self,
        graph: &Graph,
        scores: &GroupScores,
        stopwatch: &Stopwatch,
    ) -> Result<PrunePlan, PruneError> {
        let before = self.budget.validate()?.of(graph, stopwatch)?;
        self.plan_until(graph, scores, self.budget.left(before, 1, 1), stopwatch)
    }

    /// One of several passes, between which the network is usually trained: `before` is what there was before the first. The share that is left falls
    /// by the same factor in every pass.
    ///
    /// # Errors
    /// As [`plan`](Self::plan).
    pub fn pass(
        &self,
        graph: &Graph,
        before: f64,
        pass: usize,
        passes: usize,
        stopwatch: &Stopwatch,
    ) -> Result<PrunePlan, PruneError> {
        let scores = self.importance.score(graph, &graph.dependencies())?;
        self.plan_until(graph, &scores, self.budget.validate()?.left(before, pass, passes), stopwatch)
    }

    fn plan_until(
        &self,
        graph: &Graph,
        scores: &GroupScores,
        target: f64,
        stopwatch: &Stopwatch,
    ) -> Result<PrunePlan, PruneError> {
        let dependencies = graph.dependencies();
        if let Allocation::PerLayer(_) = self.allocation {
            let removed = channel_positions(&dependencies, scores, &self.allocation, 0.0, &self.limits)?;
            return PrunePlan::new(graph, removed);
        }
        let removed = self.fewest(graph, &dependencies, scores, target, stopwatch)?;
        PrunePlan::new(graph, removed)
    }

    /// The fewest positions whose removal leaves no more than the target.
    fn fewest(
        &self,
        graph: &Graph,
        dependencies: &Dependencies,
        scores: &GroupScores,
        target: f64,
        stopwatch: &Stopwatch,
    ) -> Result<BTreeSet<Position>, PruneError> {
        let total: usize = scores.values().map(Vec::len).sum();
        let positions = |removed: usize| {
            // Half a position is added so that rounding does not take one away.
            let ratio = ((removed as f64 - 0.5) / total.max(1) as f64).clamp(0.0, 1.0);
            channel_positions(dependencies, scores, &self.allocation, ratio, &self.limits)
        };
        let whole = self.budget.of(graph, stopwatch)?;
        if whole <= target {
            return Ok(BTreeSet::new());
        }
        let left = |removed: &BTreeSet<Position>| match self.budget {
            Budget::Channels(_) => Ok(whole - removed.len() as f64),
            _ => self.budget.of(&dependencies.remove(graph, removed.iter().copied())?, stopwatch),
        };
        let least = left(&positions(total)?)?;
        if least > target {
            let named = |amount: f64| format!("{} {}", rounded(amount), self.budget.name());
            let (target, least, before) = (named(target), named(least), named(whole));
            return Err(PruneError::Unreachable { target, least, before });
        }
        let (mut low, mut high) = (0, total);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if left(&positions(middle)?)? > target {
                low = middle;
            } else {
                high = middle;
            }
        }
        positions(high)
    }
}

/// Whole and large numbers without a fraction, small ones to three digits.
fn rounded(amount: f64) -> String {
    if amount >= 100.0 || amount.fract() == 0.0 { format!("{amount:.0}") } else { format!("{amount:.3}") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Amount;
    use burn::tensor::{Device, TensorData};
    use kd_graph::{Op, Role, Shape, TensorType};

    /// 4 inputs, 8 and 6 hidden units, 3 outputs; unit `i` of a layer has weights of size `i + 1`.
    fn graph() -> Graph {
        let mut graph = Graph::new();
        let mut x = graph.input("x", TensorType::float(Shape::batched([4]))).unwrap();
        for (name, inputs, outputs) in [("a", 4, 8), ("b", 8, 6), ("c", 6, 3)] {
            let values = (0..inputs * outputs).map(|i| (i % outputs + 1) as f32).collect::<Vec<_>>();
            let data = TensorData::new(values, [inputs, outputs]);
            let weight = graph.parameter(&format!("{name}.weight"), Role::Weight, data).unwrap();
            x = graph.add(name, Op::Linear, &[x, weight]).unwrap();
        }
        graph.set_outputs(&[x]).unwrap();
        graph
    }

    fn stopwatch() -> Stopwatch {
        Stopwatch { passes: 1, ..Stopwatch::new(&Device::flex()) }
    }

    #[test]
    fn the_fewest_channels_go_that_meet_a_budget_of_any_quantity() {
        let graph = graph();
        for allocation in [Allocation::Global, Allocation::Uniform] {
            for share in [0.3, 0.5, 0.8] {
                for budget in [Budget::Macs, Budget::Parameters, Budget::Bytes, Budget::Channels] {
                    let budget = budget(share.into());
                    let pruner = ChannelPruner::new(budget).allocation(allocation.clone());
                    let small = pruner.plan(&graph, &stopwatch()).unwrap().apply(&graph).unwrap();
                    let (before, after) =
                        (budget.of(&graph, &stopwatch()).unwrap(), budget.of(&small, &stopwatch()).unwrap());
                    assert!(after <= before * share, "{budget}: {after} of {before}");
                    // One more channel of the widest layer would have been too many.
                    assert!(after > before * (share - 0.25), "{budget}: {after} of {before}");
                }
            }
        }
    }

    #[test]
    fn several_passes_end_where_one_does() {
        let graph = graph();
        let pruner = ChannelPruner::new(Budget::Macs(0.4.into()));
        let before = graph.cost(1).unwrap().macs as f64;
        let mut small = graph.clone();
        for pass in 1..=3 {
            small = pruner.pass(&small, before, pass, 3, &stopwatch()).unwrap().apply(&small).unwrap();
        }
        assert!(small.cost(1).unwrap().macs as f64 <= 0.4 * before);
    }

    #[test]
    fn a_budget_of_milliseconds_is_measured() {
        let graph = graph();
        let enough = ChannelPruner::new(Budget::Milliseconds(Amount::AtMost { at_most: 1e6 }));
        assert!(enough.plan(&graph, &stopwatch()).unwrap().is_empty());
        let never = ChannelPruner::new(Budget::Milliseconds(Amount::AtMost { at_most: 1e-9 }));
        let error = never.plan(&graph, &stopwatch()).unwrap_err();
        assert!(matches!(error, PruneError::Unreachable { .. }), "{error}");
    }

    #[test]
    fn a_target_that_cannot_be_reached_says_what_is_left_at_best() {
        let pruner = ChannelPruner::new(Budget::Macs(0.01.into()));
        let error = pruner.plan(&graph(), &stopwatch()).unwrap_err().to_string();
        assert!(
            error.contains("0.980 macs can't be reached") && error.contains("8 macs are left"),
            "{error}"
        );
    }

    #[test]
    fn a_table_names_layers_and_one_that_is_not_there_lists_the_nearest() {
        let graph = graph();
        let pruner = |name: &str, share| {
            let table = [(name.to_owned(), share)].into();
            ChannelPruner::new(Budget::Macs(0.5.into())).allocation(Allocation::PerLayer(table))
        };
        let plan = pruner("a.weight", 0.75).plan(&graph, &stopwatch()).unwrap();
        assert_eq!(plan.kept("a.weight", 1), Some(&[6, 7][..]));
        assert_eq!(plan.kept("b.weight", 1), None);
        let error = pruner("a.wieght", 0.5).plan(&graph, &stopwatch()).unwrap_err().to_string();
        assert!(error.contains("`a.weight`"), "{error}");
        // The last layer makes the output: nothing of it can go.
        let error = pruner("c.weight", 0.5).plan(&graph, &stopwatch()).unwrap_err().to_string();
        assert!(error.contains("`c.weight`") && error.contains("a layer whose channels can go"), "{error}");
    }
}
