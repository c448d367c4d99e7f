//! Large-margin softmax.
//!
//! `$$ L = -\log \frac{e^{\|w_y\| \|x\| \psi(\theta_y)}}{e^{\|w_y\| \|x\| \psi(\theta_y)} + \sum_{j \ne y} e^{w_j \cdot x}}, \qquad
//!    \psi(\theta) = (-1)^k \cos(m \theta) - 2k, \quad \theta \in \left[ \tfrac{k \pi}{m}, \tfrac{(k+1) \pi}{m} \right] $$`
//!
//! A softmax classifier over embeddings `$x$` with learned class weights `$w$`, in which the angle to the own class has to be `$m$` times smaller.
//! Liu, Wen, Yu, Yang: *Large-Margin Softmax Loss for Convolutional Neural Networks*, 2016, [arXiv:1612.02295](https://arxiv.org/abs/1612.02295).

use std::f64::consts::PI;

use burn::tensor::activation::log_softmax;
use burn::tensor::{Distribution, Int, Tensor};
use serde::{Deserialize, Serialize};

use super::LossSettings;
use super::labels::Labels;
use super::math::{EPSILON, norm, unit};
use super::triplet::check_embedding;
use crate::schedule::Schedule;
use crate::settings::{SettingsError, in_range};
use crate::taps::OUTPUT;
use crate::term::{Probe, Step, Term, TermError, TermParams, Wants};

/// The label whose rows do not count, as in [`CrossEntropy`](super::CrossEntropy).
const IGNORED: i64 = -100;

/// Settings of [`LargeMarginSoftmax`].
///
/// | key | default | meaning or range |
/// |---|---|---|
/// | `embedding` | the output | student tap: embeddings `[batch, features]` |
/// | `classes` | none | number of classes, at least 2 |
/// | `margin` | 2 | `$m$`, a whole number from 1 (the plain softmax) to 8 |
/// | `lambda` | 0 | weight of the plain softmax beside the margin, a number or a schedule |
///
/// With `lambda` `$\lambda$` the own class scores `$\|w\| \|x\| (\lambda \cos \theta + \psi(\theta)) / (1 + \lambda)$`. The paper starts with a large one and lowers it, as a
/// hard margin is difficult from scratch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct LargeMarginSoftmaxSettings {
    /// Student tap.
    pub embedding: String,
    /// Number of classes.
    pub classes: usize,
    /// `$m$`.
    pub margin: usize,
    /// `$\lambda$`.
    pub lambda: Schedule,
}

impl Default for LargeMarginSoftmaxSettings {
    fn default() -> Self {
        Self { embedding: OUTPUT.to_owned(), classes: 0, margin: 2, lambda: Schedule::Constant(0.0) }
    }
}

impl LargeMarginSoftmaxSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] for fewer than two classes, a margin outside its range, or a schedule that is none.
    pub fn build(self) -> Result<LargeMarginSoftmax, SettingsError> {
        in_range("classes", self.classes, self.classes >= 2, "at least 2")?;
        in_range("margin", self.margin, (1..=8).contains(&self.margin), "between 1 and 8")?;
        self.lambda.validate()?;
        Ok(LargeMarginSoftmax { settings: self })
    }
}

impl LossSettings for LargeMarginSoftmaxSettings {
    type Loss = LargeMarginSoftmax;
    fn build(self) -> Result<LargeMarginSoftmax, SettingsError> {
        self.build()
    }
}

/// The loss: see the [settings](LargeMarginSoftmaxSettings) and the [formula](self). It owns the parameter `weight` of shape `[features, classes]`.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use kd_core::losses::LargeMarginSoftmaxSettings;
///
/// let loss = LargeMarginSoftmaxSettings { classes: 2, margin: 4, ..Default::default() }.build()?;
/// let device = Device::flex();
/// let embeddings = Tensor::<2>::from_floats([[0.0, 1.0], [1.0, 0.0], [0.0, 2.0]], &device);
/// let labels = Tensor::<1, Int>::from_ints([0, 1, 0], &device);
/// let weight = Tensor::<2>::from_floats([[0.0, 1.0], [1.0, 0.0]], &device); // `[features, classes]`
/// let per_example = loss.per_example(embeddings, weight, labels, 0.0);
/// assert!(per_example.max().into_scalar::<f32>() < 0.4); // right, at an angle of zero
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct LargeMarginSoftmax {
    settings: LargeMarginSoftmaxSettings,
}

