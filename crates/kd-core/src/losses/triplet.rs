//! Triplet loss.
//!
//! `$$ L = \left[ \|x_a - x_p\|^2 - \|x_a - x_n\|^2 + m \right]_+ $$`
//!
//! pulls an anchor towards examples of its class (positives `$p$`) and pushes it away from others (negatives `$n$`), on embeddings of unit length. Schroff,
//! Kalenichenko, Philbin: *FaceNet: A Unified Embedding for Face Recognition and Clustering*, 2015, [arXiv:1503.03832](https://arxiv.org/abs/1503.03832).

use burn::tensor::activation::relu;
use burn::tensor::{Bool, Int, Tensor};
use serde::{Deserialize, Serialize};

use super::LossSettings;
use super::math::{EPSILON, unit};
use super::relations::{diagonal, differences};
use crate::settings::{SettingsError, in_range};
use crate::taps::OUTPUT;
use crate::term::{Probe, Step, Term, TermError, TermParams, Wants};

/// The triplets of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Triplets {
    /// Every anchor with every positive and every negative; holds `$B^3$` numbers for a batch of `$B$`.
    #[default]
    All,
    /// Every anchor with its farthest positive and its nearest negative: Hermans et al. 2017, [arXiv:1703.07737](https://arxiv.org/abs/1703.07737).
    BatchHard,
}

/// Settings of [`Triplet`].
///
/// | key | default | meaning or range |
/// |---|---|---|
/// | `embedding` | the output | student tap: embeddings `[batch, features]` |
/// | `margin` | 0.2 | above 0 |
/// | `triplets` | `all` | `all`, `batch-hard` |
/// | `normalize` | true | embeddings at unit length first |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct TripletSettings {
    /// Student tap.
    pub embedding: String,
    /// `$m$`.
    pub margin: f64,
    /// Triplets that count.
    pub triplets: Triplets,
    /// Whether embeddings are brought to unit length.
    pub normalize: bool,
}

impl Default for TripletSettings {
    fn default() -> Self {
        Self { embedding: OUTPUT.to_owned(), margin: 0.2, triplets: Triplets::default(), normalize: true }
    }
}

impl TripletSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] for a margin that is not above 0.
    pub fn build(self) -> Result<Triplet, SettingsError> {
        in_range("margin", self.margin, self.margin > 0.0 && self.margin.is_finite(), "above 0")?;
        Ok(Triplet { settings: self })
    }
}

impl LossSettings for TripletSettings {
    type Loss = Triplet;
    fn build(self) -> Result<Triplet, SettingsError> {
        self.build()
    }
}

/// The loss: see the [settings](TripletSettings) and the [formula](self).
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use kd_core::losses::TripletSettings;
///
/// let device = Device::flex();
/// let embeddings = Tensor::<2>::from_floats([[0.0, 1.0], [1.0, 0.0], [0.0, 2.0]], &device);
/// let labels = Tensor::<1, Int>::from_ints([0, 1, 0], &device);
/// let per_anchor = TripletSettings::default().build()?.per_example(embeddings, labels);
/// assert_eq!(per_anchor.mean().into_scalar::<f32>(), 0.0); // positives coincide, the negative is far beyond the margin
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Triplet {
    settings: TripletSettings,
}

impl Triplet {
    /// `embeddings`: `[batch, features]`, `labels`: `[batch]`. Returns `[batch]`, one value per anchor, scaled so that their plain mean is the mean over
    /// the batch's triplets; zero where there is none.
    pub fn per_example(&self, embeddings: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
        let embeddings = if self.settings.normalize { unit(embeddings, 1, EPSILON) } else { embeddings };
        let squares = differences(embeddings).square().sum_dim(2).squeeze_dim::<2>(2);
        let same = same_class(labels);
        let [batch, _] = same.dims();
        let positive = same.clone().bool_and(diagonal(batch, &same.device()).bool_not());
        let (loss, count) = match self.settings.triplets {
            Triplets::All => self.all(squares, positive, same.bool_not()),
            Triplets::BatchHard => self.batch_hard(squares, positive, same.bool_not()),
        };
        let scale = count.sum().clamp_min(1.0).recip().mul_scalar(batch as f64);
        loss * scale
    }

    /// Summed losses and number of triplets of every anchor.
    fn all(
        &self,
        squares: Tensor<2>,
        positive: Tensor<2, Bool>,
        negative: Tensor<2, Bool>,
    ) -> (Tensor<1>, Tensor<1>) {
        let [batch, _] = squares.dims();
        let cube = [batch, batch, batch];
        let difference = squares.clone().unsqueeze_dim::<3>(2) - squares.unsqueeze_dim::<3>(1);
        let valid = positive
            .unsqueeze_dim::<3>(2)
            .expand(cube)
            .bool_and(negative.unsqueeze_dim::<3>(1).expand(cube))
            .float();
        let loss = relu(difference.add_scalar(self.settings.margin)) * valid.clone();
        let per_anchor = |x: Tensor<3>| x.flatten::<2>(1, 2).sum_dim(1).squeeze_dim::<1>(1);
        (per_anchor(loss), per_anchor(valid))
    }

