//! DarkRank: the teacher's ranking of similarities.
//!
//! Every example of the batch is a query; its candidates are the `candidates` others that the teacher ranks first. With the similarity
//! `$S_{ij} = -\alpha \|x_i - x_j\|^\beta$` an order `$\pi$` of the candidates has the Plackett–Luce probability
//!
//! `$$ P(\pi \mid S) = \prod_k \frac{\exp S_{i\pi_k}}{\sum_{l \ge k} \exp S_{i\pi_l}} $$`
//!
//! and the student learns the teacher's [order](Transfer::Hard), its [distribution over orders](Transfer::Soft), or its
//! [similarities](Transfer::Direct). Chen, Wang, Zhang: *DarkRank: Accelerating Deep Metric Learning via Cross Sample Similarities Transfer*, 2018,
//! [arXiv:1707.01220](https://arxiv.org/abs/1707.01220).

use burn::tensor::activation::{log_softmax, softplus};
use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

use super::LossSettings;
use super::math::{EPSILON, log_sum_exp, unit};
use super::pairs::TapPairs;
use super::relations::{diagonal, distances};
use crate::settings::{SettingsError, in_range};
use crate::term::{Probe, Step, Term, TermError, TermParams, Wants};

/// What the student takes from the teacher's similarities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transfer {
    /// `$-\log P(\pi_t \mid S_s)$`, with `$\pi_t$` the teacher's order.
    #[default]
    Hard,
    /// `$\mathrm{KL}(P(\cdot \mid S_t) \| P(\cdot \mid S_s))$` over all orders of the candidates: 24 for four of them.
    Soft,
    /// Mean over `$j$` of `$(S_{ij}^s - S_{ij}^t)^2$`, over the whole batch.
    Direct,
}

/// Settings of [`DarkRank`].
///
/// | key | default | meaning or range |
/// |---|---|---|
/// | `student` | none | student taps: embeddings `[batch, features]` (maps are flattened) |
/// | `teacher` | none | the teacher taps they follow, as many; widths may differ |
/// | `transfer` | `hard` | `hard`, `soft`, `direct` |
/// | `alpha` | 3 | above 0 |
/// | `beta` | 3 | at least 1 |
/// | `candidates` | 4 | at least 2; at most 6 with `soft`, which visits every order |
/// | `normalize` | true | embeddings at unit length first, as in the paper |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct DarkRankSettings {
    /// Student taps.
    pub student: Vec<String>,
    /// Teacher taps.
    pub teacher: Vec<String>,
    /// What is taken from the teacher.
    pub transfer: Transfer,
    /// `$\alpha$`: scale of the similarity.
    pub alpha: f64,
    /// `$\beta$`: contrast of the similarity.
    pub beta: f64,
    /// Length of the ranked list. A batch with fewer other examples ranks all it has.
    pub candidates: usize,
    /// Whether embeddings are brought to unit length; lenscloth's code takes them as they are.
    pub normalize: bool,
}

impl Default for DarkRankSettings {
    fn default() -> Self {
        Self {
            student: Vec::new(),
            teacher: Vec::new(),
            transfer: Transfer::default(),
            alpha: 3.0,
            beta: 3.0,
            candidates: 4,
            normalize: true,
        }
    }
}

impl DarkRankSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] for a value outside the range in the table, or lists of taps that are empty or differ in length.
    pub fn build(self) -> Result<DarkRank, SettingsError> {
        in_range("alpha", self.alpha, self.alpha > 0.0 && self.alpha.is_finite(), "above 0")?;
        in_range("beta", self.beta, self.beta >= 1.0 && self.beta.is_finite(), "at least 1")?;
        in_range("candidates", self.candidates, self.candidates >= 2, "at least 2")?;
        let few = self.transfer != Transfer::Soft || self.candidates <= 6;
        in_range("candidates", self.candidates, few, "at most 6 where `transfer` is `soft`")?;
        let pairs = TapPairs::new(self.student.clone(), self.teacher.clone(), 1)?;
        Ok(DarkRank { pairs, settings: self })
    }
}

impl LossSettings for DarkRankSettings {
    type Loss = DarkRank;
    fn build(self) -> Result<DarkRank, SettingsError> {
        self.build()
    }
}

