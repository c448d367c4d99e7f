//! Activation boundaries.
//!
//! `$$ L = \sum_i \begin{cases} \max(0, \mu + r(s)_i)^2 & t_i \le 0 \\ \max(0, \mu - r(s)_i)^2 & t_i > 0 \end{cases} $$`
//!
//! on features *before* the ReLU: the student has to be on the teacher's side of zero, by a margin `$\mu$`; how far the teacher is does not count.
//! Heo et al.: *Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons*, 2019,
//! [arXiv:1811.03233](https://arxiv.org/abs/1811.03233), where it initialises the student before it is trained on the task. Of several pairs the last has weight 1, each one
//! before it half of the next; RepDistiller multiplies all by 3/1000.

use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use serde::{Deserialize, Serialize};

use super::pairs::TapPairs;
use super::{Elements, LossSettings, Ofd, connector};
use crate::settings::{SettingsError, in_range};
use crate::term::{Probe, Step, Term, TermError, TermParams, Wants};

/// Settings of [`ActivationBoundaries`].
///
/// | key | default | meaning |
/// |---|---|---|
/// | `student` | none | student taps before the ReLU |
/// | `teacher` | none | the teacher taps they follow, before the ReLU, as many, with the same height and width |
/// | `margin` | 1 | 0 or more |
/// | `elements` | `sum` | `sum`, `mean` over channels and positions |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ActivationBoundariesSettings {
    /// Student taps.
    pub student: Vec<String>,
    /// Teacher taps.
    pub teacher: Vec<String>,
    /// `$\mu$`.
    pub margin: f64,
    /// Reduction of every example's map.
    pub elements: Elements,
}

impl Default for ActivationBoundariesSettings {
    fn default() -> Self {
        Self { student: Vec::new(), teacher: Vec::new(), margin: 1.0, elements: Elements::default() }
    }
}

impl ActivationBoundariesSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] when there is no pair, the lists differ in length, or the margin is negative.
    pub fn build(self) -> Result<ActivationBoundaries, SettingsError> {
        in_range("margin", self.margin, self.margin >= 0.0 && self.margin.is_finite(), "0 or more")?;
        let pairs = TapPairs::new(self.student, self.teacher, 1)?;
        Ok(ActivationBoundaries { pairs, margin: self.margin, elements: self.elements })
    }
}

impl LossSettings for ActivationBoundariesSettings {
    type Loss = ActivationBoundaries;
    fn build(self) -> Result<ActivationBoundaries, SettingsError> {
        self.build()
    }
}

/// The loss: see the [settings](ActivationBoundariesSettings) and the [formula](self). Where channel counts differ, a pair owns the connector
/// `<student tap>.connector.{weight, gamma, beta}`: 1×1 convolution and batch normalisation.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_core::losses::ActivationBoundariesSettings;
///
/// let taps = || vec!["conv3".to_owned()];
/// let loss = ActivationBoundariesSettings { student: taps(), teacher: taps(), ..Default::default() }.build()?;
/// let map = |x: [f32; 3]| Tensor::<4>::from_floats([[[x]]], &Device::flex());
/// // On the right side by the margin of 1, on the right side by less, on the wrong side.
/// let per_example = loss.per_example(map([5.0, -0.5, -1.0]), map([0.1, -7.0, 0.1]));
/// assert_eq!(per_example.into_scalar::<f32>(), 0.0 + 0.25 + 4.0);
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ActivationBoundaries {
    pairs: TapPairs,
    margin: f64,
    elements: Elements,
}

impl ActivationBoundaries {
    /// The loss of every element: `student`, `teacher` `[batch, channel, h, w]` alike. Returns the same shape.
    pub fn per_element(&self, student: Tensor<4>, teacher: Tensor<4>) -> Tensor<4> {
        let side = teacher.greater_elem(0.0).float().mul_scalar(2.0).sub_scalar(1.0);
        relu(-(student * side) + self.margin).square()
    }

    /// The sum over channels and positions, or their mean, of [`per_element`](Self::per_element): `[batch]`.
    pub fn per_example(&self, student: Tensor<4>, teacher: Tensor<4>) -> Tensor<1> {
        self.elements.reduce(self.per_element(student, teacher))
    }
}

impl Term for ActivationBoundaries {
    fn wants(&self) -> Wants {
        self.pairs.wants()
    }

    fn init(&self, probe: &Probe, params: &mut TermParams<'_>) -> Result<(), TermError> {
        let advice = "boundaries are compared neuron by neuron: choose taps of equal height and width";
        for (student, [from, to]) in self.pairs.equal_maps(probe, advice)? {
            if from != to {
                connector::init(student, [from, to], probe, params)?;
            }
        }
        Ok(())
    }

    fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError> {
        let theirs = step.first_teacher()?;
        let mut weights = Ofd::weights(self.pairs.iter().count()).into_iter();
        self.pairs.sum(|student, teacher| {
            let theirs = theirs.value(teacher)?.as_map()?;
            let mut ours = step.student.value(student)?.as_map()?;
            if ours.dims() != theirs.dims() {
                ours = connector::apply(student, ours, &step.params)?;
            }
            Ok(self.per_example(ours, theirs).mul_scalar(weights.next().unwrap_or(1.0)))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::losses::gradient::{assert_gradient, numbers};
    use burn::tensor::Device;

    fn settings() -> ActivationBoundariesSettings {
        ActivationBoundariesSettings {
            student: vec!["a".into()],
            teacher: vec!["b".into()],
            ..Default::default()
        }
    }

    fn map(numbers: &[f32]) -> Tensor<4> {
        Tensor::<1>::from_floats(numbers, &Device::flex()).reshape([1, 1, 1, numbers.len()])
    }

    #[test]
    fn only_the_teachers_sign_counts_and_a_student_beyond_the_margin_is_free() {
        let loss = settings().build().unwrap();
        let student = map(&[2.0, 0.5, -0.5, -2.0, -1.0, 0.0]);
        let value = loss.per_element(student.clone(), map(&[9.0, 9.0, 9.0, -1.0, -1.0, 0.0])).into_data();
        assert_eq!(value.try_to_vec::<f32>().unwrap(), [0.0, 0.25, 2.25, 0.0, 0.0, 1.0]);
        let larger = loss.per_element(student, map(&[0.1, 0.1, 0.1, -7.0, -7.0, 0.0])).into_data();
        assert_eq!(larger.try_to_vec::<f32>().unwrap(), [0.0, 0.25, 2.25, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn the_gradient_is_the_finite_difference() {
        let device = Device::flex().autodiff();
        let loss = settings().build().unwrap();
        let teacher = Tensor::<1>::from_floats(numbers(12, 2).as_slice(), &device).reshape([2, 2, 1, 3]);
        assert_gradient([2, 2, 1, 3], &numbers(12, 1), 1e-2, |s| loss.per_example(s, teacher.clone()));
    }

    #[test]
    fn a_negative_margin_is_refused() {
        let error = ActivationBoundariesSettings { margin: -1.0, ..settings() }.build().unwrap_err();
        assert_eq!(error.to_string(), "`margin` is -1, but it must be 0 or more");
    }
}
