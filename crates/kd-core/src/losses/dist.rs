//! DIST: correlation instead of divergence.
//!
//! `$$ L = \tau^2 \left( \frac{\beta}{B} \sum_i \big(1 - \rho(p^s_{i\cdot}, p^t_{i\cdot})\big) + \frac{\gamma}{C} \sum_c \big(1 - \rho(p^s_{\cdot c}, p^t_{\cdot c})\big) \right) $$`
//!
//! with tempered probabilities `$p$` and Pearson's correlation `$\rho$`: over the classes of every sample (inter-class) and over the samples for every class
//! (intra-class). Huang et al.: *Knowledge Distillation from A Stronger Teacher*, 2022, [arXiv:2205.10536](https://arxiv.org/abs/2205.10536).

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;
use serde::{Deserialize, Serialize};

use super::math::unit;
use super::{LossSettings, TemperatureScale};
use crate::settings::{SettingsError, in_range};
use crate::taps::OUTPUT;
use crate::term::{Probe, Step, Term, TermError, TermParams, Wants};

/// Settings of [`Dist`].
///
/// | key | default | range |
/// |---|---|---|
/// | `beta` | 1 | 0 or more: weight of the inter-class part |
/// | `gamma` | 1 | 0 or more: weight of the intra-class part |
/// | `temperature` | 1 | above 0 |
/// | `scale` | `squared` | `squared` (the authors' code), `linear`, `none`: the factor before the brackets |
/// | `epsilon` | 1e-8 | above 0: the least norm of a centred vector |
/// | `class-axis` | -1 | an axis of the output; negative counts from the end |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct DistSettings {
    /// `$\beta$`.
    pub beta: f64,
    /// `$\gamma$`.
    pub gamma: f64,
    /// `$\tau$`.
    pub temperature: f64,
    /// Factor on the loss.
    pub scale: TemperatureScale,
    /// Centred vectors are divided by `max(norm, epsilon)`.
    pub epsilon: f64,
    /// Axis of the output that holds the classes.
    pub class_axis: isize,
}

impl Default for DistSettings {
    fn default() -> Self {
        Self {
            beta: 1.0,
            gamma: 1.0,
            temperature: 1.0,
            scale: TemperatureScale::default(),
            epsilon: 1e-8,
            class_axis: -1,
        }
    }
}

