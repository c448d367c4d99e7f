//! Neuron selectivity transfer.
//!
//! `$$ L = \frac{1}{C_T^2} \sum_{i,i'} k(t_i, t_{i'}) + \frac{1}{C_S^2} \sum_{j,j'} k(s_j, s_{j'}) - \frac{2}{C_T C_S} \sum_{i,j} k(t_i, s_j) $$`
//!
//! The squared maximum mean discrepancy between two sets of directions: every channel of a map, flattened over its positions and scaled to length one, is
//! one sample of what a neuron selects. Channel counts need not match; of two maps of different size the larger is average-pooled first.
//! Huang, Wang: *Like What You Like: Knowledge Distill via Neuron Selectivity Transfer*, 2017, [arXiv:1707.01219](https://arxiv.org/abs/1707.01219).
//! The paper's and all public code's kernel is the polynomial one with `$d = 2$`, `$c = 0$`.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::LossSettings;
use super::math::{EPSILON, unit};
use super::pairs::TapPairs;
use super::pooling::{pool_larger, poolable};
use crate::settings::{SettingsError, in_range};
use crate::term::{Probe, Step, Term, TermError, TermParams, Wants};

/// The kernel `$k(x, y)$`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NstKernel {
    /// `$x^\top y$`: compares the mean directions only.
    Linear,
    /// `$(x^\top y + c)^d$`.
    #[default]
    Polynomial,
    /// `$\exp(-\|x - y\|^2 / 2\sigma^2)$`, where `$\sigma^2$` is the example's mean squared distance between a teacher's and a student's channel, taken
    /// as a constant.
    Gaussian,
}

/// Settings of [`Nst`].
///
/// | key | default | range |
/// |---|---|---|
/// | `student` | none | student taps: maps `[batch, channel, h, w]` |
/// | `teacher` | none | the teacher taps they follow, as many |
/// | `kernel` | `polynomial` | `linear`, `polynomial`, `gaussian` |
/// | `degree` | 2 | at least 1; polynomial only |
/// | `offset` | 0 | at least 0; polynomial only |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct NstSettings {
    /// Student taps.
    pub student: Vec<String>,
    /// Teacher taps.
    pub teacher: Vec<String>,
    /// `$k$`.
    pub kernel: NstKernel,
    /// `$d$`.
    pub degree: u32,
    /// `$c$`.
    pub offset: f64,
}

impl Default for NstSettings {
    fn default() -> Self {
        Self {
            student: Vec::new(),
            teacher: Vec::new(),
            kernel: NstKernel::default(),
            degree: 2,
            offset: 0.0,
        }
    }
}

impl NstSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] for a degree of 0, a negative offset, no pair of taps or lists of different length.
    pub fn build(self) -> Result<Nst, SettingsError> {
        in_range("degree", self.degree, self.degree >= 1, "at least 1")?;
        let fine = self.offset >= 0.0 && self.offset.is_finite();
        in_range("offset", self.offset, fine, "at least 0")?;
        let pairs = TapPairs::new(self.student.clone(), self.teacher.clone(), 1)?;
        Ok(Nst { pairs, settings: self })
    }
}

impl LossSettings for NstSettings {
    type Loss = Nst;
    fn build(self) -> Result<Nst, SettingsError> {
        self.build()
    }
}

/// The loss: see the [settings](NstSettings) and the [formula](self). The terms of several pairs are added.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use kd_core::losses::NstSettings;
///
/// let taps = || vec!["stage3".to_owned()];
/// let loss = NstSettings { student: taps(), teacher: taps(), ..Default::default() }.build()?;
/// let map = Tensor::<4>::random([2, 6, 4, 4], Distribution::Default, &Device::flex());
/// let shuffled = map.clone().flip([1]); // the order of the channels does not matter
/// assert!(loss.per_example(map, shuffled).sum().into_scalar::<f32>().abs() < 1e-5);
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Nst {
    pairs: TapPairs,
    settings: NstSettings,
}

impl Nst {
    /// `student` and `teacher`: features `[batch, channel, h, w]` of any channels and size. Returns `[batch]`.
    pub fn per_example(&self, student: Tensor<4>, teacher: Tensor<4>) -> Tensor<1> {
        let (student, teacher) = pool_larger(student, teacher);
        let directions = |map: Tensor<4>| unit(map.flatten::<3>(2, 3), 2, EPSILON);
        let (student, teacher) = (directions(student), directions(teacher));
        let variance = match self.settings.kernel {
            NstKernel::Gaussian => Some(mean(squared_distances(&teacher, &student)).detach()),
            NstKernel::Linear | NstKernel::Polynomial => None,
        };
        let kernel = |x: &Tensor<3>, y: &Tensor<3>| mean(self.kernel(x, y, variance.clone()));
        let value = kernel(&teacher, &teacher) + kernel(&student, &student)
            - kernel(&teacher, &student).mul_scalar(2.0);
        value.reshape([-1])
    }

    /// `[batch, channels of x, channels of y]`.
    fn kernel(&self, x: &Tensor<3>, y: &Tensor<3>, variance: Option<Tensor<3>>) -> Tensor<3> {
        if let Some(variance) = variance {
            let width = variance.mul_scalar(2.0).clamp_min(EPSILON);
            return (-squared_distances(x, y) / width).exp();
        }
        let products = x.clone().matmul(y.clone().swap_dims(1, 2));
        if self.settings.kernel == NstKernel::Linear {
            return products;
        }
        let base = products.add_scalar(self.settings.offset);
        // Repeated multiplication: the base may be negative, and its gradient at zero is exact.
        (1..self.settings.degree).fold(base.clone(), |power, _| power * base.clone())
    }
}

