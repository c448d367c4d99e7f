//! The absolute distance of a regression from its targets.

use kd_core::{Taps, Value};

use super::read::regression;
use super::{Metric, MetricError, mean};

/// The mean over all numbers of the output, $ \frac{1}{n} \sum_i |y_i - t_i| $, in the target's unit.
///
/// Output and target: floats of equal shape; axes of size 1 make no difference.
#[derive(Clone, Debug, Default)]
pub struct MeanAbsoluteError {
    sum: f64,
    count: u64,
}

impl Metric for MeanAbsoluteError {
    fn name(&self) -> &str {
        "mean-absolute-error"
    }
    fn higher_is_better(&self) -> bool {
        false
    }
    fn update(&mut self, outputs: &Taps, target: &Value) -> Result<(), MetricError> {
        let (predicted, target) = regression(outputs, target)?;
        let pairs = predicted.iter().zip(&target);
        self.sum += pairs.map(|(&y, &t)| (f64::from(y) - f64::from(t)).abs()).sum::<f64>();
        self.count += target.len() as u64;
        Ok(())
    }
    fn value(&self) -> f64 {
        mean(self.sum, self.count)
    }
    fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::read::tests::output;
    use super::*;
    use burn::tensor::{Device, Tensor};

    #[test]
    fn distances_on_both_sides_add_up() {
        let mut error = MeanAbsoluteError::default();
        let target = Tensor::<2>::from_floats([[0.0, 2.0], [1.0, 5.0]], &Device::flex()).into();
        error.update(&output([[1.0, 2.0], [1.5, 2.5]]), &target).unwrap(); // 1 + 0 + 0.5 + 2.5
        assert_eq!(error.value(), 1.0);
    }

    #[test]
    fn a_diverged_output_is_an_error() {
        let target = Tensor::<2>::zeros([1, 1], &Device::flex()).into();
        let result = MeanAbsoluteError::default().update(&output([[f32::INFINITY]]), &target);
        assert!(matches!(result, Err(MetricError::NotFinite { position: 0, .. })));
    }
}
