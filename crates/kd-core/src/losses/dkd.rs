//! Decoupled knowledge distillation.
//!
//! `$$ L = T^2 \left( \alpha \, \mathrm{KL}(b_t \| b_s) + \beta \, \mathrm{KL}(\hat p_t \| \hat p_s) \right) $$`
//!
//! The divergence of tempered probabilities falls into two parts: `$b = (p_y, 1 - p_y)$` compares the true class with the rest (target-class part),
//! `$\hat p$` compares the other classes among themselves (non-target part), which plain distillation weights by the teacher's `$1 - p_y$`.
//! Zhao et al.: *Decoupled Knowledge Distillation*, 2022, [arXiv:2203.08679](https://arxiv.org/abs/2203.08679).

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

use super::labels::Labels;
use super::math::log_sum_exp;
use super::{LossSettings, Standardize, TemperatureScale};
use crate::settings::{SettingsError, in_range};
use crate::taps::OUTPUT;
use crate::term::{Probe, Step, Term, TermError, TermParams, Wants};

/// A logit that no other can come near: its probability is exactly zero.
const EXCLUDED: f32 = -1e9;

/// Settings of [`Dkd`].
///
/// | key | default | range |
/// |---|---|---|
/// | `alpha` | 1 | 0 or more: weight of the target-class part |
/// | `beta` | 8 | 0 or more: weight of the non-target part |
/// | `temperature` | 4 | above 0 |
/// | `scale` | `squared` | `squared`, `linear`, `none`: the factor before the brackets |
/// | `standardize` | `none` | `none`, `population`, `sample`: [`Standardize`] |
/// | `ignore-index` | -100 | a label that is left out |
/// | `class-axis` | -1 | an axis of the output; negative counts from the end |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct DkdSettings {
    /// `$\alpha$`.
    pub alpha: f64,
    /// `$\beta$`.
    pub beta: f64,
    /// `$T$`.
    pub temperature: f64,
    /// Factor on the loss.
    pub scale: TemperatureScale,
    /// Standardisation of the logits beforehand.
    pub standardize: Standardize,
    /// Positions with this label do not count.
    pub ignore_index: i64,
    /// Axis of the output that holds the classes.
    pub class_axis: isize,
}

impl Default for DkdSettings {
    fn default() -> Self {
        Self {
            alpha: 1.0,
            beta: 8.0,
            temperature: 4.0,
            scale: TemperatureScale::default(),
            standardize: Standardize::default(),
            ignore_index: -100,
            class_axis: -1,
        }
    }
}

impl DkdSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] for a negative weight or a temperature that is not above 0.
    pub fn build(self) -> Result<Dkd, SettingsError> {
        for (key, weight) in [("alpha", self.alpha), ("beta", self.beta)] {
            in_range(key, weight, weight >= 0.0 && weight.is_finite(), "0 or more")?;
        }
        let fine = self.temperature > 0.0 && self.temperature.is_finite();
        in_range("temperature", self.temperature, fine, "above 0")?;
        Ok(Dkd { settings: self })
    }
}

impl LossSettings for DkdSettings {
    type Loss = Dkd;
    fn build(self) -> Result<Dkd, SettingsError> {
        self.build()
    }
}

/// The loss: see the [settings](DkdSettings) and the [formula](self).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_core::losses::DkdSettings;
///
/// let device = Device::flex();
/// let teacher = Tensor::<2>::from_floats([[3.0, 1.0, 0.0]], &device);
/// let student = teacher.clone() + Tensor::from_floats([[5.0, 0.0, 0.0]], &device); // surer of class 0, the rest alike
/// let labels = Tensor::from_ints([0], &device);
/// let value = |alpha, beta| -> Result<f32, kd_core::SettingsError> {
///     let loss = DkdSettings { alpha, beta, ..Default::default() }.build()?;
///     Ok(loss.per_example(student.clone(), teacher.clone(), labels.clone()).into_scalar::<f32>())
/// };
/// assert!(value(1.0, 0.0)? > 0.1); // the target-class part sees it
/// assert!(value(0.0, 1.0)?.abs() < 1e-5); // the non-target part does not
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Dkd {
    settings: DkdSettings,
}

impl Dkd {
    /// `student`, `teacher`: `[rows, classes]` logits with at least two classes; `labels`: `[rows]`. Returns `[rows]`; ignored rows are zero, those whose label is no class NaN.
    pub fn per_example(&self, student: Tensor<2>, teacher: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
        let [_, classes] = student.dims();
        let labels = Labels::new(labels, classes, self.settings.ignore_index);
        let value = self.per_row(student, teacher, &labels);
        labels.mask(value)
    }

    fn per_row(&self, student: Tensor<2>, teacher: Tensor<2>, labels: &Labels) -> Tensor<1> {
        let DkdSettings { alpha, beta, temperature, scale, .. } = self.settings;
        let (student, teacher) = (self.split(student, labels), self.split(teacher, labels));
        let kl = |t: Tensor<1>, s: Tensor<1>| t.clone().exp() * (t - s);
        let target = kl(teacher.own, student.own) + kl(teacher.rest, student.rest);
        let others = teacher.others.clone().exp() * (teacher.others - student.others);
        let others = others.sum_dim(1).squeeze_dim::<1>(1);
        (target.mul_scalar(alpha) + others.mul_scalar(beta)).mul_scalar(scale.factor(temperature))
    }

