//! Copies an image into a plan's scratch image.

use super::plan::{Axis, BLOCK, Kind, Plan};
use crate::simd::{Kernel, Simd};
use std::ops::Range;

/// Copies `channels` of one image, with padding, blocks and sorted positions.
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
            for slot in self.slots.clone() {
                let inside = filled.contains(&slot);
                let source = first + slot.wrapping_sub(filled.start).wrapping_mul(rows.interleave);
                let blocks =
                    if self.plan.kind == Kind::Merged { 1 } else { self.channels.len().div_ceil(BLOCK) };
                for block in 0..blocks {
                    let at = block * self.plan.block_len() + (remainder * rows.slots + slot) * row_len;
                    let target = at..at + row_len;
                    if !inside {
                        self.scratch[target].fill(0.0);
                    } else if self.plan.kind == Kind::Merged {
                        self.merged_row(source, target);
                    } else {
                        self.row(s, source, block, target);
                    }
                }
            }
        }
    }
}

impl Fill<'_> {
    /// One row of a block of channels.
    #[inline(always)]
    fn row<S: Simd>(&mut self, s: S, source_row: usize, block: usize, target: Range<usize>) {
        let cols: &Axis = &self.plan.cols;
        let channel = self.channels.start + block * BLOCK;
        let len = BLOCK.min(self.channels.end - channel);
        let image = &self.image[source_row * cols.source * self.stride..][..cols.source * self.stride];
        let target = &mut self.scratch[target];
        for (remainder, target) in target.chunks_exact_mut(cols.slots * BLOCK).enumerate() {
            let (filled, first) = cols.filled(remainder);
            target[..filled.start * BLOCK].fill(0.0);
            target[filled.end * BLOCK..].fill(0.0);
            let step = cols.interleave * self.stride;
            let target = &mut target[filled.start * BLOCK..filled.end * BLOCK];
            for (i, target) in target.chunks_exact_mut(BLOCK).enumerate() {
                let pixel = &image[first * self.stride + channel + i * step..][..len];
                let (from, to) = (pixel.as_ptr(), target.as_mut_ptr());
                for lane in (0..BLOCK).step_by(S::LANES) {
                    // SAFETY: `target` has BLOCK numbers, a multiple of every level's lanes, and `pixel` has
                    // `len`, of which the partial form reads what is left.
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
