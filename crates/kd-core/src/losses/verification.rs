//! Verification loss: the contrastive form on pairs.
//!
//! `$$ L_{ij} = \begin{cases} \tfrac{1}{2} \|x_i - x_j\|^2 & y_i = y_j \\ \tfrac{1}{2} \left[ m - \|x_i - x_j\| \right]_+^2 & y_i \ne y_j \end{cases} $$`
//!
//! Sun, Wang, Tang: *Deep Learning Face Representation by Joint Identification-Verification* (DeepID2), 2014,
//! [arXiv:1406.4773](https://arxiv.org/abs/1406.4773). Embeddings are brought to unit length first, as DarkRank does.

use burn::tensor::activation::relu;
use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

use super::LossSettings;
use super::math::{EPSILON, unit};
use super::relations::{diagonal, distances};
use super::triplet::{check_embedding, same_class};
use crate::settings::{SettingsError, in_range};
use crate::taps::OUTPUT;
use crate::term::{Probe, Step, Term, TermError, TermParams, Wants};

/// Settings of [`Verification`].
///
/// | key | default | meaning or range |
/// |---|---|---|
/// | `embedding` | the output | student tap: embeddings `[batch, features]` |
/// | `margin` | 1 | above 0; distances of unit vectors are at most 2 |
/// | `normalize` | true | embeddings at unit length first |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct VerificationSettings {
    /// Student tap.
    pub embedding: String,
    /// `$m$`: distance beyond which different classes are far enough apart.
    pub margin: f64,
    /// Whether embeddings are brought to unit length.
    pub normalize: bool,
}

impl Default for VerificationSettings {
    fn default() -> Self {
        Self { embedding: OUTPUT.to_owned(), margin: 1.0, normalize: true }
    }
}

impl VerificationSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] for a margin that is not above 0.
    pub fn build(self) -> Result<Verification, SettingsError> {
        in_range("margin", self.margin, self.margin > 0.0 && self.margin.is_finite(), "above 0")?;
        Ok(Verification { settings: self })
    }
}

impl LossSettings for VerificationSettings {
    type Loss = Verification;
    fn build(self) -> Result<Verification, SettingsError> {
        self.build()
    }
}

/// The loss: see the [settings](VerificationSettings) and the [formula](self).
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use kd_core::losses::VerificationSettings;
///
/// let device = Device::flex();
/// let embeddings = Tensor::<2>::from_floats([[0.0, 1.0], [1.0, 0.0], [0.0, 2.0]], &device);
/// let labels = Tensor::<1, Int>::from_ints([0, 1, 0], &device);
/// let per_example = VerificationSettings::default().build()?.per_example(embeddings, labels);
/// assert_eq!(per_example.mean().into_scalar::<f32>(), 0.0); // pairs coincide or are farther apart than the margin
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Verification {
    settings: VerificationSettings,
}

impl Verification {
    /// `embeddings`: `[batch, features]`, `labels`: `[batch]`. Returns `[batch]`: every example's mean over its pairs with all others, zero for a
    /// batch of one.
    pub fn per_example(&self, embeddings: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
        let embeddings = if self.settings.normalize { unit(embeddings, 1, EPSILON) } else { embeddings };
        let distances = distances(embeddings);
        let [batch, _] = distances.dims();
        let gap = relu(-distances.clone() + self.settings.margin);
        let pairs = gap.mask_where(same_class(labels), distances.clone()).square().mul_scalar(0.5);
        let pairs = pairs.mask_fill(diagonal(batch, &distances.device()), 0.0);
        pairs.sum_dim(1).squeeze_dim::<1>(1).div_scalar(batch.saturating_sub(1).max(1) as f64)
    }
}

impl Term for Verification {
    fn wants(&self) -> Wants {
        Wants { student: vec![self.settings.embedding.clone()], ..Wants::student_output() }
    }

    fn init(&self, probe: &Probe, _params: &mut TermParams<'_>) -> Result<(), TermError> {
        check_embedding(probe, &self.settings.embedding)
    }

    fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError> {
        Ok(self.per_example(step.student(&self.settings.embedding)?, step.labels()?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::gradient::{assert_gradient, numbers};
    use super::*;
    use crate::{Params, Taps, Value};
    use burn::tensor::Device;

    fn loss(normalize: bool) -> Verification {
        VerificationSettings { normalize, ..Default::default() }.build().unwrap()
    }

    #[test]
    fn the_gradient_matches_central_differences() {
        let labels = Tensor::<1, Int>::from_ints([0, 1, 0, 1], &Device::flex().autodiff());
        for normalize in [true, false] {
            assert_gradient([4, 3], &numbers(12, 3), 2e-2, |x| {
                loss(normalize).per_example(x, labels.clone())
            });
        }
    }

    #[test]
    fn equal_classes_attract_and_different_ones_repel_up_to_the_margin() {
        let device = Device::flex();
        let x = Tensor::<2>::from_floats([[0.0], [0.5], [0.75], [9.0]], &device);
        let labels = Tensor::<1, Int>::from_ints([0, 0, 1, 2], &device);
        let values = loss(false).per_example(x, labels).into_data().try_to_vec::<f32>().unwrap();
        let (same, near, nearer) = (0.5 * 0.25, 0.5 * 0.0625, 0.5 * 0.5625);
        assert_eq!(values, [(same + near) / 3.0, (same + nearer) / 3.0, (near + nearer) / 3.0, 0.0]);
    }

    #[test]
    fn coincident_embeddings_of_different_classes_take_a_finite_gradient() {
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::ones([2, 2], &device).require_grad();
        let value = loss(true).per_example(x.clone(), Tensor::from_ints([0, 1], &device));
        let gradient = x.grad(&value.sum().backward()).unwrap().into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(gradient, [0.0; 4]);
    }

    #[test]
    fn labels_that_do_not_match_the_embeddings_are_refused_before_the_first_step() {
        let device = Device::flex();
        let mut student = Taps::all();
        student.insert(OUTPUT, Tensor::<2>::ones([4, 3], &device));
        let target = Value::from(Tensor::<1, Int>::zeros([5], &device));
        let probe = Probe { student, teachers: vec![], target, samples: 5, device };
        let mut params = Params::default();
        let error = loss(true).init(&probe, &mut TermParams::new(&mut params, "verification")).unwrap_err();
        assert!(error.to_string().contains("[4] does not fit [5]"), "{error}");
    }
}
