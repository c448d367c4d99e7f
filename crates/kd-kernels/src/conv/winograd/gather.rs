use super::super::finish::Finish;
use super::super::pack::{channel_blocks, lanes, padded_channels};
use super::super::plan::{BLOCK, Plan, winograd_strip};
use super::super::tile::{Tile, run_dense, split};
use super::POSITIONS;
use super::transform::{Input, Output};
use crate::simd::{Level, dispatch};

/// The windows of a strip of an image, and where their transforms lie.
#[derive(Clone, Copy)]
pub(in super::super) struct Windows {
    /// Rows and columns of windows.
    pub rows: usize,
    pub cols: usize,
    /// Rows and columns of the strip's outputs.
    pub height: usize,
    pub width: usize,
    /// Blocks of source channels, and the numbers between them in the scratch image.
    pub blocks: usize,
    pub block_len: usize,
    pub source_row: usize,
    /// Windows of a whole strip.
    pub capacity: usize,
    /// Target channels, and those filled up to whole vectors.
    pub channels: usize,
    pub padded: usize,
}

impl Windows {
    pub fn new(plan: &Plan, level: Level, height: usize, width: usize) -> Self {
        Self {
            rows: height.div_ceil(2),
            cols: width.div_ceil(2),
            height,
            width,
            blocks: plan.blocks(),
            block_len: plan.block_len(),
            source_row: plan.cols.total() * BLOCK,
            capacity: winograd_strip(width) / 2 * width.div_ceil(2),
            channels: plan.target_channels,
            padded: padded_channels(plan, lanes(level)),
        }
    }

    pub fn count(&self) -> usize {
        self.rows * self.cols
    }

    /// Numbers between the positions; a cache line more than needed, for sixteen streams a power of two apart
    /// would compete for the same lines of the cache.
    pub fn input_stride(&self) -> usize {
        self.blocks * self.capacity * BLOCK + BLOCK
    }

    pub fn output_stride(&self) -> usize {
        self.capacity * self.padded + BLOCK
    }

    pub fn input_len(&self) -> usize {
        POSITIONS * self.input_stride()
    }
}

/// Numbers for a strip's transforms, of an output that is `width` wide.
pub(in super::super) fn scratch_len(plan: &Plan, level: Level, width: usize) -> usize {
    let w = Windows::new(plan, level, winograd_strip(width), width);
    w.input_len() + POSITIONS * w.output_stride()
}

/// Computes a strip's outputs.
///
/// # Safety
/// `source` is the scratch image at the strip's first window, `scratch` has [`scratch_len`] numbers, `output` and
/// `finish` have the strip's outputs, `row` numbers between their rows, which nobody else accesses.
pub(in super::super) unsafe fn gather_strip(
    (plan, level): (&Plan, Level),
    windows: &Windows,
    source: *const f32,
    packed: &[f32],
    scratch: &mut [f32],
    (output, row): (*mut f32, usize),
    finish: Finish,
) {
    let (input, products) = scratch.split_at_mut(windows.input_len());
    dispatch(level, Input { windows, source, target: input.as_mut_ptr() });
    let (lanes, count) = (lanes(level), windows.count());
    let steps = plan.phases.first().map_or(&[][..], |phase| &phase.steps);
    for position in 0..POSITIONS {
        let input = &input[position * windows.input_stride()..];
        let products = &mut products[position * windows.output_stride()..];
        let mut weight = &packed[position * plan.source_channels * windows.padded..];
        for (channels, vectors) in channel_blocks(plan, lanes) {
            for (first, columns) in split(level, count, vectors) {
                let tile = Tile {
                    source: input[first * BLOCK..].as_ptr(),
                    source_row: 0,
                    steps,
                    weight: weight.as_ptr(),
                    output: products[first * windows.padded + channels.start..].as_mut_ptr(),
                    output_row: 0,
                    output_pixel: windows.padded,
                    rows: 1,
                    channels: vectors * lanes,
                    finish: Finish::NONE,
                };
                // SAFETY: every window has a block of each position's channels, every channel its vectors of the
                // packed weight, and the products are padded to whole vectors.
                unsafe { run_dense(level, tile, columns, vectors) };
            }
            weight = &weight[plan.source_channels * vectors * lanes..];
        }
    }
    dispatch(level, Output { windows, source: products.as_ptr(), output, row, finish });
}
