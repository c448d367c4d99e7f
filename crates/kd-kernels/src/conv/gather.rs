//! Driver of the gathering passes: forward and input gradient.

use super::fill::Fill;
use super::finish::{Epilogue, Finish};
use super::pack::{channel_blocks, lanes, padded_channels};
use super::plan::{BLOCK, Kind, Phase, Plan};
use super::tile::{Tile, run_dense, run_depthwise, split};
use crate::Workspace;
use crate::simd::{Level, dispatch};
use rayon::prelude::*;
use std::ops::Range;

/// Chunks of work for each thread: few enough to be cheap, enough to level out disturbances.
const CHUNKS_PER_THREAD: usize = 4;

/// One gathering pass over a batch.
pub(super) struct Gather<'a> {
    pub plan: &'a Plan,
    pub level: Level,
    /// `[batch, height, width, channels]`.
    pub source: &'a [f32],
    pub packed: &'a [f32],
    /// Height and width of the target.
    pub target: [usize; 2],
    pub workspace: &'a Workspace,
}

/// Rows of one image of the target, and where they are.
struct Part<'a> {
    image: &'a [f32],
    rows: Range<usize>,
    /// First number of the first of the rows.
    output: *mut f32,
    /// There as well.
    finish: Finish,
}

impl Gather<'_> {
    /// Writes the target. All lengths have been checked.
    pub fn run(&self, epilogue: Epilogue<'_>, target: &mut [f32]) {
        let channels = self.target_channels();
        let row_len = self.target[1] * channels;
        let rows = target.len() / row_len;
        let images = rows / self.target[0];
        let chunks = CHUNKS_PER_THREAD * rayon::current_num_threads();
        // Whole images where there are enough of them.
        let chunk_rows =
            if images >= chunks { images.div_ceil(chunks) * self.target[0] } else { rows.div_ceil(chunks) };
        let chunk_len = chunk_rows * row_len;
        let mut partial = self.workspace.take(target.len().div_ceil(chunk_len) * 2 * channels);
        let Epilogue { bias, residual, relu, sums } = epilogue;
        let shift = sums.as_ref().map(|sums| sums.shift);
        target.par_chunks_mut(chunk_len).zip(partial.par_chunks_mut(2 * channels)).enumerate().for_each(
            |(i, (target, partial))| {
                let mut finish = Finish { relu, ..Finish::NONE };
                if let Some(bias) = bias {
                    finish.bias = bias.as_ptr();
                }
                if let Some(residual) = residual {
                    finish.residual = residual[i * chunk_len..][..target.len()].as_ptr();
                }
                if let Some(shift) = shift {
                    partial.fill(0.0);
                    let (sum, square_sum) = partial.split_at_mut(channels);
                    finish.shift = shift.as_ptr();
                    (finish.sum, finish.square_sum) = (sum.as_mut_ptr(), square_sum.as_mut_ptr());
                }
                self.chunk(i * chunk_rows, target, finish);
            },
        );
        if let Some(sums) = sums {
            let total =
                |c: usize| partial.chunks_exact(2 * channels).map(|p| f64::from(p[c])).sum::<f64>() as f32;
            for (c, (sum, square)) in sums.sum.iter_mut().zip(sums.square_sum).enumerate() {
                (*sum, *square) = (total(c), total(channels + c));
            }
        }
    }

    fn target_channels(&self) -> usize {
        self.plan.target_channels * self.plan.groups
    }

    fn source_channels(&self) -> usize {
        self.plan.source_channels * self.plan.groups
    }

    /// The rows of the whole target from `first` on that `target` holds.
    fn chunk(&self, first: usize, target: &mut [f32], finish: Finish) {
        let (plan, height) = (self.plan, self.target[0]);
        let row_len = self.target[1] * self.target_channels();
        let image_len = plan.rows.source * plan.cols.source * self.source_channels();
        let mut scratch = self.workspace.take(plan.blocks() * plan.block_len());
        let rows = target.len() / row_len;
        let mut row = 0;
        while row < rows {
            let (image, from) = ((first + row) / height, (first + row) % height);
            let count = (height - from).min(rows - row);
            let part = Part {
                image: &self.source[image * image_len..][..image_len],
                rows: from..from + count,
                output: target[row * row_len..][..count * row_len].as_mut_ptr(),
                finish: finish.advance(0, row * row_len),
            };
            match plan.kind {
                Kind::Depthwise => self.depthwise(&part, &mut scratch),
                _ => self.dense(&part, &mut scratch),
            }
            row += count;
        }
    }

    fn fill(&self, part: &Part<'_>, channels: Range<usize>, scratch: &mut [f32]) {
        let (plan, stride) = (self.plan, self.source_channels());
        let slots = plan.rows.needed(part.rows.start, part.rows.end);
        dispatch(self.level, Fill { plan, image: part.image, stride, channels, slots, scratch });
    }

    fn dense(&self, part: &Part<'_>, scratch: &mut [f32]) {
        let (plan, lanes) = (self.plan, lanes(self.level));
        let padded = padded_channels(plan, lanes);
        for group in 0..plan.groups {
            let first = group * plan.source_channels;
            self.fill(part, first..first + plan.source_channels, scratch);
            for phase in &plan.phases {
                let mut weight = &self.packed[(group * plan.depth() + phase.start) * padded..];
                for (channels, vectors) in channel_blocks(plan, lanes) {
                    let first_channel = group * plan.target_channels + channels.start;
                    for (col, columns) in split(self.level, phase.cols.count, vectors) {
                        let tile =
                            self.tile(part, phase, scratch, weight, col, first_channel, channels.len());
                        // SAFETY: `split` gave the columns; the plan's steps stay inside the scratch image for
                        // every position of its spans; the rest is as `tile` says.
                        unsafe { run_dense(self.level, tile, columns, vectors) };
                    }
                    weight = &weight[phase.depth * vectors * lanes..];
                }
            }
        }
    }

    fn depthwise(&self, part: &Part<'_>, scratch: &mut [f32]) {
        let plan = self.plan;
        for first in (0..plan.groups).step_by(BLOCK) {
            let channels = first..plan.groups.min(first + BLOCK);
            self.fill(part, channels.clone(), scratch);
            for phase in &plan.phases {
                let weight = &self.packed[first / BLOCK * plan.depth() + phase.start..];
                for (col, columns) in split(self.level, phase.cols.count, 1) {
                    let tile = self.tile(part, phase, scratch, weight, col, first, channels.len());
                    // SAFETY: as in `dense`.
                    unsafe { run_depthwise(self.level, tile, columns) };
                }
            }
        }
    }

    /// The tile at column `col` of a phase: its rows inside the part, its output inside the part's, which is
    /// this task's alone.
    #[allow(clippy::too_many_arguments)]
    fn tile<'t>(
        &self,
        part: &Part<'_>,
        phase: &'t Phase,
        scratch: &[f32],
        weight: &[f32],
        col: usize,
        channel: usize,
        channels: usize,
    ) -> Tile<'t> {
        let total = self.target_channels();
        let (row_len, source_row) = (self.target[1] * total, self.plan.cols.total() * BLOCK);
        let rows = phase.rows.within(part.rows.start, part.rows.end);
        let first_row = phase.rows.first + rows.start * phase.rows.step;
        let at = (first_row.wrapping_sub(part.rows.start)).wrapping_mul(row_len)
            + (phase.cols.first + col * phase.cols.step) * total;
        Tile {
            source: scratch.as_ptr().wrapping_add(rows.start * source_row + col * BLOCK),
            source_row,
            steps: &phase.steps,
            weight: weight.as_ptr(),
            output: part.output.wrapping_add(at + channel),
            output_row: phase.rows.step * row_len,
            output_pixel: phase.cols.step * total,
            rows: rows.len(),
            channels,
            finish: part.finish.advance(channel, at),
        }
    }
}
