//! Operations that move indices: parts, borders, copies, one after the other.

use super::super::label::{Axis, fixed, is_fixed};
use super::super::{AttributeKind, Reason};
use super::{Walk, all_fixed, width};
use crate::{Dim, Node, NodeId, PadMode, Range, Shape};

impl Walk<'_> {
    /// A tensor of one value: any of it can go.
    pub(super) fn filled(&mut self, id: NodeId, shape: &Shape) -> Vec<Axis> {
        let axes = shape.dims().iter().enumerate().map(|(axis, dim)| match dim {
            Dim::Fixed(size) => {
                let labels = self.atoms.fresh(*size);
                self.depends(id, AttributeKind::Size { axis }, &labels);
                labels
            }
            Dim::Batch(times) => fixed(*times, Reason::Position, id),
        });
        axes.collect()
    }

    pub(super) fn flip(&mut self, flipped: &[usize], x: &[Axis]) -> Option<Vec<Axis>> {
        let turn = |(place, axis): (usize, &Axis)| {
            if flipped.contains(&place) { axis.iter().rev().cloned().collect() } else { axis.clone() }
        };
        Some(x.iter().enumerate().map(turn).collect())
    }

    /// Copies of a single index can be as many as are needed; other axes pass.
    pub(super) fn expand(&mut self, id: NodeId, node: &Node, to: &Shape, x: &[Axis]) -> Option<Vec<Axis>> {
        let from = self.graph.nodes.get(node.inputs.first()?)?.output.shape.clone();
        let added = to.rank().checked_sub(from.rank())?;
        let axes = to.dims().iter().enumerate().map(|(axis, dim)| {
            let source = axis.checked_sub(added).filter(|source| from.dim(*source) == Some(*dim));
            let labels = match (source.and_then(|source| x.get(source)), dim) {
                (Some(labels), _) => labels.clone(),
                (None, Dim::Fixed(size)) => self.atoms.fresh(*size),
                (None, Dim::Batch(times)) => fixed(*times, Reason::Position, id),
            };
            self.depends(id, AttributeKind::Size { axis }, &labels);
            labels
        });
        Some(axes.collect())
    }

    pub(super) fn repeat(&mut self, id: NodeId, axis: usize, times: Dim, x: &[Axis]) -> Option<Vec<Axis>> {
        let mut axes = x.to_vec();
        let slot = axes.get_mut(axis)?;
        *slot = match times {
            Dim::Fixed(times) if slot.len() == 1 => {
                let copies = self.atoms.fresh(times);
                self.depends(id, AttributeKind::Times, &copies);
                copies
            }
            Dim::Fixed(times) => (0..times).flat_map(|_| slot.iter().cloned()).collect(),
            Dim::Batch(times) => {
                self.atoms.fix(slot, Reason::Batch, id);
                fixed(slot.len() * times, Reason::Batch, id)
            }
        };
        Some(axes)
    }

    pub(super) fn cat(
        &mut self,
        id: NodeId,
        node: &Node,
        axis: usize,
        inputs: &[Vec<Axis>],
    ) -> Option<Vec<Axis>> {
        let parts: Option<Vec<&Axis>> = inputs.iter().map(|axes| axes.get(axis)).collect();
        let parts = parts?;
        let joined = if node.output.shape.dim(axis)?.is_batch() {
            parts.iter().for_each(|part| self.atoms.fix(part, Reason::Batch, id));
            fixed(parts.iter().map(|part| part.len()).sum(), Reason::Batch, id)
        } else {
            parts.iter().flat_map(|part| part.iter().cloned()).collect()
        };
        for pair in inputs.windows(2) {
            if let [a, b] = pair {
                let others = a.iter().zip(b).enumerate().filter(|(place, _)| *place != axis);
                others.for_each(|(_, (a, b))| self.atoms.unify(a, b, id));
            }
        }
        let mut axes = inputs.first()?.clone();
        // Any input's axis will do, but one that says something is best.
        for other in inputs {
            for (slot, axis) in axes.iter_mut().zip(other) {
                if is_fixed(slot) {
                    *slot = axis.clone();
                }
            }
        }
        *axes.get_mut(axis)? = joined;
        Some(axes)
    }

    pub(super) fn slice(
        &mut self,
        id: NodeId,
        node: &Node,
        ranges: &[Range],
        x: &[Axis],
    ) -> Option<Vec<Axis>> {
        let from = self.graph.nodes.get(node.inputs.first()?)?.output.shape.clone();
        let axes = x.iter().enumerate().map(|(axis, labels)| {
            let (range, from) = (ranges.get(axis)?, from.dim(axis)?);
            if range.is_all(from) {
                self.depends(id, AttributeKind::Range { axis }, labels);
                return Some(labels.clone());
            }
            let made = width(node.output.shape.dim(axis)?);
            Some(self.part(id, axis, range, labels, made))
        });
        axes.collect()
    }

    /// The labels of a part of an axis, of known width.
    fn part(&mut self, id: NodeId, axis: usize, range: &Range, labels: &Axis, made: usize) -> Axis {
        if is_fixed(labels) {
            return fixed(made, Reason::Position, id);
        }
        let (Dim::Fixed(start), Dim::Fixed(end)) = (range.start, range.end) else {
            self.atoms.fix(labels, Reason::Batch, id);
            return fixed(made, Reason::Batch, id);
        };
        let Some(part) = labels.get(start..end).filter(|_| range.step.abs() == 1) else {
            self.atoms.fix(labels, Reason::Step, id);
            return fixed(made, Reason::Step, id);
        };
        self.depends(id, AttributeKind::Range { axis }, labels);
        if range.step < 0 { part.iter().rev().cloned().collect() } else { part.iter().cloned().collect() }
    }

    pub(super) fn slice_assign(
        &mut self,
        id: NodeId,
        node: &Node,
        ranges: &[Range],
        inputs: &[Vec<Axis>],
    ) -> Option<Vec<Axis>> {
        let (x, value) = (inputs.first()?, inputs.get(1)?);
        for (axis, (labels, part)) in x.iter().zip(value).enumerate() {
            let range = ranges.get(axis)?;
            if range.is_all(node.output.shape.dim(axis)?) {
                self.depends(id, AttributeKind::Range { axis }, labels);
                self.atoms.unify(labels, part, id);
            } else {
                let target = self.part(id, axis, range, labels, part.len());
                self.atoms.unify(&target, part, id);
            }
        }
        Some(x.clone())
    }

    pub(super) fn select(&mut self, id: NodeId, axis: usize, shape: &Shape, x: &[Axis]) -> Option<Vec<Axis>> {
        self.atoms.fix(x.get(axis)?, Reason::Index, id);
        let mut axes = x.to_vec();
        *axes.get_mut(axis)? = all_fixed(shape, Reason::Index, id).get(axis)?.clone();
        Some(axes)
    }

    /// A border of one value is made as wide as is needed.
    pub(super) fn pad(
        &mut self,
        id: NodeId,
        padding: &[(usize, usize)],
        mode: PadMode,
        x: &[Axis],
    ) -> Option<Vec<Axis>> {
        let axes = x.iter().enumerate().map(|(axis, labels)| {
            let (before, after) = *padding.get(axis)?;
            let made = before + labels.len() + after;
            if before + after == 0 {
                return Some(labels.clone());
            }
            if is_fixed(labels) {
                return Some(fixed(made, Reason::Position, id));
            }
            if !matches!(mode, PadMode::Constant(_)) {
                self.atoms.fix(labels, Reason::Border, id);
                return Some(fixed(made, Reason::Border, id));
            }
            let (front, back) = (self.atoms.fresh(before), self.atoms.fresh(after));
            let padded: Axis = front.iter().chain(labels.iter()).chain(back.iter()).cloned().collect();
            self.depends(id, AttributeKind::Padding { axis }, &padded);
            Some(padded)
        });
        axes.collect()
    }
}
