//! What a group is made of.

use serde::{Deserialize, Serialize};

use super::{Cells, Inexact, Unprunable};
use crate::NodeId;

/// On which side of its layer an axis of a parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// It makes, shifts or scales what is removed: filters, biases, normalisation, a table that is added.
    Output,
    /// It reads what is removed.
    Input,
}

/// One of the things that can be removed independently of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Index in [`Dependencies::groups`](super::Dependencies::groups).
    pub group: usize,
    /// Which of the group.
    pub index: usize,
}

/// An axis of a parameter or constant that belongs to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its path.
    pub parameter: String,
    /// Its node.
    pub node: NodeId,
    /// The axis.
    pub axis: usize,
    /// Which side of the layer the axis is.
    pub side: Side,
    /// For every position of the group, the indices of the axis that go with it, ascending; none if the position is elsewhere.
    pub indices: Vec<Vec<usize>>,
}

impl Member {
    /// Number of indices of the axis that belong to the group.
    pub fn count(&self) -> usize {
        self.indices.iter().map(Vec::len).sum()
    }

    /// First and last index of the axis that belong to the group.
    pub fn range(&self) -> Option<(usize, usize)> {
        let all = || self.indices.iter().flatten().copied();
        Some((all().min()?, all().max()?))
    }
}

/// Which part of an operation follows an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttributeKind {
    /// The number of groups of a convolution or a group normalisation.
    Groups,
    /// The size of an axis in a reshape, an expansion or a filled tensor.
    Size {
        /// The axis of the result.
        axis: usize,
    },
    /// The range of a slice.
    Range {
        /// The axis of the input.
        axis: usize,
    },
    /// The width of a border.
    Padding {
        /// The axis.
        axis: usize,
    },
    /// The number of copies of a repetition.
    Times,
    /// The factor of an attention's scores, which is then written out with the size that it was made for.
    Scale,
}

/// An attribute that must change when something of a group is removed.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// The node that has it.
    pub node: NodeId,
    /// Which one.
    pub kind: AttributeKind,
    /// What it counts.
    pub(super) cells: Cells,
}

/// Positions that one layer makes, or that several make because their results are combined, with all that goes with each of them.
///
/// Any set of positions can be removed, as long as every axis keeps one index.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Index in [`Dependencies::groups`](super::Dependencies::groups).
    pub index: usize,
    /// The axes that change, in execution order.
    pub members: Vec<Member>,
    /// The attributes that change.
    pub attributes: Vec<Attribute>,
    /// Where removing is not the same as zeroing the members.
    pub inexact: Vec<Inexact>,
    /// For every position, why it must stay, if it must.
    pub fixed: Vec<Option<Unprunable>>,
    /// Other groups that have indices of members in common with this one: heads and the places in a head, for example.
    pub crosses: Vec<usize>,
}

impl Group {
    /// Number of positions.
    pub fn len(&self) -> usize {
        self.fixed.len()
    }

    /// Whether there is no position; never so for the groups of a graph.
    pub fn is_empty(&self) -> bool {
        self.fixed.is_empty()
    }

    /// Why nothing can be removed, if no position can.
    pub fn unprunable(&self) -> Option<Unprunable> {
        if self.fixed.iter().all(Option::is_some) { self.fixed.iter().flatten().min().copied() } else { None }
    }

    /// A position, for [`Dependencies::remove`](super::Dependencies::remove).
    pub fn position(&self, index: usize) -> Position {
        Position { group: self.index, index }
    }

    /// The member of a node and an axis.
    pub fn member(&self, node: NodeId, axis: usize) -> Option<&Member> {
        self.members.iter().find(|member| member.node == node && member.axis == axis)
    }
}
