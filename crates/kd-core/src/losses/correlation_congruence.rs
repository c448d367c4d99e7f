//! Correlation congruence.
//!
//! `$$ L = \frac{1}{B^2} \left\| K_t - K_s \right\|_F^2, \qquad
//!    K_{ij} = e^{-2\gamma} \sum_{p=0}^{P} \frac{(2\gamma)^p}{p!} (x_i \cdot x_j)^p $$`
//!
//! The kernel is the Taylor expansion of `$\exp(-\gamma \|x_i - x_j\|^2)$` for features of unit length. Peng, Jin, Liu et al.: *Correlation Congruence for
//! Knowledge Distillation*, 2019, [arXiv:1904.01802](https://arxiv.org/abs/1904.01802), which adds it to soft targets. Public codes compute three
//! different things under this name ([`Congruence`]).

use burn::tensor::{Distribution, Tensor};
use serde::{Deserialize, Serialize};

use super::LossSettings;
use super::math::{EPSILON, safe_sqrt, unit};
use super::pairs::TapPairs;
use crate::settings::{SettingsError, in_range};
use crate::term::{Probe, Step, Term, TermError, TermParams, Wants};

/// How two examples are correlated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kernel {
    /// The Taylor expansion above.
    #[default]
    Gaussian,
    /// `$x_i \cdot x_j$`.
    Bilinear,
}

/// How student and teacher are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Congruence {
    /// `$\frac{1}{B^2} \|K_t - K_s\|_F^2$`, as in the paper and Knowledge-Distillation-Zoo.
    #[default]
    MeanSquare,
    /// `$\frac{1}{B^2} \|K_t - K_s\|_F$`, not squared, as torchdistill does (with `normalize = false`).
    Frobenius,
    /// `$\frac{1}{B-1} \sum_i |s_i - t_i| \cdot |s_{i+1} - t_{i+1}|$`, elementwise absolute values, as RepDistiller does (with `normalize = false`): no
    /// kernel, and the order of the batch matters. Widths that differ get a learned linear map.
    AdjacentPairs,
}

/// Settings of [`CorrelationCongruence`].
///
/// | key | default | meaning or range |
/// |---|---|---|
/// | `student` | none | student taps: embeddings (maps are flattened) |
/// | `teacher` | none | the teacher taps they follow, as many |
/// | `congruence` | `mean-square` | `mean-square`, `frobenius`, `adjacent-pairs` |
/// | `kernel` | `gaussian` | `gaussian`, `bilinear` |
/// | `gamma` | 0.4 | above 0 |
/// | `order` | 2 | the highest power, 1 to 20 |
/// | `normalize` | true | features at unit length first |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct CorrelationCongruenceSettings {
    /// Student taps.
    pub student: Vec<String>,
    /// Teacher taps.
    pub teacher: Vec<String>,
    /// Comparison of student and teacher.
    pub congruence: Congruence,
    /// Correlation of two examples.
    pub kernel: Kernel,
    /// `$\gamma$` of the Gaussian kernel.
    pub gamma: f64,
    /// `$P$` of the Gaussian kernel.
    pub order: usize,
    /// Whether features are brought to unit length.
    pub normalize: bool,
}

impl Default for CorrelationCongruenceSettings {
    fn default() -> Self {
        Self {
            student: Vec::new(),
            teacher: Vec::new(),
            congruence: Congruence::default(),
            kernel: Kernel::default(),
            gamma: 0.4,
            order: 2,
            normalize: true,
        }
    }
}

impl CorrelationCongruenceSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] for a value outside the range in the table, or lists of taps that are empty or differ in length.
    pub fn build(self) -> Result<CorrelationCongruence, SettingsError> {
        in_range("gamma", self.gamma, self.gamma > 0.0 && self.gamma.is_finite(), "above 0")?;
        in_range("order", self.order, (1..=20).contains(&self.order), "between 1 and 20")?;
        let pairs = TapPairs::new(self.student.clone(), self.teacher.clone(), 1)?;
        Ok(CorrelationCongruence { pairs, settings: self })
    }
}

