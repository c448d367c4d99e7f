//! What can go wrong.

use kd_graph::{GraphError, ModuleError, RemoveError, RunError, ValueError};

/// Why something could not be pruned.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// A setting outside its range.
    #[error("`{key}` is {value}; allowed is {allowed}")]
    Setting {
        /// Name of the setting.
        key: String,
        /// What was given.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// A tensor of a shape that does not fit.
    #[error("{what} of shape {shape:?} {reason}")]
    Shape {
        /// Which one.
        what: String,
        /// Its shape.
        shape: Vec<usize>,
        /// What does not fit.
        reason: String,
    },
    /// Scores of this kind look at gradients.
    #[error("{score} needs gradients; give the subject a batch and a loss with `Subject::with_loss`")]
    NoLoss {
        /// Name of the score.
        score: &'static str,
    },
    /// The loss could not be taken of the outputs.
    #[error("the loss failed: {0}")]
    Loss(String),
    /// A parameter that is not among those asked for.
    #[error("no `{what}` for parameter `{parameter}`; there are {}", known.join(", "))]
    Missing {
        /// What is missing.
        what: &'static str,
        /// The parameter.
        parameter: String,
        /// Those that are there.
        known: Vec<String>,
    },
    /// A score that is not a number can't be ranked.
    #[error("the scores of `{parameter}` hold {value}; is the loss finite?")]
    NotFinite {
        /// The parameter.
        parameter: String,
        /// The score.
        value: f32,
    },
    /// A budget below what must be kept.
    #[error("{target} can't be reached: with all that may be removed gone, {least} are left of {before}")]
    Unreachable {
        /// What was asked for.
        target: String,
        /// The least possible.
        least: String,
        /// The amount before.
        before: String,
    },
    /// A plan made for another network.
    #[error("this plan is for another architecture: {difference}")]
    Architecture {
        /// The first difference found.
        difference: String,
    },
    /// A model of the user's that can't shrink in place.
    #[error(
        "`{parameter}` can't shrink in place: {reason}; use `PrunePlan::apply` and the module of the smaller graph"
    )]
    InPlace {
        /// The parameter.
        parameter: String,
        /// What stands in the way.
        reason: String,
    },
    /// A network that does not run as a graph has nothing that could be removed.
    #[error(
        "the network does not run as a graph: trace it with `kd_graph::trace` and prune the module of its graph"
    )]
    NoGraph,
    /// An optimizer's state that can't be read or written.
    #[error("the optimizer's state: {0}")]
    Optimizer(String),
    /// From the graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// From removing.
    #[error(transparent)]
    Remove(#[from] RemoveError),
    /// From compiling the graph.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// From running it.
    #[error(transparent)]
    Run(#[from] RunError),
    /// From a tensor of another kind.
    #[error(transparent)]
    Value(#[from] ValueError),
}

impl PruneError {
    /// A setting outside its range.
    pub(crate) fn setting(key: &str, value: impl ToString, allowed: &str) -> Self {
        Self::Setting { key: key.to_owned(), value: value.to_string(), allowed: allowed.to_owned() }
    }
}
