//! Soft targets.
//!
//! `$$ L = T^2 \, \mathrm{KL}\left(\mathrm{softmax}(t/T) \,\|\, \mathrm{softmax}(s/T)\right) $$`
//!
//! Hinton, Vinyals, Dean: *Distilling the Knowledge in a Neural Network*, 2015, [arXiv:1503.02531](https://arxiv.org/abs/1503.02531).
//! The factor `$T^2$` keeps the gradient's size independent of the temperature; libraries disagree on it, so it has a name here ([`TemperatureScale`]).

use burn::tensor::Tensor;
use burn::tensor::activation::{log_softmax, softmax};
use serde::{Deserialize, Serialize};

use super::{LossSettings, Standardize};
use crate::settings::{SettingsError, in_range};
use crate::taps::OUTPUT;
use crate::term::{Probe, Step, Term, TermError, TermParams, Wants};

/// What the loss is multiplied by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TemperatureScale {
    /// `$T^2$`, as in the paper.
    #[default]
    Squared,
    /// `$T$`, as OKDDip's code does.
    Linear,
    /// 1, as TextBrewer, PocketFlow and TRL do.
    None,
}

impl TemperatureScale {
    /// The factor for `temperature`.
    pub fn factor(self, temperature: f64) -> f64 {
        match self {
            Self::Squared => temperature * temperature,
            Self::Linear => temperature,
            Self::None => 1.0,
        }
    }
}

/// How the two distributions are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Divergence {
    /// `$\mathrm{KL}(t \| s)$`: zero when they agree.
    #[default]
    Kl,
    /// `$-\sum t \log s$`: the same gradient, without the teacher's entropy.
    CrossEntropy,
}

/// How several teachers become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ensemble {
    /// Arithmetic mean of their tempered probabilities.
    #[default]
    Probabilities,
    /// Mean of their logits: the geometric mean of their probabilities, normalised.
    Logits,
}

/// Settings of [`SoftTargets`].
///
/// | key | default | range |
/// |---|---|---|
/// | `temperature` | 4 | above 0 |
/// | `scale` | `squared` | `squared`, `linear`, `none` |
/// | `divergence` | `kl` | `kl`, `cross-entropy` |
/// | `ensemble` | `probabilities` | `probabilities`, `logits` |
/// | `standardize` | `none` | `none`, `population`, `sample`: [`Standardize`] |
/// | `class-axis` | -1 | an axis of the output; negative counts from the end |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct SoftTargetsSettings {
    /// `$T$`: the higher, the softer.
    pub temperature: f64,
    /// Factor on the loss.
    pub scale: TemperatureScale,
    /// Comparison of the distributions.
    pub divergence: Divergence,
    /// Combination of several teachers.
    pub ensemble: Ensemble,
    /// Standardisation of all logits beforehand.
    pub standardize: Standardize,
    /// Axis of the output that holds the classes.
    pub class_axis: isize,
}

impl Default for SoftTargetsSettings {
    fn default() -> Self {
        Self {
            temperature: 4.0,
            scale: TemperatureScale::default(),
            divergence: Divergence::default(),
            ensemble: Ensemble::default(),
            standardize: Standardize::default(),
            class_axis: -1,
        }
    }
}

impl SoftTargetsSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] for a temperature that is not above 0.
    pub fn build(self) -> Result<SoftTargets, SettingsError> {
        let fine = self.temperature > 0.0 && self.temperature.is_finite();
        in_range("temperature", self.temperature, fine, "above 0")?;
        Ok(SoftTargets { settings: self })
    }
}

impl LossSettings for SoftTargetsSettings {
    type Loss = SoftTargets;
    fn build(self) -> Result<SoftTargets, SettingsError> {
        self.build()
    }
}

/// The loss: see the [settings](SoftTargetsSettings) and the [formula](self).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_core::losses::SoftTargetsSettings;
///
/// let loss = SoftTargetsSettings { temperature: 2.0, ..Default::default() }.build()?;
/// let device = Device::flex();
/// let student = Tensor::<2>::from_floats([[1.0, 2.0, 3.0]], &device);
/// let per_example = loss.per_example(student.clone(), &[student]);
/// assert!(per_example.into_scalar::<f32>().abs() < 1e-6); // they agree
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct SoftTargets {
    settings: SoftTargetsSettings,
}