impl LargeMarginSoftmax {
    /// `embeddings`: `[batch, features]`, `weight`: `[features, classes]`, `labels`: `[batch]`, below the number of classes, or -100 for one that does not count. Returns `[batch]`.
    pub fn per_example(
        &self,
        embeddings: Tensor<2>,
        weight: Tensor<2>,
        labels: Tensor<1, Int>,
        lambda: f64,
    ) -> Tensor<1> {
        let lengths = norm(embeddings.clone(), 1).matmul(norm(weight.clone(), 0));
        let cosine = unit(embeddings, 1, EPSILON).matmul(unit(weight, 0, EPSILON));
        let [_, classes] = cosine.dims();
        let labels = Labels::new(labels, classes, IGNORED);
        let own = labels.one_hot(classes).float();
        // Only the own class's score changes, by the difference of the two functions of the angle.
        let change = (self.psi(cosine.clone()) - cosine.clone()).div_scalar(1.0 + lambda.max(0.0));
        let scores = lengths * (cosine + change * own);
        labels.mask(-labels.pick(log_softmax(scores, 1)))
    }

    /// `$\psi$` of the angle whose cosine is given. As `$\cos(m \theta)$` is a polynomial of `$\cos \theta$` (Chebyshev's), no angle is needed, whose gradient
    /// would be infinite at 0 and `$\pi$`.
    fn psi(&self, cosine: Tensor<2>) -> Tensor<2> {
        let margin = self.settings.margin;
        let (mut before, mut multiple) = (cosine.ones_like(), cosine.clone());
        for _ in 1..margin {
            let next = (cosine.clone() * multiple.clone()).mul_scalar(2.0) - before;
            (before, multiple) = (multiple, next);
        }
        let (mut k, mut sign) = (cosine.zeros_like(), cosine.ones_like());
        for j in 1..margin {
            let beyond = cosine.clone().lower_equal_elem((j as f64 * PI / margin as f64).cos()).float();
            sign = sign * beyond.clone().mul_scalar(-2.0).add_scalar(1.0);
            k = k + beyond;
        }
        sign * multiple - k.mul_scalar(2.0)
    }
}

impl Term for LargeMarginSoftmax {
    fn wants(&self) -> Wants {
        Wants { student: vec![self.settings.embedding.clone()], ..Wants::student_output() }
    }

    fn init(&self, probe: &Probe, params: &mut TermParams<'_>) -> Result<(), TermError> {
        let Self { settings: LargeMarginSoftmaxSettings { embedding, classes, .. } } = self;
        check_embedding(probe, embedding)?;
        let [batch, features] = probe.student.get::<2>(embedding)?.dims();
        Labels::check([batch, *classes], IGNORED, probe)?;
        let bound = (3.0 / features.max(1) as f64).sqrt();
        let range = Distribution::Uniform(-bound, bound);
        params.insert("weight", Tensor::<2>::random([features, *classes], range, &probe.device))
    }

    fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError> {
        let embeddings = step.student(&self.settings.embedding)?;
        let lambda = self.settings.lambda.at(step.time);
        Ok(self.per_example(embeddings, step.params.get("weight")?, step.labels()?, lambda))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::gradient::{assert_gradient, numbers};
    use super::*;
    use crate::losses::CrossEntropySettings;
    use burn::tensor::Device;

    fn loss(margin: usize) -> LargeMarginSoftmax {
        LargeMarginSoftmaxSettings { classes: 3, margin, ..Default::default() }.build().unwrap()
    }

    fn weight(device: &Device) -> Tensor<2> {
        Tensor::<1>::from_floats(numbers(12, 4).as_slice(), device).reshape([4, 3])
    }

    #[test]
    fn both_gradients_match_central_differences() {
        let device = Device::flex().autodiff();
        let labels = Tensor::<1, Int>::from_ints([0, 2, 1, 1, 0], &device);
        let embeddings = Tensor::<1>::from_floats(numbers(20, 1).as_slice(), &device).reshape([5, 4]);
        for (margin, lambda) in [(2, 0.0), (3, 1.0), (4, 0.0)] {
            let loss = loss(margin);
            assert_gradient([5, 4], &numbers(20, 1), 2e-2, |x| {
                loss.per_example(x, weight(&device), labels.clone(), lambda)
            });
            assert_gradient([4, 3], &numbers(12, 4), 2e-2, |w| {
                loss.per_example(embeddings.clone(), w, labels.clone(), lambda)
            });
        }
    }

    #[test]
    fn psi_is_its_definition_falls_monotonically_and_ends_at_one_minus_twice_the_margin() {
        let device = Device::flex();
        for margin in 1..=5 {
            let angles: Vec<f64> = (0..=60).map(|i| i as f64 * PI / 60.0).collect();
            let cosines: Vec<f32> = angles.iter().map(|angle| angle.cos() as f32).collect();
            let cosines = Tensor::<1>::from_floats(cosines.as_slice(), &device).unsqueeze::<2>();
            let values = loss(margin).psi(cosines).into_data().try_to_vec::<f32>().unwrap();
            for (angle, value) in angles.iter().zip(&values) {
                let k = (angle * margin as f64 / PI).floor().min(margin as f64 - 1.0);
                let sign = if k % 2.0 == 0.0 { 1.0 } else { -1.0 };
                let expected = sign * (margin as f64 * angle).cos() - 2.0 * k;
                assert!((f64::from(*value) - expected).abs() < 1e-4, "m = {margin}, {angle}: {value}");
            }
            assert!(values.windows(2).all(|pair| pair[1] < pair[0] + 1e-5));
            assert!((values[60] - (1.0 - 2.0 * margin as f32)).abs() < 1e-4);
        }
    }

    #[test]
    fn a_margin_of_one_is_the_plain_softmax_and_a_larger_one_costs_more() {
        let device = Device::flex();
        let labels = Tensor::<1, Int>::from_ints([0, 2, 1], &device);
        let x = Tensor::<1>::from_floats(numbers(12, 2).as_slice(), &device).reshape([3, 4]);
        let plain = CrossEntropySettings::default().build().unwrap();
        let plain = plain.per_example(x.clone().matmul(weight(&device)), labels.clone());
        let value =
            |margin, lambda| loss(margin).per_example(x.clone(), weight(&device), labels.clone(), lambda);
        assert!((value(1, 0.0) - plain.clone()).abs().max().into_scalar::<f32>() < 1e-5);
        assert!((value(4, 1e9) - plain.clone()).abs().max().into_scalar::<f32>() < 1e-5);
        assert!((value(2, 0.0) - plain).min().into_scalar::<f32>() > 0.0);
    }

    #[test]
    fn a_zero_embedding_takes_a_finite_gradient() {
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::zeros([1, 4], &device).require_grad();
        let value = loss(3).per_example(x.clone(), weight(&device), Tensor::from_ints([1], &device), 0.0);
        let gradient = x.grad(&value.sum().backward()).unwrap().into_data().try_to_vec::<f32>().unwrap();
        assert!(gradient.iter().all(|g| g.is_finite()), "{gradient:?}");
    }

    #[test]
    fn the_number_of_classes_must_be_given() {
        let error = LargeMarginSoftmaxSettings::default().build().unwrap_err();
        assert_eq!(error.to_string(), "`classes` is 0, but it must be at least 2");
    }
}
