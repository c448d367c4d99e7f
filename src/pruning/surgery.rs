//! `method = "surgery"`: single weights by their size, spliced back where they were missed.

use std::collections::BTreeMap;

use kd_graph::{Graph, Kernels};
use kd_prune::{
    PruneError, Subject, Surgery, SurgerySettings, UpdateProbability, fold_masks,
    insert_straight_through_masks, mask_kernels,
};
use kd_train::Hook;
use serde::{Deserialize, Serialize};

use super::sparse::{SPARSE, subject};
use super::zeros::mask_zeros;
use super::{Fresh, Method, Net, Pruned, ToPrune};
use crate::experiment::StudyError;

/// Dynamic network surgery: masks follow the weights, the gradient goes to masked weights too, and what was pruned by mistake comes back. Guo et al., *Dynamic
/// Network Surgery for Efficient DNNs* (2016).
///
/// The network is dense until `begin`, where thresholds are set by mean $\mu$ and deviation $\sigma$ of every layer's magnitudes: a weight goes below
/// $0.9 (\mu + c \sigma)$ and comes back above $1.1 (\mu + c \sigma)$.
///
/// | key | default | range |
/// |---|---|---|
/// | `c` | 1.0 | a number: how many deviations above the mean thresholds lie |
/// | `layers` | none | other numbers by the path of a weight |
/// | `begin` | 1000 | step of the first training at which surgery begins |
/// | `probability` | `{ gamma = 1e-4, power = 1.0, stop = 10000 }` | how likely a layer's mask is updated at a step: $(1 + \gamma t)^{-\text{power}}$, counted from `begin` |
/// | `seed` | 0 | of the draws |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct NetworkSurgery {
    /// Where thresholds lie.
    pub c: f64,
    /// Where they lie instead in some layers.
    pub layers: BTreeMap<String, f64>,
    /// The first step of surgery.
    pub begin: usize,
    /// How likely updates are.
    pub probability: UpdateProbability,
    /// Of the draws.
    pub seed: u64,
}

impl Default for NetworkSurgery {
    fn default() -> Self {
        let SurgerySettings { probability, seed, .. } = SurgerySettings::new([("", 0.0); 0]);
        Self { c: 1.0, layers: BTreeMap::new(), begin: 1000, probability, seed }
    }
}

impl NetworkSurgery {
    /// The settings for some weights.
    fn settings<'a>(&'a self, weights: impl IntoIterator<Item = &'a str>) -> SurgerySettings {
        let c = |path: &'a str| (path, self.layers.get(path).copied().unwrap_or(self.c));
        SurgerySettings {
            begin: self.begin,
            probability: self.probability,
            seed: self.seed,
            ..SurgerySettings::new(weights.into_iter().map(c))
        }
    }
}

impl Method for NetworkSurgery {
    fn validate(&self) -> Result<(), PruneError> {
        let named = self.layers.keys().map(String::as_str);
        self.settings(named.chain(["c"])).validate().map(drop)
    }

    fn trained(&self) -> &'static str {
        SPARSE
    }

    fn kernels(&self) -> Kernels {
        mask_kernels()
    }

    fn prepare(&self, mut graph: Graph, _fresh: &Fresh<'_>) -> Result<Graph, StudyError> {
        // Other layers have to be among those that are pruned.
        Subject::only(subject(&graph), self.layers.keys())?;
        let masks = subject(&graph).dense()?;
        insert_straight_through_masks(&mut graph, &masks)?;
        Ok(graph)
    }

    fn hooks(&self, graph: &Graph) -> Result<Vec<Box<dyn Hook<Net>>>, StudyError> {
        let subject = subject(graph);
        Ok(vec![Box::new(Surgery::new(self.settings(subject.parameters()))?)])
    }

    fn fold(&self, mut graph: Graph) -> Result<Graph, StudyError> {
        fold_masks(&mut graph)?;
        Ok(graph)
    }

    fn prune(&self, network: &ToPrune<'_>) -> Result<Pruned, StudyError> {
        mask_zeros(network)
    }
}
