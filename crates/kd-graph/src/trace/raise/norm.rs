//! Normalisations that burn computes in several operations.

use super::{Raised, View};
use crate::{Binary, Op, Unary};

/// `(g - mean(g)) / sqrt(var(g) + epsilon)` over groups `g` of channels, without scale and shift.
pub(super) fn group(view: &View<'_>, root: usize) -> Option<Raised> {
    let normalised = view.reshape(root)?;
    let (centred, deviation) = view.binary(normalised, Binary::Div)?;
    let (variance, epsilon) = view.literal(view.unary(deviation, Unary::Sqrt)?, Binary::Add)?;
    let (grouped, mean) = view.binary(centred, Binary::Sub)?;
    let x = view.reshape(grouped)?;
    let same = view.square(view.mean(variance, 2)?)? == centred && view.mean(mean, 2)? == grouped;
    let (sizes, groups) = (view.sizes(x), view.sizes(grouped));
    let &[batch, channels, ..] = &sizes[..] else { return None };
    let &[examples, groups, _] = &groups[..] else { return None };
    let op = match groups == channels {
        true => Op::InstanceNorm { epsilon },
        false => Op::GroupNorm { groups, epsilon },
    };
    (same && batch == examples && sizes == view.sizes(root)).then(|| Raised::new(op, [x]))?
}

/// A group or instance normalisation with a scale and a shift for every channel.
pub(super) fn affine(view: &View<'_>, root: usize) -> Option<Raised> {
    let (scaled, shift) = view.binary(root, Binary::Add)?;
    let (norm, scale) = view.binary(scaled, Binary::Mul)?;
    let (Op::GroupNorm { .. } | Op::InstanceNorm { .. }, &[x]) = (view.op(norm), view.inputs(norm)) else {
        return None;
    };
    let (gamma, beta) = (view.vector_along(scale, 1)?, view.vector_along(shift, 1)?);
    Raised::new(view.op(norm).clone(), [x, gamma, beta])
}

/// `x / sqrt(mean(x^2) + epsilon) * gamma` over the last axis.
pub(super) fn rms(view: &View<'_>, root: usize) -> Option<Raised> {
    let (divided, scale) = view.binary(root, Binary::Mul)?;
    let (x, size) = view.binary(divided, Binary::Div)?;
    let (mean, epsilon) = view.literal(view.unary(size, Unary::Sqrt)?, Binary::Add)?;
    let last = view.sizes(x).len().checked_sub(1)?;
    let gamma = match view.sizes(scale).len() {
        1 => scale,
        _ => view.vector_along(scale, last)?,
    };
    let same = view.square(view.mean(mean, last)?)? == x && view.sizes(gamma).first() == view.sizes(x).last();
    same.then(|| Raised::new(Op::RmsNorm { epsilon }, [x, gamma]))?
}
