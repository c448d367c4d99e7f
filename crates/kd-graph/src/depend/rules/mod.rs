//! What every operation does to the labels of its axes: one file per family.

mod broadcast;
mod layer;
mod movement;
mod reshape;
mod silent;

use std::collections::{BTreeMap, BTreeSet};

use super::label::{Atoms, Axis, fixed, is_fixed};
use super::{AttributeKind, Inexact, Mixing, Reason};
use crate::{Activation, Dim, Graph, Node, NodeId, Op, Shape};

/// Number of labels of an axis of this size: for a batch axis those of one example.
pub(super) fn width(dim: Dim) -> usize {
    match dim {
        Dim::Fixed(size) => size,
        Dim::Batch(times) => times,
    }
}

/// A part of an operation whose value depends on what is left of an axis.
#[derive(Debug)]
pub(super) struct Dependent {
    pub(super) node: NodeId,
    pub(super) kind: AttributeKind,
    pub(super) axis: Axis,
}

/// The labels of every axis of every node, found in one walk in execution order.
#[derive(Debug)]
pub(super) struct Walk<'g> {
    pub(super) graph: &'g Graph,
    pub(super) atoms: Atoms,
    pub(super) axes: BTreeMap<NodeId, Vec<Axis>>,
    /// The axes that layers make: what becomes one group.
    pub(super) produced: Vec<Axis>,
    /// Axes of parameters whose indices select what a layer reads.
    pub(super) reading: BTreeSet<(NodeId, usize)>,
    pub(super) attributes: Vec<Dependent>,
    /// Nodes that are zero wherever their parameters are.
    silent: BTreeSet<NodeId>,
}

impl<'g> Walk<'g> {
    /// Walks a whole graph.
    pub(super) fn over(graph: &'g Graph) -> Self {
        let mut walk = Self {
            graph,
            atoms: Atoms::default(),
            axes: BTreeMap::new(),
            produced: Vec::new(),
            reading: BTreeSet::new(),
            attributes: Vec::new(),
            silent: BTreeSet::new(),
        };
        for (id, node) in graph.nodes() {
            let inputs: Vec<Vec<Axis>> = node.inputs.iter().map(|&input| walk.axes_of(input)).collect();
            let axes = walk.rule(id, node, &inputs).filter(|axes| fits(axes, &node.output.shape));
            if walk.is_silent(node, &inputs) {
                walk.silent.insert(id);
            }
            let axes = axes.unwrap_or_else(|| walk.unknown(id, node));
            walk.axes.insert(id, axes);
        }
        for &id in graph.outputs() {
            walk.axes_of(id).iter().for_each(|axis| walk.atoms.fix(axis, Reason::Output, id));
        }
        walk
    }

    /// The axes of an operation's result, or `None` if it is not known what it does.
    fn rule(&mut self, id: NodeId, node: &Node, inputs: &[Vec<Axis>]) -> Option<Vec<Axis>> {
        let shape = &node.output.shape;
        let x = inputs.first();
        match &node.op {
            Op::Input => Some(all_fixed(shape, Reason::Input, id)),
            Op::Parameter { .. } | Op::Constant => {
                Some(shape.dims().iter().map(|dim| self.atoms.fresh(width(*dim))).collect())
            }
            Op::Full { shape, .. } => Some(self.filled(id, shape)),

            Op::Conv(conv) => self.conv(id, node, conv.groups, inputs),
            Op::ConvTranspose(conv) => self.conv_transpose(id, node, conv.groups, inputs),
            Op::Linear => self.linear(id, node, inputs),
            Op::Matmul => self.matmul(id, node, inputs),
            Op::Embedding => self.embedding(id, node, inputs),
            Op::BatchNorm(_) | Op::InstanceNorm { .. } => self.channel_norm(id, inputs),
            Op::LayerNorm { .. } | Op::RmsNorm { .. } => self.last_norm(id, inputs),
            Op::GroupNorm { groups, .. } => self.group_norm(id, *groups, inputs),
            Op::Attention(_) | Op::LayeredAttention(_) => self.attention(id, node, inputs),

            Op::Activation(Activation::Prelu) => self.prelu(id, inputs),
            Op::Activation(_) | Op::Unary(_) | Op::Literal { .. } => x.cloned(),
            Op::Clamp { .. } | Op::Cast { .. } | Op::Dropout { .. } => x.cloned(),
            Op::Binary(_) | Op::Where | Op::MaskFill { .. } => Some(self.broadcast(id, node, inputs)),

            Op::Reshape { shape: to } => self.reshape(id, node, to, x?),
            Op::Permute { axes } => axes.iter().map(|&axis| x?.get(axis).cloned()).collect(),
            Op::Flip { axes } => self.flip(axes, x?),
            Op::Expand { shape: to } => self.expand(id, node, to, x?),
            Op::Repeat { axis, times } => self.repeat(id, *axis, *times, x?),
            Op::Cat { axis } => self.cat(id, node, *axis, inputs),
            Op::Slice { ranges } => self.slice(id, node, ranges, x?),
            Op::SliceAssign { ranges } => self.slice_assign(id, node, ranges, inputs),
            Op::Select { axis } => self.select(id, *axis, shape, x?),
            Op::Gather { .. } => {
                inputs.iter().flatten().for_each(|axis| self.atoms.fix(axis, Reason::Index, id));
                Some(all_fixed(shape, Reason::Index, id))
            }
            Op::Pad { padding, mode } => self.pad(id, padding, *mode, x?),

            Op::Pool(pool) => self.window(id, pool.kernel.len(), shape, x?),
            Op::AdaptiveAvgPool { size } => self.window(id, size.len(), shape, x?),
            Op::Interpolate { size, .. } => self.window(id, size.len(), shape, x?),
            Op::Reduce { kind, axes } => self.reduce(id, *kind, axes.as_deref(), shape, x?),
            Op::Softmax { axis } | Op::LogSoftmax { axis } => {
                let over = x?.get(*axis)?;
                self.atoms.mix(over, Inexact { mixing: Mixing::Softmax, node: id });
                x.cloned()
            }
            Op::Custom { .. } => None,
        }
    }

