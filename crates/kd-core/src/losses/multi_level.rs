//! Multi-level logit distillation.
//!
//! `$$ L = \sum_T \Big( \frac{T^2}{B} \sum_i \mathrm{KL}(p^t_i \| p^s_i) + \frac{1}{B} \| P_s P_s^\top - P_t P_t^\top \|_F^2 + \frac{1}{C} \| P_s^\top P_s - P_t^\top P_t \|_F^2 \Big) $$`
//!
//! with probabilities `$P$` (`[batch, class]`) at several temperatures: predictions are aligned per instance, between the samples of a batch and between classes.
//! Jin, Wang, Lin: *Multi-level Logit Distillation*, CVPR 2023. The authors' code also drops unsure samples and compares two augmentations of every image;
//! the loss here is the one of the formula.

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;
use serde::{Deserialize, Serialize};

use super::{LossSettings, SoftTargets, SoftTargetsSettings, Standardize};
use crate::settings::{SettingsError, in_range};
use crate::taps::OUTPUT;
use crate::term::{Probe, Step, Term, TermError, TermParams, Wants};

/// Settings of [`MultiLevel`].
///
/// | key | default | range |
/// |---|---|---|
/// | `temperatures` | 2, 3, 4, 5, 6 | at least one, each above 0 |
/// | `instance`, `batch`, `class` | 1 | 0 or more: weights of the three levels |
/// | `standardize` | `none` | `none`, `population`, `sample`: [`Standardize`] |
/// | `class-axis` | -1 | an axis of the output; negative counts from the end |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct MultiLevelSettings {
    /// The temperatures `$T$` that the loss sums over.
    pub temperatures: Vec<f64>,
    /// Weight of the instance level.
    pub instance: f64,
    /// Weight of the batch level.
    pub batch: f64,
    /// Weight of the class level.
    pub class: f64,
    /// Standardisation of the logits beforehand.
    pub standardize: Standardize,
    /// Axis of the output that holds the classes.
    pub class_axis: isize,
}

impl Default for MultiLevelSettings {
    fn default() -> Self {
        Self {
            temperatures: vec![2.0, 3.0, 4.0, 5.0, 6.0],
            instance: 1.0,
            batch: 1.0,
            class: 1.0,
            standardize: Standardize::default(),
            class_axis: -1,
        }
    }
}

