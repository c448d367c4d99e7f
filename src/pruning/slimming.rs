//! `method = "network-slimming"`: channels whose normalisation scales an L1 term drives to zero.

use burn::tensor::TensorData;
use kd_graph::Graph;
use kd_prune::{
    ChannelImportance, ChannelNorm, PruneError, Sensitivity, SparsifyScales, batch_norm_scales, slim,
};
use kd_train::Hook;
use serde::{Deserialize, Serialize};

use super::channels::setting;
use super::{Method, Net, Pruned, ToPrune};
use crate::experiment::StudyError;

/// Network slimming. Liu et al., *Learning Efficient Convolutional Networks through Network Slimming* (2017).
///
/// | key | default | range |
/// |---|---|---|
/// | `lambda` | 1e-4 | above 0: factor of the L1 term on the scales; the paper's value for VGG, 1e-5 for residual networks |
/// | `share` | 0.5 | above 0, below 1: share of all channels below the threshold, in every pass |
/// | `scale` | 0.5 | above 0: the scales before training |
/// | `passes` | 1 | 1 or more: prune and recover so many times |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct NetworkSlimming {
    /// Factor of the L1 term.
    pub lambda: f64,
    /// Share of channels that go.
    pub share: f64,
    /// Initial scales.
    pub scale: f64,
    /// Rounds of pruning and recovery.
    pub passes: usize,
}

impl Default for NetworkSlimming {
    fn default() -> Self {
        Self { lambda: 1e-4, share: 0.5, scale: 0.5, passes: 1 }
    }
}

impl Method for NetworkSlimming {
    fn validate(&self) -> Result<(), PruneError> {
        setting("lambda", self.lambda, self.lambda > 0.0 && self.lambda.is_finite(), "above 0")?;
        setting("share", self.share, self.share > 0.0 && self.share < 1.0, "above 0 and below 1")?;
        setting("scale", self.scale, self.scale > 0.0 && self.scale.is_finite(), "above 0")?;
        setting("passes", self.passes, self.passes > 0, "1 or more")
    }

    fn prepare(&self, mut graph: Graph) -> Result<Graph, StudyError> {
        let scales = batch_norm_scales(&graph)?;
        if scales.is_empty() {
            let (key, value) =
                ("student.model".to_owned(), "a network without batch normalisation".to_owned());
            let allowed = "one with batch normalisation, whose scales network slimming looks at".to_owned();
            return Err(PruneError::Setting { key, value, allowed }.into());
        }
        let found: Vec<_> = scales
            .iter()
            .map(|(path, scales)| Ok((graph.find(path)?, scales.shape().to_vec())))
            .collect::<Result<_, PruneError>>()?;
        let scale = self.scale as f32;
        let set = graph.edit(|edit| {
            found.into_iter().try_for_each(|(id, shape)| edit.set_value(id, TensorData::full(shape, scale)))
        });
        set.map_err(PruneError::from)?;
        Ok(graph)
    }

    fn sparsify(&self, graph: &Graph) -> Result<Option<Box<dyn Hook<Net>>>, StudyError> {
        let scales = batch_norm_scales(graph)?;
        Ok(Some(Box::new(SparsifyScales::new(self.lambda, scales.into_keys())?)))
    }

    fn passes(&self) -> usize {
        self.passes
    }

    fn prune(&self, network: &ToPrune<'_>) -> Result<Pruned, StudyError> {
        let (plan, report) = slim(network.graph, self.share)?;
        let notes = vec![format!(
            "Pass {}: {} channels below the threshold of {:.3} went, with shifts of at most {:.3}; {}.",
            network.pass,
            report.channels,
            report.threshold,
            report.lost_shift,
            plan.cost(network.graph)?
        )];
        Ok(Pruned { plans: vec![plan], notes, ..Default::default() })
    }

    fn sensitivity(
        &self,
        graph: &Graph,
        sparsities: &[f64],
        measure: &mut dyn FnMut(&Graph) -> Result<f64, StudyError>,
    ) -> Result<Sensitivity, StudyError> {
        let importance = ChannelImportance { norm: ChannelNorm::BatchNorm, ..Default::default() };
        Sensitivity::of_channels(graph, &importance, sparsities, true, measure)
    }
}
