//! How surprised the network is by the labels.

use kd_core::{Taps, Value};

use super::read::{Labelled, log_sum_exp};
use super::{Metric, MetricError, mean};

/// The mean negative log-likelihood of the labels, in nats:
///
/// $$ -\frac{1}{n} \sum_i \log \mathrm{softmax}(s_i)_{y_i} $$
///
/// Shapes as in [`Accuracy`](super::Accuracy); infinite when a label's class is ruled out by a score of `-inf`.
#[derive(Clone, Debug)]
pub struct NegativeLogLikelihood {
    class_axis: isize,
    sum: f64,
    count: u64,
}

impl NegativeLogLikelihood {
    /// For logits whose classes lie on this axis; negative counts from the end.
    pub fn on_axis(class_axis: isize) -> Self {
        Self { class_axis, sum: 0.0, count: 0 }
    }
}

impl Default for NegativeLogLikelihood {
    /// Classes on the last axis.
    fn default() -> Self {
        Self::on_axis(-1)
    }
}

impl Metric for NegativeLogLikelihood {
    fn name(&self) -> &str {
        "negative-log-likelihood"
    }
    fn higher_is_better(&self) -> bool {
        false
    }
    fn update(&mut self, outputs: &Taps, target: &Value) -> Result<(), MetricError> {
        for (row, label) in Labelled::read(outputs, target, self.class_axis)?.rows() {
            let score = row.get(label).copied().map_or(f64::NEG_INFINITY, f64::from);
            self.sum += log_sum_exp(row).0 - score;
            self.count += 1;
        }
        Ok(())
    }
    fn value(&self) -> f64 {
        mean(self.sum, self.count)
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

    #[test]
    fn likelihoods_of_a_half_a_quarter_and_three_quarters_give_their_mean_log() {
        let mut nll = NegativeLogLikelihood::default();
        let odds = 3f32.ln(); // softmax of [ln 3, 0] is [3/4, 1/4]
        nll.update(&output([[7.0, 7.0], [odds, 0.0]]), &labels([0, 1])).unwrap();
        nll.update(&output([[odds, 0.0]]), &labels([0])).unwrap();
        let expected = -(0.5f64.ln() + 0.25f64.ln() + 0.75f64.ln()) / 3.0;
        assert!((nll.value() - expected).abs() < 1e-7, "{}", nll.value());
    }

    #[test]
    fn a_ruled_out_label_costs_infinitely_much() {
        let mut nll = NegativeLogLikelihood::default();
        nll.update(&output([[0.0, f32::NEG_INFINITY]]), &labels([1])).unwrap();
        assert_eq!(nll.value(), f64::INFINITY);
    }
}
