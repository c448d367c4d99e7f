//! Generalised Jensen–Shannon divergence, for token-level distillation.
//!
//! `$$ L = \beta \, \mathrm{KL}(p_t \| m) + (1 - \beta) \, \mathrm{KL}(p_s \| m), \qquad m = \beta p_t + (1 - \beta) p_s $$`
//!
//! Agarwal et al.: *On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes* (GKD), 2024,
//! [arXiv:2306.13649](https://arxiv.org/abs/2306.13649). At the ends the formula itself vanishes; as in TRL, `$\beta = 0$` stands for the forward
//! `$\mathrm{KL}(p_t \| p_s)$` and `$\beta = 1$` for the reverse `$\mathrm{KL}(p_s \| p_t)$`, the directions that small and large `$\beta$` lean to.

use burn::tensor::Tensor;
use burn::tensor::activation::{log_softmax, softplus};
use serde::{Deserialize, Serialize};

use super::labels::Labels;
use super::{LossSettings, TemperatureScale};
use crate::settings::{SettingsError, in_range};
use crate::taps::OUTPUT;
use crate::term::{Probe, Step, Term, TermError, TermParams, Wants};
use crate::value::Kind;

/// Settings of [`GeneralisedJsd`].
///
/// | key | default | range |
/// |---|---|---|
/// | `beta` | 0.5 | 0 (forward KL) to 1 (reverse KL) |
/// | `temperature` | 1 | above 0 |
/// | `scale` | `none` | `none` (the paper and TRL), `linear`, `squared`: factor on the loss |
/// | `ignore-index` | -100 | a label whose position is left out (prompt and padding) |
/// | `class-axis` | -1 | an axis of the output; negative counts from the end |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct GeneralisedJsdSettings {
    /// `$\beta$`.
    pub beta: f64,
    /// Logits are divided by this.
    pub temperature: f64,
    /// Factor on the loss.
    pub scale: TemperatureScale,
    /// Positions with this label do not count.
    pub ignore_index: i64,
    /// Axis of the output that holds the classes.
    pub class_axis: isize,
}

impl Default for GeneralisedJsdSettings {
    fn default() -> Self {
        Self {
            beta: 0.5,
            temperature: 1.0,
            scale: TemperatureScale::None,
            ignore_index: -100,
            class_axis: -1,
        }
    }
}