    fn split(&self, logits: Tensor<2>, labels: &Labels) -> Split {
        let [_, classes] = logits.dims();
        let tempered = self.settings.standardize.apply(logits).div_scalar(self.settings.temperature);
        let own_class = labels.one_hot(classes);
        let log = log_softmax(tempered.clone(), 1);
        let rest = log_sum_exp(log.clone().mask_fill(own_class.clone(), EXCLUDED), 1);
        Split {
            own: labels.pick(log),
            rest: rest.squeeze_dim::<1>(1),
            others: log_softmax(tempered.mask_fill(own_class, EXCLUDED), 1),
        }
    }
}

/// Logarithms of tempered probabilities.
struct Split {
    /// Of the true class, `[rows]`.
    own: Tensor<1>,
    /// Of all other classes together, `[rows]`.
    rest: Tensor<1>,
    /// Of every other class among the others, `[rows, classes]`; `$e$` to it is 0 at the true class.
    others: Tensor<2>,
}

impl Term for Dkd {
    fn wants(&self) -> Wants {
        Wants::outputs()
    }

    fn init(&self, probe: &Probe, _params: &mut TermParams<'_>) -> Result<(), TermError> {
        let [rows, classes] = probe.student.value(OUTPUT)?.rows(self.settings.class_axis)?.dims();
        let (student, teacher) = (probe.student_shape(OUTPUT)?, probe.teacher_shape(OUTPUT)?);
        let advice = "decoupled distillation needs the same classes on both sides";
        TermError::same_shape("student and teacher logits", &student, &teacher, advice)?;
        if classes < 2 {
            let advice = "decoupled distillation needs at least two classes";
            TermError::same_shape("number of classes", &[classes], &[2], advice)?;
        }
        Labels::check([rows, classes], self.settings.ignore_index, probe)
    }

    fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError> {
        let axis = self.settings.class_axis;
        let student = step.student_rows(axis)?;
        let [_, classes] = student.dims();
        let labels = Labels::new(step.labels()?, classes, self.settings.ignore_index);
        let value = self.per_row(student, step.teacher_rows(axis)?, &labels);
        Ok(labels.mask_for_mean(value))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::losses::SoftTargetsSettings;
    use crate::losses::gradient::{assert_gradient, numbers};
    use burn::tensor::Device;
    use burn::tensor::activation::softmax;

    fn logits(device: &Device) -> (Tensor<2>, Tensor<2>) {
        let student = Tensor::from_floats([[0.5, -1.0, 2.0, 0.0], [1.0, 0.0, 0.3, -0.4]], device);
        let teacher = Tensor::from_floats([[1.5, 0.2, -0.7, 0.4], [0.1, 0.9, 2.0, 0.0]], device);
        (student, teacher)
    }

    fn loss(alpha: f64, beta: f64) -> Dkd {
        DkdSettings { alpha, beta, temperature: 2.0, ..Default::default() }.build().unwrap()
    }

    #[test]
    fn the_parts_with_their_natural_weights_add_up_to_soft_targets() {
        let device = Device::flex();
        let (student, teacher) = logits(&device);
        let labels = Tensor::<1, Int>::from_ints([2, 0], &device);
        let soft = SoftTargetsSettings { temperature: 2.0, ..Default::default() }.build().unwrap();
        let soft = soft
            .per_example(student.clone(), std::slice::from_ref(&teacher))
            .into_data()
            .try_to_vec::<f32>()
            .unwrap();
        let own = softmax(teacher.clone() / 2.0, 1).into_data().try_to_vec::<f32>().unwrap();
        let parts = [(1.0, 0.0), (0.0, 1.0)].map(|(alpha, beta)| {
            let value = loss(alpha, beta).per_example(student.clone(), teacher.clone(), labels.clone());
            value.into_data().try_to_vec::<f32>().unwrap()
        });
        for (row, target) in [(0, own[2]), (1, own[4])] {
            let sum = parts[0][row] + (1.0 - target) * parts[1][row];
            assert!((sum - soft[row]).abs() < 1e-5, "row {row}: {sum} {}", soft[row]);
        }
    }

    #[test]
    fn the_gradient_is_the_finite_difference() {
        let device = Device::flex().autodiff();
        let (_, teacher) = logits(&device);
        let labels = Tensor::<1, Int>::from_ints([2, 0], &device);
        assert_gradient([2, 4], &numbers(8, 1), 1e-2, |student| {
            loss(1.0, 8.0).per_example(student, teacher.clone(), labels.clone())
        });
    }

    #[test]
    fn an_ignored_row_is_zero_and_a_certain_teacher_gives_no_nan() {
        let device = Device::flex().autodiff();
        let student = Tensor::<2>::from_floats([[1.0, 0.0, 3.0], [0.0, 500.0, 0.0]], &device).require_grad();
        let teacher = Tensor::<2>::from_floats([[1.0, 2.0, 3.0], [900.0, 0.0, 0.0]], &device);
        let labels = Tensor::<1, Int>::from_ints([-100, 0], &device);
        let value = loss(1.0, 8.0).per_example(student.clone(), teacher, labels);
        let gradient = student.grad(&value.clone().sum().backward()).unwrap();
        assert_eq!(value.into_data().try_to_vec::<f32>().unwrap()[0], 0.0);
        let gradient = gradient.into_data().try_to_vec::<f32>().unwrap();
        assert!(gradient.iter().all(|g| g.is_finite()) && gradient[..3] == [0.0; 3], "{gradient:?}");
    }

    #[test]
    fn a_negative_weight_is_refused() {
        let error = DkdSettings { beta: -1.0, ..Default::default() }.build().unwrap_err();
        assert_eq!(error.to_string(), "`beta` is -1, but it must be 0 or more");
    }
}
