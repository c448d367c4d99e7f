//! Normalisation layers: the shape stays, the parameters must fit.

use super::call::{Call, Inferred};
use crate::{Kind, TensorType};

fn channels(call: &Call, x: &TensorType) -> Inferred<usize> {
    call.kind(x, "x", Kind::Float)?;
    call.fixed(call.axis(x, 1)?, "the number of channels")
}

pub(super) fn batch(call: &Call) -> Inferred {
    let [x, gamma, beta, mean, variance] = call.exactly()?;
    let channels = channels(call, x)?;
    for (tensor, what) in [(gamma, "gamma"), (beta, "beta"), (mean, "the mean"), (variance, "the variance")] {
        call.vector(tensor, what, channels)?;
    }
    Ok(x.clone())
}

/// `x`, `gamma` and up to `more` vectors of the size of the last axis.
pub(super) fn last_axis(call: &Call, more: usize) -> Inferred {
    let wanted = if more == 0 { "2" } else { "2 or 3" };
    let ([x, gamma], beta) = call.optional(more, wanted)?;
    call.kind(x, "x", Kind::Float)?;
    let size = call.fixed(call.axis_from_end(x, 0)?, "the last axis")?;
    call.vector(gamma, "gamma", size)?;
    if let [beta] = beta {
        call.vector(beta, "beta", size)?;
    }
    Ok(x.clone())
}

pub(super) fn group(call: &Call, groups: usize) -> Inferred {
    let ([x], affine) = call.optional(2, "1 or 3")?;
    let channels = channels(call, x)?;
    call.ensure(groups > 0 && channels.is_multiple_of(groups), || {
        format!("{channels} channels do not divide into {groups} groups")
    })?;
    match affine {
        [] => {}
        [gamma, beta] => {
            call.vector(gamma, "gamma", channels)?;
            call.vector(beta, "beta", channels)?;
        }
        _ => return Err(call.wrong_count("1 or 3")),
    }
    Ok(x.clone())
}
