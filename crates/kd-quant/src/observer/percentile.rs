//! All but the outliers.

use burn::tensor::Tensor;

use super::{NOTHING, Observer, Ranges, all};
use crate::QuantError;
use crate::error::in_range;

/// The range that leaves a fraction of all values out at either end, by linear interpolation between ranks (numpy's default).
///
/// Every value observed is kept, four bytes each: calibrate on a few batches.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use kd_quant::observer::{Observer, Percentile, Ranges};
///
/// let mut observer = Percentile::new(0.01)?;
/// observer.observe(Tensor::<1, Int>::arange(0..101, &Device::flex()).float())?;
/// assert_eq!(observer.ranges()?, Ranges::single(1.0, 99.0));
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Percentile {
    tail: f64,
    seen: Vec<f32>,
}

impl Percentile {
    /// Leaves `tail` of the values out at either end, 0.001 for the range of 99.8 %.
    ///
    /// # Errors
    /// [`QuantError::Setting`] unless `tail` is at least 0 and below a half.
    pub fn new(tail: f64) -> Result<Self, QuantError> {
        in_range("tail", tail, (0.0..0.5).contains(&tail), "at least 0 and below 0.5")?;
        Ok(Self { tail, seen: Vec::new() })
    }
}

impl Observer for Percentile {
    fn observe<const D: usize>(&mut self, batch: Tensor<D>) -> Result<(), QuantError> {
        self.seen.extend(all(batch)?);
        Ok(())
    }

    fn ranges(&self) -> Result<Ranges, QuantError> {
        let mut sorted = self.seen.clone();
        sorted.sort_by(f32::total_cmp);
        let at = |quantile: f64| {
            let rank = quantile * (sorted.len().max(1) - 1) as f64;
            let (low, high) = (sorted.get(rank.floor() as usize)?, sorted.get(rank.ceil() as usize)?);
            Some((f64::from(*low) + rank.fract() * f64::from(high - low)) as f32)
        };
        match (at(self.tail), at(1.0 - self.tail)) {
            (Some(min), Some(max)) => Ok(Ranges::single(min, max)),
            _ => Err(NOTHING),
        }
    }
}
