//! `method = "channels"`: whole channels by their weights, until a budget is met.

use burn::tensor::Device;
use kd_graph::Graph;
use kd_prune::{
    Budget, ChannelImportance, ChannelLimits, ChannelNorm, ChannelPruner, Limits, PruneError, Reduce,
    Sensitivity,
};
use serde::{Deserialize, Serialize};

use super::{AllocationSettings, Method, Pruned, ToPrune};
use crate::experiment::StudyError;

/// Channel pruning over dependency groups. Fang et al., *DepGraph: Towards Any Structural Pruning* (2023).
///
/// | key | default | range |
/// |---|---|---|
/// | `target` | required | what is left: `{ macs = 0.5 }`, `{ parameters = { at-most = 2e5 } }`; `channels`, `macs`, `parameters`, `bytes`, `milliseconds` |
/// | `norm` | `l2` | `l1`, `l2`, `batch-norm`: what a channel's weights are summed by |
/// | `reduce` | `mean` | `mean`, `sum`, `max`, `first`: how the layers that a channel goes through are combined |
/// | `allocation` | `global` | [`AllocationSettings`]; shares by layer or sensitivity go whatever the target |
/// | `most` | 1.0 | above 0, at most 1: the largest share that a layer loses |
/// | `multiple` | 1 | 1 or more: kept channels are a multiple of it |
/// | `passes` | 1 | 1 or more: prune and recover so many times |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Channels {
    /// What is left.
    pub target: Budget,
    /// What is summed over a channel's weights.
    #[serde(default)]
    pub norm: ChannelNorm,
    /// How layers are combined.
    #[serde(default)]
    pub reduce: Reduce,
    /// Where channels go.
    #[serde(default = "global")]
    pub allocation: AllocationSettings,
    /// Largest share of a layer.
    #[serde(default = "whole")]
    pub most: f64,
    /// Kept channels are a multiple of this.
    #[serde(default = "one")]
    pub multiple: usize,
    /// Rounds of pruning and recovery.
    #[serde(default = "one")]
    pub passes: usize,
}

fn global() -> AllocationSettings {
    AllocationSettings::Global
}

fn whole() -> f64 {
    1.0
}

fn one() -> usize {
    1
}

impl Channels {
    /// With every default.
    pub fn new(target: Budget) -> Self {
        let (norm, reduce) = Default::default();
        Self { target, norm, reduce, allocation: global(), most: whole(), multiple: one(), passes: one() }
    }

    /// The pruner of these settings, but for the allocation.
    pub fn pruner(&self) -> ChannelPruner {
        let limits = ChannelLimits {
            limits: Limits { multiple: self.multiple, ..Limits::default() },
            most: self.most,
        };
        ChannelPruner::new(self.target).importance(self.importance()).limits(limits)
    }

    fn importance(&self) -> ChannelImportance {
        ChannelImportance { norm: self.norm, reduce: self.reduce, ..Default::default() }
    }
}

impl Method for Channels {
    fn validate(&self) -> Result<(), PruneError> {
        self.target.validate()?;
        setting("most", self.most, self.most > 0.0 && self.most <= 1.0, "above 0, at most 1")?;
        setting("multiple", self.multiple, self.multiple > 0, "1 or more")?;
        setting("passes", self.passes, self.passes > 0, "1 or more")?;
        self.allocation.validate()
    }

    fn passes(&self) -> usize {
        self.passes
    }

    fn by_sensitivity(&self) -> bool {
        self.allocation.by_sensitivity()
    }

    fn prune(&self, network: &ToPrune<'_>) -> Result<Pruned, StudyError> {
        let before = self.target.of(network.dense, network.stopwatch)?;
        let pruner = self.pruner().allocation(self.allocation.allocation(network, 1.0 / self.passes as f64)?);
        let plan = pruner.pass(network.graph, before, network.pass, self.passes, network.stopwatch)?;
        let notes = vec![format!("Pass {}: {}.", network.pass, plan.cost(network.graph)?)];
        Ok(Pruned { plans: vec![plan], notes, ..Default::default() })
    }

    fn sensitivity(
        &self,
        graph: &Graph,
        _device: &Device,
        sparsities: &[f64],
        measure: &mut dyn FnMut(&Graph) -> Result<f64, StudyError>,
    ) -> Result<Sensitivity, StudyError> {
        Sensitivity::of_channels(graph, &self.importance(), sparsities, true, measure)
    }
}

/// An error unless a setting is right.
pub(super) fn setting(key: &str, value: impl ToString, right: bool, allowed: &str) -> Result<(), PruneError> {
    if right {
        return Ok(());
    }
    Err(PruneError::Setting { key: key.to_owned(), value: value.to_string(), allowed: allowed.to_owned() })
}
