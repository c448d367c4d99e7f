//! Each batch's range, averaged.

use burn::tensor::Tensor;

use super::min_max::{merge, of_batch};
use super::{NOTHING, Observer, Ranges};
use crate::error::in_range;
use crate::{Granularity, QuantError};

/// Exponential moving average of the batches' ranges: the first as it is, then $m \leftarrow m + c\,(m_{\text{batch}} - m)$.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_quant::Granularity;
/// use kd_quant::observer::{MovingAverage, Observer, Ranges};
///
/// let mut observer = MovingAverage::new(Granularity::Tensor, 0.25)?;
/// observer.observe(Tensor::<1>::from_floats([-1.0, 2.0], &Device::flex()))?;
/// observer.observe(Tensor::<1>::from_floats([-1.0, 4.0], &Device::flex()))?;
/// assert_eq!(observer.ranges()?, Ranges::single(-1.0, 2.5));
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct MovingAverage {
    granularity: Granularity,
    constant: f32,
    seen: Option<Ranges>,
}

impl MovingAverage {
    /// With the averaging constant $c$; 0.01 is usual.
    ///
    /// # Errors
    /// [`QuantError::Setting`] unless $0 < c \le 1$.
    pub fn new(granularity: Granularity, constant: f32) -> Result<Self, QuantError> {
        in_range("constant", constant, constant > 0.0 && constant <= 1.0, "above 0, at most 1")?;
        Ok(Self { granularity, constant, seen: None })
    }
}

impl Observer for MovingAverage {
    fn observe<const D: usize>(&mut self, batch: Tensor<D>) -> Result<(), QuantError> {
        let new = of_batch(batch, self.granularity)?;
        let constant = self.constant;
        self.seen = Some(merge(self.seen.as_ref(), new, |a, b, _| a + constant * (b - a))?);
        Ok(())
    }

    fn ranges(&self) -> Result<Ranges, QuantError> {
        self.seen.clone().ok_or(NOTHING)
    }
}
