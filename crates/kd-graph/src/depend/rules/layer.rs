//! Layers: which axes of their parameters go with which axes of what they read and make.

use super::super::label::{Axis, merge};
use super::super::{AttributeKind, Inexact, Mixing, Reason};
use super::{Walk, all_fixed};
use crate::{Attention, Node, NodeId, Op, Shape};

impl Walk<'_> {
    /// Grouped channels are `[groups, channels in a group]` on both sides: the groups go together, and a channel goes in every group.
    pub(super) fn conv(
        &mut self,
        id: NodeId,
        node: &Node,
        groups: usize,
        inputs: &[Vec<Axis>],
    ) -> Option<Vec<Axis>> {
        let (x, weight) = (inputs.first()?, inputs.get(1)?);
        let (channels, out) = (x.get(1)?, weight.first()?.clone());
        let (group, inner) = self.atoms.split(channels, groups, id);
        self.atoms.unify(weight.get(1)?, &inner, id);
        self.adds_up(id, node, &inner);
        let (out_group, _) = self.atoms.split(&out, groups, id);
        self.atoms.unify(&group, &out_group, id);
        self.reads(node, 1, 1);
        self.layer_end(id, groups, &group, &out, weight, inputs)
    }

    /// As a convolution with the weight's axes swapped; only the outer axis of the result's channels is the group.
    pub(super) fn conv_transpose(
        &mut self,
        id: NodeId,
        node: &Node,
        groups: usize,
        inputs: &[Vec<Axis>],
    ) -> Option<Vec<Axis>> {
        let (x, weight) = (inputs.first()?, inputs.get(1)?);
        self.atoms.unify(x.get(1)?, weight.first()?, id);
        let (group, inner) = self.atoms.split(x.get(1)?, groups, id);
        self.adds_up(id, node, &inner);
        let out = merge(&group, weight.get(1)?);
        self.reads(node, 1, 0);
        self.layer_end(id, groups, &group, &out, weight, inputs)
    }

    fn layer_end(
        &mut self,
        id: NodeId,
        groups: usize,
        group: &Axis,
        out: &Axis,
        weight: &[Axis],
        inputs: &[Vec<Axis>],
    ) -> Option<Vec<Axis>> {
        let x = inputs.first()?;
        for window in weight.iter().skip(2).chain(x.iter().skip(2)) {
            self.atoms.fix(window, Reason::Window, id);
        }
        if let Some(bias) = inputs.get(2) {
            self.atoms.unify(bias.first()?, out, id);
        }
        if groups > 1 {
            self.depends(id, AttributeKind::Groups, group);
        }
        self.produced.push(out.clone());
        let shape = &self.graph.nodes.get(&id)?.output.shape;
        let mut axes = all_fixed(shape, Reason::Position, id);
        *axes.get_mut(0)? = x.first()?.clone();
        *axes.get_mut(1)? = out.clone();
        Some(axes)
    }

    pub(super) fn linear(&mut self, id: NodeId, node: &Node, inputs: &[Vec<Axis>]) -> Option<Vec<Axis>> {
        let (x, weight) = (inputs.first()?, inputs.get(1)?);
        let (into, out) = (weight.first()?, weight.get(1)?);
        self.atoms.unify(into, x.last()?, id);
        self.adds_up(id, node, into);
        if let Some(bias) = inputs.get(2) {
            self.atoms.unify(bias.first()?, out, id);
        }
        self.reads(node, 1, 0);
        self.produced.push(out.clone());
        let mut axes = x.clone();
        *axes.last_mut()? = out.clone();
        Some(axes)
    }

    /// What is summed over goes together; rows and columns pass, the leading axes broadcast.
    pub(super) fn matmul(&mut self, id: NodeId, node: &Node, inputs: &[Vec<Axis>]) -> Option<Vec<Axis>> {
        let (a, b) = (inputs.first()?, inputs.get(1)?);
        let lead = a.len().checked_sub(2)?;
        self.contract(id, node, a.get(lead + 1)?, b.get(lead)?);
        let mut axes = self.broadcast(id, node, inputs);
        *axes.get_mut(lead)? = a.get(lead)?.clone();
        *axes.get_mut(lead + 1)? = b.get(lead + 1)?.clone();
        Some(axes)
    }

    /// Both axes are multiplied and summed over; one zero is enough.
    fn contract(&mut self, id: NodeId, node: &Node, a: &Axis, b: &Axis) {
        self.atoms.unify(a, b, id);
        if !node.inputs.iter().take(2).any(|input| self.silent.contains(input)) {
            self.atoms.mix(a, Inexact { mixing: Mixing::Offset, node: id });
        }
    }

    pub(super) fn embedding(&mut self, id: NodeId, node: &Node, inputs: &[Vec<Axis>]) -> Option<Vec<Axis>> {
        let (weight, indices) = (inputs.first()?, inputs.get(1)?);
        self.atoms.fix(weight.first()?, Reason::Index, id);
        self.reads(node, 0, 0);
        let features = weight.get(1)?.clone();
        self.produced.push(features.clone());
        Some(indices.iter().cloned().chain([features]).collect())
    }

    /// Batch and instance normalisation: every channel by itself.
    pub(super) fn channel_norm(&mut self, id: NodeId, inputs: &[Vec<Axis>]) -> Option<Vec<Axis>> {
        let (x, parameters) = inputs.split_first()?;
        for parameter in parameters {
            self.atoms.unify(parameter.first()?, x.get(1)?, id);
        }
        Some(x.clone())
    }

    /// Layer and root-mean-square normalisation.
    pub(super) fn last_norm(&mut self, id: NodeId, inputs: &[Vec<Axis>]) -> Option<Vec<Axis>> {
        let (x, parameters) = inputs.split_first()?;
        for parameter in parameters {
            self.atoms.unify(parameter.first()?, x.last()?, id);
        }
        self.atoms.mix(x.last()?, Inexact { mixing: Mixing::Statistics, node: id });
        Some(x.clone())
    }

    /// A whole group can go without any effect on the others, a channel in every group changes the group's statistics.
    pub(super) fn group_norm(
        &mut self,
        id: NodeId,
        groups: usize,
        inputs: &[Vec<Axis>],
    ) -> Option<Vec<Axis>> {
        let axes = self.channel_norm(id, inputs)?;
        let (group, inner) = self.atoms.split(axes.get(1)?, groups, id);
        self.atoms.mix(&inner, Inexact { mixing: Mixing::Statistics, node: id });
        self.depends(id, AttributeKind::Groups, &group);
        Some(axes)
    }

    /// Heads go together in all three; places within a head in `q` and `k`, and by themselves in `v`.
    pub(super) fn attention(&mut self, id: NodeId, node: &Node, inputs: &[Vec<Axis>]) -> Option<Vec<Axis>> {
        let [q, k, v, scores @ ..] = inputs else { return None };
        let (batch, heads, queries, keys) = (q.first()?, q.get(1)?, q.get(2)?, k.get(2)?);
        for other in [k, v] {
            self.atoms.unify(batch, other.first()?, id);
            self.atoms.unify(heads, other.get(1)?, id);
        }
        self.atoms.unify(keys, v.get(2)?, id);
        self.atoms.mix(keys, Inexact { mixing: Mixing::Softmax, node: id });
        for scores in scores {
            for (ours, theirs) in [batch, heads, queries, keys].into_iter().zip(scores) {
                if ours.len() == theirs.len() {
                    self.atoms.unify(ours, theirs, id);
                }
            }
        }
        self.contract(id, node, q.get(3)?, k.get(3)?);
        if matches!(node.op(), Op::Attention(Attention { scale: None, .. })) {
            // The default follows the size of a query, which must not happen when some of it is removed.
            self.depends(id, AttributeKind::Scale, q.get(3)?);
        }
        Some(vec![batch.clone(), heads.clone(), queries.clone(), v.get(3)?.clone()])
    }

    /// One slope for all channels, or one for each.
    pub(super) fn prelu(&mut self, id: NodeId, inputs: &[Vec<Axis>]) -> Option<Vec<Axis>> {
        let (x, slope) = (inputs.first()?, inputs.get(1)?.last()?);
        let channels = x.get(1).or(x.first())?;
        if slope.len() == channels.len() {
            self.atoms.unify(channels, slope, id);
        }
        Some(x.clone())
    }

    /// Windows over the last axes leave the others alone.
    pub(super) fn window(
        &mut self,
        id: NodeId,
        moved: usize,
        shape: &Shape,
        x: &[Axis],
    ) -> Option<Vec<Axis>> {
        let kept = x.len().checked_sub(moved)?;
        for axis in x.iter().skip(kept) {
            self.atoms.fix(axis, Reason::Window, id);
        }
        let made = all_fixed(shape, Reason::Position, id);
        Some(x.iter().take(kept).cloned().chain(made.into_iter().skip(kept)).collect())
    }
}
