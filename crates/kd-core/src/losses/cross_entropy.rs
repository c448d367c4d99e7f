//! Cross-entropy with hard or probabilistic targets and label smoothing.
//!
//! `$$ L = -\sum_c q_c \log \mathrm{softmax}(s)_c, \qquad q = (1-\varepsilon)\,\mathrm{onehot}(y) + \varepsilon / C $$`
//!
//! Label smoothing: Szegedy et al.: *Rethinking the Inception Architecture*, 2016, [arXiv:1512.00567](https://arxiv.org/abs/1512.00567).
//! The true class receives its share of `$\varepsilon / C$` too, as in PyTorch.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

use super::LossSettings;
use super::labels::Labels;
use crate::settings::{SettingsError, in_range};
use crate::taps::OUTPUT;
use crate::term::{Probe, Step, Term, TermError, TermParams, Wants};
use crate::value::Kind;

/// Settings of [`CrossEntropy`].
///
/// | key | default | range |
/// |---|---|---|
/// | `label-smoothing` | 0 | 0 to 1 |
/// | `class-weights` | none | one weight ≥ 0 per class |
/// | `ignore-index` | -100 | a label that is left out |
/// | `class-axis` | -1 | an axis of the output; negative counts from the end |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct CrossEntropySettings {
    /// `$\varepsilon$`.
    pub label_smoothing: f64,
    /// Weight of every class; empty for equal weights.
    pub class_weights: Vec<f64>,
    /// Positions with this label do not count.
    pub ignore_index: i64,
    /// Axis of the output that holds the classes.
    pub class_axis: isize,
}

impl Default for CrossEntropySettings {
    fn default() -> Self {
        Self { label_smoothing: 0.0, class_weights: Vec::new(), ignore_index: -100, class_axis: -1 }
    }
}

