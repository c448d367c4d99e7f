//! Removes positions from a graph: parameters are cut, attributes follow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::data::{cut, silenced};
use super::rules::width;
use super::{Attribute, AttributeKind, Cells, Dependencies, Group, Position, Side, Unprunable, kept};
use crate::{Dim, Graph, GraphError, Node, NodeId, Op, Range};

/// Why positions can't be removed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RemoveError {
    /// No such position.
    #[error("group {} has no position {}: there are {groups} groups, this one of {positions} positions", position.group, position.index)]
    Unknown {
        /// The position.
        position: Position,
        /// Number of groups.
        groups: usize,
        /// Number of positions of the group; 0 if there is no such group.
        positions: usize,
    },
    /// The position must stay.
    #[error("position {} of group {} (`{parameter}`) can't be removed: {}, at `{node}`", position.index, position.group, why.reason)]
    Unprunable {
        /// The position.
        position: Position,
        /// A parameter that would lose it.
        parameter: String,
        /// Why it must stay.
        why: Unprunable,
        /// Name of the node that is the reason.
        node: String,
    },
    /// Nothing would be left of an axis.
    #[error("nothing would be left of axis {axis} of `{node}`; keep at least one of its {size} indices")]
    Empty {
        /// Name of the node.
        node: String,
        /// The axis.
        axis: usize,
        /// Its size before.
        size: usize,
    },
    /// The graph is not the one that was analysed.
    #[error("`{node}` is not as it was when the dependencies were found; find them again after an edit")]
    Changed {
        /// Name of the node.
        node: String,
    },
    /// What is left is not consistent.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

impl Dependencies {
    /// The graph without some positions: every member is cut, every attribute follows. `graph` must be the one that was analysed, with its
    /// weights or others.
    ///
    /// # Errors
    /// [`RemoveError`] for a position that doesn't exist or must stay, and when nothing would be left of an axis.
    pub fn remove(
        &self,
        graph: &Graph,
        positions: impl IntoIterator<Item = Position>,
    ) -> Result<Graph, RemoveError> {
        let removed: BTreeSet<Position> = positions.into_iter().collect();
        removed.iter().try_for_each(|position| self.check(*position))?;
        let mut smaller = graph.clone();
        for (id, node) in &mut smaller.nodes {
            let keeps = self.keeps(*id, node, &removed)?;
            for (axis, keep) in keeps.iter().enumerate() {
                if let (Some(keep), Some(dim)) = (keep, node.output.shape.dim(axis)) {
                    node.output.shape =
                        std::mem::take(&mut node.output.shape).with(axis, sized(dim, keep.len()));
                }
            }
            if keeps.iter().any(Option::is_some)
                && let Some(value) = smaller.values.get_mut(id)
            {
                *value = Arc::new(cut(value, &keeps));
            }
        }
        // Several groups may name the same attribute, which has to follow once.
        let all = self.groups.iter().flat_map(|group| &group.attributes);
        let attributes: BTreeMap<_, _> =
            all.map(|attribute| ((attribute.node, attribute.kind), attribute)).collect();
        attributes.values().try_for_each(|attribute| self.follow(&mut smaller, attribute, &removed))?;
        smaller.validate()?;
        Ok(smaller)
    }

    /// For every axis of a node the indices that are left, or `None` if all are.
    fn keeps(
        &self,
        id: NodeId,
        node: &Node,
        removed: &BTreeSet<Position>,
    ) -> Result<Vec<Option<Vec<usize>>>, RemoveError> {
        let dims = node.output.shape.dims();
        let cells = self.cells.get(&id).filter(|cells| {
            cells.len() == dims.len() && cells.iter().zip(dims).all(|(cells, dim)| cells.len() == width(*dim))
        });
        let cells = cells.ok_or_else(|| RemoveError::Changed { node: node.name.clone() })?;
        let keep = |(axis, cells): (usize, &Cells)| {
            let (left, size) = (kept(cells, removed).collect::<Vec<_>>(), cells.len());
            if left.is_empty() && size > 0 {
                return Err(RemoveError::Empty { node: node.name.clone(), axis, size });
            }
            Ok((left.len() < size).then_some(left))
        };
        cells.iter().enumerate().map(keep).collect()
    }

