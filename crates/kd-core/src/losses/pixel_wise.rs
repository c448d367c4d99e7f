//! Pixel-wise distillation of dense predictions.
//!
//! `$$ L = \frac{T^2}{HW} \sum_{x} \mathrm{KL}\left(\mathrm{softmax}(t_x / T) \,\|\, \mathrm{softmax}(s_x / T)\right) $$`
//!
//! over the positions `$x$` of a map of class scores, with `$T = 1$`. Liu, Chen, Liu et al.: *Structured Knowledge Distillation for Semantic
//! Segmentation*, 2019, [arXiv:1903.04197](https://arxiv.org/abs/1903.04197), beside the [pair-wise](super::PairWise) and the holistic
//! ([`Adversarial`](super::Adversarial)) loss.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::LossSettings;
use super::pairs::TapPairs;
use super::soft_targets::{Divergence, SoftTargets, SoftTargetsSettings};
use crate::settings::SettingsError;
use crate::taps::OUTPUT;
use crate::term::{Probe, Step, Term, TermError, TermParams, Wants};

/// Settings of [`PixelWise`].
///
/// | key | default | meaning or range |
/// |---|---|---|
/// | `student` | the output | student taps: scores `[batch, class, h, w]` |
/// | `teacher` | the output | the teacher taps they follow, of the same shapes |
/// | `temperature` | 1 | above 0 |
/// | `divergence` | `kl` | `kl`, `cross-entropy`; the authors' code has the cross-entropy, whose gradient is the same |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct PixelWiseSettings {
    /// Student taps.
    pub student: Vec<String>,
    /// Teacher taps.
    pub teacher: Vec<String>,
    /// `$T$`.
    pub temperature: f64,
    /// Comparison of the distributions.
    pub divergence: Divergence,
}

impl Default for PixelWiseSettings {
    fn default() -> Self {
        let output = vec![OUTPUT.to_owned()];
        Self { student: output.clone(), teacher: output, temperature: 1.0, divergence: Divergence::default() }
    }
}

impl PixelWiseSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] for a temperature that is not above 0, or lists of taps that are empty or differ in length.
    pub fn build(self) -> Result<PixelWise, SettingsError> {
        let Self { student, teacher, temperature, divergence } = self;
        let soft_targets = SoftTargetsSettings { temperature, divergence, ..Default::default() }.build()?;
        Ok(PixelWise { pairs: TapPairs::new(student, teacher, 1)?, soft_targets })
    }
}

impl LossSettings for PixelWiseSettings {
    type Loss = PixelWise;
    fn build(self) -> Result<PixelWise, SettingsError> {
        self.build()
    }
}

/// The loss: see the [settings](PixelWiseSettings) and the [formula](self).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_core::losses::PixelWiseSettings;
///
/// let loss = PixelWiseSettings::default().build()?;
/// let scores = Tensor::<4>::ones([2, 19, 8, 16], &Device::flex());
/// assert_eq!(loss.per_example(scores.clone() * 3.0, scores).dims(), [2]);
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct PixelWise {
    pairs: TapPairs,
    soft_targets: SoftTargets,
}

impl PixelWise {
    /// `student` and `teacher`: scores `[batch, class, h, w]`, alike. Returns `[batch]`. The authors' code sums over the batch.
    pub fn per_example(&self, student: Tensor<4>, teacher: Tensor<4>) -> Tensor<1> {
        let [batch, classes, height, width] = student.dims();
        let rows = |map: Tensor<4>| map.permute([0, 2, 3, 1]).reshape([batch * height * width, classes]);
        let positions = self.soft_targets.per_example(rows(student), &[rows(teacher)]);
        positions.reshape([batch, height * width]).mean_dim(1).squeeze_dim::<1>(1)
    }
}

impl Term for PixelWise {
    fn wants(&self) -> Wants {
        self.pairs.wants()
    }

    fn init(&self, probe: &Probe, _params: &mut TermParams<'_>) -> Result<(), TermError> {
        let theirs = probe.teachers.first().ok_or(TermError::NoTeacher)?;
        for (student, teacher) in self.pairs.iter() {
            let ours = probe.student.get::<4>(student)?.dims();
            let what = format!("scores of taps `{student}` and `{teacher}`");
            let advice = "compare scores of the same classes and the same height and width";
            TermError::same_shape(&what, &ours, &theirs.get::<4>(teacher)?.dims(), advice)?;
        }
        Ok(())
    }

    fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError> {
        self.pairs
            .sum(|student, teacher| Ok(self.per_example(step.student(student)?, step.teacher(teacher)?)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::gradient::numbers;
    use super::*;
    use crate::{Params, Taps, Value};
    use burn::tensor::activation::softmax;
    use burn::tensor::{Device, Tolerance};

    fn scores(seed: usize, device: &Device) -> Tensor<4> {
        Tensor::<1>::from_floats(numbers(36, seed).as_slice(), device).reshape([2, 3, 2, 3])
    }

    #[test]
    fn the_gradient_is_the_difference_of_probabilities_over_positions() {
        let device = Device::flex().autodiff();
        let student = scores(1, &device).require_grad();
        let loss = PixelWiseSettings::default().build().unwrap();
        let grads = loss.per_example(student.clone(), scores(2, &device)).sum().backward();
        let gradient = student.grad(&grads).unwrap().into_data();
        let difference = softmax(student.inner(), 1) - softmax(scores(2, &device).inner(), 1);
        let expected = difference.div_scalar(6.0).into_data();
        gradient.assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-6));
    }

    #[test]
    fn every_example_has_its_own_value() {
        let device = Device::flex();
        let (student, teacher) = (scores(1, &device), scores(2, &device));
        let mixed = Tensor::cat(vec![teacher.clone().narrow(0, 0, 1), student.narrow(0, 1, 1)], 0);
        let loss = PixelWiseSettings::default().build().unwrap();
        let values = loss.per_example(mixed, teacher).into_data().try_to_vec::<f32>().unwrap();
        assert!(values[0].abs() < 1e-6 && values[1] > 1e-2, "{values:?}");
    }

    #[test]
    fn maps_of_other_sizes_are_refused_before_the_first_step() {
        let device = Device::flex();
        let taps = |shape| {
            let mut taps = Taps::all();
            taps.insert(OUTPUT, Tensor::<4>::ones(shape, &device));
            taps
        };
        let probe = Probe {
            student: taps([2, 3, 4, 4]),
            teachers: vec![taps([2, 3, 8, 8])],
            target: Value::from(Tensor::<1>::ones([2], &device)),
            samples: 2,
            device: device.clone(),
        };
        let loss = PixelWiseSettings::default().build().unwrap();
        let mut params = Params::default();
        let error = loss.init(&probe, &mut TermParams::new(&mut params, "pixels")).unwrap_err();
        assert!(error.to_string().contains("[2, 3, 4, 4] does not fit [2, 3, 8, 8]"), "{error}");
    }
}
