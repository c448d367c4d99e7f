//! How far confidence is from accuracy.

use kd_core::{SettingsError, Taps, Value, in_range};

use super::read::{Labelled, argmax, log_sum_exp};
use super::{Metric, MetricError};

/// Expected calibration error, in `[0, 1]`: predictions are put into bins of equal width by their confidence, the largest softmax probability, and
///
/// `$$ \mathrm{ECE} = \sum_m \frac{|B_m|}{n} \, \big| \mathrm{acc}(B_m) - \mathrm{conf}(B_m) \big|, \qquad B_m = \Big( \tfrac{m-1}{M}, \tfrac{m}{M} \Big] $$`
///
/// Guo et al.: *On Calibration of Modern Neural Networks*, 2017, [arXiv:1706.04599](https://arxiv.org/abs/1706.04599).
/// Shapes as in [`Accuracy`](super::Accuracy). The number of bins $M$ is 15 unless [`with_bins`](Self::with_bins) says otherwise.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use kd_core::{OUTPUT, Taps};
/// use kd_train::metrics::{CalibrationError, Metric};
///
/// let device = Device::flex();
/// let mut taps = Taps::none();
/// taps.insert(OUTPUT, Tensor::<2>::zeros([2, 2], &device));
/// let mut calibration = CalibrationError::default();
/// // Half sure of class 0 and right half of the time: perfectly calibrated.
/// calibration.update(&taps, &Tensor::<1, Int>::from_ints([0, 1], &device).into())?;
/// assert_eq!(calibration.value(), 0.0);
/// # Ok::<(), kd_train::metrics::MetricError>(())
/// ```
#[derive(Clone, Debug)]
pub struct CalibrationError {
    class_axis: isize,
    bins: Vec<Bin>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bin {
    count: u64,
    correct: u64,
    confidence: f64,
}

impl CalibrationError {
    /// For logits whose classes lie on this axis; negative counts from the end.
    pub fn on_axis(class_axis: isize) -> Self {
        Self { class_axis, bins: vec![Bin::default(); 15] }
    }

    /// Another number of bins, starting anew.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] unless 1 to 10,000.
    pub fn with_bins(self, bins: usize) -> Result<Self, SettingsError> {
        in_range("bins", bins, (1..=10_000).contains(&bins), "1 to 10000")?;
        Ok(Self { bins: vec![Bin::default(); bins], ..self })
    }
}

impl Default for CalibrationError {
    /// Classes on the last axis, 15 bins.
    fn default() -> Self {
        Self::on_axis(-1)
    }
}

impl Metric for CalibrationError {
    fn name(&self) -> &str {
        "calibration-error"
    }
    fn higher_is_better(&self) -> bool {
        false
    }
    fn update(&mut self, outputs: &Taps, target: &Value) -> Result<(), MetricError> {
        for (row, label) in Labelled::read(outputs, target, self.class_axis)?.rows() {
            let (normaliser, largest) = log_sum_exp(row);
            let confidence = (largest - normaliser).exp();
            // Bins are open below and closed above: a confidence on an edge belongs to the lower bin.
            let bin = (confidence * self.bins.len() as f64).ceil() as usize;
            let bin = bin.clamp(1, self.bins.len()) - 1;
            if let Some(bin) = self.bins.get_mut(bin) {
                bin.count += 1;
                bin.correct += u64::from(argmax(row) == label);
                bin.confidence += confidence;
            }
        }
        Ok(())
    }
    fn value(&self) -> f64 {
        let count: u64 = self.bins.iter().map(|bin| bin.count).sum();
        let gaps = self.bins.iter().map(|bin| (bin.correct as f64 - bin.confidence).abs());
        gaps.sum::<f64>() / count as f64
    }
    fn reset(&mut self) {
        self.bins.fill(Bin::default());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::read::tests::{labels, output};
    use super::*;

    /// Two classes, the first with this probability.
    fn sure(p: f32) -> [f32; 2] {
        [p.ln(), (1.0 - p).ln()]
    }

    #[test]
    fn two_bins_with_known_gaps_give_their_weighted_mean() {
        // (0.9, 1]: confidences 0.95 and 0.97, one right: 2/5 * |0.5 - 0.96|.
        // (0.6, 0.7]: confidences 0.62, 0.65 and 0.68, two right: 3/5 * |2/3 - 0.65|.
        let scores = [sure(0.95), sure(0.97), sure(0.62), sure(0.65), sure(0.68)];
        let mut ece = CalibrationError::default().with_bins(10).unwrap();
        ece.update(&output(scores), &labels([0, 1, 0, 0, 1])).unwrap();
        let expected = 0.4 * 0.46 + 0.6 * (2.0 / 3.0 - 0.65);
        assert!((ece.value() - expected).abs() < 1e-6, "{}", ece.value());
    }

    #[test]
    fn gaps_of_opposite_sign_cancel_within_a_bin_and_not_across_bins() {
        let scores = output([sure(0.75), sure(0.95)]);
        let mut one = CalibrationError::default().with_bins(1).unwrap();
        let mut ten = CalibrationError::default().with_bins(10).unwrap();
        one.update(&scores, &labels([0, 1])).unwrap();
        ten.update(&scores, &labels([0, 1])).unwrap();
        assert!((one.value() - (0.85 - 0.5)).abs() < 1e-6);
        assert!((ten.value() - (0.25 + 0.95) / 2.0).abs() < 1e-6);
    }

    #[test]
    fn a_confidence_on_an_edge_belongs_to_the_lower_bin() {
        // One half on the edge of two bins: with 0.75 in the upper one, nothing cancels.
        let mut ece = CalibrationError::default().with_bins(2).unwrap();
        ece.update(&output([[0.0, 0.0], sure(0.75)]), &labels([0, 1])).unwrap();
        assert!((ece.value() - (0.5 + 0.75) / 2.0).abs() < 1e-6);
    }

    #[test]
    fn certainty_falls_into_the_last_bin() {
        let mut ece = CalibrationError::default();
        ece.update(&output([[100.0, -100.0]]), &labels([0])).unwrap();
        assert_eq!(ece.value(), 0.0);
    }

    #[test]
    fn no_bins_is_an_error() {
        assert!(CalibrationError::default().with_bins(0).unwrap_err().to_string().contains("bins"));
    }
}