    /// The graph with zeros in everything that makes, shifts or scales some positions. Where a group is not
    /// [`Inexact`](super::Inexact), it computes in evaluation what [`remove`](Self::remove) leaves.
    ///
    /// # Errors
    /// [`RemoveError::Unknown`] for a position that doesn't exist, [`RemoveError::Changed`] for another graph.
    pub fn zero(
        &self,
        graph: &Graph,
        positions: impl IntoIterator<Item = Position>,
    ) -> Result<Graph, RemoveError> {
        let mut zeroed = graph.clone();
        for position in positions {
            let group = self.group(position)?;
            for member in group.members.iter().filter(|member| member.side == Side::Output) {
                let changed = || RemoveError::Changed { node: member.parameter.clone() };
                let value = zeroed.values.get_mut(&member.node).ok_or_else(changed)?;
                let indices = member.indices.get(position.index).map_or(&[][..], Vec::as_slice);
                *value = Arc::new(silenced(value, member.axis, indices));
            }
        }
        Ok(zeroed)
    }

    fn group(&self, position: Position) -> Result<&Group, RemoveError> {
        let group = self.groups.get(position.group);
        let positions = group.map_or(0, Group::len);
        let found = group.filter(|group| position.index < group.len());
        found.ok_or(RemoveError::Unknown { position, groups: self.groups.len(), positions })
    }

    fn check(&self, position: Position) -> Result<(), RemoveError> {
        let group = self.group(position)?;
        match group.fixed.get(position.index).copied().flatten() {
            None => Ok(()),
            Some(why) => Err(RemoveError::Unprunable {
                position,
                parameter: group.members.first().map(|member| member.parameter.clone()).unwrap_or_default(),
                why,
                node: self.name(why.node).to_owned(),
            }),
        }
    }

    /// Sets an attribute to what is left.
    fn follow(
        &self,
        graph: &mut Graph,
        attribute: &Attribute,
        removed: &BTreeSet<Position>,
    ) -> Result<(), RemoveError> {
        let changed = |id: NodeId| RemoveError::Changed { node: self.name(id).to_owned() };
        let node = graph.nodes.get_mut(&attribute.node).ok_or_else(|| changed(attribute.node))?;
        let cells = &attribute.cells;
        let left = kept(cells, removed).count();
        match (&mut node.op, attribute.kind) {
            (Op::Conv(conv), AttributeKind::Groups) => conv.groups = left,
            (Op::ConvTranspose(conv), AttributeKind::Groups) => conv.groups = left,
            (Op::GroupNorm { groups, .. }, AttributeKind::Groups) => *groups = left,
            (
                Op::Reshape { shape } | Op::Expand { shape } | Op::Full { shape, .. },
                AttributeKind::Size { axis },
            ) => {
                let dim = shape.dim(axis).ok_or_else(|| changed(attribute.node))?;
                *shape = std::mem::take(shape).with(axis, sized(dim, left));
            }
            (Op::Slice { ranges } | Op::SliceAssign { ranges }, AttributeKind::Range { axis }) => {
                let range = ranges.get_mut(axis).ok_or_else(|| changed(attribute.node))?;
                *range = narrowed(range, cells, removed);
            }
            (Op::Pad { padding, .. }, AttributeKind::Padding { axis }) => {
                let border = padding.get_mut(axis).ok_or_else(|| changed(attribute.node))?;
                let inside = border.0..cells.len().saturating_sub(border.1);
                let count = |part: std::ops::Range<usize>| {
                    kept(cells, removed).filter(|index| part.contains(index)).count()
                };
                *border = (count(0..inside.start), count(inside.end..cells.len()));
            }
            (Op::Repeat { times, .. }, AttributeKind::Times) => *times = sized(*times, left),
            (Op::Attention(attention), AttributeKind::Scale) => {
                attention.scale.get_or_insert(1.0 / (cells.len() as f64).sqrt());
            }
            _ => return Err(changed(attribute.node)),
        }
        Ok(())
    }

    pub(super) fn name(&self, id: NodeId) -> &str {
        self.names.get(&id).map_or("?", String::as_str)
    }
}

/// The same kind of size with another number.
fn sized(dim: Dim, number: usize) -> Dim {
    match dim {
        Dim::Fixed(_) => Dim::Fixed(number),
        Dim::Batch(_) => Dim::Batch(number),
    }
}

/// The range of what is left. A range with bounds in the batch is a whole axis.
fn narrowed(range: &Range, cells: &Cells, removed: &BTreeSet<Position>) -> Range {
    let before = |bound: Dim| match bound {
        Dim::Fixed(bound) => Dim::Fixed(kept(cells, removed).filter(|index| *index < bound).count()),
        Dim::Batch(_) => Dim::Batch(kept(cells, removed).count()),
    };
    Range { start: before(range.start), end: before(range.end), step: range.step }
}