impl CrossEntropySettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`].
    pub fn build(self) -> Result<CrossEntropy, SettingsError> {
        let smoothing = self.label_smoothing;
        in_range("label-smoothing", smoothing, (0.0..=1.0).contains(&smoothing), "between 0 and 1")?;
        let weights = &self.class_weights;
        let fine = weights.iter().all(|w| w.is_finite() && *w >= 0.0);
        in_range("class-weights", format!("{weights:?}"), fine, "0 or more each")?;
        Ok(CrossEntropy { settings: self })
    }
}

impl LossSettings for CrossEntropySettings {
    type Loss = CrossEntropy;
    fn build(self) -> Result<CrossEntropy, SettingsError> {
        self.build()
    }
}

/// The loss: see the [settings](CrossEntropySettings) and the [formula](self).
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use kd_core::losses::CrossEntropySettings;
///
/// let device = Device::flex();
/// let logits = Tensor::<2>::zeros([1, 4], &device);
/// let loss = CrossEntropySettings::default().build()?;
/// let value = loss.per_example(logits, Tensor::<1, Int>::from_ints([2], &device));
/// assert!((value.into_scalar::<f32>() - 4f32.ln()).abs() < 1e-6);
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct CrossEntropy {
    settings: CrossEntropySettings,
}

impl CrossEntropy {
    /// `logits`: `[rows, classes]`, `labels`: `[rows]`. Returns `[rows]`; ignored rows are zero, those whose label is no class NaN. The mean over a batch is the sum of these
    /// divided by the sum of [`row_weights`](Self::row_weights), as in PyTorch.
    pub fn per_example(&self, logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
        let [_, classes] = logits.dims();
        let labels = Labels::new(labels, classes, self.settings.ignore_index);
        let weights = self.class_weights(classes, &logits);
        let weighted = -log_softmax(logits, 1) * weights;
        let smoothing = self.settings.label_smoothing;
        let hard = labels.pick(weighted.clone()).mul_scalar(1.0 - smoothing);
        let smooth = weighted.sum_dim(1).squeeze_dim::<1>(1).mul_scalar(smoothing / classes as f64);
        labels.mask(hard + smooth)
    }

    /// The weight of every row's class, 0 where the label is ignored: `[rows]`. `like` gives classes and device.
    pub fn row_weights(&self, like: &Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
        let [rows, classes] = like.dims();
        let labels = Labels::new(labels, classes, self.settings.ignore_index);
        labels.mask(labels.pick(self.class_weights(classes, like).expand([rows, classes])))
    }

    /// Targets as class probabilities, `[rows, classes]` like the logits. Returns `[rows]`.
    pub fn per_example_soft(&self, logits: Tensor<2>, probabilities: Tensor<2>) -> Tensor<1> {
        let [_, classes] = logits.dims();
        let smoothing = self.settings.label_smoothing;
        let target = probabilities.mul_scalar(1.0 - smoothing).add_scalar(smoothing / classes as f64);
        let weights = self.class_weights(classes, &logits);
        -(log_softmax(logits, 1) * target * weights).sum_dim(1).squeeze_dim::<1>(1)
    }

    fn class_weights(&self, classes: usize, like: &Tensor<2>) -> Tensor<2> {
        match self.settings.class_weights.as_slice() {
            [] => Tensor::ones([1, classes], &like.device()),
            weights => {
                let weights: Vec<f32> = weights.iter().map(|&weight| weight as f32).collect();
                Tensor::<1>::from_floats(weights.as_slice(), &like.device()).reshape([1, weights.len()])
            }
        }
    }
}

impl Term for CrossEntropy {
    fn wants(&self) -> Wants {
        Wants::student_output()
    }

    fn init(&self, probe: &Probe, _params: &mut TermParams<'_>) -> Result<(), TermError> {
        let output = probe.student.value(OUTPUT)?;
        let [rows, classes] = output.rows(self.settings.class_axis)?.dims();
        let weights = self.settings.class_weights.len();
        if weights > 0 {
            TermError::same_shape(
                "classes and class-weights",
                &[classes],
                &[weights],
                "give one weight per class",
            )?;
        }
        match probe.target.kind() {
            Kind::Int => Labels::check([rows, classes], self.settings.ignore_index, probe),
            Kind::Float => {
                let advice = "soft targets are floats, shaped like the scores; hard labels are integers";
                TermError::same_shape("scores and target", &output.shape(), &probe.target.shape(), advice)
            }
        }
    }

    fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError> {
        let axis = self.settings.class_axis;
        let logits = step.student_rows(axis)?;
        if step.target.kind() == Kind::Float {
            return Ok(self.per_example_soft(logits, step.target.rows(axis)?));
        }
        let labels = step.labels()?;
        let weights = self.row_weights(&logits, labels.clone());
        // Scaled so that the objective's plain mean over rows is the weighted mean over the rows that count.
        let scale =
            weights.clone().sum().clamp_min(f32::MIN_POSITIVE).recip().mul_scalar(weights.dims()[0] as f64);
        Ok(self.per_example(logits, labels) * scale)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::tensor::activation::softmax;
    use burn::tensor::{Device, Tolerance};

    fn loss(settings: CrossEntropySettings) -> CrossEntropy {
        settings.build().unwrap()
    }

    #[test]
    fn the_gradient_is_probability_minus_target() {
        let device = Device::flex().autodiff();
        let logits = Tensor::<2>::from_floats([[0.5, -1.0, 2.0]], &device).require_grad();
        let labels = Tensor::<1, Int>::from_ints([1], &device);
        let loss = loss(CrossEntropySettings { label_smoothing: 0.3, ..Default::default() });
        let grads = loss.per_example(logits.clone(), labels).sum().backward();
        let gradient = logits.grad(&grads).unwrap();
        let target = Tensor::<2>::from_floats([[0.1, 0.8, 0.1]], &device.inner());
        let expected = softmax(logits.inner(), 1) - target;
        gradient.into_data().assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-6));
    }

    #[test]
    fn an_ignored_row_has_no_loss_no_weight_and_no_gradient() {
        let device = Device::flex().autodiff();
        let logits = Tensor::<2>::from_floats([[0.5, -1.0], [3.0, 1.0]], &device).require_grad();
        let labels = Tensor::<1, Int>::from_ints([-100, 1], &device);
        let loss = loss(CrossEntropySettings { label_smoothing: 0.1, ..Default::default() });
        let weights = loss.row_weights(&logits, labels.clone()).into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(weights, [0.0, 1.0]);
        let grads = loss.per_example(logits.clone(), labels).sum().backward();
        let gradient = logits.grad(&grads).unwrap().into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(gradient[..2], [0.0, 0.0]);
        assert!(gradient[2] > 0.0);
    }

    #[test]
    fn one_hot_probabilities_give_the_value_of_hard_labels() {
        let device = Device::flex();
        let logits = Tensor::<2>::from_floats([[0.5, -1.0, 2.0]], &device);
        let soft = Tensor::<2>::from_floats([[0.0, 0.0, 1.0]], &device);
        let loss = loss(CrossEntropySettings { label_smoothing: 0.2, ..Default::default() });
        let hard = loss.per_example(logits.clone(), Tensor::from_ints([2], &device));
        let soft = loss.per_example_soft(logits, soft);
        hard.into_data().assert_approx_eq::<f32>(&soft.into_data(), Tolerance::absolute(1e-6));
    }

    #[test]
    fn smoothing_above_one_is_refused() {
        let error = CrossEntropySettings { label_smoothing: 1.5, ..Default::default() }.build().unwrap_err();
        assert_eq!(error.to_string(), "`label-smoothing` is 1.5, but it must be between 0 and 1");
    }
}
