use super::fill::Fill;
use super::pack::{channel_blocks, lanes, packed_len, padded_channels, unpack};
use super::plan::{BLOCK, Kind, Plan, winograd_strip};
use super::reduce::{AddTo, add_rows};
use super::weight_tile::{Tile, run_dense, run_depthwise, split};
use super::winograd::{self, Windows, add_gradient_strip};
use crate::error::length;
use crate::simd::{Level, dispatch};
use crate::{Geometry, KernelError, Workspace};
use rayon::prelude::*;
use std::ops::Range;

/// Chunks of images for each thread; every chunk has its own sums.
const CHUNKS_PER_THREAD: usize = 2;

/// The gradients `dw` with respect to the weight and `db` with respect to the bias, from `dy` with respect to
/// the output.
///
/// # Errors
/// [`KernelError::Length`] if a slice isn't as long as the geometry says.
pub fn weight_gradient(
    geometry: &Geometry,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    db: Option<&mut [f32]>,
    workspace: &Workspace,
) -> Result<(), KernelError> {
    let settings = geometry.settings();
    length("x", x.len(), geometry.input_len())?;
    length("dy", dy.len(), geometry.output_len())?;
    length("dw", dw.len(), geometry.weight_len())?;
    if let Some(db) = &db {
        length("db", db.len(), settings.out_channels)?;
    }
    let (plan, level) = (geometry.forward_plan(), Level::current());
    let pass = Pass { plan, level, output: geometry.output(), with_bias: db.is_some(), workspace };
    let weights = packed_len(plan, lanes(level));
    // The bias' sums lie behind the weight's.
    let len = (weights + settings.out_channels).next_multiple_of(BLOCK);
    let chunks = (CHUNKS_PER_THREAD * rayon::current_num_threads()).min(settings.batch);
    let images = settings.batch.div_ceil(chunks);
    let (image_len, gradient_len) = (x.len() / settings.batch, dy.len() / settings.batch);
    let mut partial = workspace.take(settings.batch.div_ceil(images) * len);
    let parts = x.par_chunks(images * image_len).zip(dy.par_chunks(images * gradient_len));
    parts.zip(partial.par_chunks_mut(len)).for_each(|((x, dy), sums)| {
        sums.fill(0.0);
        let (dw, db) = sums.split_at_mut(weights);
        pass.chunk(x.chunks_exact(image_len).zip(dy.chunks_exact(gradient_len)), dw, db);
    });
    let (total, rest) = partial.split_at_mut(len);
    for part in rest.chunks_exact(len) {
        dispatch(level, AddTo { sums: total, part });
    }
    unpack(plan, level, &total[..weights], dw);
    if let Some(db) = db {
        db.copy_from_slice(&total[weights..][..settings.out_channels]);
    }
    Ok(())
}

/// Numbers of the gradient that a depthwise pass goes through at a time: so many stay in the cache.
const STRIP: usize = 1 << 14;

struct Pass<'a> {
    plan: &'a Plan,
    level: Level,
    output: [usize; 2],
    with_bias: bool,
    workspace: &'a Workspace,
}

