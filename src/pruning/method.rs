//! What a pruning method has to say, and the table of those that a recipe can name.

use burn::tensor::{Device, Tensor};
use kd_core::{Objective, Traced};
use kd_graph::{Graph, GraphModule, Kernels};
use kd_prune::{NetworkSlimming, PruneError, Sensitivity, Stopwatch, Subject};
use kd_train::Hook;
use serde::{Deserialize, Serialize};

use super::{
    AtInitialisation, Channels, Flop, GradualMagnitude, L0, Lasso, MagnitudePruning, NetworkSurgery, Pruned,
    SparseFromScratch, StructuredSparsity, TwoOfFour, VariationalDropout,
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
    /// Single weights before training.
    AtInitialisation(AtInitialisation),
    /// Sparse from the beginning, with connections that move.
    SparseTraining(SparseFromScratch),
    /// Single weights by their size, spliced back where they were missed.
    Surgery(NetworkSurgery),
    /// Two of every four weights.
    TwoOfFour(TwoOfFour),
    /// Units behind gates that learn to close.
    L0(L0),
    /// Single weights that are mostly noise.
    VariationalDropout(VariationalDropout),
    /// Terms of factorised layers, until a size is reached.
    Flop(Flop),
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
        summary: "filters, channels, shapes or layers that a group lasso drives to zero",
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
        name: "at-initialisation",
        summary: "single weights before training: SNIP, GraSP, SynFlow",
        paper: "Lee et al., 2019, arXiv:1810.02340; Wang et al., 2020, arXiv:2002.07376; Tanaka et al., 2020, arXiv:2006.05467",
    },
    PruneMethodInfo {
        name: "sparse-training",
        summary: "sparse from the beginning, with connections that move: RigL, SET, SNFS, DSR",
        paper: "Evci et al., 2020, arXiv:1911.11134",
    },
    PruneMethodInfo {
        name: "surgery",
        summary: "single weights by their size, spliced back where they were missed",
        paper: "Guo et al., 2016, arXiv:1608.04493",
    },
    PruneMethodInfo {
        name: "two-of-four",
        summary: "two of every four weights along the inputs of a layer",
        paper: "Mishra et al., 2021, arXiv:2104.08378",
    },
    PruneMethodInfo {
        name: "l0",
        summary: "units behind hard-concrete gates that learn to close",
        paper: "Louizos et al., 2018, arXiv:1712.01312",
    },
    PruneMethodInfo {
        name: "variational-dropout",
        summary: "single weights that learn to be mostly noise",
        paper: "Molchanov et al., 2017, arXiv:1701.05369",
    },
    PruneMethodInfo {
        name: "flop",
        summary: "terms of linear layers split in two, behind gates that close until a size is reached",
        paper: "Wang et al., 2020, arXiv:1910.04732",
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
            Self::AtInitialisation(method) => method,
            Self::SparseTraining(method) => method,
            Self::Surgery(method) => method,
            Self::TwoOfFour(method) => method,
            Self::L0(method) => method,
            Self::VariationalDropout(method) => method,
            Self::Flop(method) => method,
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

    /// The operations of its own that [`prepare`](Self::prepare) puts into a network.
    fn kernels(&self) -> Kernels {
        Kernels::new()
    }

    /// Changes a fresh network before it is trained.
    ///
    /// # Errors
    /// When the network is not of the kind that the method needs.
    fn prepare(&self, graph: Graph, fresh: &Fresh<'_>) -> Result<Graph, StudyError> {
        let _ = fresh;
        Ok(graph)
    }

    /// Adds to what a prepared network minimises; `images` is the number of training images.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare).
    fn objective(&self, objective: Objective, graph: &Graph, images: usize) -> Result<Objective, StudyError> {
        let _ = (graph, images);
        Ok(objective)
    }

    /// Hooks for the training of a prepared network, and between passes.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare).
    fn hooks(&self, graph: &Graph) -> Result<Vec<Box<dyn Hook<Net>>>, StudyError> {
        let _ = graph;
        Ok(Vec::new())
    }

    /// The ordinary network behind a trained one: whatever [`prepare`](Self::prepare) put in is folded into weights, as it is in evaluation.
    ///
    /// # Errors
    /// When the network is none that was prepared.
    fn fold(&self, graph: Graph) -> Result<Graph, StudyError> {
        Ok(graph)
    }

    /// Whether [`prune`](Self::prune) has to know what every layer bears.
    fn by_sensitivity(&self) -> bool {
        false
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

/// What a fresh network will be trained with.
#[derive(Clone, Copy)]
pub struct Fresh<'a> {
    /// The data; never the test split.
    pub data: &'a Data,
    /// Where the network is.
    pub device: &'a Device,
    /// The run's seed.
    pub seed: u64,
}

/// A trained network that a method is to prune.
pub struct ToPrune<'a> {
    /// The network as it is now, [folded](Method::fold).
    pub graph: &'a Graph,
    /// The network before anything was pruned.
    pub dense: &'a Graph,
    /// Which pass this is, from 1.
    pub pass: usize,
    /// The data, for methods that look at it; never the test split.
    pub data: &'a Data,
    /// The device, and how milliseconds are measured on it.
    pub stopwatch: &'a Stopwatch,
    /// What every layer bore before anything was pruned, if that was looked at.
    pub sensitivity: Option<&'a Sensitivity>,
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