impl DistSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`].
    pub fn build(self) -> Result<Dist, SettingsError> {
        for (key, weight) in [("beta", self.beta), ("gamma", self.gamma)] {
            in_range(key, weight, weight >= 0.0 && weight.is_finite(), "0 or more")?;
        }
        for (key, value) in [("temperature", self.temperature), ("epsilon", self.epsilon)] {
            in_range(key, value, value > 0.0 && value.is_finite(), "above 0")?;
        }
        Ok(Dist { settings: self })
    }
}

impl LossSettings for DistSettings {
    type Loss = Dist;
    fn build(self) -> Result<Dist, SettingsError> {
        self.build()
    }
}

/// The loss: see the [settings](DistSettings) and the [formula](self).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_core::losses::DistSettings;
///
/// let loss = DistSettings::default().build()?;
/// let teacher = Tensor::<2>::from_floats([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0]], &Device::flex());
/// let agreed = loss.per_example(teacher.clone(), teacher.clone());
/// assert!(agreed.abs().max().into_scalar::<f32>() < 1e-5);
/// let opposed = loss.per_example(-teacher.clone(), teacher);
/// assert!(opposed.min().into_scalar::<f32>() > 1.0); // anticorrelated
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Dist {
    settings: DistSettings,
}

impl Dist {
    /// `$1 - \rho$` over the classes of every row; `student`, `teacher`: `[rows, classes]` logits. Returns `[rows]`.
    pub fn inter_class(&self, student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
        self.decorrelation(student, teacher, 1).squeeze_dim::<1>(1)
    }

    /// `$1 - \rho$` over the rows for every class; `student`, `teacher`: `[rows, classes]` logits. Returns `[classes]`.
    pub fn intra_class(&self, student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
        self.decorrelation(student, teacher, 0).squeeze_dim::<1>(0)
    }

    /// Both parts, weighted and scaled: `[rows]`. The intra-class part belongs to no single row, so every row carries its mean over the classes.
    pub fn per_example(&self, student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
        let DistSettings { beta, gamma, temperature, scale, .. } = self.settings;
        let inter = self.inter_class(student.clone(), teacher.clone()).mul_scalar(beta);
        let intra = self.intra_class(student, teacher).mean().mul_scalar(gamma);
        (inter + intra).mul_scalar(scale.factor(temperature))
    }

    fn decorrelation(&self, student: Tensor<2>, teacher: Tensor<2>, dim: usize) -> Tensor<2> {
        let DistSettings { temperature, epsilon, .. } = self.settings;
        let directions = |logits: Tensor<2>| {
            let probabilities = softmax(logits.div_scalar(temperature), 1);
            unit(probabilities.clone() - probabilities.mean_dim(dim), dim, epsilon)
        };
        -(directions(student) * directions(teacher)).sum_dim(dim) + 1.0
    }
}

impl Term for Dist {
    fn wants(&self) -> Wants {
        Wants::outputs()
    }

    fn init(&self, probe: &Probe, _params: &mut TermParams<'_>) -> Result<(), TermError> {
        probe.student.value(OUTPUT)?.rows(self.settings.class_axis)?;
        let (student, teacher) = (probe.student_shape(OUTPUT)?, probe.teacher_shape(OUTPUT)?);
        let advice = "correlations need the same classes (and positions) on both sides";
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
    use crate::losses::gradient::{assert_gradient, numbers};
    use burn::tensor::Device;

    #[test]
    fn equal_logits_have_no_loss_and_opposite_correlation_has_two() {
        let device = Device::flex();
        let loss = DistSettings::default().build().unwrap();
        let student =
            Tensor::<2>::from_floats([[0.5, -1.0, 2.0], [1.0, 0.0, 0.3], [0.2, 0.7, -1.5]], &device);
        assert!(loss.per_example(student.clone(), student).sum().into_scalar::<f32>().abs() < 1e-5);
        let high = Tensor::<2>::from_floats([[2.0, 0.0]], &device);
        let low = Tensor::<2>::from_floats([[0.0, 5.0]], &device);
        assert!((loss.inter_class(high, low).into_scalar::<f32>() - 2.0).abs() < 1e-6);
    }

    #[test]
    fn the_gradient_is_the_finite_difference() {
        let device = Device::flex().autodiff();
        let loss = DistSettings { gamma: 2.0, temperature: 2.0, ..Default::default() }.build().unwrap();
        let teacher = Tensor::<1>::from_floats(numbers(9, 2).as_slice(), &device).reshape([3, 3]);
        assert_gradient([3, 3], &numbers(9, 1), 1e-2, |student| loss.per_example(student, teacher.clone()));
    }

    #[test]
    fn a_batch_of_one_has_no_intra_class_correlation_and_no_nan() {
        let device = Device::flex().autodiff();
        let student = Tensor::<2>::from_floats([[1.0, 1.0, 1.0]], &device).require_grad();
        let teacher = Tensor::<2>::from_floats([[1.0, 2.0, 3.0]], &device);
        let value = DistSettings::default().build().unwrap().per_example(student.clone(), teacher);
        let gradient =
            student.grad(&value.sum().backward()).unwrap().into_data().try_to_vec::<f32>().unwrap();
        assert!(gradient.iter().all(|g| g.is_finite()), "{gradient:?}");
    }

    #[test]
    fn a_temperature_of_zero_is_refused() {
        let error = DistSettings { temperature: 0.0, ..Default::default() }.build().unwrap_err();
        assert_eq!(error.to_string(), "`temperature` is 0, but it must be above 0");
    }
}
