//! Why something must stay, and where removing is not the same as zeroing.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::NodeId;

/// Why an index of an axis can't be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The caller gives tensors of this size.
    Input,
    /// The caller gets tensors of this size.
    Output,
    /// The operation is not one of the graph's own, so nobody knows what it does along the axis.
    Unknown,
    /// Two operations divide the axis into parts that don't fit each other.
    Split,
    /// Indices computed elsewhere point into the axis.
    Index,
    /// A slice takes every n-th index, which it could not say of what is left.
    Step,
    /// A border mirrors or repeats what is inside.
    Border,
    /// The axis is folded with the batch in an order that leaves no room for a removal.
    Batch,
    /// The axis counts positions (pixels, tokens, examples), not features.
    Position,
    /// A window moves along the axis, or the axis is that window.
    Window,
    /// It is the only index of its axis.
    Single,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Input => "its size is that of an input",
            Reason::Output => "its size is that of an output",
            Reason::Unknown => "a custom operation reads it",
            Reason::Split => "it is divided in two ways that contradict each other",
            Reason::Index => "computed indices point into it",
            Reason::Step => "a slice takes every n-th index",
            Reason::Border => "a border mirrors or repeats it",
            Reason::Batch => "it is folded with the batch",
            Reason::Position => "it counts positions, not features",
            Reason::Window => "a window moves along it",
            Reason::Single => "its axis has no other",
        })
    }
}

/// A [`Reason`], and the node that gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Unprunable {
    /// Why.
    pub reason: Reason,
    /// Where.
    pub node: NodeId,
}

/// How an operation brings indices of an axis together, so that removing some is not the same as zeroing them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mixing {
    /// A normalisation takes its statistics over them.
    Statistics,
    /// A softmax divides by their sum.
    Softmax,
    /// A reduction runs over them.
    Reduction,
    /// They are added up, and are not zero when their parameters are: a sigmoid lies between, say.
    Offset,
}

impl fmt::Display for Mixing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mixing::Statistics => "a normalisation takes its statistics over it",
            Mixing::Softmax => "a softmax runs over it",
            Mixing::Reduction => "a reduction runs over it",
            Mixing::Offset => "it is added up, but not zero when its parameters are",
        })
    }
}

/// Where zeroing the parameters of an index and removing it give different results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Inexact {
    /// What happens there.
    pub mixing: Mixing,
    /// Where.
    pub node: NodeId,
}
