//! What a pruning method has to say, and the table of those that a recipe can name.

use burn::tensor::{Device, Tensor};
use kd_core::Traced;
use kd_graph::{Graph, GraphModule};
use kd_prune::{KeepMasks, Masks, NetworkSlimming, PruneError, PrunePlan, Sensitivity, Stopwatch, Subject};
use kd_train::Hook;
use serde::{Deserialize, Serialize};

use super::{
    Channels, GradualMagnitude, Lasso, MagnitudePruning, SnipPruning, SparseFromScratch, StructuredSparsity,
    TwoOfFour,
};
use crate::experiment::{Data, StudyError};

/// A network that is pruned: any traced model of images.
pub type Net = Traced<Tensor<4>>;

/// The methods of `[prune]`: `method` names one, the other keys are its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case")]
pub enum PruneMethod {
    /// Channels whose normalisation scales an L1 term drives to zero.
    NetworkSlimming(NetworkSlimming),
    /// Channels by their weights, until a budget is met.
    Channels(Channels),
    /// Single weights by their size.
    Magnitude(MagnitudePruning),
    /// Groups of weights that a group lasso drives to zero.
    StructuredSparsity(StructuredSparsity),
    /// Channels that LASSO chooses, and least squares makes up for.
    Lasso(Lasso),
    /// Single weights by their size, more and more of them while the network is trained.
    GradualMagnitude(GradualMagnitude),
    /// Single weights before training, by the first batch.
    Snip(SnipPruning),
    /// Sparse from the beginning, with connections that move.
    SparseTraining(SparseFromScratch),
    /// Two of every four weights.
    TwoOfFour(TwoOfFour),
}

/// A row of [`PRUNE_METHODS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PruneMethodInfo {
    /// How a recipe writes it.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Where it comes from.
    pub paper: &'static str,
}

/// Every method that a recipe can name.
pub const PRUNE_METHODS: &[PruneMethodInfo] = &[
    PruneMethodInfo {
        name: "network-slimming",
        summary: "channels whose normalisation scales an L1 term drives to zero, in passes",
        paper: "Liu et al., 2017, arXiv:1708.06519",
    },
    PruneMethodInfo {
        name: "channels",
        summary: "channels by the norm of all weights they go through, until a budget is met",
        paper: "Fang et al., 2023, arXiv:2301.12900",
    },
    PruneMethodInfo {
        name: "magnitude",
        summary: "single weights by their size, with retraining",
        paper: "Han et al., 2015, arXiv:1506.02626",
    },
    PruneMethodInfo {
        name: "structured-sparsity",
        summary: "filters, channels or shapes that a group lasso drives to zero",
        paper: "Wen et al., 2016, arXiv:1608.03665",
    },
    PruneMethodInfo {
        name: "lasso",
        summary: "channels chosen by LASSO, the layers that read them refitted by least squares",
        paper: "He et al., 2017, arXiv:1707.06168",
    },
    PruneMethodInfo {
        name: "gradual-magnitude",
        summary: "single weights by their size, more and more of them while the network is trained",
        paper: "Zhu and Gupta, 2017, arXiv:1710.01878",
    },
    PruneMethodInfo {
        name: "snip",
        summary: "single weights before training, by the first batch",
        paper: "Lee et al., 2019, arXiv:1810.02340",
    },
    PruneMethodInfo {
        name: "sparse-training",
        summary: "sparse from the beginning, with connections that move: RigL, SET, SNFS, DSR",
        paper: "Evci et al., 2020, arXiv:1911.11134",
    },
    PruneMethodInfo {
        name: "two-of-four",
        summary: "two of every four weights along the inputs of a layer",
        paper: "Mishra et al., 2021, arXiv:2104.08378",
    },
];

impl PruneMethod {
    /// The method behind the name.
    pub fn method(&self) -> &dyn Method {
        match self {
            Self::NetworkSlimming(method) => method,
            Self::Channels(method) => method,
            Self::Magnitude(method) => method,
            Self::StructuredSparsity(method) => method,
            Self::Lasso(method) => method,
            Self::GradualMagnitude(method) => method,
            Self::Snip(method) => method,
            Self::SparseTraining(method) => method,
            Self::TwoOfFour(method) => method,
        }
    }
}

