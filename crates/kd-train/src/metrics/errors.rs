//! The number of rows whose largest score is not the label's.

use kd_core::{Taps, Value};

use super::read::{Labelled, argmax};
use super::{Metric, MetricError};

/// How many predictions are wrong, the way MNIST results are usually stated. Shapes as in [`Accuracy`](super::Accuracy).
#[derive(Clone, Debug)]
pub struct Errors {
    class_axis: isize,
    wrong: u64,
}

impl Errors {
    /// For outputs whose classes lie on this axis; negative counts from the end.
    pub fn on_axis(class_axis: isize) -> Self {
        Self { class_axis, wrong: 0 }
    }

    /// How many so far, as a whole number.
    pub fn count(&self) -> u64 {
        self.wrong
    }
}

impl Default for Errors {
    /// Classes on the last axis.
    fn default() -> Self {
        Self::on_axis(-1)
    }
}

impl Metric for Errors {
    fn name(&self) -> &str {
        "errors"
    }
    fn higher_is_better(&self) -> bool {
        false
    }
    fn update(&mut self, outputs: &Taps, target: &Value) -> Result<(), MetricError> {
        let batch = Labelled::read(outputs, target, self.class_axis)?;
        self.wrong += batch.rows().filter(|(row, label)| argmax(row) != *label).count() as u64;
        Ok(())
    }
    fn value(&self) -> f64 {
        self.wrong as f64
    }
    fn reset(&mut self) {
        self.wrong = 0;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::read::tests::{labels, output};
    use super::*;

    #[test]
    fn wrong_rows_add_up_and_ignored_ones_are_not_wrong() {
        let mut errors = Errors::default();
        errors.update(&output([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), &labels([1, 0, -100])).unwrap();
        errors.update(&output([[1.0, 0.0], [0.0, 1.0]]), &labels([0, 0])).unwrap();
        assert_eq!((errors.count(), errors.value()), (3, 3.0));
    }
}
