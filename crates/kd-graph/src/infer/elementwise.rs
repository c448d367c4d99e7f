//! Operations on every element by itself: kinds must fit, shapes broadcast.

use super::arithmetic::broadcast;
use super::call::{Call, Inferred};
use crate::{Activation, Binary, Kind, Scalar, TensorType, Unary};

pub(super) fn activation(call: &Call, activation: &Activation) -> Inferred {
    let x = match activation {
        Activation::Prelu => {
            let [x, slope] = call.exactly()?;
            call.kind(slope, "the slope", Kind::Float)?;
            call.rank(slope, "the slope", 1)?;
            let channels = if x.shape.rank() > 1 { call.axis(x, 1)? } else { call.axis(x, 0)? };
            let slopes = call.fixed(call.axis(slope, 0)?, "the slope")?;
            call.ensure(slopes == 1 || channels.fixed() == Some(slopes), || {
                format!("{slopes} slopes do not fit {channels} channels")
            })?;
            x
        }
        _ => {
            let [x] = call.exactly()?;
            x
        }
    };
    call.kind(x, "x", Kind::Float)?;
    Ok(x.clone())
}

pub(super) fn unary(call: &Call, op: Unary) -> Inferred {
    let [x] = call.exactly()?;
    let fits = match op {
        Unary::Not => x.kind != Kind::Float,
        Unary::Neg | Unary::Abs | Unary::Sign => x.kind != Kind::Bool,
        _ => x.kind == Kind::Float,
    };
    call.ensure(fits, || format!("it is not defined for {}", x.kind))?;
    let kind = if matches!(op, Unary::IsNan | Unary::IsInf) { Kind::Bool } else { x.kind };
    Ok(TensorType { kind, shape: x.shape.clone() })
}

/// The kind of the result, if the operation is defined for these kinds.
fn binary_kind(op: Binary, a: Kind, b: Kind) -> Option<Kind> {
    let fits = match op {
        Binary::Equal | Binary::NotEqual => a == b,
        Binary::And | Binary::Or | Binary::Xor => a == b && a != Kind::Float,
        Binary::Pow => a == b && a != Kind::Bool || (a, b) == (Kind::Float, Kind::Int),
        Binary::Atan2 => (a, b) == (Kind::Float, Kind::Float),
        _ => a == b && a != Kind::Bool,
    };
    fits.then_some(if op.compares() { Kind::Bool } else { a })
}

pub(super) fn binary(call: &Call, op: Binary) -> Inferred {
    let [a, b] = call.exactly()?;
    let kind = binary_kind(op, a.kind, b.kind)
        .ok_or_else(|| call.mismatch(format!("it is not defined for {} and {}", a.kind, b.kind)))?;
    Ok(TensorType { kind, shape: broadcast(call, a.shape.dims(), b.shape.dims())? })
}

fn kind_of(value: Scalar) -> Kind {
    match value {
        Scalar::Float(_) => Kind::Float,
        Scalar::Int(_) => Kind::Int,
        Scalar::Bool(_) => Kind::Bool,
    }
}

/// Whether a literal can stand for an element: an integer also for a float.
fn stands_for(value: Scalar, kind: Kind) -> bool {
    kind_of(value) == kind || (kind_of(value), kind) == (Kind::Int, Kind::Float)
}

pub(super) fn literal(call: &Call, op: Binary, value: Scalar) -> Inferred {
    let [a] = call.exactly()?;
    let wrong = || call.mismatch(format!("it is not defined for {} and the literal {value}", a.kind));
    let literal = if stands_for(value, a.kind) { a.kind } else { kind_of(value) };
    let kind = binary_kind(op, a.kind, literal).ok_or_else(wrong)?;
    Ok(TensorType { kind, shape: a.shape.clone() })
}

pub(super) fn clamp(call: &Call, min: f64, max: f64) -> Inferred {
    let [x] = call.exactly()?;
    call.ensure(x.kind != Kind::Bool, || "it is not defined for bool")?;
    call.ensure(min <= max, || format!("the bounds {min} and {max} are the wrong way round, or no numbers"))?;
    Ok(x.clone())
}

pub(super) fn choose(call: &Call) -> Inferred {
    let [a, mask, b] = call.exactly()?;
    call.kind(mask, "the mask", Kind::Bool)?;
    call.kind(b, "the second choice", a.kind)?;
    let shape = broadcast(call, a.shape.dims(), b.shape.dims())?;
    Ok(TensorType { kind: a.kind, shape: broadcast(call, shape.dims(), mask.shape.dims())? })
}

pub(super) fn mask_fill(call: &Call, value: Scalar) -> Inferred {
    let [a, mask] = call.exactly()?;
    call.kind(mask, "the mask", Kind::Bool)?;
    call.ensure(stands_for(value, a.kind), || format!("{value} is no {}", a.kind))?;
    Ok(TensorType { kind: a.kind, shape: broadcast(call, a.shape.dims(), mask.shape.dims())? })
}

pub(super) fn cast(call: &Call, kind: Kind) -> Inferred {
    let [x] = call.exactly()?;
    Ok(TensorType { kind, shape: x.shape.clone() })
}

pub(super) fn dropout(call: &Call, rate: f64) -> Inferred {
    let [x] = call.exactly()?;
    call.kind(x, "x", Kind::Float)?;
    call.ensure((0.0..=1.0).contains(&rate), || format!("the rate {rate} must lie in 0..=1"))?;
    Ok(x.clone())
}