/// What a method does at the points of a pruning study. What it doesn't say is the same for all.
pub trait Method {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`PruneError::Setting`] with key, value and range.
    fn validate(&self) -> Result<(), PruneError>;

    /// What the network of the first training is called in the table.
    fn trained(&self) -> &'static str {
        "dense"
    }

    /// Changes a fresh network before it is trained.
    ///
    /// # Errors
    /// When the network is not of the kind that the method needs.
    fn prepare(&self, graph: Graph) -> Result<Graph, StudyError> {
        Ok(graph)
    }

    /// A hook for the training of the dense network, and between passes.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare).
    fn sparsify(&self, graph: &Graph) -> Result<Option<Box<dyn Hook<Net>>>, StudyError> {
        let _ = graph;
        Ok(None)
    }

    /// How often it prunes and recovers.
    fn passes(&self) -> usize {
        1
    }

    /// What goes of a trained network.
    ///
    /// # Errors
    /// What stands in the way.
    fn prune(&self, network: &ToPrune<'_>) -> Result<Pruned, StudyError>;

    /// What every layer bears, by the units that the method removes; single weights unless it says otherwise.
    ///
    /// # Errors
    /// As `measure`.
    fn sensitivity(
        &self,
        graph: &Graph,
        device: &Device,
        sparsities: &[f64],
        measure: &mut dyn FnMut(&Graph) -> Result<f64, StudyError>,
    ) -> Result<Sensitivity, StudyError> {
        let subject = Subject::new(graph, device);
        let scores =
            subject.weights()?.into_iter().map(|(path, weight)| (path, weight.map(f32::abs))).collect();
        Sensitivity::of_weights(&subject, &scores, &kd_prune::Structure::Element, sparsities, true, measure)
    }
}

/// A trained network that a method is to prune.
pub struct ToPrune<'a> {
    /// The network as it is now.
    pub graph: &'a Graph,
    /// The network before anything was pruned.
    pub dense: &'a Graph,
    /// Which pass this is, from 1.
    pub pass: usize,
    /// The data, for methods that look at it; never the test split.
    pub data: &'a Data,
    /// The device, and how milliseconds are measured on it.
    pub stopwatch: &'a Stopwatch,
}

/// What is left.
#[derive(Clone, Debug, Default)]
pub struct Pruned {
    /// What was removed physically, each for what the one before left.
    pub plans: Vec<PrunePlan>,
    /// What was masked.
    pub masks: Masks,
    /// The network that is left, if more has changed than that: biases that took up what removed channels gave, say.
    pub graph: Option<Graph>,
    /// Anything that the report should say.
    pub notes: Vec<String>,
}

impl Pruned {
    /// The same removal and masking on another network of the architecture.
    ///
    /// # Errors
    /// [`PruneError::Architecture`] for a network of another one.
    pub fn replay(&self, graph: &Graph) -> Result<Graph, PruneError> {
        let mut graph = graph.clone();
        for plan in &self.plans {
            graph = plan.apply(&graph)?;
        }
        if self.masks.is_empty() {
            return Ok(graph);
        }
        kd_prune::insert_masks(&mut graph, &self.masks)?;
        kd_prune::fold_masks(&mut graph)?;
        Ok(graph)
    }

    /// The network that recovery begins with.
    ///
    /// # Errors
    /// As [`replay`](Self::replay).
    pub fn start(&self, graph: &Graph) -> Result<Graph, PruneError> {
        self.graph.clone().map_or_else(|| self.replay(graph), Ok)
    }

    /// A hook that keeps what was masked at zero.
    pub fn keep(&self) -> Option<KeepMasks> {
        (!self.masks.is_empty()).then(|| KeepMasks::new(self.masks.clone()))
    }

    /// Adds what another pass has pruned.
    pub fn then(&mut self, next: Pruned) {
        self.plans.extend(next.plans);
        self.masks.extend(next.masks);
        self.graph = next.graph;
        self.notes.extend(next.notes);
    }
}

/// A graph as a network of its own: clones of a module share running statistics, so every run gets a new one.
pub(super) fn network(graph: &Graph, like: &GraphModule) -> Result<Net, PruneError> {
    Ok(like.rebuilt(graph.clone())?.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_table_names_every_method_there_is() {
        let error = toml::from_str::<PruneMethod>("method = \"none\"").unwrap_err().to_string();
        let known: Vec<_> = error.split('`').skip(3).step_by(2).collect();
        assert_eq!(known, PRUNE_METHODS.iter().map(|method| method.name).collect::<Vec<_>>(), "{error}");
    }
}
