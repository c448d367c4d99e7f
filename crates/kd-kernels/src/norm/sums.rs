//! Two sums per channel in one pass over all rows.

use rayon::prelude::*;

use super::period::Period;
use crate::parallel::rows_per_task;
use crate::simd::{Kernel, Level, Simd, dispatch};
use crate::workspace::{Scratch, Workspace};

/// What is summed: `sum of a` and `sum of a * b`.
pub(crate) trait Terms: Copy + Send + Sync {
    /// `a` and `b` of the `n` elements from `i`, whose parameters are at `p` of a super-row. Lanes from `n` on give 0.
    ///
    /// # Safety
    /// `i + n` is at most the number of elements, `p + n` at most the length of a super-row, and no two tasks ask for the same element.
    unsafe fn terms<S: Simd>(self, s: S, i: usize, p: usize, n: usize) -> (S::V, S::V);
}

/// Reads `n` numbers; `n` is a constant in the loops over whole vectors, which leaves one of the two.
///
/// # Safety
/// `n <= LANES` numbers can be read at `slice[at..]`.
#[inline(always)]
pub(crate) unsafe fn load<S: Simd>(s: S, slice: &[f32], at: usize, n: usize) -> S::V {
    // SAFETY: the caller's.
    unsafe {
        let ptr = slice.as_ptr().add(at);
        if n == S::LANES { s.load(ptr) } else { s.load_partial(ptr, n) }
    }
}

/// Writes `n` numbers, as [`load`] reads them.
///
/// # Safety
/// `n <= LANES` numbers can be written at `ptr`.
#[inline(always)]
pub(crate) unsafe fn store<S: Simd>(s: S, ptr: *mut f32, v: S::V, n: usize) {
    // SAFETY: the caller's.
    unsafe { if n == S::LANES { s.store(ptr, v) } else { s.store_partial(ptr, v, n) } }
}

/// Both sums of all channels, in f64, by [`channel`](Sums::channel).
pub(crate) struct Sums<'a> {
    partial: Scratch<'a>,
    period: Period,
}

impl<'a> Sums<'a> {
    /// Sums over `len` elements: every task over super-rows of its own, then, in order, over tasks.
    pub fn new(terms: impl Terms, len: usize, period: Period, workspace: &'a Workspace) -> Self {
        let super_rows = len.div_ceil(period.len);
        let step = rows_per_task(super_rows, period.len);
        let mut partial = workspace.take_zeroed(super_rows.div_ceil(step) * 2 * period.len);
        let (level, step) = (Level::current(), step * period.len);
        partial.par_chunks_mut(2 * period.len).enumerate().for_each(|(task, sums)| {
            let (start, end) = (task * step, len.min((task + 1) * step));
            dispatch(level, Task { terms, start, end, period: period.len, sums });
        });
        Self { partial, period }
    }

    /// `sum of a` and `sum of a * b` of a channel.
    pub fn channel(&self, channel: usize) -> (f64, f64) {
        let stride = 2 * self.period.len;
        let second = self.partial.get(self.period.len..).unwrap_or_default();
        (self.period.fold(&self.partial, stride, channel), self.period.fold(second, stride, channel))
    }
}

/// Vectors whose sums are in registers at a time.
const BLOCK: usize = 4;

/// Elements after which sums go from registers to memory: they stay in the cache when a super-row takes several blocks, and no sum in f32 is
/// over more than a few hundred numbers at once.
const TILE: usize = 1 << 13;

/// The elements from `start`, a multiple of `period`, to `end`; `sums` are two super-rows.
struct Task<'a, T> {
    terms: T,
    start: usize,
    end: usize,
    period: usize,
    sums: &'a mut [f32],
}

impl<T: Terms> Kernel for Task<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { terms, start, end, period, sums } = self;
        let (first, second) = sums.split_at_mut(period);
        let (first, second) = (first.as_mut_ptr(), second.as_mut_ptr());
        let tile = (TILE / period).max(1) * period;
        let mut at = start;
        while at < end {
            let tile_end = end.min(at + tile);
            let whole_end = tile_end - (tile_end - at) % period;
            // SAFETY: `sums` has 2 * period numbers, and a period is a multiple of BLOCK * LANES; elements stay below `end`.
            unsafe {
                let mut p = 0;
                while p < period && at < whole_end {
                    let mut a_sum = [s.zero(); BLOCK];
                    let mut ab_sum = [s.zero(); BLOCK];
                    let mut row = at;
                    while row < whole_end {
                        for v in 0..BLOCK {
                            let p = p + v * S::LANES;
                            let (a, b) = terms.terms(s, row + p, p, S::LANES);
                            a_sum[v] = s.add(a_sum[v], a);
                            ab_sum[v] = s.fma(a, b, ab_sum[v]);
                        }
                        row += period;
                    }
                    for v in 0..BLOCK {
                        let (first, second) = (first.add(p + v * S::LANES), second.add(p + v * S::LANES));
                        s.store(first, s.add(s.load(first), a_sum[v]));
                        s.store(second, s.add(s.load(second), ab_sum[v]));
                    }
                    p += BLOCK * S::LANES;
                }
                let mut p = 0;
                while whole_end + p < tile_end {
                    let n = S::LANES.min(tile_end - whole_end - p);
                    let (a, b) = terms.terms(s, whole_end + p, p, n);
                    let (first, second) = (first.add(p), second.add(p));
                    s.store(first, s.add(s.load(first), a));
                    s.store(second, s.fma(a, b, s.load(second)));
                    p += n;
                }
            }
            at = tile_end;
        }
    }
}
