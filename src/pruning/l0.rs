//! `method = "l0"`: units behind gates that learn to close.

use kd_core::Objective;
use kd_graph::{Graph, Kernels, Op};
use kd_prune::{
    ClampGates, GateRule, HardConcrete, L0Penalty, PruneError, WeightGroup, fold_gates, insert_gates,
    stochastic_kernels,
};
use kd_train::Hook;
use serde::{Deserialize, Serialize};

use super::channels::setting;
use super::last_epoch::LastEpoch;
use super::structured_sparsity::removable_weights;
use super::zeros::remove_zeros;
use super::{Fresh, Method, Net, Pruned, ToPrune};
use crate::experiment::StudyError;

/// L0 regularisation by hard-concrete gates. Louizos et al., *Learning Sparse Neural Networks through L0 Regularization* (2018).
///
/// Every unit has a gate that is drawn anew at every step of training; the expected number of weights behind open gates is a term of the objective, with the
/// weight `lambda` over the number of training images. Units whose gates are closed in the end go physically; the last epoch counts. The gates
/// are parameters whose paths end in `_log_alpha`; they learn better with a rate of their own, without decay:
///
/// ```toml
/// [[run.optimizer.groups]]
/// pattern = '_log_alpha$'
/// learning-rate = 0.01
/// weight-decay = 0.0
/// ```
///
/// | key | default | range |
/// |---|---|---|
/// | `group` | `channel` | `channel`: what layers read; `filter`: what layers make, for networks without batch normalisation |
/// | `lambda` | 0.1 | 0 or more: price of a weight |
/// | `weight-decay` | 0 | 0 or more: decay of gated weights, by how open they are |
/// | `open` | 0.9 | above 0, below 1: how likely a gate is open at the start |
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct L0 {
    /// What has a gate.
    pub group: WeightGroup,
    /// Price of a weight.
    pub lambda: f64,
    /// Decay of gated weights.
    pub weight_decay: f64,
    /// How likely gates are open at the start.
    pub open: f64,
}

impl Default for L0 {
    fn default() -> Self {
        Self { group: WeightGroup::Channel, lambda: 0.1, weight_decay: 0.0, open: 0.9 }
    }
}

impl L0 {
    /// The weights that get gates, each with the axis of its units.
    fn gated(&self, graph: &Graph) -> Result<Vec<(String, usize)>, PruneError> {
        let mut gated = Vec::new();
        for (weight, axis) in removable_weights(graph, self.group)? {
            let Some(axis) = axis else { continue };
            if self.group == WeightGroup::Filter
                && let Some(norm) = normalised(graph, &weight)?
            {
                let allowed =
                    format!("channel: `{norm}` normalises what `{weight}` makes, and undoes every gate");
                setting("group", "filter", false, &allowed)?;
            }
            gated.push((weight, axis));
        }
        setting(
            "student.model",
            "a network without units that could go",
            !gated.is_empty(),
            "one with hidden layers",
        )?;
        Ok(gated)
    }
}

/// The normalisation behind the layer of a weight.
fn normalised(graph: &Graph, weight: &str) -> Result<Option<String>, PruneError> {
    let weight = graph.find(weight)?;
    let behind = graph.users(weight).flat_map(|(layer, _)| graph.users(layer));
    let mut norms = behind.filter(|(_, node)| matches!(node.op(), Op::BatchNorm(_)));
    Ok(norms.next().map(|(_, node)| node.name().to_owned()))
}

impl Method for L0 {
    fn validate(&self) -> Result<(), PruneError> {
        let known = matches!(self.group, WeightGroup::Channel | WeightGroup::Filter);
        setting("group", format!("{:?}", self.group).to_lowercase(), known, "channel or filter")?;
        for (key, value) in [("lambda", self.lambda), ("weight-decay", self.weight_decay)] {
            setting(key, value, value >= 0.0 && value.is_finite(), "0 or more")?;
        }
        setting("open", self.open, self.open > 0.0 && self.open < 1.0, "above 0 and below 1")
    }

    fn trained(&self) -> &'static str {
        "trained with gates"
    }

    fn kernels(&self) -> Kernels {
        stochastic_kernels()
    }

    fn prepare(&self, mut graph: Graph, _fresh: &Fresh<'_>) -> Result<Graph, StudyError> {
        for (weight, axis) in self.gated(&graph)? {
            insert_gates(&mut graph, &weight, axis, HardConcrete::default(), self.open)?;
        }
        Ok(graph)
    }

    fn objective(&self, objective: Objective, graph: &Graph, images: usize) -> Result<Objective, StudyError> {
        let penalty = L0Penalty::new(graph, self.lambda, self.weight_decay)?;
        Ok(objective.with("l0", penalty, 1.0 / images.max(1) as f64))
    }

    fn hooks(&self, graph: &Graph) -> Result<Vec<Box<dyn Hook<Net>>>, StudyError> {
        Ok(vec![Box::new(ClampGates::new(graph)?), Box::new(LastEpoch)])
    }

    fn fold(&self, mut graph: Graph) -> Result<Graph, StudyError> {
        fold_gates(&mut graph, GateRule::Expected)?;
        Ok(graph)
    }

    fn prune(&self, network: &ToPrune<'_>) -> Result<Pruned, StudyError> {
        let gated: Vec<String> = self.gated(network.graph)?.into_iter().map(|(weight, _)| weight).collect();
        Ok(remove_zeros(network.graph, &gated, network)?)
    }
}
