//! Logit regression.
//!
//! `$$ L = \frac{1}{C} \sum_c \left( \frac{s_c - t_c}{T} \right)^2 $$`
//!
//! Ba, Caruana: *Do Deep Nets Really Need to be Deep?*, 2014, [arXiv:1312.6184](https://arxiv.org/abs/1312.6184), with `$T = 1$`; TextBrewer divides
//! by a temperature.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::LossSettings;
use crate::settings::{SettingsError, in_range};
use crate::taps::OUTPUT;
use crate::term::{Probe, Step, Term, TermError, TermParams, Wants};

/// Settings of [`LogitMse`].
///
/// | key | default | range |
/// |---|---|---|
/// | `temperature` | 1 | above 0 |
/// | `class-axis` | -1 | an axis of the output; negative counts from the end |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct LogitMseSettings {
    /// `$T$`.
    pub temperature: f64,
    /// Axis of the output that holds the classes.
    pub class_axis: isize,
}

impl Default for LogitMseSettings {
    fn default() -> Self {
        Self { temperature: 1.0, class_axis: -1 }
    }
}

impl LogitMseSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] for a temperature that is not above 0.
    pub fn build(self) -> Result<LogitMse, SettingsError> {
        let fine = self.temperature > 0.0 && self.temperature.is_finite();
        in_range("temperature", self.temperature, fine, "above 0")?;
        Ok(LogitMse { settings: self })
    }
}

impl LossSettings for LogitMseSettings {
    type Loss = LogitMse;
    fn build(self) -> Result<LogitMse, SettingsError> {
        self.build()
    }
}

/// The loss: see the [settings](LogitMseSettings) and the [formula](self).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_core::losses::LogitMseSettings;
///
/// let loss = LogitMseSettings::default().build()?;
/// let logits = |x| Tensor::<2>::from_floats([x], &Device::flex());
/// let per_example = loss.per_example(logits([1.0, 2.0]), logits([1.0, 6.0]));
/// assert_eq!(per_example.into_scalar::<f32>(), 8.0); // (0² + 4²) / 2
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct LogitMse {
    settings: LogitMseSettings,
}

impl LogitMse {
    /// `student` and `teacher`: `[rows, classes]` logits. Returns `[rows]`.
    pub fn per_example(&self, student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
        let difference = (student - teacher).div_scalar(self.settings.temperature);
        difference.square().mean_dim(1).squeeze_dim::<1>(1)
    }
}

impl Term for LogitMse {
    fn wants(&self) -> Wants {
        Wants::outputs()
    }

    fn init(&self, probe: &Probe, _params: &mut TermParams<'_>) -> Result<(), TermError> {
        probe.student.value(OUTPUT)?.rows(self.settings.class_axis)?;
        let advice = "logit regression needs the same classes (and positions) on both sides";
        let (student, teacher) = (probe.student_shape(OUTPUT)?, probe.teacher_shape(OUTPUT)?);
        TermError::same_shape("student and teacher logits", &student, &teacher, advice)
    }

    fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError> {
        let axis = self.settings.class_axis;
        Ok(self.per_example(step.student_rows(axis)?, step.teacher_rows(axis)?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn the_gradient_is_twice_the_difference_over_classes_and_squared_temperature() {
        let device = Device::flex().autodiff();
        let student = Tensor::<2>::from_floats([[1.0, 3.0]], &device).require_grad();
        let teacher = Tensor::<2>::from_floats([[0.0, 5.0]], &device);
        let loss = LogitMseSettings { temperature: 2.0, ..Default::default() }.build().unwrap();
        let grads = loss.per_example(student.clone(), teacher).sum().backward();
        let gradient = student.grad(&grads).unwrap().into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(gradient, [0.25, -0.5]);
    }
}
