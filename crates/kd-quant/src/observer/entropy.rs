//! The cut of least KL divergence.

use burn::tensor::Tensor;

use super::{Histogram, NOTHING, Observer, Ranges};
use crate::error::in_range;
use crate::{Grid, QuantError};

/// The symmetric range $[-t, t]$ whose distribution of magnitudes, quantised, has the least Kullback-Leibler divergence from the original.
///
/// For every number of kept bins from the number of magnitude codes on: what lies beyond is added to the last kept bin ($P$); $Q$ spreads each code's sum
/// evenly over its bins that are not empty. The least $\sum P \ln (P/Q)$ wins; for values that are never negative the range is $[0, t]$. The bin at zero
/// counts as its neighbour does: zero is a code at every range, and the many zeros of a rectifier would otherwise ask for the smallest range of all.
///
/// Migacz, *8-bit Inference with TensorRT*, GTC 2017.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_quant::Grid;
/// use kd_quant::observer::{Entropy, Observer};
///
/// // Ten thousand values up to 1, most of them small, and an outlier.
/// let values: Vec<f32> = (0..10_000).map(|i| (i as f32 / 10_000.0).powi(3)).chain([8.0]).collect();
/// let mut observer = Entropy::new(Grid::unsigned(4)?, 2048)?;
/// observer.observe(Tensor::<1>::from_floats(values.as_slice(), &Device::flex()))?;
/// let ranges = observer.ranges()?;
/// assert!(ranges.min == [0.0] && ranges.max[0] < 2.0);
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Entropy {
    grid: Grid,
    magnitudes: Histogram,
    negative: bool,
}

impl Entropy {
    /// Of `bins` bins; 2048 is usual.
    ///
    /// # Errors
    /// [`QuantError::Setting`] unless there are at least twice as many bins as the grid has codes, and at most 65536.
    pub fn new(grid: Grid, bins: usize) -> Result<Self, QuantError> {
        let least = 2 * (grid.steps() as usize + 1);
        in_range("bins", bins, bins >= least, format!("at least {least}, twice the codes"))?;
        Ok(Self { grid, magnitudes: Histogram::new(grid, bins)?, negative: false })
    }

    /// How many codes the magnitudes have.
    fn codes(&self) -> usize {
        let codes = self.grid.steps() as usize + 1;
        if self.negative { codes.div_ceil(2) } else { codes }
    }
}

/// $\sum P \ln(P/Q)$ when only the first `kept` bins stay and share `codes` codes.
fn divergence(counts: &[f64], kept: usize, codes: usize) -> f64 {
    let inner = &counts[..kept];
    let beyond: f64 = counts[kept..].iter().sum();
    let total = inner.iter().sum::<f64>() + beyond;
    if total == 0.0 {
        return f64::INFINITY;
    }
    let mut sum = 0.0;
    for code in 0..codes {
        let (from, to) = (code * kept / codes, (code + 1) * kept / codes);
        let bins = &inner[from..to];
        let full = bins.iter().filter(|&&count| count > 0.0).count();
        let q = bins.iter().sum::<f64>() / full.max(1) as f64;
        for (i, &count) in bins.iter().enumerate() {
            let p = if from + i == kept - 1 { count + beyond } else { count };
            if p > 0.0 {
                if q == 0.0 || count == 0.0 {
                    return f64::INFINITY;
                }
                // Q sums to what the kept bins hold, P to everything.
                sum += p / total * (p / total / (q / (total - beyond))).ln();
            }
        }
    }
    sum
}

impl Observer for Entropy {
    fn observe<const D: usize>(&mut self, batch: Tensor<D>) -> Result<(), QuantError> {
        let values = super::all(batch)?;
        // Zero belongs to the magnitudes' range.
        let magnitudes: Vec<f32> = values.iter().map(|v| v.abs()).chain([0.0]).collect();
        self.magnitudes.add(&magnitudes);
        self.negative |= values.iter().any(|&v| v < 0.0);
        Ok(())
    }

    fn ranges(&self) -> Result<Ranges, QuantError> {
        let (counts, _, high) = self.magnitudes.counts().ok_or(NOTHING)?;
        let codes = self.codes();
        let mut counts = counts.to_vec();
        if let [zero, next, ..] = counts.as_mut_slice() {
            *zero = *next;
        }
        let kept = (codes..=counts.len())
            .map(|kept| (kept, divergence(&counts, kept, codes)))
            .filter(|(_, divergence)| divergence.is_finite())
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .map_or(counts.len(), |(kept, _)| kept);
        let limit = high * kept as f32 / counts.len() as f32;
        Ok(Ranges::single(if self.negative { -limit } else { 0.0 }, limit))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn the_zeros_of_a_rectifier_do_not_cut_what_lies_above_them() {
        // Two thirds zeros, the rest spread evenly up to 1.
        let values: Vec<f32> =
            (0..30_000).map(|i| if i % 3 == 0 { i as f32 / 30_000.0 } else { 0.0 }).collect();
        for bits in [4, 8] {
            let mut observer = Entropy::new(Grid::unsigned(bits).unwrap(), 2048).unwrap();
            observer.observe(Tensor::<1>::from_floats(values.as_slice(), &Device::flex())).unwrap();
            let high = observer.ranges().unwrap().max[0];
            assert!(high > 0.9, "{bits} bits: {high}");
        }
    }
}
