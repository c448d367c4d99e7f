//! Parts of tensors, and tensors put together.

use super::arithmetic::{length, sum};
use super::call::{Call, Inferred};
use crate::{Kind, Range, Shape, TensorType};

pub(super) fn cat(call: &Call, axis: usize) -> Inferred {
    let [first, rest @ ..] = call.inputs else { return Err(call.wrong_count("1 or more")) };
    let mut size = call.axis(first, axis)?;
    for other in rest {
        call.kind(other, "every input", first.kind)?;
        call.rank(other, "every input", first.shape.rank())?;
        let added = call.axis(other, axis)?;
        call.ensure(other.shape.clone().with(axis, size) == first.shape.clone().with(axis, size), || {
            format!("{} and {} differ beside axis {axis}", first.shape, other.shape)
        })?;
        size = sum(call, size, added)?;
    }
    Ok(TensorType { kind: first.kind, shape: first.shape.clone().with(axis, size) })
}

fn part(call: &Call, x: &TensorType, ranges: &[Range]) -> Inferred<Shape> {
    call.rank(x, "x", ranges.len())?;
    let axes = ranges.iter().zip(x.shape.dims()).enumerate();
    axes.map(|(axis, (range, &size))| length(call, axis, range, size)).collect()
}

pub(super) fn slice(call: &Call, ranges: &[Range]) -> Inferred {
    let [x] = call.exactly()?;
    Ok(TensorType { kind: x.kind, shape: part(call, x, ranges)? })
}

pub(super) fn slice_assign(call: &Call, ranges: &[Range]) -> Inferred {
    let [x, value] = call.exactly()?;
    call.kind(value, "the value", x.kind)?;
    let part = part(call, x, ranges)?;
    call.ensure(part == value.shape, || format!("the part is {part}, the value {}", value.shape))?;
    Ok(x.clone())
}

pub(super) fn select(call: &Call, axis: usize) -> Inferred {
    let [x, indices] = call.exactly()?;
    call.kind(indices, "the indices", Kind::Int)?;
    call.rank(indices, "the indices", 1)?;
    call.axis(x, axis)?;
    let count = call.axis(indices, 0)?;
    Ok(TensorType { kind: x.kind, shape: x.shape.clone().with(axis, count) })
}

pub(super) fn gather(call: &Call, axis: usize) -> Inferred {
    let [x, indices] = call.exactly()?;
    call.kind(indices, "the indices", Kind::Int)?;
    call.rank(indices, "the indices", x.shape.rank())?;
    let count = call.axis(indices, axis)?;
    call.ensure(x.shape.clone().with(axis, count) == indices.shape, || {
        format!("{} and {} differ beside axis {axis}", x.shape, indices.shape)
    })?;
    Ok(TensorType { kind: x.kind, shape: indices.shape.clone() })
}
