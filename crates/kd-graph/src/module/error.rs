//! What can go wrong when a graph is made a module and run.

use crate::{GraphError, Kind};

/// Why a [`Value`](super::Value) could not be read as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The rank or kind asked for is not the one held.
    #[error("asked for a {asked} tensor of rank {asked_rank}, but it is a {kind} tensor of shape {shape:?}")]
    Type {
        /// Kind asked for.
        asked: Kind,
        /// Rank asked for.
        asked_rank: usize,
        /// Kind held.
        kind: Kind,
        /// Shape held.
        shape: Vec<usize>,
    },
    /// The device could not hand out the numbers.
    #[error("the device could not hand out the numbers: {reason}")]
    Read {
        /// What burn says.
        reason: String,
    },
}

/// Why a graph could not be made a module.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ModuleError {
    /// The graph contradicts itself.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// burn's modules hold parameters of a few ranks only.
    #[error("parameter `{path}` has {rank} axes; a module holds parameters of 1 to 6")]
    Rank {
        /// Path of the parameter.
        path: String,
        /// Its rank.
        rank: usize,
    },
    /// A learned parameter must be of floats.
    #[error("parameter `{path}` holds {kind}; only floats are learned, so its role must be a buffer")]
    Role {
        /// Path of the parameter.
        path: String,
        /// What it holds.
        kind: Kind,
    },
    /// The graph has an operation of the user that nobody has given a kernel for.
    #[error("`{node}` is the custom operation `{op}`, but no kernel of that name was given; there are: {}", known.join(", "))]
    Kernel {
        /// Name of the node.
        node: String,
        /// Name of the operation.
        op: String,
        /// Names of the kernels that were given.
        known: Vec<String>,
    },
}

/// Why a graph could not be run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RunError {
    /// Too few or too many inputs.
    #[error("the graph takes {wanted} inputs ({}), not {got}", names.join(", "))]
    Inputs {
        /// How many it takes.
        wanted: usize,
        /// Their names.
        names: Vec<String>,
        /// How many were given.
        got: usize,
    },
    /// An input of another kind or shape.
    #[error("input `{input}` is {wanted}, but a {got_kind} tensor of shape {got:?} was given")]
    Input {
        /// Name of the input.
        input: String,
        /// Its type.
        wanted: String,
        /// Kind that was given.
        got_kind: Kind,
        /// Shape that was given.
        got: Vec<usize>,
    },
    /// Two inputs disagree on the batch size.
    #[error("input `{input}` has a batch of {got}, but `{other}` one of {expected}")]
    Batch {
        /// Name of the input.
        input: String,
        /// Its batch size.
        got: usize,
        /// Name of an input before it.
        other: String,
        /// The batch size of that one.
        expected: usize,
    },
    /// An input on another device than the parameters.
    #[error("input `{input}` is on {got} and the module on {wanted}; move one with `to_device`")]
    Device {
        /// Name of the input.
        input: String,
        /// Where it is.
        got: String,
        /// Where the module is.
        wanted: String,
    },
    /// A batch norm that nobody has told how fast its running statistics move.
    #[error(
        "`{node}` cannot be trained: the trace does not show its momentum; set `BatchNorm::momentum` of this node (burn's default is 0.1), \
         or run on a device without autodiff"
    )]
    Momentum {
        /// Name of the node.
        node: String,
    },
    /// A batch norm in training whose statistics are computed by other nodes.
    #[error(
        "`{node}` cannot be trained: its mean and variance are computed by other nodes instead of held as buffers, so there is nothing \
         to update; run on a device without autodiff"
    )]
    Statistics {
        /// Name of the node.
        node: String,
    },
    /// An operation that refused its arguments.
    #[error("`{node}`: {reason}")]
    Op {
        /// Name of the node.
        node: String,
        /// What is wrong.
        reason: String,
    },
    /// A tap that does not exist.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A result of another kind or rank than asked for.
    #[error("result {index}: {source}")]
    Output {
        /// Which result.
        index: usize,
        /// What was asked for and what is there.
        source: ValueError,
    },
}
