//! `method = "flop"`: terms of factorised layers, until a size is reached.

use kd_core::Objective;
use kd_graph::{Graph, Kernels, Op};
use kd_prune::{
    AscendMultipliers, GateRule, HardConcrete, PruneError, SizeLagrangian, factorise, fold_gates,
    insert_gates, stochastic_kernels,
};
use kd_train::Hook;
use serde::{Deserialize, Serialize};

use super::channels::setting;
use super::last_epoch::LastEpoch;
use super::sparse::share;
use super::zeros::remove_zeros;
use super::{Fresh, Method, Net, Pruned, ToPrune};
use crate::experiment::StudyError;

/// The term's name in the objective, and in the paths of its multipliers.
const TERM: &str = "size";

/// FLOP: linear layers are split into products $W = P Q$, and gates close terms of the product until a size is reached. Wang et al., *Structured Pruning of Large
/// Language Models* (2020).
///
/// The size is a constraint, kept by multipliers that climb as long as it is not met; the last epoch counts. Closed terms go physically, and
/// the layer stays two smaller ones. The plan that is written is one for the network with split layers. Gates (`_log_alpha`) and multipliers learn better with rates of their own, without decay:
///
/// ```toml
/// [[run.optimizer.groups]]
/// pattern = '(_log_alpha|\.multipliers)$'
/// learning-rate = 0.05
/// weight-decay = 0.0
/// ```
///
/// | key | default | range |
/// |---|---|---|
/// | `sparsity` | 0.8 | above 0, below 1: share of the layers' weights that go |
/// | `layers` | all linear layers | paths of weights |
/// | `warm-up` | 0.5 | above 0, at most 1: share of the training in which the target rises from 0 |
/// | `open` | 0.9 | above 0, below 1: how likely a gate is open at the start |
/// | `factor` | 0.8 | above 0: of $\ln\alpha$, when gates become zeros and ones in the end |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Flop {
    /// Share of weights that go.
    pub sparsity: f64,
    /// The weights that are split; all that can be, if none are named.
    pub layers: Vec<String>,
    /// Share of the training in which the target rises.
    pub warm_up: f64,
    /// How likely gates are open at the start.
    pub open: f64,
    /// Of the gates' parameters in the end.
    pub factor: f64,
}

impl Default for Flop {
    fn default() -> Self {
        Self { sparsity: 0.8, layers: Vec::new(), warm_up: 0.5, open: 0.9, factor: 0.8 }
    }
}

impl Flop {
    fn layers(&self, graph: &Graph) -> Result<Vec<String>, PruneError> {
        let linear = |id| {
            let mut users = graph.users(id);
            let only = (users.next(), users.next());
            matches!(only, (Some((_, user)), None) if *user.op() == Op::Linear && user.inputs().get(1) == Some(&id))
        };
        let all = graph.parameters().filter(|(id, _)| linear(*id)).map(|(_, node)| node.name().to_owned());
        let layers = if self.layers.is_empty() { all.collect() } else { self.layers.clone() };
        setting(
            "student.model",
            "a network without linear layers",
            !layers.is_empty(),
            "one with linear layers",
        )?;
        Ok(layers)
    }
}

/// The first factor of a split weight.
fn left(weight: &str) -> String {
    format!("{weight}_left")
}

impl Method for Flop {
    fn validate(&self) -> Result<(), PruneError> {
        share(self.sparsity)?;
        setting("warm-up", self.warm_up, self.warm_up > 0.0 && self.warm_up <= 1.0, "above 0, at most 1")?;
        setting("open", self.open, self.open > 0.0 && self.open < 1.0, "above 0 and below 1")?;
        setting("factor", self.factor, self.factor > 0.0 && self.factor.is_finite(), "above 0")
    }

    fn trained(&self) -> &'static str {
        "trained with gates"
    }

    fn kernels(&self) -> Kernels {
        stochastic_kernels()
    }

    fn prepare(&self, mut graph: Graph, _fresh: &Fresh<'_>) -> Result<Graph, StudyError> {
        for weight in self.layers(&graph)? {
            factorise(&mut graph, &weight)?;
            insert_gates(&mut graph, &left(&weight), 1, HardConcrete::default(), self.open)?;
        }
        Ok(graph)
    }

    fn objective(
        &self,
        objective: Objective,
        graph: &Graph,
        _images: usize,
    ) -> Result<Objective, StudyError> {
        Ok(objective.with(TERM, SizeLagrangian::new(graph, self.sparsity, self.warm_up)?, 1.0))
    }

    fn hooks(&self, _graph: &Graph) -> Result<Vec<Box<dyn Hook<Net>>>, StudyError> {
        Ok(vec![Box::new(AscendMultipliers::new(TERM)), Box::new(LastEpoch)])
    }

    fn fold(&self, mut graph: Graph) -> Result<Graph, StudyError> {
        fold_gates(&mut graph, GateRule::Count { factor: self.factor })?;
        Ok(graph)
    }

    fn prune(&self, network: &ToPrune<'_>) -> Result<Pruned, StudyError> {
        let names = network.graph.parameters().map(|(_, node)| node.name());
        let split: Vec<String> =
            names.filter_map(|name| name.strip_suffix("_left")).map(str::to_owned).collect();
        let lefts: Vec<String> = split.iter().map(|weight| left(weight)).collect();
        let pruned = remove_zeros(network.graph, &lefts, network)?;
        Ok(Pruned { factorised: split, ..pruned })
    }
}
