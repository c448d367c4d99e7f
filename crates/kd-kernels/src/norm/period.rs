//! Rows of channels as one long slice, whose pattern of channels repeats after a whole number of vectors.
//!
//! Twenty-four channels do not fill vectors of sixteen; eight rows of them fill twelve. Kernels therefore walk over *super-rows*: as many rows as
//! make the channels start at a multiple of 64 numbers again (four of the widest vectors). Parameters are repeated to that length, sums are kept at
//! that length and folded to channels at the end. Only the last super-row may be incomplete.

use crate::workspace::{Scratch, Workspace};

/// Four of the widest vectors.
const UNIT: usize = 64;

/// The length of a super-row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Period {
    pub channels: usize,
    /// The least common multiple of channels and [`UNIT`].
    pub len: usize,
}

impl Period {
    /// For at least one channel.
    pub fn new(channels: usize) -> Self {
        let (mut divisor, mut rest) = (channels, UNIT);
        while rest != 0 {
            (divisor, rest) = (rest, divisor % rest);
        }
        Self { channels, len: channels / divisor * UNIT }
    }

    /// Numbers given per channel, repeated over a super-row.
    pub fn expand<'a>(self, workspace: &'a Workspace, per_channel: impl Fn(usize) -> f32) -> Scratch<'a> {
        let mut scratch = workspace.take(self.len);
        let (first, others) = scratch.split_at_mut(self.channels);
        for (c, x) in first.iter_mut().enumerate() {
            *x = per_channel(c);
        }
        for row in others.chunks_exact_mut(self.channels) {
            row.copy_from_slice(first);
        }
        scratch
    }

    /// Sum over all places of a channel in several super-rows that follow one another at a distance of `stride`.
    pub fn fold(self, partial: &[f32], stride: usize, channel: usize) -> f64 {
        let rows = partial.chunks(stride).map(|super_row| super_row.get(..self.len).unwrap_or_default());
        rows.flat_map(|row| row.iter().skip(channel).step_by(self.channels)).copied().map(f64::from).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_super_row_holds_whole_rows_and_whole_vectors() {
        for channels in 1..300 {
            let Period { len, .. } = Period::new(channels);
            assert!(len % channels == 0 && len % UNIT == 0 && len <= channels * UNIT, "{channels}: {len}");
        }
        assert_eq!(Period::new(1280).len, 1280);
    }

    #[test]
    fn folding_undoes_expanding_but_for_the_count() {
        let (workspace, period) = (Workspace::new(), Period::new(24));
        let expanded = period.expand(&workspace, |c| c as f32);
        for c in 0..24 {
            assert_eq!(period.fold(&expanded, period.len, c), c as f64 * 8.0);
        }
    }
}
