//! What follows a layer up to the next quantiser.

use kd_graph::{Activation, GraphError, NodeId, Op, Pool, PoolKind};

use super::compile::Compiling;
use crate::integer::epilogue::{Scales, Target};
use crate::integer::quantize;
use crate::integer::stairs::Stairs;
use crate::plan::Site;
use crate::{QuantError, integer::Format};

/// A layer's accumulators on their way to codes.
pub(super) struct Tail {
    /// What the accumulators stand for, with a batch normalisation that follows.
    pub scales: Scales,
    /// Where they become codes; none: they become numbers.
    pub target: Option<Target>,
    /// The node that the layer's result stands for.
    pub end: NodeId,
    /// Poolings and reshapes between the accumulators and the quantiser: they run on codes. A rising function of the codes may be applied before
    /// a maximum is taken as well as after it.
    pub moves: Vec<NodeId>,
    /// The quantiser, whose result is that of the last of the `moves`.
    pub quantiser: Option<NodeId>,
    /// Every node that was merged.
    pub merged: Vec<NodeId>,
}

/// $g_c$ and $d_c$ of $g_c x + d_c$.
pub(super) type ChannelMap = (Vec<f32>, Vec<f32>);

impl Compiling<'_> {
    /// Follows a layer's only readers through what can be merged into its requantisation: batch normalisation, then rectifiers, clamps, maxima and
    /// reshapes, to a quantiser. A normalisation behind a maximum is merged too if it rises in every channel: it may then be applied before.
    pub fn tail(&self, layer: NodeId, scales: Scales) -> Result<Tail, QuantError> {
        let (mut at, mut scales, mut merged) = (layer, scales, Vec::new());
        let of = self.graph.node(layer)?;
        // A batch normalisation's channels are in axis 1, those of a linear layer in the last.
        let same_axis = !matches!(of.op(), Op::Linear) || of.output().shape.rank() == 2;
        while same_axis
            && let Some(next) = self.only_reader(at)?
            && let Some((gain, shift)) = self.batch_norm(next)?
        {
            scales = scales.then(&gain, &shift);
            merged.push(next);
            at = next;
        }
        let (end, norms, numbers) = (at, merged.clone(), scales.clone());
        let (mut low, mut high) = (f32::NEG_INFINITY, f32::INFINITY);
        let (mut moves, mut only_maxima) = (Vec::new(), same_axis);
        while let Some(next) = self.only_reader(at)? {
            let mut clamp = |min: f32, max: f32| (low, high) = (low.clamp(min, max), high.clamp(min, max));
            match self.graph.node(next)?.op() {
                Op::Activation(Activation::Relu) => clamp(0.0, f32::INFINITY),
                Op::Clamp { min, max } if min <= max => clamp(*min as f32, *max as f32),
                Op::Pool(Pool { kind: PoolKind::Max, .. }) => moves.push(next),
                Op::Reshape { .. } => {
                    moves.push(next);
                    only_maxima = false;
                }
                Op::BatchNorm(_) if only_maxima && (low, high) == (f32::NEG_INFINITY, f32::INFINITY) => {
                    match self.batch_norm(next)? {
                        Some((gain, shift)) if gain.iter().all(|gain| *gain > 0.0) => {
                            scales = scales.then(&gain, &shift);
                        }
                        _ => break,
                    }
                }
                _ => {
                    let Some((format, stairs)) = self.decision(next)? else { break };
                    let bound = |value: f32| match stairs {
                        Some(stairs) => stairs.code(value),
                        None => quantize(value, format.codes, format.grid),
                    };
                    let target = Some(Target { format, least: bound(low), most: bound(high), stairs });
                    merged.push(next);
                    return Ok(Tail { scales, target, end, moves, quantiser: Some(next), merged });
                }
            }
            merged.push(next);
            at = next;
        }
        let (scales, merged) = (numbers, norms);
        Ok(Tail { scales, target: None, end, moves: Vec::new(), quantiser: None, merged })
    }

    /// The codes that a quantiser of an activation gives, by rounding or by thresholds.
    fn decision(&self, id: NodeId) -> Result<Option<(Format, Option<Stairs>)>, QuantError> {
        if let Some((_, format)) = self.rounding(id)? {
            return Ok(Some((format, None)));
        }
        let Some(site) = self.sites.get(&id).filter(|site| site.weight.is_none()) else { return Ok(None) };
        let Some(stairs) = Stairs::of(&site.quantizer) else { return Ok(None) };
        Ok(self.format(site)?.map(|format| (format, Some(stairs))))
    }

    /// The node that reads this one, if it is the only one.
    fn only_reader(&self, id: NodeId) -> Result<Option<NodeId>, GraphError> {
        let mut users = self.graph.users(id);
        let (first, second) = (users.next(), users.next());
        let result = self.graph.outputs().contains(&id);
        Ok(first.filter(|_| second.is_none() && !result).map(|(id, _)| id))
    }

    /// A quantiser of an activation that rounds to one lattice, and the lattice.
    pub fn rounding(&self, id: NodeId) -> Result<Option<(&Site, Format)>, QuantError> {
        let Some(site) = self.sites.get(&id).filter(|site| site.weight.is_none() && rounds(site)) else {
            return Ok(None);
        };
        Ok(self.format(site)?.map(|format| (site, format)))
    }

    /// The one lattice of an activation's codes.
    pub fn format(&self, site: &Site) -> Result<Option<Format>, QuantError> {
        let Some(lattice) = site.lattice(self.graph)? else { return Ok(None) };
        let ([scale], [zero_point]) = (lattice.scale.as_slice(), lattice.zero_point.as_slice()) else {
            return Ok(None);
        };
        let codes = crate::integer::LinearCodes { scale: *scale, zero_point: *zero_point };
        Ok(Some(Format { codes, grid: lattice.grid }))
    }

    /// A batch normalisation in evaluation as $g_c x + d_c$.
    pub fn batch_norm(&self, id: NodeId) -> Result<Option<ChannelMap>, QuantError> {
        let node = self.graph.node(id)?;
        let (Op::BatchNorm(norm), [_, parameters @ ..]) = (node.op(), node.inputs()) else { return Ok(None) };
        let mut values = Vec::new();
        for parameter in parameters {
            let Some(value) = self.constants.get(parameter) else { return Ok(None) };
            values.push(super::cell::numbers(value).map_err(super::compile::run)?);
        }
        let [gamma, beta, mean, variance] = values.as_slice() else { return Ok(None) };
        let gain = |(g, v): (&f32, &f32)| (f64::from(*g) / (f64::from(*v) + norm.epsilon).sqrt()) as f32;
        let gain: Vec<f32> = gamma.iter().zip(variance).map(gain).collect();
        let shift = beta.iter().zip(mean).zip(&gain).map(|((b, m), g)| b - m * g).collect();
        Ok(Some((gain, shift)))
    }
}

/// Whether an activation's code is its quotient by the scale, rounded: accumulators can then be brought to it directly. Signs and learned thresholds are
/// decided by their own rule.
fn rounds(site: &Site) -> bool {
    use crate::plan::Quantizer::{DorefaActivation, Lsq, Pact, Uniform};
    matches!(site.quantizer, Uniform(_) | Lsq(_) | Pact(_) | DorefaActivation(_))
}
