//! Removing channels until a network is small enough.

use std::collections::BTreeSet;

use kd_graph::{Cost, Dependencies, Graph, Position};
use serde::{Deserialize, Serialize};

use crate::{Allocation, ChannelLimits, GroupScores, PruneError, channel_positions};

/// What should be left, as a share of the network as it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Budget {
    /// Of the multiply-accumulates.
    Macs(f64),
    /// Of the learned parameters.
    Parameters(f64),
    /// Of the bytes of all weights and buffers.
    Bytes(f64),
}

impl Budget {
    fn share(self) -> f64 {
        let (Self::Macs(share) | Self::Parameters(share) | Self::Bytes(share)) = self;
        share
    }

    fn name(self) -> &'static str {
        match self {
            Self::Macs(_) => "macs",
            Self::Parameters(_) => "parameters",
            Self::Bytes(_) => "bytes",
        }
    }

    fn of(self, cost: &Cost) -> u64 {
        match self {
            Self::Macs(_) => cost.macs,
            Self::Parameters(_) => cost.parameters,
            Self::Bytes(_) => cost.weight_bytes,
        }
    }
}

/// The fewest positions, least important first over all groups, whose removal brings the network within a budget.
///
/// # Errors
/// [`PruneError::Setting`] for a share outside `(0, 1)`; [`PruneError::Unreachable`] with what is left at best.
pub fn within_budget(
    graph: &Graph,
    dependencies: &Dependencies,
    scores: &GroupScores,
    budget: Budget,
    limits: &ChannelLimits,
) -> Result<BTreeSet<Position>, PruneError> {
    let share = budget.share();
    if !(share > 0.0 && share < 1.0) {
        return Err(PruneError::setting(budget.name(), share, "above 0 and below 1"));
    }
    let before = budget.of(&graph.cost(1)?);
    let target = (before as f64 * share).floor() as u64;
    let total: usize = scores.values().map(Vec::len).sum();
    let positions = |removed: usize| {
        // Half a position is added so that rounding does not take one away.
        let ratio = ((removed as f64 - 0.5) / total.max(1) as f64).clamp(0.0, 1.0);
        channel_positions(dependencies, scores, &Allocation::Global, ratio, limits)
    };
    let left = |removed: &BTreeSet<Position>| -> Result<u64, PruneError> {
        Ok(budget.of(&dependencies.remove(graph, removed.iter().copied())?.cost(1)?))
    };
    let least = left(&positions(total)?)?;
    if least > target {
        let named = |number: u64| format!("{number} {}", budget.name());
        return Err(PruneError::Unreachable {
            target: named(target),
            least: named(least),
            before: named(before),
        });
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
