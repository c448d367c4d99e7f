//! Variational information distillation.
//!
//! `$$ L = \frac{1}{2\,CHW} \sum_{c,h,w} \left( \log \sigma_c^2 + \frac{(t_{chw} - \mu(s)_{chw})^2}{\sigma_c^2} \right), \qquad \sigma_c^2 = \mathrm{softplus}(\alpha_c) + \varepsilon $$`
//!
//! A lower bound on the mutual information of teacher and student features is maximised: a learned regressor `$\mu$` (three 1×1 convolutions without bias, ReLU between)
//! predicts the teacher's map from the student's, with a learned variance per channel. Ahn et al.: *Variational Information Distillation for Knowledge Transfer*, 2019,
//! [arXiv:1904.05835](https://arxiv.org/abs/1904.05835). The paper sums over the elements; its authors' code, as here, takes the mean.

use burn::tensor::Tensor;
use burn::tensor::activation::{relu, softplus};
use serde::{Deserialize, Serialize};

use super::pairs::TapPairs;
use super::pooling::{pool_larger, poolable};
use super::{LossSettings, adapter};
use crate::settings::{SettingsError, in_range};
use crate::term::{Probe, Step, Term, TermError, TermParams, Wants};

/// Settings of [`Vid`].
///
/// | key | default | meaning |
/// |---|---|---|
/// | `student` | none | student taps |
/// | `teacher` | none | the teacher taps they predict, as many; the larger of two maps is average-pooled to the smaller |
/// | `hidden-channels` | as the teacher's | channels inside the regressor |
/// | `initial-variance` | 5 | above `epsilon` |
/// | `epsilon` | 1e-5 | above 0: the least variance |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct VidSettings {
    /// Student taps.
    pub student: Vec<String>,
    /// Teacher taps.
    pub teacher: Vec<String>,
    /// Channels inside the regressor; the teacher's if not given.
    pub hidden_channels: Option<usize>,
    /// `$\sigma_c^2$` before the first step.
    pub initial_variance: f64,
    /// `$\varepsilon$`.
    pub epsilon: f64,
}

impl Default for VidSettings {
    fn default() -> Self {
        Self {
            student: Vec::new(),
            teacher: Vec::new(),
            hidden_channels: None,
            initial_variance: 5.0,
            epsilon: 1e-5,
        }
    }
}

