//! `method = "variational-dropout"`: single weights that are mostly noise.

use kd_core::{Objective, Schedule};
use kd_graph::{Graph, Kernels};
use kd_prune::{PruneError, VariationalPenalty, fold_noise, insert_noise, stochastic_kernels};
use kd_train::Hook;
use serde::{Deserialize, Serialize};

use super::channels::setting;
use super::last_epoch::LastEpoch;
use super::sparse::subject;
use super::zeros::mask_zeros;
use super::{Fresh, Method, Net, Pruned, ToPrune};
use crate::experiment::StudyError;

/// Sparse variational dropout. Molchanov et al., *Variational Dropout Sparsifies Deep Neural Networks* (2017).
///
/// Every weight $w \sim \mathcal N(\theta, \sigma^2)$ learns how noisy it may be; weights with $\ln(\sigma^2 / \theta^2)$ of `threshold` or more are zero in the end. The
/// divergence from the prior is a term of the objective, over the number of training images; the last epoch counts. The noise is in
/// parameters whose paths end in `_log_variance`, which a group of the optimizer gives a rate of their own, without decay.
///
/// | key | default | range |
/// |---|---|---|
/// | `threshold` | 3.0 | a number: what counts as noise |
/// | `log-variance` | -10.0 | a number: $\ln \sigma^2$ at the start |
/// | `warm-up` | 0.3 | above 0, at most 1: share of the training in which the term's weight rises |
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct VariationalDropout {
    /// What counts as noise.
    pub threshold: f64,
    /// Noise at the start.
    pub log_variance: f64,
    /// Share of the training in which the term's weight rises.
    pub warm_up: f64,
}

impl Default for VariationalDropout {
    fn default() -> Self {
        Self { threshold: 3.0, log_variance: -10.0, warm_up: 0.3 }
    }
}

impl Method for VariationalDropout {
    fn validate(&self) -> Result<(), PruneError> {
        setting("threshold", self.threshold, self.threshold.is_finite(), "a number")?;
        setting("log-variance", self.log_variance, self.log_variance.is_finite(), "a number")?;
        setting("warm-up", self.warm_up, self.warm_up > 0.0 && self.warm_up <= 1.0, "above 0, at most 1")
    }

    fn trained(&self) -> &'static str {
        "trained with noise"
    }

    fn kernels(&self) -> Kernels {
        stochastic_kernels()
    }

    fn prepare(&self, mut graph: Graph, _fresh: &Fresh<'_>) -> Result<Graph, StudyError> {
        let weights: Vec<String> = subject(&graph).parameters().map(str::to_owned).collect();
        for weight in weights {
            insert_noise(&mut graph, &weight, self.log_variance)?;
        }
        Ok(graph)
    }

    fn objective(&self, objective: Objective, graph: &Graph, images: usize) -> Result<Objective, StudyError> {
        let weight = Schedule::WarmUp { to: 1.0 / images.max(1) as f64, share: self.warm_up };
        Ok(objective.with("divergence", VariationalPenalty::new(graph)?, weight))
    }

    fn hooks(&self, _graph: &Graph) -> Result<Vec<Box<dyn Hook<Net>>>, StudyError> {
        Ok(vec![Box::new(LastEpoch)])
    }

    fn fold(&self, mut graph: Graph) -> Result<Graph, StudyError> {
        fold_noise(&mut graph, self.threshold)?;
        Ok(graph)
    }

    fn prune(&self, network: &ToPrune<'_>) -> Result<Pruned, StudyError> {
        mask_zeros(network)
    }
}