impl SoftTargets {
    /// `student` and every teacher: `[rows, classes]` logits. Returns `[rows]`.
    pub fn per_example(&self, student: Tensor<2>, teachers: &[Tensor<2>]) -> Tensor<1> {
        let SoftTargetsSettings { temperature, scale, divergence, standardize, .. } = self.settings;
        let log_student = log_softmax(standardize.apply(student).div_scalar(temperature), 1);
        let teachers: Vec<_> = teachers.iter().map(|teacher| standardize.apply(teacher.clone())).collect();
        let (probabilities, log_teacher) = self.ensemble(&teachers, &log_student);
        let distance = match divergence {
            Divergence::Kl => probabilities * (log_teacher - log_student),
            Divergence::CrossEntropy => -(probabilities * log_student),
        };
        distance.sum_dim(1).squeeze_dim::<1>(1).mul_scalar(scale.factor(temperature))
    }

    /// The teachers' common probabilities and their logarithm; uniform zeros if there are no teachers, which `init` refuses.
    fn ensemble(&self, teachers: &[Tensor<2>], like: &Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let temperature = self.settings.temperature;
        let sum = |tensors: Vec<Tensor<2>>| {
            tensors.into_iter().reduce(|a, b| a + b).unwrap_or_else(|| like.zeros_like())
        };
        let share = 1.0 / teachers.len().max(1) as f64;
        if teachers.len() > 1 && self.settings.ensemble == Ensemble::Probabilities {
            let each = teachers.iter().map(|t| softmax(t.clone().div_scalar(temperature), 1));
            let mean = sum(each.collect()).mul_scalar(share);
            let log = mean.clone().clamp_min(f32::MIN_POSITIVE).log();
            return (mean, log);
        }
        let log = log_softmax(sum(teachers.to_vec()).mul_scalar(share / temperature), 1);
        (log.clone().exp(), log)
    }
}

impl Term for SoftTargets {
    fn wants(&self) -> Wants {
        Wants::outputs()
    }

    fn init(&self, probe: &Probe, _params: &mut TermParams<'_>) -> Result<(), TermError> {
        let student = probe.student_shape(OUTPUT)?;
        for teacher in &probe.teachers {
            let advice = "soft targets need the same classes (and positions) on both sides";
            TermError::same_shape(
                "student and teacher logits",
                &student,
                &teacher.value(OUTPUT)?.shape(),
                advice,
            )?;
        }
        probe.student.value(OUTPUT)?.rows(self.settings.class_axis)?;
        Ok(())
    }

    fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError> {
        let axis = self.settings.class_axis;
        let rows = |teacher: &crate::Taps| Ok(teacher.value(OUTPUT)?.rows(axis)?);
        let teachers = step.teachers.iter().map(rows).collect::<Result<Vec<_>, TermError>>()?;
        Ok(self.per_example(step.student_rows(axis)?, &teachers))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::tensor::{Device, Tolerance};

    fn loss(temperature: f64, ensemble: Ensemble) -> SoftTargets {
        SoftTargetsSettings { temperature, ensemble, ..Default::default() }.build().unwrap()
    }

    #[test]
    fn the_gradient_is_t_times_the_difference_of_probabilities() {
        let device = Device::flex().autodiff();
        let student = Tensor::<2>::from_floats([[0.5, -1.0, 2.0], [1.0, 0.0, 0.3]], &device).require_grad();
        let teacher = Tensor::<2>::from_floats([[1.5, 0.2, -0.7], [0.1, 0.9, 2.0]], &device);
        let temperature = 3.0;
        let value = loss(temperature, Ensemble::Logits)
            .per_example(student.clone(), std::slice::from_ref(&teacher))
            .sum();
        let gradient = student.grad(&value.backward()).unwrap();
        let expected = (softmax(student.inner() / temperature, 1)
            - softmax(teacher.inner() / temperature, 1))
        .mul_scalar(temperature);
        gradient.into_data().assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-5));
    }

    #[test]
    fn two_teachers_mix_as_probabilities_or_as_logits() {
        let device = Device::flex();
        let teachers = [[[4.0, 0.0]], [[0.0, 0.0]]].map(|t| Tensor::<2>::from_floats(t, &device));
        let p = (1.0 / (1.0 + (-4.0f32).exp()) + 0.5) / 2.0;
        let arithmetic = Tensor::<2>::from_floats([[(p / (1.0 - p)).ln(), 0.0]], &device);
        let geometric = Tensor::<2>::from_floats([[2.0, 0.0]], &device);
        for (kind, equal) in [(Ensemble::Probabilities, arithmetic), (Ensemble::Logits, geometric)] {
            let value = loss(1.0, kind).per_example(equal, &teachers).into_scalar::<f32>();
            assert!(value.abs() < 1e-6, "{kind:?}: {value}");
        }
    }

    #[test]
    fn a_temperature_of_zero_is_refused_with_key_value_and_range() {
        let error = SoftTargetsSettings { temperature: 0.0, ..Default::default() }.build().unwrap_err();
        assert_eq!(error.to_string(), "`temperature` is 0, but it must be above 0");
    }
}
