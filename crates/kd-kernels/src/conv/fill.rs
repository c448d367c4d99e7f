//! Copies an image into a plan's scratch image.

use super::plan::{Axis, BLOCK, Kind, Plan};
use crate::simd::{Kernel, Simd};
use std::ops::Range;

/// Numbers that the source is fetched ahead of its copying: some 4 KiB.
const AHEAD: usize = 1 << 10;

/// Copies `channels` of one image, into blocks and sorted positions.
pub(crate) struct Fill<'a> {
    pub plan: &'a Plan,
    /// The image, `[height, width, stride]`.
    pub image: &'a [f32],
    /// Channels in the image.
    pub stride: usize,
    /// Which of them are copied.
    pub channels: Range<usize>,
    /// Row slots of every remainder that are needed.
    pub slots: Range<usize>,
    /// Zero where this plan hasn't written before: the padding is left alone.
    pub scratch: &'a mut [f32],
}

impl Kernel for Fill<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let row_len = self.plan.cols.total() * BLOCK;
        if row_len == 0 {
            return; // no output position sees the image
        }
        let rows = &self.plan.rows;
        for remainder in 0..rows.interleave {
            let (filled, first) = rows.filled(remainder);
            for slot in self.slots.start.max(filled.start)..self.slots.end.min(filled.end) {
                let at = (remainder * rows.slots + slot) * row_len;
                let source = first + (slot - filled.start) * rows.interleave;
                if self.plan.kind == Kind::Merged {
                    self.merged_row(source, at..at + row_len);
                } else {
                    self.row(s, source, at);
                }
            }
        }
    }
}

impl Fill<'_> {
    /// One row of all channels, to the slots from `at` on in every block.
    #[inline(always)]
    fn row<S: Simd>(&mut self, s: S, source_row: usize, at: usize) {
        let cols: &Axis = &self.plan.cols;
        let block_len = self.plan.block_len();
        let row = cols.source * self.stride;
        let image = &self.image[source_row * row..][..row];
        for remainder in 0..cols.interleave {
            let (filled, first) = cols.filled(remainder);
            let at = at + remainder * cols.slots * BLOCK;
            // Position by position, so that the source is read in the order it lies in memory.
            for slot in filled.clone() {
                let position = first + (slot - filled.start) * cols.interleave;
                let pixel = &image[position * self.stride..][self.channels.clone()];
                let mut to = at + slot * BLOCK;
                for line in (0..pixel.len()).step_by(BLOCK) {
                    s.prefetch(pixel.as_ptr().wrapping_add(AHEAD + line));
                }
                let mut runs = pixel.chunks_exact(BLOCK);
                for run in runs.by_ref() {
                    copy_block(s, run, &mut self.scratch[to..to + BLOCK]);
                    to += block_len;
                }
                if !runs.remainder().is_empty() {
                    copy_block(s, runs.remainder(), &mut self.scratch[to..to + BLOCK]);
                }
            }
        }
    }

    /// One row where a slot holds all that a row of the kernel covers.
    #[inline(always)]
    fn merged_row(&mut self, source_row: usize, target: Range<usize>) {
        let cols = &self.plan.cols;
        let channels = self.channels.len();
        let [kernel, stride] = self.plan.merged;
        let image = &self.image[source_row * cols.source * self.stride..][..cols.source * self.stride];
        for (i, target) in self.scratch[target].chunks_exact_mut(BLOCK).enumerate() {
            let column = i * stride;
            if self.stride == channels
                && column >= cols.before
                && column - cols.before + kernel <= cols.source
            {
                let from = (column - cols.before) * channels;
                // A whole block is cheaper to copy than a part; what is behind the run isn't read.
                if let Some(whole) = image.get(from..from + BLOCK) {
                    target.copy_from_slice(whole);
                } else {
                    target[..kernel * channels].copy_from_slice(&image[from..from + kernel * channels]);
                }
                continue;
            }
            for (l, target) in target[..kernel * channels].chunks_exact_mut(channels).enumerate() {
                match (column + l).checked_sub(cols.before).filter(|&position| position < cols.source) {
                    Some(position) => {
                        let from = position * self.stride + self.channels.start;
                        target.copy_from_slice(&image[from..from + channels]);
                    }
                    None => target.fill(0.0),
                }
            }
        }
    }
}

/// Copies up to BLOCK numbers and fills up with zeros.
#[inline(always)]
fn copy_block<S: Simd>(s: S, source: &[f32], target: &mut [f32]) {
    let (from, to, len) = (source.as_ptr(), target.as_mut_ptr(), source.len());
    for lane in (0..target.len().min(BLOCK)).step_by(S::LANES) {
        // SAFETY: callers pass a target of BLOCK numbers, a multiple of every level's lanes; the partial form
        // reads what is left of the source.
        unsafe {
            let v = if lane + S::LANES <= len {
                s.load(from.add(lane))
            } else {
                s.load_partial(from.add(lane.min(len)), len.saturating_sub(lane))
            };
            s.store(to.add(lane), v);
        }
    }
}
