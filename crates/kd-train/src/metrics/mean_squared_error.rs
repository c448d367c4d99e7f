//! The squared distance of a regression from its targets.

use kd_core::{Taps, Value};

use super::read::regression;
use super::{Metric, MetricError, mean};

/// The mean over all numbers of the output, $ \frac{1}{n} \sum_i (y_i - t_i)^2 $, in the target's unit squared.
///
/// Output and target: floats of equal shape; axes of size 1 make no difference.
#[derive(Clone, Debug, Default)]
pub struct MeanSquaredError {
    sum: f64,
    count: u64,
}

impl Metric for MeanSquaredError {
    fn name(&self) -> &str {
        "mean-squared-error"
    }
    fn higher_is_better(&self) -> bool {
        false
    }
    fn update(&mut self, outputs: &Taps, target: &Value) -> Result<(), MetricError> {
        let (predicted, target) = regression(outputs, target)?;
        let pairs = predicted.iter().zip(&target);
        self.sum += pairs.map(|(&y, &t)| (f64::from(y) - f64::from(t)).powi(2)).sum::<f64>();
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
    fn all_numbers_of_all_batches_weigh_the_same() {
        let device = Device::flex();
        let mut error = MeanSquaredError::default();
        let target = Tensor::<2>::from_floats([[0.0, 2.0], [1.0, 5.0]], &device).into();
        error.update(&output([[1.0, 2.0], [1.0, 2.0]]), &target).unwrap(); // 1 + 0 + 0 + 9
        error.update(&output([[0.5]]), &Tensor::<1>::from_floats([0.0], &device).into()).unwrap(); // 0.25
        assert_eq!(error.value(), 10.25 / 5.0);
    }

    #[test]
    fn another_shape_is_an_error_and_an_axis_of_one_is_not() {
        let device = Device::flex();
        let column = output([[1.0], [2.0]]);
        let mut error = MeanSquaredError::default();
        error.update(&column, &Tensor::<1>::zeros([2], &device).into()).unwrap();
        assert_eq!(error.value(), 2.5);
        assert!(matches!(
            error.update(&column, &Tensor::<2>::zeros([2, 2], &device).into()),
            Err(MetricError::Shape { .. })
        ));
    }
}
