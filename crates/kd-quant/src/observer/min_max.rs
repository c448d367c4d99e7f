//! The least and the greatest value seen.

use burn::tensor::Tensor;

use super::{NOTHING, Observer, Ranges, blocks, extremes};
use crate::{Granularity, QuantError};

/// From the least to the greatest value of all batches.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_quant::observer::{MinMax, Observer, Ranges};
/// use kd_quant::Granularity;
///
/// let mut observer = MinMax::new(Granularity::Tensor);
/// observer.observe(Tensor::<1>::from_floats([0.5, 2.0], &Device::flex()))?;
/// observer.observe(Tensor::<1>::from_floats([-1.0, 1.0], &Device::flex()))?;
/// assert_eq!(observer.ranges()?, Ranges::single(-1.0, 2.0));
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct MinMax {
    granularity: Granularity,
    seen: Option<Ranges>,
}

impl MinMax {
    /// That has seen nothing.
    pub fn new(granularity: Granularity) -> Self {
        Self { granularity, seen: None }
    }
}

/// The range of every block of a batch.
pub(super) fn of_batch<const D: usize>(
    batch: Tensor<D>,
    granularity: Granularity,
) -> Result<Ranges, QuantError> {
    let (min, max) = blocks(batch, granularity)?.iter().map(|block| extremes(block)).unzip();
    Ok(Ranges { min, max })
}

/// Both ranges, merged block by block.
pub(super) fn merge(
    seen: Option<&Ranges>,
    new: Ranges,
    merge: impl Fn(f32, f32, bool) -> f32,
) -> Result<Ranges, QuantError> {
    let Some(seen) = seen else { return Ok(new) };
    if seen.min.len() != new.min.len() {
        let (got, wanted) = (new.min.len(), seen.min.len());
        return Err(QuantError::Length { what: "the batch's blocks", got, wanted });
    }
    let both = |a: &[f32], b: &[f32], upper| a.iter().zip(b).map(|(&a, &b)| merge(a, b, upper)).collect();
    Ok(Ranges { min: both(&seen.min, &new.min, false), max: both(&seen.max, &new.max, true) })
}

impl Observer for MinMax {
    fn observe<const D: usize>(&mut self, batch: Tensor<D>) -> Result<(), QuantError> {
        let new = of_batch(batch, self.granularity)?;
        let wider = |a: f32, b: f32, upper: bool| if upper { a.max(b) } else { a.min(b) };
        self.seen = Some(merge(self.seen.as_ref(), new, wider)?);
        Ok(())
    }

    fn ranges(&self) -> Result<Ranges, QuantError> {
        self.seen.clone().ok_or(NOTHING)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn a_refused_batch_leaves_the_range_as_it_was() {
        let device = Device::flex();
        let mut observer = MinMax::new(Granularity::Channel { axis: 1 });
        assert_eq!(observer.ranges(), Err(NOTHING));
        observer.observe(Tensor::<2>::from_floats([[1.0, 5.0], [-2.0, 6.0]], &device)).unwrap();
        let before = observer.ranges().unwrap();
        assert_eq!(before, Ranges { min: vec![-2.0, 5.0], max: vec![1.0, 6.0] });
        let error = observer.observe(Tensor::<2>::from_floats([[f32::NAN, 0.0]], &device)).unwrap_err();
        assert!(error.to_string().contains("NaN at index 0"), "{error}");
        assert!(observer.observe(Tensor::<2>::zeros([1, 3], &device)).is_err());
        assert_eq!(observer.ranges().unwrap(), before);
    }
}
