//! Elementwise operations on several tensors, and reductions.

use super::super::label::{Axis, fixed, is_fixed};
use super::super::{Inexact, Mixing, Reason};
use super::layer::single;
use super::{Walk, width};
use crate::{Node, NodeId, Reduction, Shape};

impl Walk<'_> {
    /// Shapes are aligned at the last axis; an axis of size 1 against a larger one says nothing.
    pub(super) fn broadcast(&mut self, id: NodeId, node: &Node, inputs: &[Vec<Axis>]) -> Vec<Axis> {
        let shape_of = |id: &NodeId| self.graph.nodes.get(id).map(|node| node.output.shape.clone());
        let shapes: Vec<_> = node.inputs.iter().filter_map(shape_of).collect();
        let operands: Vec<_> = shapes.into_iter().zip(inputs.iter().cloned()).collect();
        self.broadcast_axes(id, &node.output.shape, &operands)
    }

    pub(super) fn broadcast_axes(
        &mut self,
        id: NodeId,
        shape: &Shape,
        operands: &[(Shape, Vec<Axis>)],
    ) -> Vec<Axis> {
        let rank = shape.rank();
        let result = shape.dims().iter().enumerate().map(|(place, dim)| {
            let aligned = operands.iter().filter_map(|(shape, axes)| {
                let axis = (place + axes.len()).checked_sub(rank)?;
                (shape.dim(axis)? == *dim).then(|| axes.get(axis)).flatten()
            });
            let aligned: Vec<&Axis> = aligned.collect();
            for pair in aligned.windows(2) {
                if let [a, b] = pair {
                    self.atoms.unify(a, b, id);
                }
            }
            let free = aligned.iter().find(|axis| !is_fixed(axis)).or(aligned.first());
            free.map_or_else(|| fixed(width(*dim), Reason::Position, id), |axis| (*axis).clone())
        });
        result.collect()
    }

    pub(super) fn reduce(
        &mut self,
        id: NodeId,
        kind: Reduction,
        axes: Option<&[usize]>,
        shape: &Shape,
        x: &[Axis],
    ) -> Option<Vec<Axis>> {
        let reduced = |axis: usize| axes.is_none_or(|axes| axes.contains(&axis));
        for (place, axis) in x.iter().enumerate().filter(|(place, _)| reduced(*place)) {
            let _ = place;
            match kind {
                Reduction::ArgMax | Reduction::ArgMin => self.atoms.fix(axis, Reason::Index, id),
                _ => self.atoms.mix(axis, Inexact { mixing: Mixing::Reduction, node: id }),
            }
        }
        if axes.is_none() {
            return Some(shape.dims().iter().map(|_| single(id)).collect());
        }
        let kept = |(place, axis): (usize, &Axis)| if reduced(place) { single(id) } else { axis.clone() };
        Some(x.iter().enumerate().map(kept).collect())
    }
}