impl LossSettings for CorrelationCongruenceSettings {
    type Loss = CorrelationCongruence;
    fn build(self) -> Result<CorrelationCongruence, SettingsError> {
        self.build()
    }
}

/// The loss: see the [settings](CorrelationCongruenceSettings) and the [formula](self). With [`Congruence::AdjacentPairs`] and widths that differ, every
/// pair owns `<student tap>.embedding` of shape `[student features, teacher features]`.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_core::losses::CorrelationCongruenceSettings;
///
/// let taps = vec!["embedding".to_owned()];
/// let settings = CorrelationCongruenceSettings { student: taps.clone(), teacher: taps, ..Default::default() };
/// let teacher = Tensor::<2>::from_floats([[0.0, 1.0], [1.0, 0.0], [0.8, 0.6]], &Device::flex());
/// let per_example = settings.build()?.per_example(teacher.clone() * 2.0, teacher); // the same directions
/// assert!(per_example.sum().into_scalar::<f32>() < 1e-6);
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct CorrelationCongruence {
    pairs: TapPairs,
    settings: CorrelationCongruenceSettings,
}

impl CorrelationCongruence {
    /// `student` and `teacher`: `[batch, features]`, of equal widths for adjacent pairs. Returns one value per row of the correlation
    /// matrix, `[batch]`, or per adjacent pair, `[batch - 1]` (one zero for a batch of one); the mean is the loss.
    pub fn per_example(&self, student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
        let normalize = |x| if self.settings.normalize { unit(x, 1, EPSILON) } else { x };
        let (student, teacher) = (normalize(student), normalize(teacher));
        let [batch, _] = student.dims();
        let squares = |student, teacher| (self.kernel(student) - self.kernel(teacher)).square();
        match self.settings.congruence {
            Congruence::MeanSquare => squares(student, teacher).mean_dim(1).squeeze_dim::<1>(1),
            Congruence::Frobenius => {
                // Every row's share of the norm: the shares sum to it.
                let rows = squares(student, teacher).sum_dim(1).squeeze_dim::<1>(1);
                let norm = safe_sqrt(rows.clone().sum()).clamp_min(f64::from(f32::MIN_POSITIVE).sqrt());
                rows / norm.mul_scalar(batch as f64)
            }
            Congruence::AdjacentPairs => {
                let distance = (student - teacher).abs();
                if batch < 2 {
                    return distance.sum_dim(1).squeeze_dim::<1>(1).mul_scalar(0.0);
                }
                let next = distance.clone().narrow(0, 1, batch - 1);
                (distance.narrow(0, 0, batch - 1) * next).sum_dim(1).squeeze_dim::<1>(1)
            }
        }
    }

    /// `$K$`, `[batch, features]` to `[batch, batch]`.
    fn kernel(&self, features: Tensor<2>) -> Tensor<2> {
        let dot = features.clone().matmul(features.transpose());
        if self.settings.kernel == Kernel::Bilinear {
            return dot;
        }
        let gamma2 = 2.0 * self.settings.gamma;
        // Horner: 1 + z (1 + z/2 (1 + z/3 (...))), with z = 2 gamma dot.
        let start = dot.ones_like();
        let sum = (1..=self.settings.order)
            .rev()
            .fold(start, |sum, p| (sum * dot.clone()).mul_scalar(gamma2 / p as f64).add_scalar(1.0));
        sum.mul_scalar((-gamma2).exp())
    }
}

impl Term for CorrelationCongruence {
    fn wants(&self) -> Wants {
        self.pairs.wants()
    }

