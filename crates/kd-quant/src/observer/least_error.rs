//! The shrunk range of least error.

use burn::tensor::Tensor;

use super::ranges::parameters;
use super::{NOTHING, Observer, Ranges, Symmetry, blocks, extremes};
use crate::{Granularity, Grid, QuantError};

/// The range, shrunk by hundredths, whose quantisation has the least $\mathrm{mean}\,|x - q(x)|^p$.
///
/// The widest range contains zero; for a symmetric quantiser ([`with_symmetry`](Self::with_symmetry)) it is $[-m, m]$, $m$ the greatest magnitude. Both ends
/// are shrunk by the factor $1 - i/100$, $i < 80$, and $q$ has the scale and zero point that [`Ranges::parameters`] gives the range. Every value observed is
/// kept, four bytes each.
///
/// As in *BRECQ* (Li et al., ICLR 2021), with $p = 2.4$.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_quant::observer::{LeastError, Observer};
/// use kd_quant::{Granularity, Grid};
///
/// // At two bits a single outlier is not worth coarse steps for all others.
/// let mut values = vec![0.1_f32, 0.2, 0.3, 0.4].repeat(50);
/// values.push(1.0);
/// let mut observer = LeastError::new(Grid::unsigned(2)?, Granularity::Tensor).with_power(2.0);
/// observer.observe(Tensor::<1>::from_floats(values.as_slice(), &Device::flex()))?;
/// assert!(observer.ranges()?.max[0] < 0.5);
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LeastError {
    grid: Grid,
    granularity: Granularity,
    symmetry: Symmetry,
    power: f32,
    seen: Vec<Vec<f32>>,
}

impl LeastError {
    /// For an affine quantiser on a grid, with $p = 2.4$.
    pub fn new(grid: Grid, granularity: Granularity) -> Self {
        Self { grid, granularity, symmetry: Symmetry::Affine, power: 2.4, seen: Vec::new() }
    }

    /// For a quantiser whose zero point is free or fixed.
    pub fn with_symmetry(self, symmetry: Symmetry) -> Self {
        Self { symmetry, ..self }
    }

    /// With another $p$; 2 is the mean squared error.
    pub fn with_power(self, power: f32) -> Self {
        Self { power, ..self }
    }

    /// The best range of some numbers.
    fn search(&self, values: &[f32]) -> (f32, f32) {
        let (low, high) = extremes(values);
        let (low, high) = match self.symmetry {
            Symmetry::Affine => (low.min(0.0), high.max(0.0)),
            Symmetry::Symmetric => (low.min(-high), high.max(-low)),
        };
        let error = |low: f32, high: f32| {
            let (scale, zero) = parameters(low, high, self.grid, self.symmetry);
            let (least, most) = ((self.grid.min() - zero) as f32, (self.grid.max() - zero) as f32);
            let of = |&x: &f32| {
                let quantised = (x / scale).round_ties_even().clamp(least, most) * scale;
                f64::from((quantised - x).abs().powf(self.power))
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::observer::{MinMax, RangeMethod};
    use crate::plan::Uniform;
    use burn::tensor::Device;

    /// A dense bulk around zero and a tail on one side, as weights behind a rectifier have.
    fn skewed() -> Vec<f32> {
        let bulk = (0..400).map(|i| 0.3 * (i as f32 * 0.7).sin());
        bulk.chain((0..20).map(|i| 0.5 + 0.03 * i as f32)).collect()
    }

    /// The mean squared error of a quantiser's weights, with the scales that it sets itself.
    fn error(uniform: &Uniform, values: &[f32]) -> f64 {
        let x = Tensor::<1>::from_floats(values, &Device::flex());
        let mut observer = uniform.observer().unwrap();
        observer.observe(x.clone()).unwrap();
        let (scale, zero) = uniform.parameters(&observer).unwrap().tensors(&x.device());
        let q = uniform.affine().quantize(x.clone(), scale, zero).unwrap();
        (q - x).square().mean().into_scalar::<f32>().into()
    }

    /// The least mean squared error on the grid with a symmetric range, by a scan in thousandths.
    fn least(grid: Grid, values: &[f32]) -> f64 {
        let most = values.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
        let of = |part: i32| {
            let scale = most * part as f32 / 1000.0 / (grid.steps() as f32 / 2.0);
            let q =
                |x: f32| (x / scale).round_ties_even().clamp(grid.min() as f32, grid.max() as f32) * scale;
            values.iter().map(|&x| f64::from(q(x) - x).powi(2)).sum::<f64>() / values.len() as f64
        };
        (200..=1000).map(of).fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn no_other_symmetric_range_has_a_smaller_error_on_the_grid_of_weights() {
        let values = skewed();
        let mirrored: Vec<f32> = values.iter().map(|v| -v).collect();
        for bits in 2..=8 {
            for values in [&values, &mirrored] {
                let plain = Uniform { granularity: Granularity::Tensor, ..Uniform::weight(bits).unwrap() };
                let found =
                    error(&Uniform { range: RangeMethod::LeastError { power: 2.0 }, ..plain }, values);
                let least = least(plain.grid, values);
                assert!(found <= 1.02 * least, "{bits} bits: {found} where {least} is possible");
                assert!(found <= error(&plain, values), "{bits} bits");
            }
        }
        // At few bits it is worth much.
        let few = Uniform { granularity: Granularity::Tensor, ..Uniform::weight(3).unwrap() };
        let found = error(&Uniform { range: RangeMethod::LeastError { power: 2.0 }, ..few }, &values);
        assert!(found < 0.8 * error(&few, &values));
    }

    #[test]
    fn a_symmetric_range_is_as_wide_on_both_sides_and_an_affine_one_is_not() {
        let x = Tensor::<1>::from_floats(skewed().as_slice(), &Device::flex());
        let ranges = |symmetry| {
            let mut observer =
                LeastError::new(Grid::narrow(4).unwrap(), Granularity::Tensor).with_symmetry(symmetry);
            observer.observe(x.clone()).unwrap();
            observer.ranges().unwrap()
        };
        let symmetric = ranges(Symmetry::Symmetric);
        assert_eq!(symmetric.min[0], -symmetric.max[0]);
        let affine = ranges(Symmetry::Affine);
        assert!(-affine.min[0] < 0.5 * affine.max[0], "{affine:?}");
        let mut widest = MinMax::new(Granularity::Tensor);
        widest.observe(x).unwrap();
        assert!(symmetric.max[0] <= widest.ranges().unwrap().max[0]);
    }
}
