//! Which class is taken for which.

use kd_core::{Taps, Value};

use super::MetricError;
use super::read::{Labelled, argmax};

/// Counts of (label, prediction) pairs. Shapes as in [`Accuracy`](super::Accuracy).
#[derive(Clone, Debug)]
pub struct Confusion {
    class_axis: isize,
    counts: Vec<Vec<u64>>,
}

impl Confusion {
    /// For outputs whose classes lie on this axis; negative counts from the end.
    pub fn on_axis(class_axis: isize) -> Self {
        Self { class_axis, counts: Vec::new() }
    }

    /// Counts a batch in.
    ///
    /// # Errors
    /// [`MetricError`]; what was counted before stays.
    pub fn update(&mut self, outputs: &Taps, target: &Value) -> Result<(), MetricError> {
        let batch = Labelled::read(outputs, target, self.class_axis)?;
        let classes = batch.classes().max(self.counts.len());
        self.counts.iter_mut().for_each(|row| row.resize(classes, 0));
        self.counts.resize(classes, vec![0; classes]);
        for (row, label) in batch.rows() {
            if let Some(cell) = self.counts.get_mut(label).and_then(|counts| counts.get_mut(argmax(row))) {
                *cell += 1;
            }
        }
        Ok(())
    }

    /// `counts()[label][prediction]`; empty before the first update.
    pub fn counts(&self) -> &[Vec<u64>] {
        &self.counts
    }

    /// For every class, the share of its samples that were recognised; none where the class has no samples.
    pub fn per_class_accuracy(&self) -> Vec<Option<f64>> {
        let accuracy = |(class, row): (usize, &Vec<u64>)| {
            let total: u64 = row.iter().sum();
            let correct = row.get(class).copied().unwrap_or(0);
            (total > 0).then(|| correct as f64 / total as f64)
        };
        self.counts.iter().enumerate().map(accuracy).collect()
    }
}

impl Default for Confusion {
    /// Classes on the last axis.
    fn default() -> Self {
        Self::on_axis(-1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::read::tests::{labels, output};
    use super::*;

    #[test]
    fn rows_are_labels_and_columns_are_predictions() {
        let mut confusion = Confusion::default();
        let scores = [[1., 0., 0.], [0., 1., 0.], [0., 1., 0.], [0., 0., 1.]];
        confusion.update(&output(scores), &labels([0, 0, 1, -100])).unwrap();
        confusion.update(&output([[0., 0., 1.]]), &labels([0])).unwrap();
        assert_eq!(confusion.counts(), [vec![1, 1, 1], vec![0, 1, 0], vec![0, 0, 0]]);
        assert_eq!(confusion.per_class_accuracy(), [Some(1.0 / 3.0), Some(1.0), None]);
    }
}