    fn axes_of(&self, id: NodeId) -> Vec<Axis> {
        self.axes.get(&id).cloned().unwrap_or_default()
    }

    /// Nothing that the operation reads or makes can be removed.
    fn unknown(&mut self, id: NodeId, node: &Node) -> Vec<Axis> {
        for &input in &node.inputs {
            self.axes_of(input).iter().for_each(|axis| self.atoms.fix(axis, Reason::Unknown, id));
        }
        all_fixed(&node.output.shape, Reason::Unknown, id)
    }

    /// A layer adds the axis up with weights that stay when it is zeroed.
    fn adds_up(&mut self, id: NodeId, node: &Node, axis: &Axis) {
        if node.inputs.first().is_some_and(|x| !self.silent.contains(x)) {
            self.atoms.mix(axis, Inexact { mixing: Mixing::Offset, node: id });
        }
    }

    /// An attribute follows an axis, unless nothing can be removed from it.
    fn depends(&mut self, node: NodeId, kind: AttributeKind, axis: &Axis) {
        if !is_fixed(axis) {
            self.attributes.push(Dependent { node, kind, axis: axis.clone() });
        }
    }

    /// Says that an axis of a weight, and of what it is made of by masks and the like, is what the layer reads.
    fn reads(&mut self, node: &Node, input: usize, axis: usize) {
        let graph = self.graph;
        let mut pending: Vec<_> = node.inputs.get(input).map(|&weight| (weight, axis)).into_iter().collect();
        while let Some((id, axis)) = pending.pop() {
            let Some(found) = graph.nodes.get(&id) else { continue };
            match &found.op {
                op if op.is_leaf() => drop(self.reading.insert((id, axis))),
                Op::Permute { axes } => {
                    pending.extend(found.inputs.first().copied().zip(axes.get(axis).copied()))
                }
                Op::Activation(_)
                | Op::Unary(_)
                | Op::Binary(_)
                | Op::Literal { .. }
                | Op::Clamp { .. }
                | Op::Where
                | Op::MaskFill { .. }
                | Op::Cast { .. }
                | Op::Dropout { .. }
                | Op::Custom { .. } => {
                    let shape = |id| graph.nodes.get(id).map(|node| &node.output.shape);
                    let alike = found.inputs.iter().filter(|input| shape(input) == Some(&found.output.shape));
                    pending.extend(alike.map(|input| (*input, axis)));
                }
                _ => {}
            }
        }
    }
}

fn fits(axes: &[Axis], shape: &Shape) -> bool {
    axes.len() == shape.rank() && axes.iter().zip(shape.dims()).all(|(axis, dim)| axis.len() == width(*dim))
}

fn all_fixed(shape: &Shape, reason: Reason, node: NodeId) -> Vec<Axis> {
    shape.dims().iter().map(|dim| fixed(width(*dim), reason, node)).collect()
}
