//! Micro-kernels of the gathering passes: a tile of neighbouring columns, row by row.

use super::finish::Finish;
use super::plan::{BLOCK, Step};
use crate::simd::{Kernel, Level, Simd, dispatch};

/// Where a tile reads and writes.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    /// Scratch image, at the first position's slot.
    pub source: *const f32,
    /// Numbers between its rows.
    pub source_row: usize,
    pub steps: &'a [Step],
    /// Packed weight of the block of channels.
    pub weight: *const f32,
    /// First position and channel.
    pub output: *mut f32,
    /// Numbers between rows and columns of the output that follow one another in the tile.
    pub output_row: usize,
    pub output_pixel: usize,
    pub rows: usize,
    /// Channels of the block that exist.
    pub channels: usize,
    pub finish: Finish,
}

/// `P` columns by `B` vectors of channels, all in registers; sums over the steps' runs.
struct Dense<'a, const P: usize, const B: usize>(Tile<'a>);

impl<const P: usize, const B: usize> Kernel for Dense<'_, P, B> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let t = self.0;
        for row in 0..t.rows {
            // SAFETY: as `run_dense` demands, all steps of all positions lie in the scratch image, the packed
            // weight has B vectors for every value of the steps, and the output has the tile's positions.
            unsafe {
                let source = t.source.add(row * t.source_row);
                let mut acc = [[s.zero(); P]; B];
                let mut weight = t.weight;
                for step in t.steps {
                    let mut run = source.add(step.offset);
                    for _ in 0..step.len / 4 {
                        for lane in 0..4 {
                            multiply_add(s, &mut acc, run.add(lane), weight.add(lane * B * S::LANES));
                        }
                        run = run.add(4);
                        weight = weight.add(4 * B * S::LANES);
                    }
                    for _ in 0..step.len % 4 {
                        multiply_add(s, &mut acc, run, weight);
                        run = run.add(1);
                        weight = weight.add(B * S::LANES);
                    }
                }
                for (b, values) in acc.into_iter().enumerate() {
                    let (channel, at) = (b * S::LANES, row * t.output_row);
                    let lanes = S::LANES.min(t.channels - channel);
                    let finish = t.finish.advance(channel, at);
                    finish.apply(s, values, t.output.add(at + channel), t.output_pixel, lanes);
                }
            }
        }
    }
}

/// One value of a run at every column, times the weight's vectors.
///
/// # Safety
/// `value` is readable at P columns, `weight` for B vectors.
#[inline(always)]
unsafe fn multiply_add<S: Simd, const P: usize, const B: usize>(
    s: S,
    acc: &mut [[S::V; P]; B],
    value: *const f32,
    weight: *const f32,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut w = [s.zero(); B];
        for (b, w) in w.iter_mut().enumerate() {
            *w = s.load(weight.add(b * S::LANES));
        }
        #[allow(clippy::needless_range_loop)] // the inner loop goes across
        for p in 0..P {
            let x = s.splat(value.add(p * BLOCK).read());
            for b in 0..B {
                acc[b][p] = s.fma(x, w[b], acc[b][p]);
            }
        }
    }
}

/// `P` columns of one vector of channels, every channel by itself.
struct Depthwise<'a, const P: usize>(Tile<'a>);

impl<const P: usize> Kernel for Depthwise<'_, P> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let t = self.0;
        for row in 0..t.rows {
            for channel in (0..t.channels).step_by(S::LANES) {
                // SAFETY: as above; a block has BLOCK channels in the scratch image and in the packed weight.
                unsafe {
                    let source = t.source.add(row * t.source_row + channel);
                    let mut acc = [s.zero(); P];
                    for (i, step) in t.steps.iter().enumerate() {
                        let w = s.load(t.weight.add(i * BLOCK + channel));
                        for (p, acc) in acc.iter_mut().enumerate() {
                            *acc = s.fma(s.load(source.add(step.offset + p * BLOCK)), w, *acc);
                        }
                    }
                    let (lanes, at) = (S::LANES.min(t.channels - channel), row * t.output_row);
                    let finish = t.finish.advance(channel, at);
                    finish.apply(s, acc, t.output.add(at + channel), t.output_pixel, lanes);
                }
            }
        }
    }
}

struct MaxColumns(usize);

impl Kernel for MaxColumns {
    type Output = usize;
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> usize {
        // The accumulators, the weight's vectors and one value fit into the registers.
        ((S::REGISTERS - self.0 - 1) / self.0).min(MAX_COLUMNS)
    }
}

/// Columns of the largest tile that is compiled.
const MAX_COLUMNS: usize = 16;

/// Splits `count` columns into tiles of nearly one size which the registers hold: (first, columns).
pub(super) fn split(level: Level, count: usize, vectors: usize) -> impl Iterator<Item = (usize, usize)> {
    let tiles = count.div_ceil(dispatch(level, MaxColumns(vectors)));
    (0..tiles).map(move |i| {
        let from = i * count / tiles;
        (from, (i + 1) * count / tiles - from)
    })
}

macro_rules! for_columns {
    ($columns:expr, $run:ident) => {
        match $columns {
            1 => $run!(1),
            2 => $run!(2),
            3 => $run!(3),
            4 => $run!(4),
            5 => $run!(5),
            6 => $run!(6),
            7 => $run!(7),
            8 => $run!(8),
            9 => $run!(9),
            10 => $run!(10),
            11 => $run!(11),
            12 => $run!(12),
            13 => $run!(13),
            14 => $run!(14),
            15 => $run!(15),
            _ => $run!(16),
        }
    };
}
pub(super) use for_columns;

/// Runs a dense tile of `columns` (from [`split`]) by `vectors`.
///
/// # Safety
/// For every row and column of the tile all steps lie inside the scratch image, the packed weight has
/// `vectors` vectors for every value of the steps, and output and epilogue have the tile's positions and channels,
/// which nobody else accesses.
pub(super) unsafe fn run_dense(level: Level, tile: Tile<'_>, columns: usize, vectors: usize) {
    macro_rules! run {
        ($p:literal) => {
            if vectors == 1 {
                dispatch(level, Dense::<$p, 1>(tile))
            } else {
                dispatch(level, Dense::<$p, 2>(tile))
            }
        };
    }
    for_columns!(columns, run);
}

/// Runs a depthwise tile of `columns`.
///
/// # Safety
/// As for [`run_dense`]; the packed weight has BLOCK numbers for every step.
pub(super) unsafe fn run_depthwise(level: Level, tile: Tile<'_>, columns: usize) {
    macro_rules! run {
        ($p:literal) => {
            dispatch(level, Depthwise::<$p>(tile))
        };
    }
    for_columns!(columns, run);
}