    /// Loss of the hardest triplet of every anchor, and 1 where there is one.
    fn batch_hard(
        &self,
        squares: Tensor<2>,
        positive: Tensor<2, Bool>,
        negative: Tensor<2, Bool>,
    ) -> (Tensor<1>, Tensor<1>) {
        let any = |mask: &Tensor<2, Bool>| mask.clone().float().max_dim(1);
        let valid = (any(&positive) * any(&negative)).squeeze_dim::<1>(1);
        let farthest = squares.clone().mask_fill(positive.bool_not(), 0.0).max_dim(1);
        // Finite, so that an anchor without negatives is no infinity times zero.
        let nearest = squares.mask_fill(negative.bool_not(), 1e30).min_dim(1);
        let loss = relu((farthest - nearest).add_scalar(self.settings.margin)).squeeze_dim::<1>(1);
        (loss * valid.clone(), valid)
    }
}

/// `[batch]` to `[batch, batch]`: whether two examples are of one class.
pub(super) fn same_class(labels: Tensor<1, Int>) -> Tensor<2, Bool> {
    let [batch] = labels.dims();
    let square = [batch, batch];
    labels.clone().unsqueeze_dim::<2>(1).expand(square).equal(labels.unsqueeze_dim::<2>(0).expand(square))
}

/// Refuses an embedding that is not one vector for each label.
pub(super) fn check_embedding(probe: &Probe, embedding: &str) -> Result<(), TermError> {
    let [examples, _] = probe.student.get::<2>(embedding)?.dims();
    let labels = probe.target.flat_int()?.dims();
    let advice = "give one integer label per embedding";
    TermError::same_shape(&format!("examples of tap `{embedding}` and labels"), &[examples], &labels, advice)
}

impl Term for Triplet {
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
    use burn::tensor::Device;

    fn loss(triplets: Triplets, normalize: bool) -> Triplet {
        TripletSettings { triplets, normalize, margin: 0.5, ..Default::default() }.build().unwrap()
    }

    fn values(tensor: Tensor<1>) -> Vec<f32> {
        tensor.into_data().try_to_vec::<f32>().unwrap()
    }

    #[test]
    fn the_gradient_matches_central_differences() {
        let labels = Tensor::<1, Int>::from_ints([0, 1, 0, 1, 2], &Device::flex().autodiff());
        for triplets in [Triplets::All, Triplets::BatchHard] {
            let loss = loss(triplets, true);
            assert_gradient([5, 3], &numbers(15, 1), 2e-2, |x| loss.per_example(x, labels.clone()));
        }
    }

    #[test]
    fn the_mean_runs_over_the_triplets_there_are() {
        let device = Device::flex();
        let x = Tensor::<2>::from_floats([[0.0], [1.0], [1.5], [9.0]], &device);
        let labels = Tensor::<1, Int>::from_ints([0, 0, 1, 2], &device);
        // By hand: anchor 0 has positive 1 (1) and negatives 2 (2.25) and 3 (81); anchor 1 has positive 0 (1) and negatives 2 (0.25) and 3 (64).
        let all = loss(Triplets::All, false).per_example(x.clone(), labels.clone());
        assert_eq!(values(all), [0.0, 1.25, 0.0, 0.0]);
        let hard = loss(Triplets::BatchHard, false).per_example(x, labels);
        assert_eq!(values(hard), [0.0, 2.5, 0.0, 0.0]);
    }

    #[test]
    fn a_batch_without_triplets_has_no_loss_and_no_gradient() {
        let device = Device::flex().autodiff();
        for (triplets, labels) in
            [(Triplets::All, [0, 1, 2]), (Triplets::BatchHard, [0, 1, 2]), (Triplets::BatchHard, [1, 1, 1])]
        {
            let x = Tensor::<2>::zeros([3, 2], &device).require_grad();
            let value = loss(triplets, true).per_example(x.clone(), Tensor::from_ints(labels, &device));
            assert_eq!(values(value.clone()), [0.0; 3]);
            let gradient = x.grad(&value.sum().backward()).unwrap().into_data();
            assert_eq!(gradient.try_to_vec::<f32>().unwrap(), [0.0; 6]);
        }
    }

    #[test]
    fn a_margin_of_zero_is_refused() {
        let error = TripletSettings { margin: 0.0, ..Default::default() }.build().unwrap_err();
        assert_eq!(error.to_string(), "`margin` is 0, but it must be above 0");
    }
}
