//! Similarity-preserving distillation.
//!
//! `$$ L = \frac{1}{B^2} \left\| \hat G_t - \hat G_s \right\|_F^2, \qquad G = A A^\top, \quad \hat G_{i \cdot} = \frac{G_{i \cdot}}{\|G_{i \cdot}\|} $$`
//!
//! with `$A$` the activations of the batch, flattened to one row per example. Tung, Mori: *Similarity-Preserving Knowledge Distillation*, 2019,
//! [arXiv:1907.09682](https://arxiv.org/abs/1907.09682).

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::LossSettings;
use super::math::{EPSILON, unit};
use super::pairs::TapPairs;
use crate::settings::SettingsError;
use crate::term::{Probe, Step, Term, TermError, TermParams, Wants};

/// The norm that rows of the similarity matrix are divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RowNorm {
    /// `$\sqrt{\sum_j G_{ij}^2}$`, as in the paper, RepDistiller and Knowledge-Distillation-Zoo.
    #[default]
    L2,
    /// `$\sum_j |G_{ij}|$`, as torchdistill does.
    L1,
}

/// Settings of [`SimilarityPreserving`].
///
/// | key | default | meaning or range |
/// |---|---|---|
/// | `student` | none | student taps, maps or vectors |
/// | `teacher` | none | the teacher taps they follow, as many; channels and sizes may differ |
/// | `row-norm` | `l2` | `l2`, `l1` |
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct SimilarityPreservingSettings {
    /// Student taps.
    pub student: Vec<String>,
    /// Teacher taps.
    pub teacher: Vec<String>,
    /// Norm of the rows.
    pub row_norm: RowNorm,
}

impl SimilarityPreservingSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] when there is no pair or the lists differ in length.
    pub fn build(self) -> Result<SimilarityPreserving, SettingsError> {
        let pairs = TapPairs::new(self.student, self.teacher, 1)?;
        Ok(SimilarityPreserving { pairs, row_norm: self.row_norm })
    }
}

impl LossSettings for SimilarityPreservingSettings {
    type Loss = SimilarityPreserving;
    fn build(self) -> Result<SimilarityPreserving, SettingsError> {
        self.build()
    }
}

/// The loss: see the [settings](SimilarityPreservingSettings) and the [formula](self).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_core::losses::SimilarityPreservingSettings;
///
/// let taps = vec!["layer3".to_owned()];
/// let settings = SimilarityPreservingSettings { student: taps.clone(), teacher: taps, ..Default::default() };
/// let teacher = Tensor::<2>::from_floats([[0.0, 1.0], [1.0, 0.0], [0.8, 0.6]], &Device::flex());
/// let per_example = settings.build()?.per_example(teacher.clone() * 2.0, teacher); // the same similarities
/// assert!(per_example.sum().into_scalar::<f32>() < 1e-6);
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct SimilarityPreserving {
    pairs: TapPairs,
    row_norm: RowNorm,
}

impl SimilarityPreserving {
    /// `student` and `teacher`: `[batch, features]`, of any widths. Returns `[batch]`, whose mean is the loss.
    pub fn per_example(&self, student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
        let difference = self.similarities(student) - self.similarities(teacher);
        difference.square().mean_dim(1).squeeze_dim::<1>(1)
    }

    fn similarities(&self, activations: Tensor<2>) -> Tensor<2> {
        let gram = activations.clone().matmul(activations.transpose());
        match self.row_norm {
            RowNorm::L2 => unit(gram, 1, EPSILON),
            RowNorm::L1 => {
                let sum = gram.clone().abs().sum_dim(1);
                gram / sum.clamp_min(EPSILON)
            }
        }
    }
}

impl Term for SimilarityPreserving {
    fn wants(&self) -> Wants {
        self.pairs.wants()
    }

    fn init(&self, probe: &Probe, _params: &mut TermParams<'_>) -> Result<(), TermError> {
        self.pairs.check_relations(probe)
    }

    fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError> {
        self.pairs.sum_vectors(step, |student, teacher| self.per_example(student, teacher))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::gradient::{assert_gradient, numbers};
    use super::*;
    use burn::tensor::Device;

    fn loss(row_norm: RowNorm) -> SimilarityPreserving {
        let taps = vec!["map".to_owned()];
        SimilarityPreservingSettings { student: taps.clone(), teacher: taps, row_norm }.build().unwrap()
    }

    fn teacher(device: &Device) -> Tensor<2> {
        Tensor::<1>::from_floats(numbers(12, 1).as_slice(), device).reshape([4, 3])
    }

    #[test]
    fn the_gradient_matches_central_differences() {
        for row_norm in [RowNorm::L1, RowNorm::L2] {
            let loss = loss(row_norm);
            assert_gradient([4, 5], &numbers(20, 2), 1e-2, |x| {
                loss.per_example(x, teacher(&Device::flex().autodiff()))
            });
        }
    }

    #[test]
    fn the_scale_and_a_rotation_of_the_activations_do_not_matter() {
        let device = Device::flex();
        let quarter_turn =
            Tensor::<2>::from_floats([[0.0, 7.0, 0.0], [-7.0, 0.0, 0.0], [0.0, 0.0, 7.0]], &device);
        let student = teacher(&device).matmul(quarter_turn);
        let value = loss(RowNorm::L2).per_example(student, teacher(&device)).max().into_scalar::<f32>();
        assert!(value < 1e-10, "{value}");
    }

    #[test]
    fn an_example_with_dead_activations_takes_a_finite_gradient() {
        let device = Device::flex().autodiff();
        for row_norm in [RowNorm::L1, RowNorm::L2] {
            let student = Tensor::<2>::zeros([4, 2], &device).require_grad();
            let value = loss(row_norm).per_example(student.clone(), teacher(&device)).sum();
            let gradient = student.grad(&value.backward()).unwrap().into_data().try_to_vec::<f32>().unwrap();
            assert_eq!(gradient, [0.0; 8]);
        }
    }

    #[test]
    fn lists_of_taps_of_different_lengths_are_refused() {
        let settings = SimilarityPreservingSettings { student: vec!["a".into()], ..Default::default() };
        assert!(settings.build().unwrap_err().to_string().starts_with("`teacher` is []"));
    }
}
