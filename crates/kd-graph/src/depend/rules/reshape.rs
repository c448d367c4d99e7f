//! Reshape: axes that are merged and divided.
//!
//! Both shapes are cut at the batch, then into the smallest blocks of axes that hold equally many elements. A block of one axis on both sides
//! passes; another is flattened in row-major order and divided again.

use super::super::label::{Axis, fixed, is_fixed, merge};
use super::super::{AttributeKind, Reason};
use super::{Walk, all_fixed, width};
use crate::{Dim, Node, NodeId, Shape};

/// A batch axis, or a factor of an axis; of the result with the place of its axis.
enum Token<T> {
    Batch,
    Factor(T),
}

fn tokens<T>(shape: &Shape, mut factor: impl FnMut(usize) -> T) -> Vec<Token<T>> {
    let mut tokens = Vec::new();
    for (axis, dim) in shape.dims().iter().enumerate() {
        if matches!(dim, Dim::Batch(_)) {
            tokens.push(Token::Batch);
        }
        tokens.push(Token::Factor(factor(axis)));
    }
    tokens
}

/// The factors between batches.
fn segments<T>(tokens: Vec<Token<T>>) -> Vec<Vec<T>> {
    let mut segments = vec![Vec::new()];
    for token in tokens {
        match (token, segments.last_mut()) {
            (Token::Factor(factor), Some(last)) => last.push(factor),
            _ => segments.push(Vec::new()),
        }
    }
    segments
}

impl Walk<'_> {
    pub(super) fn reshape(&mut self, id: NodeId, node: &Node, to: &Shape, x: &[Axis]) -> Option<Vec<Axis>> {
        let from = &self.graph.nodes.get(node.inputs.first()?)?.output.shape;
        let sources = segments(tokens(from, |axis| x.get(axis).cloned()));
        let targets = segments(tokens(to, |axis| (axis, to.dim(axis).map_or(1, width))));
        let mut result = all_fixed(to, Reason::Single, id);
        let volumes = |sizes: &mut dyn Iterator<Item = usize>| sizes.product::<usize>();
        let aligned = sources.len() == targets.len()
            && sources.iter().zip(&targets).all(|(from, to)| {
                volumes(&mut from.iter().flatten().map(|axis| axis.len()))
                    == volumes(&mut to.iter().map(|(_, size)| *size))
            });
        if !aligned {
            x.iter().for_each(|axis| self.atoms.fix(axis, Reason::Batch, id));
            return Some(all_fixed(to, Reason::Batch, id));
        }
        for (from, to) in sources.into_iter().zip(targets) {
            let from: Vec<Axis> = from.into_iter().flatten().filter(|axis| axis.len() != 1).collect();
            let to: Vec<_> = to.into_iter().filter(|(_, size)| *size != 1).collect();
            for (place, axis) in self.blocks(id, &from, &to) {
                *result.get_mut(place)? = axis;
            }
        }
        for (axis, labels) in result.iter().enumerate() {
            self.depends(id, AttributeKind::Size { axis }, labels);
        }
        Some(result)
    }

    /// The axes of a segment's result with their places.
    fn blocks(&mut self, id: NodeId, from: &[Axis], to: &[(usize, usize)]) -> Vec<(usize, Axis)> {
        let (mut result, mut from, mut to) = (Vec::new(), from, to);
        while let ([axis, ..], [(_, size), ..]) = (from, to) {
            let (mut taken, mut made) = (1, 1);
            let (mut left, mut right) = (axis.len(), *size);
            while left != right {
                // The smaller side takes its next axis; both end together, since their products are equal.
                let (side, next) = if left < right {
                    taken += 1;
                    (&mut left, from.get(taken - 1).map(|axis| axis.len()))
                } else {
                    made += 1;
                    (&mut right, to.get(made - 1).map(|(_, size)| *size))
                };
                let Some(next) = next else { return result };
                *side *= next;
            }
            let (block, rest) = from.split_at(taken);
            let (places, remaining) = to.split_at(made);
            result.extend(self.block(id, block, places));
            (from, to) = (rest, remaining);
        }
        result
    }

    fn block(&mut self, id: NodeId, from: &[Axis], to: &[(usize, usize)]) -> Vec<(usize, Axis)> {
        let Some((first, others)) = from.split_first() else { return Vec::new() };
        if from.iter().all(is_fixed) {
            return to.iter().map(|(place, size)| (*place, fixed(*size, Reason::Position, id))).collect();
        }
        let mut flat = others.iter().fold(first.clone(), |flat, axis| merge(&flat, axis));
        let mut result = Vec::new();
        for (index, (place, size)) in to.iter().enumerate() {
            if index + 1 == to.len() {
                result.push((*place, flat.clone()));
            } else {
                let (outer, inner) = self.atoms.split(&flat, *size, id);
                result.push((*place, outer));
                flat = inner;
            }
        }
        result
    }
}
