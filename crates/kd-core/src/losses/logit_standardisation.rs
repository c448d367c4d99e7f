//! Logit standardisation.
//!
//! `$$ z = \frac{x - \bar x}{\sigma(x)}, \qquad L = T^2 \, \mathrm{KL}\left(\mathrm{softmax}(z_t/T) \,\|\, \mathrm{softmax}(z_s/T)\right) $$`
//!
//! The logits of every row lose their mean and their scale before they are compared, so that the student learns the teacher's relations between
//! classes and not its magnitude. Sun et al.: *Logit Standardization in Knowledge Distillation*, 2024,
//! [arXiv:2403.01427](https://arxiv.org/abs/2403.01427). Any loss on logits can follow: soft targets and decoupled distillation have it as an option.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::math::safe_sqrt;
use super::{LossSettings, SoftTargets, SoftTargetsSettings};
use crate::settings::SettingsError;

/// What the standard deviation is enlarged by.
const EPSILON: f64 = 1e-7;

/// Whether logits are standardised, and by which standard deviation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standardize {
    /// Logits are taken as they are.
    #[default]
    None,
    /// `$\sigma^2 = \frac{1}{C} \sum (x - \bar x)^2$`: the paper.
    Population,
    /// `$\sigma^2 = \frac{1}{C-1} \sum (x - \bar x)^2$`: the authors' code and torchdistill.
    Sample,
}

impl Standardize {
    /// `logits`: `[rows, classes]`, likewise the result. The gradient flows through mean and deviation; a constant row becomes zero.
    pub fn apply(self, logits: Tensor<2>) -> Tensor<2> {
        self.apply_with(logits, EPSILON)
    }

    /// As [`apply`](Self::apply), with another number than `$10^{-7}$` added to the deviation.
    pub fn apply_with(self, logits: Tensor<2>, epsilon: f64) -> Tensor<2> {
        let [_, classes] = logits.dims();
        let divisor = match self {
            Self::None => return logits,
            Self::Population => classes,
            Self::Sample => classes.saturating_sub(1),
        };
        let centred = logits.clone() - logits.mean_dim(1);
        let variance = centred.clone().square().sum_dim(1).div_scalar(divisor.max(1) as f64);
        let constant = variance.clone().equal_elem(0.0);
        centred / safe_sqrt(variance).add_scalar(epsilon).mask_fill(constant, 1.0)
    }
}

/// Settings of soft targets on standardised logits.
///
/// | key | default | range |
/// |---|---|---|
/// | `temperature` | 2 | above 0 |
/// | `deviation` | `population` | `population`, `sample`; `none` leaves the logits alone |
/// | `class-axis` | -1 | an axis of the output; negative counts from the end |
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_core::losses::LogitStandardisationSettings;
///
/// let loss = LogitStandardisationSettings::default().build()?;
/// let teacher = Tensor::<2>::from_floats([[3.0, 1.0, 0.0]], &Device::flex());
/// let per_example = loss.per_example(teacher.clone() * 2.0 + 5.0, &[teacher]); // shift and scale do not matter
/// assert!(per_example.into_scalar::<f32>().abs() < 1e-5);
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct LogitStandardisationSettings {
    /// `$T$`, on the scale of standardised logits.
    pub temperature: f64,
    /// The standard deviation that logits are divided by.
    pub deviation: Standardize,
    /// Axis of the output that holds the classes.
    pub class_axis: isize,
}

impl Default for LogitStandardisationSettings {
    fn default() -> Self {
        Self { temperature: 2.0, deviation: Standardize::Population, class_axis: -1 }
    }
}

impl LogitStandardisationSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] for a temperature that is not above 0.
    pub fn build(self) -> Result<SoftTargets, SettingsError> {
        let Self { temperature, deviation: standardize, class_axis } = self;
        SoftTargetsSettings { temperature, standardize, class_axis, ..Default::default() }.build()
    }
}

impl LossSettings for LogitStandardisationSettings {
    type Loss = SoftTargets;
    fn build(self) -> Result<SoftTargets, SettingsError> {
        self.build()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::tensor::{Device, Tolerance};

    #[test]
    fn every_row_has_mean_zero_and_deviation_one() {
        let logits = Tensor::<2>::from_floats([[1.0, 2.0, 6.0], [-5.0, 0.0, 40.0]], &Device::flex());
        for (kind, divisor) in [(Standardize::Population, 3.0), (Standardize::Sample, 2.0)] {
            let z = kind.apply(logits.clone());
            let moments = Tensor::cat(vec![z.clone().sum_dim(1), z.square().sum_dim(1) / divisor], 1);
            let expected = Tensor::<2>::from_floats([[0.0, 1.0], [0.0, 1.0]], &Device::flex());
            moments.into_data().assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-5));
        }
    }

    #[test]
    fn shifted_and_stretched_logits_give_the_same_loss() {
        let device = Device::flex();
        let student = Tensor::<2>::from_floats([[0.3, -1.0, 2.0, 0.1]], &device);
        let teacher = Tensor::<2>::from_floats([[1.0, 0.0, 0.5, 3.0]], &device);
        let loss = LogitStandardisationSettings::default().build().unwrap();
        let value = |student| loss.per_example(student, std::slice::from_ref(&teacher)).into_scalar::<f32>();
        let (plain, moved) = (value(student.clone()), value(student * 7.0 + 2.0));
        assert!(plain > 0.01 && (plain - moved).abs() < 1e-5, "{plain} {moved}");
    }

    #[test]
    fn constant_logits_have_a_finite_gradient() {
        let device = Device::flex().autodiff();
        let logits = Tensor::<2>::full([1, 3], 2.0, &device).require_grad();
        let teacher = Tensor::<2>::from_floats([[1.0, 2.0, 4.0]], &device);
        let loss = LogitStandardisationSettings::default().build().unwrap();
        let grads = loss.per_example(logits.clone(), &[teacher]).sum().backward();
        let gradient = logits.grad(&grads).unwrap().into_data().try_to_vec::<f32>().unwrap();
        assert!(gradient.iter().all(|g| g.is_finite() && g.abs() < 10.0), "{gradient:?}");
    }

    #[test]
    fn a_negative_temperature_is_refused() {
        let settings = LogitStandardisationSettings { temperature: -1.0, ..Default::default() };
        assert_eq!(settings.build().unwrap_err().to_string(), "`temperature` is -1, but it must be above 0");
    }
}
