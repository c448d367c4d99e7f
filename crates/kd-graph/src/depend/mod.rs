//! Which axes of which parameters must change together, and what changes with them.
//!
//! Removing a channel means removing it everywhere: the filter that makes it, the statistics that normalise it, the weights that read it, and
//! the same of everything that it is added to. [`Graph::dependencies`] finds these sets for a whole graph. Every index of every axis gets a
//! label in one walk; operations join the labels of what must go together: a convolution those of its input with its weight's second axis, a
//! sum those of its operands, a concatenation none, because it only puts them one after the other. What shares a label in the end is removed
//! together. A channel that two layers share with two others through a concatenation and a split is therefore told from its neighbour.
//!
//! An axis can be a product: of heads and places in a head, of groups and channels in a group. Then whole heads form one group, and places
//! within a head another, and both have the same parameters as members. See Fang et al., *DepGraph: Towards Any Structural Pruning* (2023),
//! for the idea of groups; the labels per index, and the products, are ours.
//!
//! Where an operation's effect is not known, what it touches is [`Unprunable`], with the reason. Where removing differs from zeroing, because
//! a normalisation takes its statistics over the axis, say, the group is [`Inexact`].

mod build;
mod data;
mod group;
mod label;
mod reason;
mod remove;
mod rules;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use group::{Attribute, AttributeKind, Group, Member, Position, Side};
pub use reason::{Inexact, Mixing, Reason, Unprunable};
pub use remove::RemoveError;

use crate::{Graph, GraphError, NodeId};

/// Of every index of an axis, the positions that decide whether it is removed; none if it always stays.
type Cells = Arc<[Box<[Position]>]>;

/// What must change together in a graph.
///
/// It describes the graph as it was: after any edit, ask again.
///
/// ```
/// use burn::tensor::TensorData;
/// use kd_graph::{Activation, Graph, Op, Role, Shape, TensorType};
///
/// let mut graph = Graph::new();
/// let weight = |rows, columns| TensorData::zeros::<f32, _>([rows, columns]);
/// let x = graph.input("input", TensorType::float(Shape::batched([4])))?;
/// let first = graph.parameter("first.weight", Role::Weight, weight(4, 8))?;
/// let second = graph.parameter("second.weight", Role::Weight, weight(8, 2))?;
/// let hidden = graph.add("first", Op::Linear, &[x, first])?;
/// let hidden = graph.add("relu", Op::Activation(Activation::Relu), &[hidden])?;
/// let logits = graph.add("second", Op::Linear, &[hidden, second])?;
/// graph.set_outputs(&[logits])?;
///
/// let dependencies = graph.dependencies();
/// let hidden = dependencies.groups_of("first.weight", 1)?[0];
/// assert_eq!(hidden.len(), 8);
/// assert_eq!(hidden.members[1].parameter, "second.weight");
/// assert_eq!(hidden.members[1].axis, 0);
///
/// let smaller = dependencies.remove(&graph, [hidden.position(0), hidden.position(5)])?;
/// assert_eq!(smaller.node(second)?.output().to_string(), "[6, 2]");
/// assert!(dependencies.groups_of("second.weight", 1)?[0].unprunable().is_some()); // it is the output
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Dependencies {
    groups: Vec<Group>,
    cells: BTreeMap<NodeId, Vec<Cells>>,
    /// Every parameter and constant, aliases included, by name.
    parameters: BTreeMap<String, NodeId>,
    /// For every node that a group mentions, its name.
    names: BTreeMap<NodeId, String>,
}

impl Graph {
    /// Finds what must change together when parts of axes are removed. Time and memory grow linearly with the lengths of all axes.
    pub fn dependencies(&self) -> Dependencies {
        build::build(rules::Walk::over(self))
    }
}

impl Dependencies {
    /// All groups: first those of which something can be removed, each in the order in which layers make them.
    ///
    /// The window of a convolution is not a group: there is nothing channel-like about it.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The groups that an axis of a parameter, or of a constant, belongs to: several where tensors are concatenated, where heads or groups
    /// make the axis a product, none where it is the window of a convolution.
    ///
    /// # Errors
    /// [`GraphError::UnknownName`], or [`GraphError::Edit`] for an axis that the parameter doesn't have.
    pub fn groups_of(&self, parameter: &str, axis: usize) -> Result<Vec<&Group>, GraphError> {
        let node = self.parameters.get(parameter).ok_or_else(|| GraphError::UnknownName {
            name: parameter.to_owned(),
            nearest: crate::graph::nearest(parameter, self.parameters.keys().map(String::as_str)),
        })?;
        let axes = self.cells.get(node).map_or(0, Vec::len);
        if axis >= axes {
            let reason = format!("axis {axis} was asked for; it has {axes}");
            return Err(GraphError::Edit { name: parameter.to_owned(), reason });
        }
        let has = |group: &&Group| group.member(*node, axis).is_some();
        Ok(self.groups.iter().filter(has).collect())
    }

    /// Which indices of an axis of any node are left when some positions are removed; `None` for an axis that is not there.
    pub fn kept(&self, node: NodeId, axis: usize, removed: &BTreeSet<Position>) -> Option<Vec<usize>> {
        Some(kept(self.cells.get(&node)?.get(axis)?, removed).collect())
    }
}

fn kept<'a>(cells: &'a Cells, removed: &'a BTreeSet<Position>) -> impl Iterator<Item = usize> + 'a {
    let stays = |cell: &[Position]| !cell.iter().any(|position| removed.contains(position));
    cells.iter().enumerate().filter(move |(_, cell)| stays(cell)).map(|(index, _)| index)
}
