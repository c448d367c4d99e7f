//! Two sums per channel in one pass over all rows.

use super::period::Period;
use crate::parallel::{for_each_chunk, rows_per_task};
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
        for_each_chunk(&mut partial, 2 * period.len, |task, sums| {
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
    fn run<S: Simd>(mut self, s: S) {
        let tile = (TILE / self.period).max(1) * self.period;
        let mut at = self.start;
        while at < self.end {
            let tile_end = self.end.min(at + tile);
            let whole_end = tile_end - (tile_end - at) % self.period;
            // SAFETY: a period is a multiple of four vectors, and blocks take what is left of it; elements stay below `end`.
            unsafe {
                let mut p = 0;
                while p < self.period && at < whole_end {
                    // As wide as registers allow: memory likes long runs.
                    let left = (self.period - p) / S::LANES;
                    p += match left {
                        12.. if S::REGISTERS >= 32 => self.block::<S, 12>(s, at, whole_end, p),
                        8.. if S::REGISTERS >= 32 => self.block::<S, 8>(s, at, whole_end, p),
                        _ => self.block::<S, 4>(s, at, whole_end, p),
                    };
                }
                let mut p = 0;
                while whole_end + p < tile_end {
                    let n = S::LANES.min(tile_end - whole_end - p);
                    let (a, b) = self.terms.terms(s, whole_end + p, p, n);
                    self.flush(s, p, a, s.mul(a, b));
                    p += n;
                }
            }
            at = tile_end;
        }
    }
}

impl<T: Terms> Task<'_, T> {
    /// Sums `BLOCK` vectors of every super-row between two elements, from the place `p`; returns how many numbers these are.
    ///
    /// # Safety
    /// `p + BLOCK * LANES` is at most a period, `at` and `end` are multiples of it and at most the number of elements.
    #[inline(always)]
    unsafe fn block<S: Simd, const BLOCK: usize>(&mut self, s: S, at: usize, end: usize, p: usize) -> usize {
        let mut a_sum = [s.zero(); BLOCK];
        let mut ab_sum = [s.zero(); BLOCK];
        let mut row = at;
        while row < end {
            for (v, (a_sum, ab_sum)) in a_sum.iter_mut().zip(&mut ab_sum).enumerate() {
                let p = p + v * S::LANES;
                // SAFETY: the caller's.
                let (a, b) = unsafe { self.terms.terms(s, row + p, p, S::LANES) };
                *a_sum = s.add(*a_sum, a);
                *ab_sum = s.fma(a, b, *ab_sum);
            }
            row += self.period;
        }
        for (v, (a_sum, ab_sum)) in a_sum.into_iter().zip(ab_sum).enumerate() {
            // SAFETY: the caller's.
            unsafe { self.flush(s, p + v * S::LANES, a_sum, ab_sum) };
        }
        BLOCK * S::LANES
    }

    /// Adds to the sums in memory.
    ///
    /// # Safety
    /// `p + LANES` is at most a period.
    #[inline(always)]
    unsafe fn flush<S: Simd>(&mut self, s: S, p: usize, a: S::V, ab: S::V) {
        for (start, v) in [(0, a), (self.period, ab)] {
            // SAFETY: the caller's; `sums` has two periods.
            unsafe {
                let sum = self.sums.as_mut_ptr().add(start + p);
                s.store(sum, s.add(s.load(sum), v));
            }
        }
    }
}
