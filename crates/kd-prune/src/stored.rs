//! What a sparse tensor takes in a file: never only "so many times fewer weights".

use crate::{Array, Mask};

/// Bits of one weight of single precision.
const WEIGHT: u64 = 32;

/// The size of a masked tensor in real formats, in bits, index structures included.
///
/// | Format | Bits |
/// |---|---|
/// | dense | 32 for every element |
/// | bitmask | 1 for every element, 32 for every kept one |
/// | CSR | 32 for every row and one more, 32 + index for every kept one; an index has 16 bits if columns fit, else 32 |
/// | gap code | 32 + gap for every kept one, with a filler of value zero wherever a gap doesn't fit |
///
/// ```
/// use kd_prune::{Mask, StoredSize};
///
/// let mask = Mask::new([2, 8], (0..16).map(|i| i % 8 == 0).collect())?;
/// let size = StoredSize::of(&mask, 5);
/// assert_eq!((size.dense, size.bitmask, size.csr, size.gaps), (512, 80, 192, 74));
/// # Ok::<(), kd_prune::PruneError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoredSize {
    /// Number of kept weights.
    pub kept: u64,
    /// Without any format for sparsity.
    pub dense: u64,
    /// With a bit for every element.
    pub bitmask: u64,
    /// Compressed rows.
    pub csr: u64,
    /// Distances between kept weights, as in Deep Compression.
    pub gaps: u64,
}

impl StoredSize {
    /// Of a mask, with `gap_bits` (1 to 32) for a distance: Deep Compression takes 8 for convolutions and 5 for linear layers.
    pub fn of(mask: &Mask, gap_bits: u32) -> Self {
        let gap_bits = gap_bits.clamp(1, 32);
        let (all, kept) = (mask.keep().len() as u64, mask.kept() as u64);
        let rows = mask.shape().first().copied().unwrap_or(1) as u64;
        let columns = all.checked_div(rows).unwrap_or(0);
        let index = if columns <= 1 << 16 { 16 } else { 32 };
        let (largest, mut fillers, mut gap) = ((1u64 << gap_bits) - 1, 0, 0);
        for keep in mask.keep() {
            if *keep {
                gap = 0;
            } else if gap == largest {
                // A filler stands for a weight of zero here.
                fillers += 1;
                gap = 0;
            } else {
                gap += 1;
            }
        }
        // What follows the last kept weight needs no filler.
        let last = mask.keep().iter().rposition(|keep| *keep).map_or(0, |last| last + 1);
        let behind = (mask.keep().len() - last) as u64;
        fillers -= behind / (largest + 1);
        Self {
            kept,
            dense: all * WEIGHT,
            bitmask: all + kept * WEIGHT,
            csr: (rows + 1) * 32 + kept * (WEIGHT + index),
            gaps: (kept + fillers) * (WEIGHT + u64::from(gap_bits)),
        }
    }

    /// Of a tensor whose zeros are pruned.
    pub fn of_nonzeros(array: &Array, gap_bits: u32) -> Self {
        Self::of(&Mask::of_nonzeros(array), gap_bits)
    }

    /// The sum of two.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            kept: self.kept + other.kept,
            dense: self.dense + other.dense,
            bitmask: self.bitmask + other.bitmask,
            csr: self.csr + other.csr,
            gaps: self.gaps + other.gaps,
        }
    }

    /// The smallest of the formats.
    pub fn best(&self) -> u64 {
        self.dense.min(self.bitmask).min(self.csr).min(self.gaps)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn mask(length: usize, kept: &[usize]) -> Mask {
        Mask::new([1, length], (0..length).map(|i| kept.contains(&i)).collect()).unwrap()
    }

    #[test]
    fn a_gap_that_does_not_fit_takes_a_filler() {
        let bits = |mask: &Mask| StoredSize::of(mask, 2).gaps / 34;
        assert_eq!(bits(&mask(8, &[3])), 1); // three zeros before it: the largest gap
        assert_eq!(bits(&mask(8, &[4])), 2); // a filler at 3
        assert_eq!(bits(&mask(12, &[0, 9])), 4); // fillers at 4 and 8
        assert_eq!(bits(&mask(40, &[0])), 1); // nothing behind the last
        assert_eq!(bits(&mask(40, &[])), 0);
    }

    #[test]
    fn a_dense_tensor_is_smallest_dense() {
        let size = StoredSize::of(&Mask::dense(&[4, 4]), 5);
        assert_eq!(size.best(), size.dense);
        assert_eq!(size.plus(size).kept, 32);
    }
}