impl VidSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`].
    pub fn build(self) -> Result<Vid, SettingsError> {
        let Self { student, teacher, hidden_channels, initial_variance, epsilon } = self;
        in_range("hidden-channels", 0, hidden_channels != Some(0), "1 or more")?;
        in_range("epsilon", epsilon, epsilon > 0.0 && epsilon.is_finite(), "above 0")?;
        let fine = initial_variance > epsilon && initial_variance.is_finite();
        in_range("initial-variance", initial_variance, fine, format!("above `epsilon`: {epsilon}"))?;
        Ok(Vid { pairs: TapPairs::new(student, teacher, 1)?, hidden_channels, initial_variance, epsilon })
    }
}

impl LossSettings for VidSettings {
    type Loss = Vid;
    fn build(self) -> Result<Vid, SettingsError> {
        self.build()
    }
}

/// The loss: see the [settings](VidSettings) and the [formula](self). Every pair owns `<student tap>.regressor.{0, 1, 2}` and `<student tap>.log_scale` (`$\alpha$`).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_core::losses::{Vid, VidSettings};
///
/// let taps = || vec!["stage3".to_owned()];
/// let loss = VidSettings { student: taps(), teacher: taps(), ..Default::default() }.build()?;
/// let device = Device::flex();
/// let log_scale = Tensor::<1>::full([2], Vid::initial_log_scale(1.0, 1e-5), &device); // a variance of 1
/// let prediction = Tensor::<4>::ones([1, 2, 4, 4], &device);
/// let per_example = loss.per_example(prediction.clone(), prediction + 2.0, log_scale);
/// assert!((per_example.into_scalar::<f32>() - 2.0).abs() < 1e-5); // 2² / 2
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Vid {
    pairs: TapPairs,
    hidden_channels: Option<usize>,
    initial_variance: f64,
    epsilon: f64,
}

impl Vid {
    /// `$\alpha$` whose variance is `variance`, which is above `epsilon`.
    pub fn initial_log_scale(variance: f64, epsilon: f64) -> f64 {
        let excess = variance - epsilon;
        excess + (-(-excess).exp()).ln_1p()
    }

    /// `$\mu$`: `map` `[batch, channel, h, w]` through 1×1 convolutions `[to, from]` with ReLU between them.
    pub fn regress(map: Tensor<4>, weights: [Tensor<2>; 3]) -> Tensor<4> {
        let [first, second, third] = weights;
        let hidden = relu(adapter::project(map, first));
        adapter::project(relu(adapter::project(hidden, second)), third)
    }

    /// Student's and teacher's map, the larger average-pooled to the size of the smaller.
    pub fn pool(student: Tensor<4>, teacher: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        pool_larger(student, teacher)
    }

    /// `prediction` `$\mu(s)$` and `teacher`: `[batch, channel, h, w]`, alike; `log_scale`: `[channel]`. Returns `[batch]`.
    pub fn per_example(&self, prediction: Tensor<4>, teacher: Tensor<4>, log_scale: Tensor<1>) -> Tensor<1> {
        let variance = softplus(log_scale, 1.0).add_scalar(self.epsilon).unsqueeze_dims::<4>(&[0, 2, 3]);
        let nats = (prediction - teacher).square() / variance.clone() + variance.log();
        nats.flatten::<2>(1, 3).mean_dim(1).squeeze_dim::<1>(1).mul_scalar(0.5)
    }
}

impl Term for Vid {
    fn wants(&self) -> Wants {
        self.pairs.wants()
    }

    fn init(&self, probe: &Probe, params: &mut TermParams<'_>) -> Result<(), TermError> {
        for (student, teacher) in self.pairs.iter() {
            let ours = probe.student.value(student)?.as_map()?.dims();
            let theirs = probe.teachers.first().ok_or(TermError::NoTeacher)?.value(teacher)?;
            let theirs = theirs.as_map()?.dims();
            poolable(&format!("taps `{student}` and `{teacher}`"), &ours, &theirs)?;
            let (from, to) = (ours[1], theirs[1]);
            let hidden = self.hidden_channels.unwrap_or(to);
            let layers = [[from, hidden], [hidden, hidden], [hidden, to]];
            for (layer, channels) in layers.into_iter().enumerate() {
                let weight = adapter::weight(channels, &probe.device);
                params.insert(&format!("{student}.regressor.{layer}"), weight)?;
            }
            let log_scale = Self::initial_log_scale(self.initial_variance, self.epsilon);
            let log_scale = Tensor::<1>::full([to], log_scale, &probe.device);
            params.insert(&format!("{student}.log_scale"), log_scale)?;
        }
        Ok(())
    }

    fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError> {
        let theirs = step.first_teacher()?;
        self.pairs.sum(|student, teacher| {
            let ours = step.student.value(student)?.as_map()?;
            let (ours, theirs) = Self::pool(ours, theirs.value(teacher)?.as_map()?);
            let weight = |layer: usize| step.params.get::<2>(&format!("{student}.regressor.{layer}"));
            let prediction = Self::regress(ours, [weight(0)?, weight(1)?, weight(2)?]);
            Ok(self.per_example(prediction, theirs, step.params.get(&format!("{student}.log_scale"))?))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::losses::gradient::{assert_gradient, numbers};
    use burn::tensor::Device;

    fn settings() -> VidSettings {
        VidSettings { student: vec!["a".into()], teacher: vec!["b".into()], ..Default::default() }
    }

    #[test]
    fn the_initial_variance_is_the_one_asked_for() {
        for variance in [1e-3, 5.0, 2000.0] {
            let log_scale = Vid::initial_log_scale(variance, 1e-5);
            let softplus = log_scale.max(0.0) + (-log_scale.abs()).exp().ln_1p();
            assert!((softplus + 1e-5 - variance).abs() < 1e-9 * variance.max(1.0), "{variance}: {log_scale}");
        }
    }

    #[test]
    fn the_best_variance_is_the_mean_square_error() {
        let device = Device::flex().autodiff();
        let prediction = Tensor::<4>::zeros([2, 1, 1, 2], &device);
        let teacher = Tensor::<1>::from_floats([1.0, -3.0, 2.0, 0.0], &device).reshape([2, 1, 1, 2]);
        let best = Vid::initial_log_scale(14.0 / 4.0, 1e-5) as f32;
        let log_scale = Tensor::<1>::from_floats([best], &device).require_grad();
        let value = settings().build().unwrap().per_example(prediction, teacher, log_scale.clone());
        let gradient = log_scale.grad(&value.mean().backward()).unwrap().into_scalar::<f32>();
        assert!(gradient.abs() < 1e-6, "{gradient}");
    }

    #[test]
    fn the_gradients_are_finite_differences() {
        let device = Device::flex().autodiff();
        let tensor = |n, seed| Tensor::<1>::from_floats(numbers(n, seed).as_slice(), &device);
        let loss = settings().build().unwrap();
        let weights =
            || [tensor(6, 1).reshape([3, 2]), tensor(9, 2).reshape([3, 3]), tensor(6, 3).reshape([2, 3])];
        let teacher = tensor(16, 4).reshape([2, 2, 2, 2]);
        assert_gradient([2, 2, 2, 2], &numbers(16, 5), 0.05, |student| {
            loss.per_example(Vid::regress(student, weights()), teacher.clone(), tensor(2, 6))
        });
        assert_gradient([2], &numbers(2, 6), 0.01, |log_scale| {
            loss.per_example(tensor(16, 7).reshape([2, 2, 2, 2]), teacher.clone(), log_scale)
        });
    }

    #[test]
    fn a_variance_below_epsilon_is_refused() {
        let error = VidSettings { initial_variance: 1e-6, ..settings() }.build().unwrap_err().to_string();
        assert_eq!(error, "`initial-variance` is 0.000001, but it must be above `epsilon`: 0.00001");
    }
}
