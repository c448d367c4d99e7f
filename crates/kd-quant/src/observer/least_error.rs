//! The shrunk range of least error.

use burn::tensor::Tensor;

use super::{NOTHING, Observer, Ranges, blocks, extremes};
use crate::{Granularity, Grid, QuantError};

/// The range, shrunk by hundredths, whose quantisation has the least $\mathrm{mean}\,|x - q(x)|^p$.
///
/// The range contains zero; both ends are shrunk by the factor $1 - i/100$, $i < 80$. Every value observed is kept, four bytes each.
///
/// As in *BRECQ* (Li et al., ICLR 2021), with $p = 2.4$.
#[derive(Clone, Debug, PartialEq)]
pub struct LeastError {
    grid: Grid,
    granularity: Granularity,
    power: f32,
    seen: Vec<Vec<f32>>,
}

impl LeastError {
    /// For a grid, with $p = 2.4$.
    pub fn new(grid: Grid, granularity: Granularity) -> Self {
        Self { grid, granularity, power: 2.4, seen: Vec::new() }
    }

    /// With another $p$; 2 is the mean squared error.
    pub fn with_power(self, power: f32) -> Self {
        Self { power, ..self }
    }

    /// The best range of some numbers, with its scale and zero point.
    fn search(&self, values: &[f32]) -> (f32, f32) {
        let (low, high) = extremes(values);
        let (low, high) = (low.min(0.0), high.max(0.0));
        let steps = self.grid.steps() as f32;
        let error = |low: f32, high: f32| {
            let scale = ((high - low) / steps).max(crate::LEAST_STEP);
            let zero = (-low / scale).round_ties_even();
            let of = |&x: &f32| {
                let code = ((x / scale).round_ties_even() + zero).clamp(0.0, steps);
                f64::from(((code - zero) * scale - x).abs().powf(self.power))
            };
            values.iter().map(of).sum::<f64>()
        };
        let candidates = (0..80).map(|i| 1.0 - 0.01 * i as f64);
        let ranges = candidates.map(|f| ((f64::from(low) * f) as f32, (f64::from(high) * f) as f32));
        ranges
            .map(|(low, high)| (low, high, error(low, high)))
            .reduce(|best, next| if next.2 < best.2 { next } else { best })
            .map_or((low, high), |(low, high, _)| (low, high))
    }
}

impl Observer for LeastError {
    fn observe<const D: usize>(&mut self, batch: Tensor<D>) -> Result<(), QuantError> {
        let new = blocks(batch, self.granularity)?;
        if self.seen.is_empty() {
            self.seen = new;
            return Ok(());
        }
        if self.seen.len() != new.len() {
            let (got, wanted) = (new.len(), self.seen.len());
            return Err(QuantError::Length { what: "the batch's blocks", got, wanted });
        }
        self.seen.iter_mut().zip(new).for_each(|(seen, new)| seen.extend(new));
        Ok(())
    }

    fn ranges(&self) -> Result<Ranges, QuantError> {
        if self.seen.is_empty() {
            return Err(NOTHING);
        }
        let (min, max) = self.seen.iter().map(|values| self.search(values)).unzip();
        Ok(Ranges { min, max })
    }
}