    fn init(&self, probe: &Probe, params: &mut TermParams<'_>) -> Result<(), TermError> {
        self.pairs.check_relations(probe)?;
        let theirs = probe.teachers.first().ok_or(TermError::NoTeacher)?;
        for (student, teacher) in self.pairs.iter() {
            let [_, from] = probe.student.value(student)?.per_sample()?.dims();
            let [_, to] = theirs.value(teacher)?.per_sample()?.dims();
            if self.settings.congruence == Congruence::AdjacentPairs && from != to {
                let bound = (3.0 / from.max(1) as f64).sqrt();
                let range = Distribution::Uniform(-bound, bound);
                params.insert(&embedding(student), Tensor::<2>::random([from, to], range, &probe.device))?;
            }
        }
        Ok(())
    }

    fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError> {
        let theirs = step.first_teacher()?;
        self.pairs.sum(|student, teacher| {
            let theirs = theirs.value(teacher)?.per_sample()?;
            let mut ours = step.student.value(student)?.per_sample()?;
            if self.settings.congruence == Congruence::AdjacentPairs && ours.dims() != theirs.dims() {
                ours = ours.matmul(step.params.get(&embedding(student))?);
            }
            Ok(self.per_example(ours, theirs))
        })
    }
}

fn embedding(student: &str) -> String {
    format!("{student}.embedding")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::gradient::{assert_gradient, numbers};
    use super::*;
    use burn::tensor::Device;

    fn settings(congruence: Congruence) -> CorrelationCongruenceSettings {
        let taps = vec!["embedding".to_owned()];
        let settings =
            CorrelationCongruenceSettings { student: taps.clone(), teacher: taps, ..Default::default() };
        CorrelationCongruenceSettings { congruence, ..settings }
    }

    fn tensor(batch: usize, features: usize, seed: usize, device: &Device) -> Tensor<2> {
        Tensor::<1>::from_floats(numbers(batch * features, seed).as_slice(), device)
            .reshape([batch, features])
    }

    #[test]
    fn every_gradient_matches_central_differences() {
        let teacher = tensor(4, 3, 1, &Device::flex().autodiff());
        for congruence in [Congruence::MeanSquare, Congruence::Frobenius, Congruence::AdjacentPairs] {
            for (kernel, normalize) in [(Kernel::Gaussian, true), (Kernel::Bilinear, false)] {
                let settings = CorrelationCongruenceSettings { kernel, normalize, ..settings(congruence) };
                let loss = settings.build().unwrap();
                assert_gradient([4, 3], &numbers(12, 2), 2e-2, |x| loss.per_example(x, teacher.clone()));
            }
        }
    }

    #[test]
    fn a_high_order_is_the_gaussian_kernel_itself() {
        let device = Device::flex();
        let (gamma, x) = (0.4, unit(tensor(4, 3, 1, &device), 1, EPSILON));
        let settings = CorrelationCongruenceSettings { order: 12, gamma, ..settings(Congruence::MeanSquare) };
        let kernel = settings.build().unwrap().kernel(x.clone());
        let squares = super::super::relations::distances(x).square();
        let gaussian = squares.mul_scalar(-gamma).exp();
        assert!((kernel - gaussian).abs().max().into_scalar::<f32>() < 1e-6);
    }

    #[test]
    fn agreement_has_no_loss_and_no_gradient() {
        let device = Device::flex().autodiff();
        for congruence in [Congruence::MeanSquare, Congruence::Frobenius, Congruence::AdjacentPairs] {
            let student = tensor(4, 3, 1, &device).require_grad();
            let value =
                settings(congruence).build().unwrap().per_example(student.clone(), tensor(4, 3, 1, &device));
            assert_eq!(value.clone().sum().into_scalar::<f32>(), 0.0);
            let gradient = student.grad(&value.sum().backward()).unwrap();
            assert_eq!(gradient.into_data().try_to_vec::<f32>().unwrap(), [0.0; 12]);
        }
    }

    #[test]
    fn an_order_of_zero_is_refused() {
        let settings = CorrelationCongruenceSettings { order: 0, ..settings(Congruence::MeanSquare) };
        assert_eq!(
            settings.build().unwrap_err().to_string(),
            "`order` is 0, but it must be between 1 and 20"
        );
    }
}
