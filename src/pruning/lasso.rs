//! `method = "lasso"`: channels that LASSO chooses, and least squares makes up for.

use burn::tensor::Tensor;
use kd_graph::Value;
use kd_prune::{LassoPruning, PruneError};
use kd_train::HostBatch;
use serde::{Deserialize, Serialize};

use super::channels::setting;
use super::{Method, Pruned, ToPrune};
use crate::experiment::StudyError;

/// LASSO channel pruning with reconstruction. He et al., *Channel Pruning for Accelerating Very Deep Neural Networks* (2017).
///
/// | key | default | range |
/// |---|---|---|
/// | `keep` | 0.5 | above 0, below 1: share of the channels that every layer keeps; up to a tenth more stay |
/// | `batches` | 10 | 1 or more: training batches whose responses are looked at |
/// | `positions` | 10 | 1 or more: places per image where a convolution's response is sampled |
/// | `layers` | all that alone read their channels | names of layers |
/// | `seed` | 0 | of the choice of places |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Lasso {
    /// Share of the channels that stay.
    pub keep: f64,
    /// Training batches.
    pub batches: usize,
    /// Samples per image and convolution.
    pub positions: usize,
    /// Layers that are to read less.
    pub layers: Option<Vec<String>>,
    /// Of the choice of samples.
    pub seed: u64,
}

impl Default for Lasso {
    fn default() -> Self {
        let LassoPruning { keep, positions, seed } = LassoPruning::default();
        Self { keep, batches: 10, positions, layers: None, seed }
    }
}

impl Method for Lasso {
    fn validate(&self) -> Result<(), PruneError> {
        setting("keep", self.keep, self.keep > 0.0 && self.keep < 1.0, "above 0 and below 1")?;
        setting("batches", self.batches, self.batches > 0, "1 or more")?;
        setting("positions", self.positions, self.positions > 0, "1 or more")
    }

    fn prune(&self, network: &ToPrune<'_>) -> Result<Pruned, StudyError> {
        let device = &network.stopwatch.device;
        let mut batches = Vec::new();
        for loaded in network.data.train(self.seed)?.epoch(0, 0).take(self.batches) {
            let (images, _): (Tensor<4>, _) = loaded?.batch.to_device(device);
            batches.push(vec![Value::from(images)]);
        }
        let settings = LassoPruning { keep: self.keep, positions: self.positions, seed: self.seed };
        let pruned = settings.run(network.graph, device, &batches, self.layers.as_deref())?;
        let line = |layer: &kd_prune::LassoLayer| {
            format!(
                "{} reads {} of {} channels; error of its responses {:.1} % of their variance, {:.1} % after refitting.",
                layer.layer,
                layer.after,
                layer.before,
                100.0 * layer.dropped,
                100.0 * layer.refitted
            )
        };
        let notes = pruned.layers.iter().map(line).collect();
        Ok(Pruned { plans: pruned.plans, graph: Some(pruned.graph), notes, ..Default::default() })
    }
}
