//! Driver of the gathering passes: forward and input gradient.

use super::fill::Fill;
use super::finish::{Epilogue, Finish};
use super::pack::{channel_blocks, lanes, padded_channels};
use super::plan::{BLOCK, Band, Kind, Phase, Plan, winograd_strip};
use super::tile::{Tile, run_dense, run_depthwise, split};
use super::winograd::{self, Windows, gather_strip};
use crate::Workspace;
use crate::simd::{Kernel, Level, Simd, dispatch};
use rayon::prelude::*;
use std::ops::Range;

/// Chunks of work for each thread: few enough to be cheap, enough to level out disturbances.
const CHUNKS_PER_THREAD: usize = 4;

/// Numbers of the output that are computed between two looks at the source.
const STRIP: usize = 1 << 14;

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

/// Fetches the lines that will be written, in order: the tiles write them piecemeal, which the processor
/// wouldn't foresee.
struct Announce {
    ptr: *const f32,
    len: usize,
}

impl Kernel for Announce {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for i in (0..self.len).step_by(BLOCK) {
            s.prefetch(self.ptr.wrapping_add(i));
        }
    }
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
        let mut scratch = self.workspace.take_zeroed(plan.blocks() * plan.block_len());
        let rows = target.len() / row_len;
        let strip = (STRIP / row_len).max(1);
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
                Kind::Depthwise => {
                    self.strips(&part, 0..plan.groups, strip, &mut scratch, |rows, scratch| {
                        self.depthwise(&part, rows, scratch);
                    });
                }
                Kind::Winograd => self.winograd(&part, &mut scratch),
                _ => (0..plan.groups).for_each(|group| {
                    let first = group * plan.source_channels;
                    let channels = first..first + plan.source_channels;
                    self.strips(&part, channels, strip, &mut scratch, |rows, scratch| {
                        self.dense(&part, rows, group, scratch);
                    });
                }),
            }
            row += count;
        }
    }

    /// Goes through a part in strips of rows whose output stays in the cache for all its channels.
    fn strips(
        &self,
        part: &Part<'_>,
        channels: Range<usize>,
        height: usize,
        scratch: &mut [f32],
        mut compute: impl FnMut(Range<usize>, &[f32]),
    ) {
        let (plan, stride) = (self.plan, self.source_channels());
        let mut filled = 0;
        for from in part.rows.clone().step_by(height) {
            let rows = from..part.rows.end.min(from + height);
            let needed = plan.rows.needed(rows.start, rows.end + usize::from(plan.kind == Kind::Winograd));
            let slots = needed.start.max(filled)..needed.end;
            filled = filled.max(needed.end);
            let channels = channels.clone();
            dispatch(self.level, Fill { plan, image: part.image, stride, channels, slots, scratch });
            let row_len = self.target[1] * self.target_channels();
            let ptr = part.output.wrapping_add((rows.start - part.rows.start) * row_len);
            dispatch(self.level, Announce { ptr, len: rows.len() * row_len });
            compute(rows, scratch);
        }
    }

    fn winograd(&self, part: &Part<'_>, scratch: &mut [f32]) {
        let (plan, level, width) = (self.plan, self.level, self.target[1]);
        let row_len = width * self.target_channels();
        let mut transforms = self.workspace.take(winograd::scratch_len(plan, level, width));
        self.strips(part, 0..plan.source_channels, winograd_strip(width), scratch, |rows, scratch| {
            let windows = Windows::new(plan, level, rows.len(), width);
            let source = scratch[rows.start * plan.cols.total() * BLOCK..].as_ptr();
            let at = (rows.start - part.rows.start) * row_len;
            let (output, finish) = (part.output.wrapping_add(at), part.finish.advance(0, at));
            let packed = self.packed;
            // SAFETY: the plan has a row and a column more than the output, the strip is inside the part, whose
            // output is this task's alone.
            unsafe {
                gather_strip(
                    (plan, level),
                    &windows,
                    source,
                    packed,
                    &mut transforms,
                    (output, row_len),
                    finish,
                );
            }
        });
    }

    fn dense(&self, part: &Part<'_>, rows: Range<usize>, group: usize, scratch: &[f32]) {
        let (plan, lanes) = (self.plan, lanes(self.level));
        let padded = padded_channels(plan, lanes);
        for phase in &plan.phases {
            let mut weight = &self.packed[(group * plan.depth() + phase.start) * padded..];
            for (channels, vectors) in channel_blocks(plan, lanes) {
                let first_channel = group * plan.target_channels + channels.start;
                for band in &phase.bands {
                    let weight = &weight[band.start * vectors * lanes..];
                    for (col, columns) in split(self.level, phase.cols.count, vectors) {
                        let (at, channels) = ((phase, band, col), (first_channel, channels.len()));
                        let tile = self.tile(part, &rows, at, channels, scratch, weight);
                        // SAFETY: `split` gave the columns; the plan's steps stay inside the scratch image for
                        // every position of its spans; the rest is as `tile` says.
                        unsafe { run_dense(self.level, tile, columns, vectors) };
                    }
                }
                weight = &weight[phase.depth * vectors * lanes..];
            }
        }
    }

    fn depthwise(&self, part: &Part<'_>, rows: Range<usize>, scratch: &[f32]) {
        let plan = self.plan;
        for first in (0..plan.groups).step_by(BLOCK) {
            let channels = BLOCK.min(plan.groups - first);
            let scratch = &scratch[first / BLOCK * plan.block_len()..];
            for phase in &plan.phases {
                for band in &phase.bands {
                    let weight = &self.packed[first / BLOCK * plan.depth() + phase.start + band.start..];
                    for (col, columns) in split(self.level, phase.cols.count, 1) {
                        let tile =
                            self.tile(part, &rows, (phase, band, col), (first, channels), scratch, weight);
                        // SAFETY: as in `dense`.
                        unsafe { run_depthwise(self.level, tile, columns) };
                    }
                }
            }
        }
    }

    /// The tile of `channels` (first, count) at a column of a band: its rows among `rows`, its output inside the
    /// part's, which is this task's alone.
    fn tile<'t>(
        &self,
        part: &Part<'_>,
        rows: &Range<usize>,
        (phase, band, col): (&'t Phase, &'t Band, usize),
        (channel, channels): (usize, usize),
        scratch: &[f32],
        weight: &[f32],
    ) -> Tile<'t> {
        let total = self.target_channels();
        let (row_len, source_row) = (self.target[1] * total, self.plan.cols.total() * BLOCK);
        let rows = phase.rows.within(rows.start, rows.end);
        let first = rows.start.max(band.rows.start);
        let count = rows.end.min(band.rows.end).saturating_sub(first);
        let row = phase.rows.first + first * phase.rows.step;
        // Not inside where the band has no rows here; then nothing is accessed.
        let at = row
            .wrapping_sub(part.rows.start)
            .wrapping_mul(row_len)
            .wrapping_add((phase.cols.first + col * phase.cols.step) * total);
        Tile {
            source: scratch.as_ptr().wrapping_add(first * source_row + col * BLOCK),
            source_row,
            steps: &phase.steps[band.steps.clone()],
            weight: weight.as_ptr(),
            output: part.output.wrapping_add(at.wrapping_add(channel)),
            output_row: phase.rows.step * row_len,
            output_pixel: phase.cols.step * total,
            rows: count,
            channels,
            finish: part.finish.advance(channel, at),
        }
    }
}