impl Pass<'_> {
    /// Adds some images' sums.
    fn chunk<'i>(
        &self,
        images: impl Iterator<Item = (&'i [f32], &'i [f32])>,
        dw: &mut [f32],
        db: &mut [f32],
    ) {
        let plan = self.plan;
        let mut scratch = self.workspace.take_zeroed(plan.blocks() * plan.block_len());
        let channels = plan.target_channels * plan.groups;
        for (x, dy) in images {
            match plan.kind {
                Kind::Winograd => self.winograd(x, dy, dw, &mut scratch),
                Kind::Depthwise => self.depthwise(x, dy, dw, &mut scratch),
                _ => self.dense(x, dy, dw, &mut scratch),
            }
            if self.with_bias {
                add_rows(self.level, dy, &mut db[..channels]);
            }
        }
    }

    fn fill(&self, image: &[f32], channels: Range<usize>, slots: Range<usize>, scratch: &mut [f32]) {
        let (plan, stride) = (self.plan, self.plan.source_channels * self.plan.groups);
        dispatch(self.level, Fill { plan, image, stride, channels, slots, scratch });
    }

    /// The tile of `channels` (first, count) over some rows and columns of an image.
    fn tile(
        &self,
        [rows, cols]: [Range<usize>; 2],
        scratch: &[f32],
        dy: &[f32],
        (channel, channels): (usize, usize),
        sums: &mut [f32],
    ) -> Tile {
        let (source_row, pixel) =
            (self.plan.cols.total() * BLOCK, self.plan.target_channels * self.plan.groups);
        let row = self.output[1] * pixel;
        Tile {
            source: scratch.as_ptr().wrapping_add(rows.start * source_row + cols.start * BLOCK),
            source_row,
            gradient: dy.as_ptr().wrapping_add(rows.start * row + cols.start * pixel + channel),
            gradient_row: row,
            gradient_pixel: pixel,
            rows: rows.len(),
            cols: cols.len(),
            channels,
            sums: sums.as_mut_ptr(),
        }
    }

    fn dense(&self, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &mut [f32]) {
        let (plan, lanes) = (self.plan, lanes(self.level));
        let padded = padded_channels(plan, lanes);
        for group in 0..plan.groups {
            let first = group * plan.source_channels;
            self.fill(x, first..first + plan.source_channels, 0..plan.rows.slots, scratch);
            for phase in &plan.phases {
                let mut sums = &mut dw[(group * plan.depth() + phase.start) * padded..];
                for (channels, vectors) in channel_blocks(plan, lanes) {
                    let block = (group * plan.target_channels + channels.start, channels.len());
                    for step in &phase.steps {
                        for (run, count) in split(self.level, step.len, vectors) {
                            let source = &scratch[step.offset + run..];
                            let sums = &mut sums[run * vectors * lanes..];
                            let positions = [step.rows.clone(), step.cols.clone()];
                            let tile = self.tile(positions, source, dy, block, sums);
                            // SAFETY: the plan's steps stay inside the scratch image for every position of the
                            // output, the packed order has `vectors` vectors for every value of a step.
                            unsafe { run_dense(self.level, tile, count, vectors) };
                        }
                        sums = &mut sums[step.len * vectors * lanes..];
                    }
                }
            }
        }
    }

    fn winograd(&self, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &mut [f32]) {
        let (plan, level, [height, width]) = (self.plan, self.level, self.output);
        self.fill(x, 0..plan.source_channels, 0..plan.rows.slots, scratch);
        let mut transforms = self.workspace.take(winograd::scratch_len(plan, level, width));
        let row = width * plan.target_channels;
        for from in (0..height).step_by(winograd_strip(width)) {
            let windows = Windows::new(plan, level, winograd_strip(width).min(height - from), width);
            let source = scratch[from * plan.cols.total() * BLOCK..].as_ptr();
            let gradient = dy[from * row..].as_ptr();
            // SAFETY: the plan has a row and a column more than the output, the strip is inside the image.
            unsafe {
                add_gradient_strip((plan, level), &windows, source, (gradient, row), &mut transforms, dw)
            };
        }
    }

    fn depthwise(&self, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &mut [f32]) {
        let plan = self.plan;
        let height = (STRIP / (self.output[1] * plan.groups)).max(1);
        let mut filled = 0;
        for from in (0..self.output[0]).step_by(height) {
            let rows = from..self.output[0].min(from + height);
            let needed = plan.rows.needed(rows.start, rows.end);
            self.fill(x, 0..plan.groups, needed.start.max(filled)..needed.end, scratch);
            filled = filled.max(needed.end);
            for first in (0..plan.groups).step_by(BLOCK) {
                let channels = (first, BLOCK.min(plan.groups - first));
                let scratch = &scratch[first / BLOCK * plan.block_len()..];
                for phase in &plan.phases {
                    let sums = &mut dw[first / BLOCK * plan.depth() + phase.start..];
                    let tile = self.tile([rows.clone(), 0..self.output[1]], scratch, dy, channels, sums);
                    // SAFETY: as in `dense`; the packed order has BLOCK numbers for every step.
                    unsafe { run_depthwise(self.level, tile, &phase.steps) };
                }
            }
        }
    }
}