/// `[batch, n, positions]` and `[batch, m, positions]` to `[batch, n, m]`.
fn squared_distances(x: &Tensor<3>, y: &Tensor<3>) -> Tensor<3> {
    let squares = |x: &Tensor<3>| x.clone().square().sum_dim(2);
    let products = x.clone().matmul(y.clone().swap_dims(1, 2));
    (squares(x) + squares(y).swap_dims(1, 2) - products.mul_scalar(2.0)).clamp_min(0.0)
}

/// Mean over all but the batch, `[batch, 1, 1]`.
fn mean(matrices: Tensor<3>) -> Tensor<3> {
    matrices.mean_dim(2).mean_dim(1)
}

impl Term for Nst {
    fn wants(&self) -> Wants {
        self.pairs.wants()
    }

    fn init(&self, probe: &Probe, _params: &mut TermParams<'_>) -> Result<(), TermError> {
        let theirs = probe.teachers.first().ok_or(TermError::NoTeacher)?;
        self.pairs.iter().try_for_each(|(student, teacher)| {
            let (ours, theirs) = (probe.student.get::<4>(student)?, theirs.get::<4>(teacher)?);
            poolable(&format!("sizes of taps `{student}` and `{teacher}`"), &ours.dims(), &theirs.dims())
        })
    }

    fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError> {
        self.pairs
            .sum(|student, teacher| Ok(self.per_example(step.student(student)?, step.teacher(teacher)?)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::gradient::{assert_gradient, numbers};
    use super::*;
    use burn::tensor::Device;

    const KERNELS: [NstKernel; 3] = [NstKernel::Linear, NstKernel::Polynomial, NstKernel::Gaussian];

    fn loss(kernel: NstKernel, degree: u32, offset: f64) -> Nst {
        let taps = || vec!["map".to_owned()];
        NstSettings { student: taps(), teacher: taps(), kernel, degree, offset }.build().unwrap()
    }

    fn maps(device: &Device, data: &[f32], channels: usize) -> Tensor<4> {
        Tensor::<1>::from_floats(data, device).reshape([1, channels, 1, data.len() / channels])
    }

    #[test]
    fn every_kernel_gives_the_value_computed_by_hand() {
        // Student (1, 0); teacher (1, 0) and (0, 1). Cosines: tt = [1, 0; 0, 1], ss = 1, ts = [1, 0].
        let device = Device::flex();
        let (student, teacher) = (maps(&device, &[2.0, 0.0], 1), maps(&device, &[3.0, 0.0, 0.0, 1.0], 2));
        // Squared distances: 0 and 2 everywhere; the variance is the mean of 0 and 2.
        let far = (-1f32).exp();
        for (kernel, degree, offset, expected) in [
            (NstKernel::Linear, 1, 0.0, 0.5 + 1.0 - 2.0 * 0.5),
            (NstKernel::Polynomial, 2, 0.0, 0.5 + 1.0 - 2.0 * 0.5),
            (NstKernel::Polynomial, 3, 1.0, 4.5 + 8.0 - 2.0 * 4.5),
            (NstKernel::Gaussian, 2, 0.0, (1.0 + far) / 2.0 + 1.0 - (1.0 + far)),
        ] {
            let value = loss(kernel, degree, offset).per_example(student.clone(), teacher.clone());
            let value = value.into_scalar::<f32>();
            assert!((value - expected).abs() < 1e-5, "{kernel:?} {degree} {offset}: {value} {expected}");
        }
    }

    #[test]
    fn gradients_are_central_differences_of_the_kernel_means() {
        let device = Device::flex().autodiff();
        let teacher = maps(&device, &numbers(9, 1), 3);
        for kernel in [NstKernel::Linear, NstKernel::Polynomial] {
            let loss = loss(kernel, 3, 0.5);
            assert_gradient([1, 4, 1, 3], &numbers(12, 2), 5e-3, |student| {
                loss.per_example(student, teacher.clone())
            });
        }
        // The Gaussian kernel's width is a constant: equal sets of channels have no gradient, whatever it is.
        let student = teacher.clone().require_grad();
        let value = loss(NstKernel::Gaussian, 2, 0.0).per_example(student.clone(), teacher);
        let gradient = student.grad(&value.backward()).unwrap().into_data().try_to_vec::<f32>().unwrap();
        assert!(gradient.iter().all(|x| x.abs() < 1e-6), "{gradient:?}");
    }

    #[test]
    fn a_dead_channel_has_no_gradient_and_breaks_nothing() {
        let device = Device::flex().autodiff();
        for kernel in KERNELS {
            let student = maps(&device, &[0.0, 0.0, 1.0, 2.0], 2).require_grad();
            let teacher = maps(&device, &[1.0, 2.0, 0.0, 0.0], 2);
            let value = loss(kernel, 2, 0.0).per_example(student.clone(), teacher).sum();
            assert!(value.clone().into_scalar::<f32>().is_finite());
            let gradient = student.grad(&value.backward()).unwrap().into_data().try_to_vec::<f32>().unwrap();
            assert!(gradient.iter().all(|x| x.is_finite()), "{kernel:?}: {gradient:?}");
            if kernel == NstKernel::Polynomial {
                assert_eq!(gradient[..2], [0.0, 0.0]);
            }
        }
    }

    #[test]
    fn a_degree_of_zero_is_refused() {
        let error = NstSettings { degree: 0, ..Default::default() }.build().unwrap_err();
        assert_eq!(error.to_string(), "`degree` is 0, but it must be at least 1");
    }
}
