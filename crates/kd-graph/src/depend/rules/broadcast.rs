//! Elementwise operations on several tensors, and reductions.

use super::super::label::{Axis, fixed, is_fixed};
use super::super::{Inexact, Mixing, Reason};
use super::{Walk, all_fixed, width};
use crate::{Node, NodeId, Reduction, Shape};

impl Walk<'_> {
    /// Axes go together where they are equally long; one of size 1 against a longer one says nothing.
    pub(super) fn broadcast(&mut self, id: NodeId, node: &Node, inputs: &[Vec<Axis>]) -> Vec<Axis> {
        let graph = self.graph;
        let shapes: Vec<_> =
            node.inputs.iter().filter_map(|id| Some(&graph.nodes.get(id)?.output.shape)).collect();
        let common = node.output.shape.dims().iter().enumerate().map(|(place, dim)| {
            let long = shapes.iter().zip(inputs).filter(|(shape, _)| shape.dim(place) == Some(*dim));
            let long: Vec<&Axis> = long.filter_map(|(_, axes)| axes.get(place)).collect();
            for pair in long.windows(2) {
                if let [a, b] = pair {
                    self.atoms.unify(a, b, id);
                }
            }
            let free = long.iter().find(|axis| !is_fixed(axis)).or(long.first());
            free.map_or_else(|| fixed(width(*dim), Reason::Position, id), |axis| (*axis).clone())
        });
        common.collect()
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
        for (_, axis) in x.iter().enumerate().filter(|(place, _)| reduced(*place)) {
            match kind {
                Reduction::ArgMax | Reduction::ArgMin => self.atoms.fix(axis, Reason::Index, id),
                _ => self.atoms.mix(axis, Inexact { mixing: Mixing::Reduction, node: id }),
            }
        }
        if axes.is_none() {
            return Some(all_fixed(shape, Reason::Single, id));
        }
        let kept = |(place, axis): (usize, &Axis)| {
            if reduced(place) { fixed(1, Reason::Single, id) } else { axis.clone() }
        };
        Some(x.iter().enumerate().map(kept).collect())
    }
}
