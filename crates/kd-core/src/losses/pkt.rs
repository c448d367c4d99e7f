//! Probabilistic knowledge transfer.
//!
//! `$$ L_i = \sum_j p_{j|i} \log \frac{p_{j|i}}{q_{j|i}}, \qquad
//!    p_{j|i} = \frac{K(t_i, t_j)}{\sum_k K(t_i, t_k)}, \quad K(a, b) = \tfrac{1}{2} \left( \cos(a, b) + 1 \right) $$`
//!
//! `$q$` is the same of the student: each example's similarities to the others as a probability distribution. Passalis, Tefas: *Learning Deep Representations
//! with Probabilistic Knowledge Transfer*, 2018, [arXiv:1803.10837](https://arxiv.org/abs/1803.10837).

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::LossSettings;
use super::math::norm;
use super::pairs::TapPairs;
use super::relations::diagonal;
use crate::settings::{SettingsError, in_range};
use crate::term::{Probe, Step, Term, TermError, TermParams, Wants};

/// Which entries there are and how a row is reduced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Neighbours {
    /// All other examples, summed, as in the paper.
    #[default]
    Others,
    /// All examples and the example itself, averaged: `$\frac{1}{B} \sum_j$`, as the authors' public code, RepDistiller and Knowledge-Distillation-Zoo do.
    WithSelf,
}

/// Settings of [`Pkt`].
///
/// | key | default | meaning or range |
/// |---|---|---|
/// | `student` | none | student taps: features (maps are flattened) |
/// | `teacher` | none | the teacher taps they follow, as many; widths may differ |
/// | `neighbours` | `others` | `others`, `with-self` |
/// | `epsilon` | 1e-7 | added to norms and probabilities, above 0, below 1 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct PktSettings {
    /// Student taps.
    pub student: Vec<String>,
    /// Teacher taps.
    pub teacher: Vec<String>,
    /// Entries of a row and their reduction.
    pub neighbours: Neighbours,
    /// Added to norms and probabilities.
    pub epsilon: f64,
}

impl Default for PktSettings {
    fn default() -> Self {
        Self { student: Vec::new(), teacher: Vec::new(), neighbours: Neighbours::default(), epsilon: 1e-7 }
    }
}

impl PktSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] for `epsilon` outside its range, or lists of taps that are empty or differ in length.
    pub fn build(self) -> Result<Pkt, SettingsError> {
        let fine = self.epsilon > 0.0 && self.epsilon < 1.0;
        in_range("epsilon", self.epsilon, fine, "above 0 and below 1")?;
        let pairs = TapPairs::new(self.student.clone(), self.teacher.clone(), 1)?;
        Ok(Pkt { pairs, settings: self })
    }
}

impl LossSettings for PktSettings {
    type Loss = Pkt;
    fn build(self) -> Result<Pkt, SettingsError> {
        self.build()
    }
}

/// The loss: see the [settings](PktSettings) and the [formula](self).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_core::losses::PktSettings;
///
/// let taps = vec!["features".to_owned()];
/// let settings = PktSettings { student: taps.clone(), teacher: taps, ..Default::default() };
/// let teacher = Tensor::<2>::from_floats([[0.0, 1.0], [1.0, 0.0], [0.8, 0.6]], &Device::flex());
/// let per_example = settings.build()?.per_example(teacher.clone() * 2.0, teacher); // the same similarities
/// assert!(per_example.sum().into_scalar::<f32>().abs() < 1e-6);
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Pkt {
    pairs: TapPairs,
    settings: PktSettings,
}

impl Pkt {
    /// `student` and `teacher`: `[batch, features]`, of any widths. Returns `[batch]`, one value per conditioning example.
    pub fn per_example(&self, student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
        let epsilon = self.settings.epsilon;
        let (ours, theirs) = (self.probabilities(student), self.probabilities(teacher));
        let ratio = theirs.clone().add_scalar(epsilon) / ours.add_scalar(epsilon);
        let divergence = theirs * ratio.log();
        let row = match self.settings.neighbours {
            Neighbours::Others => divergence.sum_dim(1),
            Neighbours::WithSelf => divergence.mean_dim(1),
        };
        row.squeeze_dim::<1>(1)
    }

    /// `$p$`, `[batch, features]` to `[batch, batch]`.
    fn probabilities(&self, features: Tensor<2>) -> Tensor<2> {
        let [batch, _] = features.dims();
        let unit = features.clone() / norm(features, 1).add_scalar(self.settings.epsilon);
        let mut kernel = unit.clone().matmul(unit.transpose()).add_scalar(1.0).mul_scalar(0.5);
        if self.settings.neighbours == Neighbours::Others {
            let own = diagonal(batch, &kernel.device());
            kernel = kernel.mask_fill(own, 0.0);
        }
        let sum = kernel.clone().sum_dim(1);
        let alone = sum.clone().lower_equal_elem(0.0);
        kernel * sum.mask_fill(alone.clone(), 1.0).recip().mask_fill(alone, 0.0)
    }
}

impl Term for Pkt {
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

    fn loss(neighbours: Neighbours) -> Pkt {
        let taps = vec!["features".to_owned()];
        let settings = PktSettings { student: taps.clone(), teacher: taps, ..Default::default() };
        PktSettings { neighbours, ..settings }.build().unwrap()
    }

    fn teacher(device: &Device) -> Tensor<2> {
        Tensor::<1>::from_floats(numbers(12, 1).as_slice(), device).reshape([4, 3])
    }

    #[test]
    fn the_gradient_matches_central_differences() {
        for neighbours in [Neighbours::Others, Neighbours::WithSelf] {
            let loss = loss(neighbours);
            assert_gradient([4, 5], &numbers(20, 2), 2e-2, |x| {
                loss.per_example(x, teacher(&Device::flex().autodiff())) * 10.0
            });
        }
    }

    #[test]
    fn every_row_is_a_distribution_and_without_self_where_asked() {
        let rows = loss(Neighbours::Others).probabilities(teacher(&Device::flex()));
        let sums = rows.clone().sum_dim(1).into_data().try_to_vec::<f32>().unwrap();
        assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-6), "{sums:?}");
        let own = rows.mask_fill(diagonal(4, &Device::flex()).bool_not(), 0.0);
        assert_eq!(own.sum().into_scalar::<f32>(), 0.0);
    }

    #[test]
    fn a_dead_example_or_a_batch_of_one_takes_a_finite_gradient() {
        let device = Device::flex().autodiff();
        for neighbours in [Neighbours::Others, Neighbours::WithSelf] {
            for batch in [1, 4] {
                let student = Tensor::<2>::zeros([batch, 2], &device).require_grad();
                let teacher = teacher(&device).narrow(0, 0, batch);
                let value = loss(neighbours).per_example(student.clone(), teacher).sum();
                let gradient =
                    student.grad(&value.backward()).unwrap().into_data().try_to_vec::<f32>().unwrap();
                assert!(gradient.iter().all(|g| g.is_finite()), "{gradient:?}");
            }
        }
    }

    #[test]
    fn an_epsilon_of_zero_is_refused() {
        let taps = vec!["features".to_owned()];
        let settings =
            PktSettings { student: taps.clone(), teacher: taps, epsilon: 0.0, ..Default::default() };
        let error = settings.build().unwrap_err();
        assert_eq!(error.to_string(), "`epsilon` is 0, but it must be above 0 and below 1");
    }
}