/// The loss: see the [settings](DarkRankSettings) and the [formula](self).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_core::losses::{DarkRankSettings, Transfer};
///
/// let taps = vec!["embedding".to_owned()];
/// let settings = DarkRankSettings { student: taps.clone(), teacher: taps, ..Default::default() };
/// let loss = DarkRankSettings { transfer: Transfer::Soft, ..settings }.build()?;
/// let teacher = Tensor::<2>::from_floats([[0.0, 1.0], [1.0, 0.0], [0.8, 0.6]], &Device::flex());
/// let per_query = loss.per_example(teacher.clone() * 2.0, teacher); // the same directions
/// assert!(per_query.sum().into_scalar::<f32>().abs() < 1e-6);
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct DarkRank {
    pairs: TapPairs,
    settings: DarkRankSettings,
}

impl DarkRank {
    /// `student` and `teacher`: `[batch, features]` embeddings, of any widths. Returns `[batch]`, one value per query.
    pub fn per_example(&self, student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
        let (student, teacher) = (self.similarities(student), self.similarities(teacher));
        let [batch, _] = student.dims();
        let candidates = self.settings.candidates.min(batch.saturating_sub(1));
        if self.settings.transfer == Transfer::Direct || candidates == 0 {
            return (student - teacher).square().mean_dim(1).squeeze_dim::<1>(1);
        }
        let ranked = ranking(teacher.clone(), candidates);
        let (student, teacher) = (student.gather(1, ranked.clone()), teacher.gather(1, ranked));
        if self.settings.transfer == Transfer::Hard {
            return -log_likelihood(student.unsqueeze_dim(1)).squeeze_dim::<1>(1);
        }
        // The probabilities of all orders sum to 1; `log_softmax` removes what rounding adds.
        let orders = permutations(candidates);
        let (ours, theirs) = (log_orders(student, &orders), log_softmax(log_orders(teacher, &orders), 1));
        (theirs.clone().exp() * (theirs - ours)).sum_dim(1).squeeze_dim::<1>(1)
    }

    /// `$S$`, `[batch, features]` to `[batch, batch]`.
    fn similarities(&self, embeddings: Tensor<2>) -> Tensor<2> {
        let embeddings = if self.settings.normalize { unit(embeddings, 1, EPSILON) } else { embeddings };
        distances(embeddings).powf_scalar(self.settings.beta).mul_scalar(-self.settings.alpha)
    }
}

/// The most similar others of every row, best first: `[batch, batch]` to `[batch, candidates]`.
fn ranking(similarities: Tensor<2>, candidates: usize) -> Tensor<2, Int> {
    let [batch, _] = similarities.dims();
    let own = diagonal(batch, &similarities.device());
    similarities.mask_fill(own, f32::NEG_INFINITY).argsort_descending(1).narrow(1, 0, candidates)
}

/// Plackett–Luce log-likelihood of scores in the order they stand in: `[rows, orders, candidates]` to `[rows, orders]`.
///
/// A candidate's factor is the sigmoid of how far its score lies above the log-sum-exp of those after it. Taken so, the logarithm keeps its digits where the
/// order is all but certain; the difference of score and normaliser would round them away.
fn log_likelihood(ordered: Tensor<3>) -> Tensor<2> {
    let [_, _, candidates] = ordered.dims();
    let own = |k| ordered.clone().narrow(2, k, 1);
    let after = |k| log_sum_exp(ordered.clone().narrow(2, k + 1, candidates - k - 1), 2);
    let certain = own(0).mul_scalar(0.0);
    let sum =
        (0..candidates.saturating_sub(1)).fold(certain, |sum, k| sum - softplus(after(k) - own(k), 1.0));
    sum.squeeze_dim::<2>(2)
}

/// Log-probability of every order, `[rows, candidates]` to `[rows, orders]`.
fn log_orders(scores: Tensor<2>, orders: &[Vec<i32>]) -> Tensor<2> {
    let [rows, candidates] = scores.dims();
    let columns = Tensor::<1, Int>::from_ints(orders.concat().as_slice(), &scores.device());
    log_likelihood(scores.select(1, columns).reshape([rows, orders.len(), candidates]))
}

