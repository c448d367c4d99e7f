//! Sizes that may be multiples of the batch: broadcast, added, multiplied, cut.

use super::call::{Call, Inferred};
use crate::{Dim, Range, Shape};

/// The shape that two shapes of one rank broadcast to.
pub(super) fn broadcast(call: &Call, a: &[Dim], b: &[Dim]) -> Inferred<Shape> {
    call.ensure(a.len() == b.len(), || format!("ranks differ: {} and {}", a.len(), b.len()))?;
    a.iter().zip(b).enumerate().map(|(axis, (&a, &b))| common(call, axis, a, b)).collect()
}

fn common(call: &Call, axis: usize, a: Dim, b: Dim) -> Inferred<Dim> {
    match (a, b) {
        (a, b) if a == b => Ok(a),
        (Dim::Fixed(1), other) | (other, Dim::Fixed(1)) => Ok(other),
        (a, b) => Err(call.mismatch(format!("axis {axis} is {a} in one and {b} in the other"))),
    }
}

/// The sum, which is neither a number nor a multiple of the batch when one is each.
pub(super) fn sum(call: &Call, a: Dim, b: Dim) -> Inferred<Dim> {
    match (a, b) {
        (Dim::Fixed(0), other) | (other, Dim::Fixed(0)) => Ok(other),
        (Dim::Fixed(a), Dim::Fixed(b)) => {
            a.checked_add(b).map(Dim::Fixed).ok_or_else(|| call.mismatch("the size overflows"))
        }
        (Dim::Batch(a), Dim::Batch(b)) => {
            a.checked_add(b).map(Dim::Batch).ok_or_else(|| call.mismatch("the size overflows"))
        }
        (a, b) => {
            Err(call.mismatch(format!("a size of {a} + {b} is neither fixed nor a multiple of the batch")))
        }
    }
}

/// The product, unless it grows with the square of the batch.
pub(super) fn product(call: &Call, a: Dim, b: Dim) -> Inferred<Dim> {
    let (times, dim): (_, fn(usize) -> Dim) = match (a, b) {
        (Dim::Fixed(a), Dim::Fixed(b)) => (a.checked_mul(b), Dim::Fixed),
        (Dim::Batch(_), Dim::Batch(_)) => {
            return Err(call.mismatch(format!("a size of {a} * {b} grows with the square of the batch")));
        }
        (Dim::Batch(0) | Dim::Fixed(0), _) | (_, Dim::Batch(0) | Dim::Fixed(0)) => (Some(0), Dim::Fixed),
        (Dim::Batch(a), Dim::Fixed(b)) | (Dim::Fixed(a), Dim::Batch(b)) => (a.checked_mul(b), Dim::Batch),
    };
    times.map(dim).ok_or_else(|| call.mismatch("the size overflows"))
}

/// Number of elements that a range takes from an axis.
pub(super) fn length(call: &Call, axis: usize, range: &Range, size: Dim) -> Inferred<Dim> {
    let Range { start, end, step } = *range;
    call.ensure(step != 0, || format!("the step along axis {axis} is 0"))?;
    call.ensure(reaches(size, end), || {
        format!("the range {start}..{end} of axis {axis} leaves its size {size}")
    })?;
    let step = step.unsigned_abs();
    let irregular = || {
        call.mismatch(format!(
            "the range {start}..{end} by {step} of axis {axis} is neither fixed nor a multiple of the batch"
        ))
    };
    match (start, end) {
        (Dim::Fixed(start), Dim::Fixed(end)) if start <= end => Ok(Dim::Fixed((end - start).div_ceil(step))),
        (Dim::Fixed(0), Dim::Batch(times)) if times.is_multiple_of(step) => Ok(Dim::Batch(times / step)),
        (Dim::Batch(start), Dim::Batch(end)) if start == end => Ok(Dim::Fixed(0)),
        (Dim::Batch(start), Dim::Batch(end)) if start < end && (end - start).is_multiple_of(step) => {
            Ok(Dim::Batch((end - start) / step))
        }
        (Dim::Fixed(_), Dim::Fixed(_)) | (Dim::Batch(_), _) => {
            Err(call.mismatch(format!("the range {start}..{end} of axis {axis} ends before it starts")))
        }
        (Dim::Fixed(_), Dim::Batch(_)) => Err(irregular()),
    }
}

/// Whether one size is at least another at every batch size.
fn reaches(size: Dim, end: Dim) -> bool {
    match (size, end) {
        (Dim::Fixed(size), Dim::Fixed(end))
        | (Dim::Batch(size), Dim::Batch(end))
        | (Dim::Batch(size), Dim::Fixed(end)) => end <= size,
        (Dim::Fixed(_), Dim::Batch(_)) => false,
    }
}

/// Number of windows along an axis of `size` elements, borders included: `floor((size - extent) / stride) + 1` with `extent = dilation (kernel - 1) + 1`.
pub(super) struct Window {
    pub kernel: usize,
    pub stride: usize,
    pub dilation: usize,
    pub before: usize,
    pub after: usize,
    /// Whether a last window may hang over the end.
    pub ceil: bool,
}

impl Window {
    pub fn count(&self, call: &Call, size: usize) -> Inferred<usize> {
        let &Window { kernel, stride, dilation, before, after, ceil } = self;
        call.ensure(kernel > 0 && stride > 0 && dilation > 0, || {
            format!("window {kernel}, stride {stride} and dilation {dilation} must be at least 1")
        })?;
        let extent = (kernel - 1).checked_mul(dilation).and_then(|reach| reach.checked_add(1));
        let padded = before.checked_add(after).and_then(|border| border.checked_add(size));
        let overhang = if ceil { stride - 1 } else { 0 };
        let free = padded.and_then(|padded| padded.checked_add(overhang)?.checked_sub(extent?));
        let count = free.ok_or_else(|| {
            call.mismatch(format!(
                "a window of {kernel} with dilation {dilation} is longer than {size} elements and a border of {before} and {after}"
            ))
        })? / stride + 1;
        // As burn: a last window that would start behind the end is dropped.
        let overhangs = ceil && (count - 1).saturating_mul(stride) >= size.saturating_add(before);
        Ok(if overhangs { count - 1 } else { count })
    }
}
