//! Operations that lay elements out anew.

use super::arithmetic::{product, sum};
use super::call::{Call, Inferred};
use crate::{Dim, Kind, PadMode, Scalar, Shape, TensorType};

pub(super) fn reshape(call: &Call, shape: &Shape) -> Inferred {
    let [x] = call.exactly()?;
    call.ensure(shape.volume() == x.shape.volume(), || {
        format!("{shape} does not hold as many elements as {}", x.shape)
    })?;
    Ok(TensorType { kind: x.kind, shape: shape.clone() })
}

pub(super) fn permute(call: &Call, axes: &[usize]) -> Inferred {
    let [x] = call.exactly()?;
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    call.ensure(sorted.iter().copied().eq(0..x.shape.rank()), || {
        format!("{axes:?} does not name every axis of {} once", x.shape)
    })?;
    let shape = axes.iter().map(|&axis| call.axis(x, axis)).collect::<Result<_, _>>()?;
    Ok(TensorType { kind: x.kind, shape })
}

pub(super) fn expand(call: &Call, shape: &Shape) -> Inferred {
    let [x] = call.exactly()?;
    let wrong = || call.mismatch(format!("{} does not broadcast to {shape}", x.shape));
    let new = shape.rank().checked_sub(x.shape.rank()).ok_or_else(wrong)?;
    let kept = shape.dims().iter().skip(new);
    let fits = x.shape.dims().iter().zip(kept).all(|(from, to)| from == to || *from == Dim::Fixed(1));
    if fits { Ok(TensorType { kind: x.kind, shape: shape.clone() }) } else { Err(wrong()) }
}

pub(super) fn repeat(call: &Call, axis: usize, times: Dim) -> Inferred {
    let [x] = call.exactly()?;
    let size = product(call, call.axis(x, axis)?, times)?;
    Ok(TensorType { kind: x.kind, shape: x.shape.clone().with(axis, size) })
}

pub(super) fn flip(call: &Call, axes: &[usize]) -> Inferred {
    let [x] = call.exactly()?;
    for (place, &axis) in axes.iter().enumerate() {
        call.axis(x, axis)?;
        call.ensure(!axes.iter().take(place).any(|&other| other == axis), || {
            format!("axis {axis} is named twice")
        })?;
    }
    Ok(x.clone())
}

pub(super) fn pad(call: &Call, padding: &[(usize, usize)], mode: &PadMode) -> Inferred {
    let [x] = call.exactly()?;
    call.rank(x, "x", padding.len())?;
    let mut dims = Vec::with_capacity(padding.len());
    for (axis, (&size, &(before, after))) in x.shape.dims().iter().zip(padding).enumerate() {
        if let (PadMode::Reflect, Dim::Fixed(size)) = (mode, size) {
            call.ensure(before.max(after) < size.max(1), || {
                format!("axis {axis} has {size} elements: too few to mirror {before} and {after} of them")
            })?;
        }
        dims.push(sum(call, sum(call, size, Dim::Fixed(before))?, Dim::Fixed(after))?);
    }
    Ok(TensorType { kind: x.kind, shape: dims.into_iter().collect() })
}

pub(super) fn full(call: &Call, shape: &Shape, value: Scalar) -> Inferred {
    let [] = call.exactly()?;
    let kind = match value {
        Scalar::Float(_) => Kind::Float,
        Scalar::Int(_) => Kind::Int,
        Scalar::Bool(_) => Kind::Bool,
    };
    Ok(TensorType { kind, shape: shape.clone() })
}
