//! The share of rows whose largest score is the label's.

use kd_core::{Taps, Value};

use super::read::{Labelled, argmax};
use super::{Metric, MetricError, mean};

/// Top-1 accuracy, in `[0, 1]`:
///
/// $$ \frac{1}{n} \sum_i \big[ \arg\max_c s_{ic} = y_i \big] $$
///
/// Output: `[batch, class]`, `[batch, token, class]`, or any other shape with its class axis named, such as 1 for pixels `[batch, class, h, w]`.
/// Labels: integers, one per position outside the class axis; [`IGNORED`](super::IGNORED) ones do not count. Of equal scores the lowest class wins.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use kd_core::{OUTPUT, Taps};
/// use kd_train::metrics::{Accuracy, Metric};
///
/// let device = Device::flex();
/// let mut taps = Taps::none();
/// taps.insert(OUTPUT, Tensor::<2>::from_floats([[2.0, 1.0], [0.0, 1.0]], &device));
/// let mut accuracy = Accuracy::default();
/// accuracy.update(&taps, &Tensor::<1, Int>::from_ints([0, 0], &device).into())?;
/// assert_eq!(accuracy.value(), 0.5);
/// # Ok::<(), kd_train::metrics::MetricError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Accuracy {
    class_axis: isize,
    correct: u64,
    count: u64,
}

impl Accuracy {
    /// For outputs whose classes lie on this axis; negative counts from the end.
    pub fn on_axis(class_axis: isize) -> Self {
        Self { class_axis, correct: 0, count: 0 }
    }
}

impl Default for Accuracy {
    /// Classes on the last axis.
    fn default() -> Self {
        Self::on_axis(-1)
    }
}

impl Metric for Accuracy {
    fn name(&self) -> &str {
        "accuracy"
    }
    fn higher_is_better(&self) -> bool {
        true
    }
    fn update(&mut self, outputs: &Taps, target: &Value) -> Result<(), MetricError> {
        for (row, label) in Labelled::read(outputs, target, self.class_axis)?.rows() {
            self.correct += u64::from(argmax(row) == label);
            self.count += 1;
        }
        Ok(())
    }
    fn value(&self) -> f64 {
        mean(self.correct as f64, self.count)
    }
    fn reset(&mut self) {
        *self = Self::on_axis(self.class_axis);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::read::tests::{labels, output};
    use super::*;
    use burn::tensor::{Device, Int, Tensor};
    use kd_core::OUTPUT;

    #[test]
    fn batches_of_different_size_count_by_row() {
        let mut accuracy = Accuracy::default();
        assert!(accuracy.value().is_nan());
        accuracy.update(&output([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), &labels([0, 0, 1])).unwrap();
        accuracy.update(&output([[1.0, 0.0]]), &labels([1])).unwrap();
        assert_eq!(accuracy.value(), 0.75);
    }

    #[test]
    fn ignored_labels_do_not_count() {
        let mut accuracy = Accuracy::default();
        accuracy.update(&output([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]), &labels([0, -100, 1])).unwrap();
        assert_eq!(accuracy.value(), 0.5);
    }

    #[test]
    fn pixels_have_their_classes_on_axis_one() {
        let device = Device::flex();
        // Two classes over 1 x 2 pixels: the first pixel says class 1, the second class 0.
        let scores = Tensor::<4>::from_floats([[[[0.0, 5.0]], [[1.0, 4.0]]]], &device);
        let mut taps = Taps::none();
        taps.insert(OUTPUT, scores);
        let target = Value::from(Tensor::<3, Int>::from_ints([[[1, 1]]], &device));
        let mut accuracy = Accuracy::on_axis(1);
        accuracy.update(&taps, &target).unwrap();
        assert_eq!(accuracy.value(), 0.5);
    }

    #[test]
    fn tokens_have_their_classes_on_the_last_axis() {
        let device = Device::flex();
        let mut taps = Taps::none();
        taps.insert(OUTPUT, Tensor::<3>::from_floats([[[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]], &device));
        let target = Value::from(Tensor::<2, Int>::from_ints([[1, 0, -100]], &device));
        let mut accuracy = Accuracy::default();
        accuracy.update(&taps, &target).unwrap();
        assert_eq!(accuracy.value(), 1.0);
    }
}
