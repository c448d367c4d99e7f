//! Parts of a softmax over one row.

use crate::simd::Simd;

/// The number of each lane of the widest vector.
static LANE: [f32; 16] = [0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.];

/// `v` in the first `n` lanes, 0 in the others.
#[inline(always)]
pub(super) fn first<S: Simd>(s: S, v: S::V, n: usize) -> S::V {
    // SAFETY: no level has more lanes than the table.
    let lane = unsafe { s.load(LANE.as_ptr()) };
    s.keep_if_greater(s.splat(n as f32 - 0.5), lane, v)
}

/// What makes a row of exponentials a distribution.
#[derive(Clone, Copy)]
pub(super) struct Normaliser {
    /// The largest logit: `exp` is taken of the distance from it.
    pub largest: f32,
    /// The sum of the exponentials.
    pub sum: f32,
}

impl Normaliser {
    /// Of `factor * logits`, for at least one class.
    #[inline(always)]
    pub fn new<S: Simd>(s: S, logits: &[f32], factor: f32) -> Self {
        let mut largest = s.splat(f32::NEG_INFINITY);
        for (i, n) in Vectors::of(s, logits) {
            // SAFETY: vectors stay within the row. Lanes behind it become minus infinity.
            let x = unsafe { s.load_partial(logits.as_ptr().add(i), n) };
            largest = s.max(largest, s.sub(x, behind(s, s.splat(f32::INFINITY), n)));
        }
        let largest = s.reduce_max(largest);
        let mut sum = s.zero();
        let new = Self { largest, sum: 1.0 };
        for (i, n) in Vectors::of(s, logits) {
            // SAFETY: as above.
            let x = unsafe { s.load_partial(logits.as_ptr().add(i), n) };
            sum = s.add(sum, first(s, s.exp(new.distance(s, x, factor)), n));
        }
        Self { sum: s.reduce_sum(sum), ..new }
    }

    /// `factor * (x - largest)`.
    #[inline(always)]
    pub fn distance<S: Simd>(self, s: S, x: S::V, factor: f32) -> S::V {
        s.mul(s.sub(x, s.splat(self.largest)), s.splat(factor))
    }

    /// `factor * largest + ln sum`: subtracted from a logit (times the factor) it leaves the logarithm of the probability.
    pub fn log_sum_exp(self, factor: f32) -> f32 {
        factor * self.largest + self.sum.ln()
    }
}

/// `v` in the lanes from `n` on, 0 in the others.
#[inline(always)]
fn behind<S: Simd>(s: S, v: S::V, n: usize) -> S::V {
    // SAFETY: no level has more lanes than the table.
    let lane = unsafe { s.load(LANE.as_ptr()) };
    s.keep_if_greater(lane, s.splat(n as f32 - 0.5), v)
}

/// Start and length of every vector of a row, the last perhaps incomplete. Not a function that takes a closure: a closure isn't compiled with the
/// instructions of the level.
#[derive(Clone, Copy)]
pub(super) struct Vectors {
    at: usize,
    len: usize,
    lanes: usize,
}

impl Vectors {
    #[inline(always)]
    pub fn of<S: Simd>(_: S, row: &[f32]) -> Self {
        Self { at: 0, len: row.len(), lanes: S::LANES }
    }
}

impl Iterator for Vectors {
    type Item = (usize, usize);

    #[inline(always)]
    fn next(&mut self) -> Option<(usize, usize)> {
        let (i, n) = (self.at, self.lanes.min(self.len - self.at));
        self.at += n;
        (n > 0).then_some((i, n))
    }
}