/// Every order of `0..n`.
fn permutations(n: usize) -> Vec<Vec<i32>> {
    let mut orders = vec![Vec::new()];
    for next in 0..n as i32 {
        let insert = |order: &Vec<i32>| {
            let order = order.clone();
            (0..=order.len()).map(move |at| [&order[..at], &[next], &order[at..]].concat())
        };
        orders = orders.iter().flat_map(insert).collect();
    }
    orders
}

impl Term for DarkRank {
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

    fn loss(transfer: Transfer) -> DarkRank {
        let taps = vec!["embedding".to_owned()];
        let settings =
            DarkRankSettings { student: taps.clone(), teacher: taps, transfer, ..Default::default() };
        DarkRankSettings { alpha: 1.5, beta: 2.0, candidates: 3, ..settings }.build().unwrap()
    }

    fn embeddings(batch: usize, features: usize, seed: usize, device: &Device) -> Tensor<2> {
        let numbers = numbers(batch * features, seed);
        Tensor::<1>::from_floats(numbers.as_slice(), device).reshape([batch, features])
    }

    #[test]
    fn every_gradient_matches_central_differences() {
        let teacher = embeddings(5, 3, 1, &Device::flex().autodiff());
        for transfer in [Transfer::Hard, Transfer::Soft, Transfer::Direct] {
            let loss = loss(transfer);
            assert_gradient([5, 4], &numbers(20, 2), 2e-2, |x| loss.per_example(x, teacher.clone()));
        }
    }

    #[test]
    fn the_probabilities_of_all_orders_sum_to_one() {
        let orders = permutations(4);
        assert_eq!(orders.len(), 24);
        let log = log_orders(embeddings(3, 4, 5, &Device::flex()) * 3.0, &orders);
        for sum in log.exp().sum_dim(1).into_data().try_to_vec::<f32>().unwrap() {
            assert!((sum - 1.0).abs() < 1e-5, "{sum}");
        }
    }

    #[test]
    fn a_student_with_the_teachers_similarities_has_no_soft_or_direct_loss() {
        let device = Device::flex();
        let teacher = embeddings(6, 3, 1, &device);
        let mirrored = -teacher.clone();
        for transfer in [Transfer::Soft, Transfer::Direct] {
            let value = loss(transfer).per_example(mirrored.clone(), teacher.clone());
            assert!(value.max().into_scalar::<f32>() < 1e-5);
        }
    }

    #[test]
    fn the_teachers_order_is_the_likeliest_for_a_student_that_agrees() {
        let device = Device::flex();
        let teacher = embeddings(6, 3, 1, &device);
        let agrees = loss(Transfer::Hard).per_example(teacher.clone(), teacher.clone()).mean();
        let other = loss(Transfer::Hard).per_example(embeddings(6, 3, 9, &device), teacher).mean();
        assert!(agrees.into_scalar::<f32>() < other.into_scalar::<f32>());
    }

    #[test]
    fn a_batch_smaller_than_the_list_and_coincident_embeddings_have_finite_gradients() {
        let device = Device::flex().autodiff();
        for batch in [1, 2, 3] {
            for transfer in [Transfer::Hard, Transfer::Soft, Transfer::Direct] {
                let student = Tensor::<2>::ones([batch, 4], &device).require_grad();
                let value = loss(transfer).per_example(student.clone(), embeddings(batch, 3, 1, &device));
                let gradient = student.grad(&value.sum().backward()).unwrap();
                let gradient = gradient.into_data().try_to_vec::<f32>().unwrap();
                assert!(gradient.iter().all(|g| g.is_finite()), "{transfer:?} {gradient:?}");
            }
        }
    }

    #[test]
    fn lists_too_long_for_all_their_orders_are_refused() {
        let taps = vec!["embedding".to_owned()];
        let settings =
            DarkRankSettings { student: taps.clone(), teacher: taps, candidates: 7, ..Default::default() };
        let error = DarkRankSettings { transfer: Transfer::Soft, ..settings.clone() }.build().unwrap_err();
        let expected = "`candidates` is 7, but it must be at most 6 where `transfer` is `soft`";
        assert_eq!(error.to_string(), expected);
        assert!(settings.build().is_ok());
    }
}