impl MultiLevelSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`].
    pub fn build(self) -> Result<MultiLevel, SettingsError> {
        let temperatures = &self.temperatures;
        let fine = !temperatures.is_empty() && temperatures.iter().all(|t| *t > 0.0 && t.is_finite());
        in_range("temperatures", format!("{temperatures:?}"), fine, "at least one number, each above 0")?;
        for (key, weight) in [("instance", self.instance), ("batch", self.batch), ("class", self.class)] {
            in_range(key, weight, weight >= 0.0 && weight.is_finite(), "0 or more")?;
        }
        let soft = |&temperature| SoftTargetsSettings { temperature, ..Default::default() }.build();
        let instances = temperatures.iter().map(soft).collect::<Result<_, _>>()?;
        Ok(MultiLevel { settings: self, instances })
    }
}

impl LossSettings for MultiLevelSettings {
    type Loss = MultiLevel;
    fn build(self) -> Result<MultiLevel, SettingsError> {
        self.build()
    }
}

/// The loss: see the [settings](MultiLevelSettings) and the [formula](self).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_core::losses::MultiLevelSettings;
///
/// let loss = MultiLevelSettings { temperatures: vec![1.0, 4.0], ..Default::default() }.build()?;
/// let teacher = Tensor::<2>::from_floats([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0]], &Device::flex());
/// let per_example = loss.per_example(teacher.clone(), teacher.clone());
/// assert!(per_example.abs().max().into_scalar::<f32>() < 1e-5);
/// assert!(loss.per_example(-teacher.clone(), teacher).min().into_scalar::<f32>() > 0.1);
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct MultiLevel {
    settings: MultiLevelSettings,
    instances: Vec<SoftTargets>,
}

impl MultiLevel {
    /// Batch level at one temperature; `student`, `teacher`: `[rows, classes]` logits. Returns `[rows]`, whose mean is the formula's second part.
    pub fn batch_level(student: Tensor<2>, teacher: Tensor<2>, temperature: f64) -> Tensor<1> {
        let gram = |logits: Tensor<2>| {
            let p = softmax(logits.div_scalar(temperature), 1);
            p.clone().matmul(p.transpose())
        };
        (gram(student) - gram(teacher)).square().sum_dim(1).squeeze_dim::<1>(1)
    }

    /// Class level at one temperature; `student`, `teacher`: `[rows, classes]` logits. Returns `[classes]`, whose mean is the formula's third part.
    pub fn class_level(student: Tensor<2>, teacher: Tensor<2>, temperature: f64) -> Tensor<1> {
        let gram = |logits: Tensor<2>| {
            let p = softmax(logits.div_scalar(temperature), 1);
            p.clone().transpose().matmul(p)
        };
        (gram(student) - gram(teacher)).square().sum_dim(1).squeeze_dim::<1>(1)
    }

    /// All levels and temperatures: `[rows]`. The class level belongs to no single row, so every row carries its mean over the classes.
    pub fn per_example(&self, student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
        let MultiLevelSettings { instance, batch, class, standardize, .. } = self.settings;
        let (student, teacher) = (standardize.apply(student), standardize.apply(teacher));
        let mut sum = Tensor::zeros([student.dims()[0]], &student.device());
        for (soft, &temperature) in self.instances.iter().zip(&self.settings.temperatures) {
            let per_row = soft.per_example(student.clone(), std::slice::from_ref(&teacher));
            let batch_level = Self::batch_level(student.clone(), teacher.clone(), temperature);
            let class_level = Self::class_level(student.clone(), teacher.clone(), temperature).mean();
            sum = sum + per_row.mul_scalar(instance);
            sum = sum + batch_level.mul_scalar(batch) + class_level.mul_scalar(class);
        }
        sum
    }
}

impl Term for MultiLevel {
    fn wants(&self) -> Wants {
        Wants::outputs()
    }

    fn init(&self, probe: &Probe, _params: &mut TermParams<'_>) -> Result<(), TermError> {
        probe.student.value(OUTPUT)?.rows(self.settings.class_axis)?;
        let (student, teacher) = (probe.student_shape(OUTPUT)?, probe.teacher_shape(OUTPUT)?);
        let advice = "multi-level distillation needs the same classes (and positions) on both sides";
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
    fn swapping_two_samples_on_both_sides_changes_nothing() {
        let device = Device::flex();
        let student = Tensor::<2>::from_floats([[0.5, -1.0, 2.0], [1.0, 0.0, 0.3]], &device);
        let teacher = Tensor::<2>::from_floats([[1.5, 0.2, -0.7], [0.1, 0.9, 2.0]], &device);
        let loss = MultiLevelSettings::default().build().unwrap();
        let value = |s, t| loss.per_example(s, t).mean().into_scalar::<f32>();
        let swapped = value(student.clone().flip([0]), teacher.clone().flip([0]));
        assert!((value(student, teacher) - swapped).abs() < 1e-5 && swapped > 0.1);
    }

    #[test]
    fn two_certain_samples_have_the_levels_counted_by_hand() {
        let device = Device::flex();
        let student = Tensor::<2>::from_floats([[100.0, 0.0], [100.0, 0.0]], &device);
        let teacher = Tensor::<2>::from_floats([[100.0, 0.0], [0.0, 100.0]], &device);
        let batch = MultiLevel::batch_level(student.clone(), teacher.clone(), 1.0);
        assert_eq!(batch.into_data().try_to_vec::<f32>().unwrap(), [1.0, 1.0]);
        let class = MultiLevel::class_level(student, teacher, 1.0);
        assert_eq!(class.into_data().try_to_vec::<f32>().unwrap(), [1.0, 1.0]);
    }

    #[test]
    fn no_temperature_at_all_is_refused() {
        let error = MultiLevelSettings { temperatures: vec![], ..Default::default() }.build().unwrap_err();
        let message = "`temperatures` is [], but it must be at least one number, each above 0";
        assert_eq!(error.to_string(), message);
    }
}