impl GeneralisedJsdSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`].
    pub fn build(self) -> Result<GeneralisedJsd, SettingsError> {
        in_range("beta", self.beta, (0.0..=1.0).contains(&self.beta), "between 0 and 1")?;
        let fine = self.temperature > 0.0 && self.temperature.is_finite();
        in_range("temperature", self.temperature, fine, "above 0")?;
        Ok(GeneralisedJsd { settings: self })
    }
}

impl LossSettings for GeneralisedJsdSettings {
    type Loss = GeneralisedJsd;
    fn build(self) -> Result<GeneralisedJsd, SettingsError> {
        self.build()
    }
}

/// The loss: see the [settings](GeneralisedJsdSettings) and the [formula](self). As a term it compares the outputs, `[batch, token, class]` or any other rank;
/// with integer targets the ignored positions are left out of the mean, with others every position counts.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_core::losses::GeneralisedJsdSettings;
///
/// let device = Device::flex();
/// let student = Tensor::<2>::from_floats([[30.0, 0.0]], &device);
/// let teacher = Tensor::<2>::from_floats([[0.0, 30.0]], &device);
/// let loss = GeneralisedJsdSettings::default().build()?;
/// let per_token = loss.per_example(student, teacher); // nothing in common: bounded by ln 2
/// assert!((per_token.into_scalar::<f32>() - 2f32.ln()).abs() < 1e-5);
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct GeneralisedJsd {
    settings: GeneralisedJsdSettings,
}

impl GeneralisedJsd {
    /// `student`, `teacher`: `[rows, classes]` logits. Returns `[rows]`.
    pub fn per_example(&self, student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
        let GeneralisedJsdSettings { beta, temperature, scale, .. } = self.settings;
        let student = log_softmax(student.div_scalar(temperature), 1);
        let teacher = log_softmax(teacher.div_scalar(temperature), 1);
        let divergence = if beta == 0.0 {
            kl(teacher, student)
        } else if beta == 1.0 {
            kl(student, teacher)
        } else {
            let mixture = log_add_exp(
                teacher.clone().add_scalar(beta.ln()),
                student.clone().add_scalar((1.0 - beta).ln()),
            );
            kl(teacher, mixture.clone()).mul_scalar(beta) + kl(student, mixture).mul_scalar(1.0 - beta)
        };
        divergence.mul_scalar(scale.factor(temperature))
    }
}

/// `$\mathrm{KL}(p \| q)$` of every row, from logarithms.
fn kl(p: Tensor<2>, q: Tensor<2>) -> Tensor<1> {
    (p.clone().exp() * (p - q)).sum_dim(1).squeeze_dim::<1>(1)
}

/// `$\log(e^a + e^b)$` without overflow.
fn log_add_exp(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    a.clone() + softplus(b - a, 1.0)
}

impl Term for GeneralisedJsd {
    fn wants(&self) -> Wants {
        Wants::outputs()
    }

    fn init(&self, probe: &Probe, _params: &mut TermParams<'_>) -> Result<(), TermError> {
        let shape = probe.student.value(OUTPUT)?.rows(self.settings.class_axis)?.dims();
        let (student, teacher) = (probe.student_shape(OUTPUT)?, probe.teacher_shape(OUTPUT)?);
        let advice = "the divergence needs the same vocabulary and positions on both sides";
        TermError::same_shape("student and teacher logits", &student, &teacher, advice)?;
        if probe.target.kind() == Kind::Int {
            Labels::check(shape, self.settings.ignore_index, probe)?;
        }
        Ok(())
    }

    fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError> {
        let axis = self.settings.class_axis;
        let student = step.student_rows(axis)?;
        let [_, classes] = student.dims();
        let value = self.per_example(student, step.teacher_rows(axis)?);
        match step.target.kind() {
            Kind::Int => {
                let labels = Labels::new(step.labels()?, classes, self.settings.ignore_index);
                Ok(labels.mask_for_mean(value))
            }
            Kind::Float => Ok(value),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::losses::gradient::assert_gradient;
    use burn::tensor::Device;

    fn value(beta: f64, student: [f32; 3], teacher: [f32; 3]) -> f32 {
        let loss = GeneralisedJsdSettings { beta, ..Default::default() }.build().unwrap();
        let [student, teacher] = [student, teacher].map(|x| Tensor::<2>::from_floats([x], &Device::flex()));
        loss.per_example(student, teacher).into_scalar::<f32>()
    }

    #[test]
    fn exchanging_student_and_teacher_exchanges_beta_and_one_minus_beta() {
        let (a, b) = ([0.5, -1.0, 2.0], [1.5, 0.2, -0.7]);
        for beta in [0.0, 0.2, 0.5, 1.0] {
            let (one, other) = (value(beta, a, b), value(1.0 - beta, b, a));
            assert!(one > 0.0 && (one - other).abs() < 1e-6, "beta {beta}: {one} {other}");
        }
    }

    #[test]
    fn distributions_that_share_nothing_are_ln_two_apart() {
        let distance = value(0.5, [300.0, 0.0, 0.0], [0.0, 300.0, 0.0]);
        assert!((distance - 2f32.ln()).abs() < 1e-6, "{distance}");
    }

    #[test]
    fn small_beta_tends_to_beta_times_the_forward_divergence() {
        let (student, teacher) = ([0.5, -1.0, 1.0], [0.7, 0.2, -0.7]);
        let ratio = value(1e-2, student, teacher) / (1e-2 * value(0.0, student, teacher));
        assert!((ratio - 1.0).abs() < 0.05, "{ratio}");
    }

    #[test]
    fn the_gradient_is_the_finite_difference() {
        let device = Device::flex().autodiff();
        let teacher = Tensor::<2>::from_floats([[1.5, 0.2, -0.7]], &device);
        for beta in [0.0, 0.3, 1.0] {
            let loss = GeneralisedJsdSettings { beta, ..Default::default() }.build().unwrap();
            let value = |student| loss.per_example(student, teacher.clone());
            assert_gradient([1, 3], &[0.5, -1.0, 2.0], 1e-2, value);
        }
    }

    #[test]
    fn beta_outside_zero_and_one_is_refused() {
        let error = GeneralisedJsdSettings { beta: 1.5, ..Default::default() }.build().unwrap_err();
        assert_eq!(error.to_string(), "`beta` is 1.5, but it must be between 0 and 1");
    }
}
