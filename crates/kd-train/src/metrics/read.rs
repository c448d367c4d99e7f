//! Outputs and targets as plain numbers on the host.

use burn::tensor::Tensor;
use kd_core::{OUTPUT, Taps, Value};

use super::{IGNORED, MetricError};

/// The scores of every row with the label it should get; ignored rows are left out.
pub(super) struct Labelled {
    scores: Scores,
    labels: Vec<i64>,
}

impl Labelled {
    pub(super) fn read(outputs: &Taps, target: &Value, class_axis: isize) -> Result<Self, MetricError> {
        let output = outputs.value(OUTPUT)?;
        let scores = Scores::read(output, class_axis)?;
        let labels = target.inner().flat_int()?.try_into_vec_as::<i64>();
        let labels = labels.map_err(|error| MetricError::Device(error.to_string()))?;
        if labels.len() != scores.len() {
            let (output, shape) = (output.shape(), target.shape());
            let rule = "one label per position outside the class axis";
            return Err(MetricError::Shape { output, other: "labels", shape, rule });
        }
        let classes = scores.classes;
        let valid = |label| label == IGNORED || usize::try_from(label).is_ok_and(|label| label < classes);
        if let Some((position, &label)) = labels.iter().enumerate().find(|&(_, &label)| !valid(label)) {
            return Err(MetricError::Label { label, position, classes });
        }
        Ok(Self { scores, labels })
    }

    pub(super) fn classes(&self) -> usize {
        self.scores.classes
    }

    /// Scores and label of every row that counts.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&[f32], usize)> {
        let counted = |&label: &i64| usize::try_from(label).ok();
        self.scores.rows().zip(&self.labels).filter_map(move |(row, label)| Some((row, counted(label)?)))
    }
}

/// Rows of class scores, none of them NaN or `+inf`; `-inf` marks a class that is ruled out.
pub(super) struct Scores {
    numbers: Vec<f32>,
    classes: usize,
}

impl Scores {
    pub(super) fn read(output: &Value, class_axis: isize) -> Result<Self, MetricError> {
        let rows = output.inner().rows(class_axis)?;
        let [_, classes] = rows.dims();
        let numbers = floats(rows)?;
        let bad = |number: &f32| number.is_nan() || *number == f32::INFINITY;
        match numbers.iter().position(bad) {
            Some(position) => {
                let value = numbers.get(position).copied().unwrap_or(f32::NAN).into();
                Err(MetricError::NotFinite { value, position })
            }
            None => Ok(Self { numbers, classes }),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len() / self.classes.max(1)
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.numbers.chunks_exact(self.classes.max(1))
    }
}

/// Prediction and target of a regression, in the same order.
pub(super) fn regression(outputs: &Taps, target: &Value) -> Result<(Vec<f32>, Vec<f32>), MetricError> {
    let output = outputs.value(OUTPUT)?;
    if without_unit_axes(&output.shape()) != without_unit_axes(&target.shape()) {
        let (output, shape) = (output.shape(), target.shape());
        return Err(MetricError::Shape { output, other: "targets", shape, rule: "equal shapes" });
    }
    let predicted = floats(output.inner().flat_float()?)?;
    if let Some((position, &value)) = predicted.iter().enumerate().find(|(_, value)| !value.is_finite()) {
        return Err(MetricError::NotFinite { value: value.into(), position });
    }
    Ok((predicted, floats(target.inner().flat_float()?)?))
}

/// `[8, 1]` and `[8]` say the same about a single number per sample.
fn without_unit_axes(shape: &[usize]) -> Vec<usize> {
    shape.iter().copied().filter(|&size| size != 1).collect()
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, MetricError> {
    tensor.try_into_vec_as::<f32>().map_err(|error| MetricError::Device(error.to_string()))
}

/// Index of the largest score; the lowest of equals.
pub(super) fn argmax(row: &[f32]) -> usize {
    let first = (0, f32::NEG_INFINITY);
    let larger = |best: (usize, f32), (index, &score)| if score > best.1 { (index, score) } else { best };
    row.iter().enumerate().fold(first, larger).0
}

/// $\log \sum_c e^{s_c}$, and the largest score.
pub(super) fn log_sum_exp(row: &[f32]) -> (f64, f64) {
    let largest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = row.iter().map(|&score| (f64::from(score) - largest).exp()).sum();
    (largest + sum.ln(), largest)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Accuracy, MeanSquaredError, Metric};
    use super::*;
    use burn::tensor::{Device, Int};

    /// Taps whose output is this matrix.
    pub(crate) fn output<const R: usize, const C: usize>(scores: [[f32; C]; R]) -> Taps {
        let mut taps = Taps::none();
        taps.insert(OUTPUT, Tensor::<2>::from_floats(scores, &Device::flex()));
        taps
    }

    /// Integer targets.
    pub(crate) fn labels<const N: usize>(labels: [i64; N]) -> Value {
        Tensor::<1, Int>::from_ints(labels, &Device::flex()).into()
    }

    #[test]
    fn the_first_of_equal_scores_wins() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), 1);
        assert_eq!(argmax(&[f32::NEG_INFINITY, f32::NEG_INFINITY]), 0);
    }

    #[test]
    fn log_sum_exp_does_not_overflow() {
        assert!((log_sum_exp(&[1000.0, 1000.0]).0 - (1000.0 + 2f64.ln())).abs() < 1e-9);
    }

    #[test]
    fn a_label_outside_the_classes_is_an_error_that_names_it() {
        let result = Accuracy::default().update(&output([[0.0, 1.0], [1.0, 0.0]]), &labels([1, 2]));
        assert_eq!(result, Err(MetricError::Label { label: 2, position: 1, classes: 2 }));
        let result = Accuracy::default().update(&output([[0.0, 1.0]]), &labels([-1]));
        assert!(result.unwrap_err().to_string().contains("label -1 at position 0"));
    }

    #[test]
    fn a_diverged_output_is_an_error_and_a_ruled_out_class_is_not() {
        let update = |score| Accuracy::default().update(&output([[0.0, score]]), &labels([0]));
        assert!(matches!(update(f32::NAN), Err(MetricError::NotFinite { position: 1, .. })));
        assert!(matches!(update(f32::INFINITY), Err(MetricError::NotFinite { position: 1, .. })));
        assert_eq!(update(f32::NEG_INFINITY), Ok(()));
    }

    #[test]
    fn the_number_of_labels_must_fit_the_output() {
        let error = Accuracy::default().update(&output([[0.0, 1.0]]), &labels([0, 1])).unwrap_err();
        assert!(error.to_string().starts_with("output of shape [1, 2] does not fit labels of shape [2]"));
    }

    #[test]
    fn float_labels_and_integer_regression_targets_are_errors() {
        let floats = Value::from(Tensor::<1>::zeros([1], &Device::flex()));
        assert!(matches!(
            Accuracy::default().update(&output([[0.0, 1.0]]), &floats),
            Err(MetricError::Value(_))
        ));
        assert!(matches!(
            MeanSquaredError::default().update(&output([[1.0]]), &labels([1])),
            Err(MetricError::Value(_))
        ));
    }

    #[test]
    fn a_missing_output_is_an_error() {
        let result = Accuracy::default().update(&Taps::none(), &labels([0]));
        assert!(matches!(result, Err(MetricError::Tap(_))));
    }
}
