//! A histogram, cut at both ends while the error within its bins shrinks.

use burn::tensor::Tensor;

use super::{NOTHING, Observer, Ranges, all, extremes};
use crate::error::in_range;
use crate::{Grid, QuantError};

/// How finely a bin is cut when the range grows.
const UPSAMPLING: usize = 16;
/// The step of the search, in parts of all values.
const STEP: f64 = 1e-5;

/// Values in bins of equal width, whose number stays while their range grows with the batches.
///
/// [`ranges`](Observer::ranges) cuts bins off the side that holds fewer of them per quantile, as long as the squared error of quantising to the grid's
/// codes, values being spread evenly within a bin, does not grow. It is the search of torch's `HistogramObserver`, which
/// takes the quantiser for an affine one: of a symmetric one the range is mirrored afterwards.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_quant::Grid;
/// use kd_quant::observer::{Histogram, Observer};
///
/// // Ten thousand values up to 1, and an outlier.
/// let values: Vec<f32> = (0..10_000).map(|i| i as f32 / 10_000.0).chain([8.0]).collect();
/// let mut observer = Histogram::new(Grid::unsigned(4)?, 2048)?;
/// observer.observe(Tensor::<1>::from_floats(values.as_slice(), &Device::flex()))?;
/// assert_eq!(observer.extremes(), Some((0.0, 8.0)));
/// assert!(observer.ranges()?.max[0] < 2.0);
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    grid: Grid,
    bins: usize,
    counts: Vec<f64>,
    range: Option<(f32, f32)>,
}

impl Histogram {
    /// Of `bins` bins, for a grid's number of codes; 2048 is usual.
    ///
    /// # Errors
    /// [`QuantError::Setting`] unless there are 2 to 65536 bins.
    pub fn new(grid: Grid, bins: usize) -> Result<Self, QuantError> {
        in_range("bins", bins, (2..=65536).contains(&bins), "from 2 to 65536")?;
        Ok(Self { grid, bins, counts: vec![0.0; bins], range: None })
    }

    /// The least and the greatest value seen.
    pub fn extremes(&self) -> Option<(f32, f32)> {
        self.range
    }

    /// The bins' counts, and the range they cover.
    pub(super) fn counts(&self) -> Option<(&[f64], f32, f32)> {
        self.range.map(|(low, high)| (self.counts.as_slice(), low, high))
    }

    fn bin(&self, value: f32, low: f32, high: f32) -> usize {
        if high <= low {
            return 0;
        }
        let place = (value - low) / (high - low) * self.bins as f32;
        (place.max(0.0) as usize).min(self.bins - 1)
    }

    /// The counts moved into bins of a wider range, each bin as sixteen values.
    fn spread(&self, old: (f32, f32), new: (f32, f32)) -> Vec<f64> {
        let mut counts = vec![0.0; self.bins];
        if old.0 >= old.1 {
            counts[self.bin(old.0, new.0, new.1)] += self.counts.iter().sum::<f64>();
            return counts;
        }
        let width = (old.1 - old.0) / (self.bins * UPSAMPLING) as f32;
        for i in 0..self.bins * UPSAMPLING {
            let middle = old.0 + width * (i as f32 + 0.5);
            counts[self.bin(middle, new.0, new.1)] += self.counts[i / UPSAMPLING] / UPSAMPLING as f64;
        }
        counts
    }

    /// The squared error if the bins from `start` to `end`, both included, share the codes.
    fn error(&self, width: f64, start: usize, end: usize) -> f64 {
        let codes = f64::from(self.grid.steps() + 1);
        let code_width = width * (end - start + 1) as f64 / codes;
        if code_width == 0.0 {
            return 0.0;
        }
        // The integral of the squared distance from a code's centre.
        let integral = |from: f64, to: f64, density: f64| density * (to.powi(3) - from.powi(3)) / 3.0;
        let half = code_width / 2.0;
        let of_bin = |(bin, count): (usize, &f64)| {
            let density = count / width;
            let from = (bin as f64 - start as f64) * width;
            let to = from + width;
            let code = |place: f64| (place / code_width).floor().clamp(0.0, codes - 1.0);
            let (first, last) = (code(from), code(to));
            let centre = |code: f64| (code + 0.5) * code_width;
            integral(from - centre(first), half, density)
                + (last - first - 1.0) * integral(-half, half, density)
                + integral(-half, to - centre(last), density)
        };
        self.counts.iter().enumerate().map(of_bin).sum()
    }

    /// The first and the last bin to keep.
    fn search(&self, width: f64) -> (usize, usize) {
        let total: f64 = self.counts.iter().sum();
        let cumulated: Vec<f64> = self
            .counts
            .iter()
            .scan(0.0, |sum, count| {
                *sum += count;
                Some(*sum)
            })
            .collect();
        let (mut alpha, mut beta) = (0.0, 1.0);
        let (mut start, mut end) = (0, self.bins - 1);
        let mut least = f64::INFINITY;
        while alpha < beta {
            let (next_alpha, next_beta) = (alpha + STEP, beta - STEP);
            let (mut left, mut right) = (start, end);
            while left < end && cumulated[left] < next_alpha * total {
                left += 1;
            }
            while right > start && cumulated[right] > next_beta * total {
                right -= 1;
            }
            let (mut next_start, mut next_end) = (start, end);
            if left - start > end - right {
                next_start = left;
                alpha = next_alpha;
            } else {
                next_end = right;
                beta = next_beta;
            }
            if (next_start, next_end) == (start, end) {
                continue;
            }
            let error = self.error(width, next_start, next_end);
            if error > least {
                break;
            }
            least = error;
            (start, end) = (next_start, next_end);
        }
        (start, end)
    }
}

impl Histogram {
    /// Takes finite numbers in.
    pub(super) fn add(&mut self, values: &[f32]) {
        let (low, high) = extremes(values);
        let range = self.range.map_or((low, high), |(a, b)| (a.min(low), b.max(high)));
        match self.range {
            Some(old) if old != range => self.counts = self.spread(old, range),
            _ => (),
        }
        for &value in values {
            let bin = self.bin(value, range.0, range.1);
            self.counts[bin] += 1.0;
        }
        self.range = Some(range);
    }
}

impl Observer for Histogram {
    fn observe<const D: usize>(&mut self, batch: Tensor<D>) -> Result<(), QuantError> {
        self.add(&all(batch)?);
        Ok(())
    }

    fn ranges(&self) -> Result<Ranges, QuantError> {
        let (low, high) = self.range.ok_or(NOTHING)?;
        let width = (f64::from(high) - f64::from(low)) / self.bins as f64;
        if width <= 0.0 {
            return Ok(Ranges::single(low, high));
        }
        let (start, end) = self.search(width);
        let at = |bin: usize| (f64::from(low) + width * bin as f64) as f32;
        Ok(Ranges::single(at(start), at(end + 1)))
    }
}
