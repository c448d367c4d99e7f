//! Micro-kernels of the weight gradient: sums over an image's positions, in registers.

use super::plan::{BLOCK, Step};
use super::tile::for_columns;
use crate::simd::{Kernel, Level, Simd, dispatch};

/// What a tile reads and adds to.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// Scratch image of the input, at the first value of the run at the first position.
    pub source: *const f32,
    pub source_row: usize,
    /// Gradient of the output, at the first position and channel of the block.
    pub gradient: *const f32,
    /// Numbers between its rows and columns.
    pub gradient_row: usize,
    pub gradient_pixel: usize,
    pub rows: usize,
    pub cols: usize,
    /// Channels of the block that exist.
    pub channels: usize,
    /// The partial sums, in packed order.
    pub sums: *mut f32,
}

/// `R` values of a run by `B` vectors of output channels.
struct Dense<const R: usize, const B: usize>(Tile);

impl<const R: usize, const B: usize> Kernel for Dense<R, B> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: as `run_dense` demands.
        unsafe {
            if self.0.channels == B * S::LANES { self.sum::<S, true>(s) } else { self.sum::<S, false>(s) }
        }
    }
}

impl<const R: usize, const B: usize> Dense<R, B> {
    /// # Safety
    /// As for [`run_dense`]; `WHOLE` if all channels of the block exist.
    #[inline(always)]
    unsafe fn sum<S: Simd, const WHOLE: bool>(self, s: S) {
        let t = self.0;
        // SAFETY: the caller's; the last vector is read in part where the block isn't whole.
        unsafe {
            let tail = t.channels - (B - 1) * S::LANES;
            let mut acc = [[s.zero(); R]; B];
            for row in 0..t.rows {
                let mut source = t.source.add(row * t.source_row);
                let mut gradient = t.gradient.add(row * t.gradient_row);
                for _ in 0..t.cols {
                    let mut dy = [s.zero(); B];
                    for (b, dy) in dy.iter_mut().enumerate() {
                        let from = gradient.add(b * S::LANES);
                        *dy = if WHOLE || b + 1 < B { s.load(from) } else { s.load_partial(from, tail) };
                    }
                    #[allow(clippy::needless_range_loop)] // the inner loop goes across
                    for r in 0..R {
                        let x = s.splat(source.add(r).read());
                        for b in 0..B {
                            acc[b][r] = s.fma(x, dy[b], acc[b][r]);
                        }
                    }
                    source = source.add(BLOCK);
                    gradient = gradient.add(t.gradient_pixel);
                }
            }
            for (b, acc) in acc.into_iter().enumerate() {
                for (r, v) in acc.into_iter().enumerate() {
                    let to = t.sums.add((r * B + b) * S::LANES);
                    s.store(to, s.add(s.load(to), v));
                }
            }
        }
    }
}

/// One tap, every channel of a block by itself.
struct Depthwise<'a>(Tile, &'a [Step]);

impl Kernel for Depthwise<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self(t, steps) = self;
        for channel in (0..t.channels).step_by(S::LANES) {
            let lanes = S::LANES.min(t.channels - channel);
            // SAFETY: as `run_depthwise` demands.
            unsafe {
                let mut groups = steps.chunks_exact(3);
                for (i, group) in groups.by_ref().enumerate() {
                    let offsets = [group[0].offset, group[1].offset, group[2].offset];
                    t.taps(s, channel, lanes, offsets, 3 * i);
                }
                let rest = groups.remainder();
                for (i, step) in rest.iter().enumerate() {
                    t.taps(s, channel, lanes, [step.offset], steps.len() - rest.len() + i);
                }
            }
        }
    }
}

impl Tile {
    /// `T` taps from the `first` on, for one vector of channels.
    ///
    /// # Safety
    /// As for [`run_depthwise`].
    #[inline(always)]
    unsafe fn taps<S: Simd, const T: usize>(
        &self,
        s: S,
        channel: usize,
        lanes: usize,
        offsets: [usize; T],
        first: usize,
    ) {
        // SAFETY: the caller's.
        unsafe {
            // Two sums for every tap, so that one product needn't wait for the one before.
            let (mut even, mut odd) = ([s.zero(); T], [s.zero(); T]);
            for row in 0..self.rows {
                let source = self.source.add(row * self.source_row + channel);
                let gradient = self.gradient.add(row * self.gradient_row + channel);
                let add = |acc: &mut [S::V; T], col: usize| {
                    let from = gradient.add(col * self.gradient_pixel);
                    let dy = if lanes == S::LANES { s.load(from) } else { s.load_partial(from, lanes) };
                    for i in 0..T {
                        acc[i] = s.fma(s.load(source.add(offsets[i] + col * BLOCK)), dy, acc[i]);
                    }
                };
                for col in (0..self.cols - self.cols % 2).step_by(2) {
                    add(&mut even, col);
                    add(&mut odd, col + 1);
                }
                if self.cols % 2 == 1 {
                    add(&mut even, self.cols - 1);
                }
            }
            for i in 0..T {
                let to = self.sums.add((first + i) * BLOCK + channel);
                s.store(to, s.add(s.load(to), s.add(even[i], odd[i])));
            }
        }
    }
}

struct MaxRun(usize);

impl Kernel for MaxRun {
    type Output = usize;
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> usize {
        ((S::REGISTERS - self.0 - 1) / self.0).min(BLOCK)
    }
}

/// Splits a run of `len` values into pieces of nearly one size which the registers hold: (first, values).
pub(super) fn split(level: Level, len: usize, vectors: usize) -> impl Iterator<Item = (usize, usize)> {
    let pieces = len.div_ceil(dispatch(level, MaxRun(vectors)));
    (0..pieces).map(move |i| {
        let from = i * len / pieces;
        (from, (i + 1) * len / pieces - from)
    })
}

/// Adds the products of `run` values (from [`split`]) with `vectors` of the gradient.
///
/// # Safety
/// The run lies in the scratch image and the block's channels in the gradient at all positions; the sums have
/// `vectors` vectors for every value, which nobody else accesses.
pub(super) unsafe fn run_dense(level: Level, tile: Tile, run: usize, vectors: usize) {
    macro_rules! run {
        ($r:literal) => {
            if vectors == 1 {
                dispatch(level, Dense::<$r, 1>(tile))
            } else {
                dispatch(level, Dense::<$r, 2>(tile))
            }
        };
    }
    for_columns!(run, run);
}

/// Adds the products of one block of channels at all taps.
///
/// # Safety
/// As for [`run_dense`], for all steps; the sums have BLOCK numbers for every step.
pub(super) unsafe fn run_depthwise(level: Level, tile: Tile, steps: &[Step]) {
    dispatch(level, Depthwise(tile, steps));
}
