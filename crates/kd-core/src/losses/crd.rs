//! Contrastive representation distillation.
//!
//! `$$ L = -\log h(u, v_0) - \sum_{k=1}^{K} \log\big(1 - h(u, v_k)\big), \qquad h(u, v) = \frac{p}{p + K/N}, \quad p = \frac{e^{u \cdot v / \tau}}{Z} $$`
//!
//! The student's embedding `$u$` of a sample has to tell the teacher's embedding `$v_0$` of the same sample from those `$v_k$` of `$K$` other samples, and the teacher's embedding
//! likewise among the student's; `$L$` is the sum of both. Embeddings are learned linear maps to the unit sphere. The other side comes from a memory with one row for each of
//! the `$N$` training samples, which follows the embeddings by a moving average. `$Z$` is estimated on the first batch and stays.
//! Tian, Krishnan, Isola: *Contrastive Representation Distillation*, 2020, [arXiv:1910.10699](https://arxiv.org/abs/1910.10699).
//!
//! Negatives are drawn evenly from all samples but the own one, as the authors' criterion does when it is given none; their loader for labelled data also
//! leaves out those of the own class.

use burn::tensor::activation::softplus;
use burn::tensor::{Distribution, IndexingUpdateOp, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::LossSettings;
use super::math::{EPSILON, constant, log_sum_exp, unit};
use super::pairs::TapPairs;
use crate::settings::{SettingsError, in_range};
use crate::term::{Probe, Step, Term, TermError, TermParams, Wants};

/// What the denominator of `$h$` is enlarged by, as in the authors' code.
const DENOMINATOR: f64 = 1e-7;

/// Settings of [`Crd`].
///
/// | key | default | meaning |
/// |---|---|---|
/// | `student` | none | student taps, as a rule the features before the classifier; maps are flattened |
/// | `teacher` | none | the teacher taps they are contrasted with, as many |
/// | `dimension` | 128 | 1 or more: size of the embedding |
/// | `negatives` | 16384 | 1 or more: `$K$`; drawn with replacement |
/// | `temperature` | 0.07 | above 0: `$\tau$` |
/// | `momentum` | 0.5 | 0 to below 1: share of the old row in a memory update |
/// | `seed` | 0 | of the negatives; they also depend on the step and the batch's sample ids |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct CrdSettings {
    /// Student taps.
    pub student: Vec<String>,
    /// Teacher taps.
    pub teacher: Vec<String>,
    /// Size of the embedding.
    pub dimension: usize,
    /// `$K$`.
    pub negatives: usize,
    /// `$\tau$`.
    pub temperature: f64,
    /// Share of the old row in a memory update.
    pub momentum: f64,
    /// Seed of the negatives.
    pub seed: u64,
}

impl Default for CrdSettings {
    fn default() -> Self {
        Self {
            student: Vec::new(),
            teacher: Vec::new(),
            dimension: 128,
            negatives: 16384,
            temperature: 0.07,
            momentum: 0.5,
            seed: 0,
        }
    }
}

impl CrdSettings {
    /// Checks the settings, all but the taps.
    fn check(&self) -> Result<(), SettingsError> {
        for (key, value) in [("dimension", self.dimension), ("negatives", self.negatives)] {
            in_range(key, value, value > 0, "1 or more")?;
        }
        let fine = self.temperature > 0.0 && self.temperature.is_finite();
        in_range("temperature", self.temperature, fine, "above 0")?;
        in_range("momentum", self.momentum, (0.0..1.0).contains(&self.momentum), "0 or more, below 1")
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`].
    pub fn build(self) -> Result<Crd, SettingsError> {
        self.check()?;
        let pairs = TapPairs::new(self.student.clone(), self.teacher.clone(), 1)?;
        Ok(Crd { pairs, settings: self })
    }
}

impl LossSettings for CrdSettings {
    type Loss = Crd;
    fn build(self) -> Result<Crd, SettingsError> {
        self.build()
    }
}

/// The loss: see the [settings](CrdSettings) and the [formula](self). Every pair owns, for each `<side>` `student` and `teacher`, the embedding
/// `<student tap>.<side>.{weight, bias}` and the buffers `<student tap>.<side>.memory` (`[samples, dimension]`) and `<student tap>.<side>.log_normalizer`
/// (`$\log Z$` of that side's embeddings against the other side's memory; `$-\infty$` before the first batch).
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use kd_core::losses::{Crd, CrdSettings};
///
/// let taps = || vec!["features".to_owned()];
/// let loss = CrdSettings { student: taps(), teacher: taps(), ..Default::default() }.build()?;
/// let device = Device::flex();
/// let memory = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], &device); // of three samples
/// let contrast = Tensor::<2, Int>::from_ints([[0, 1, 2]], &device); // sample 0 against 1 and 2
/// let value = |anchor| {
///     let scores = loss.scores(Tensor::<2>::from_floats([anchor], &device), memory.clone(), contrast.clone());
///     Crd::per_example(scores, Tensor::from_floats([0.0], &device), 3).into_scalar::<f32>()
/// };
/// assert!(value([1.0, 0.0]) < value([0.0, 1.0])); // the first is where sample 0 is
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Crd {
    pairs: TapPairs,
    settings: CrdSettings,
}

impl Crd {
    /// Features `[batch, features]` on the unit sphere: `weight` `[dimension, features]`, `bias` `[dimension]`. Returns `[batch, dimension]`.
    pub fn embed(features: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
        unit(features.matmul(weight.transpose()) + bias.unsqueeze_dim::<2>(0), 1, EPSILON)
    }

    /// `$u \cdot v / \tau$`: `anchors` `[batch, dimension]` against the rows `contrast` `[batch, 1 + negatives]` of `memory` `[samples, dimension]`.
    /// Column 0 is the anchor's own sample. Returns the shape of `contrast`.
    pub fn scores(&self, anchors: Tensor<2>, memory: Tensor<2>, contrast: Tensor<2, Int>) -> Tensor<2> {
        // Scores of all samples are far smaller than the rows of `[batch, 1 + negatives, dimension]`.
        anchors.matmul(memory.transpose()).gather(1, contrast).div_scalar(self.settings.temperature)
    }

    /// `$\log Z$` with `$Z$` the mean of `$e^{score}$` times `samples`: `[1]`, a constant.
    pub fn log_normalizer(scores: Tensor<2>, samples: usize) -> Tensor<1> {
        let [batch, columns] = scores.dims();
        let count = batch * columns;
        let sum = log_sum_exp(constant(scores).reshape([1, count]), 1);
        sum.reshape([1]).add_scalar((samples as f64 / count as f64).ln())
    }

    /// The loss of one side: `scores` `[batch, 1 + negatives]`, `log_normalizer` `[1]`, `samples` `$N$`. Returns `[batch]`.
    pub fn per_example(scores: Tensor<2>, log_normalizer: Tensor<1>, samples: usize) -> Tensor<1> {
        let [_, columns] = scores.dims();
        let negatives = columns.saturating_sub(1);
        let noise = negatives as f64 / samples as f64;
        let denominator = (noise + DENOMINATOR).ln();
        // How far p lies above the constant part of the denominator, in nats.
        let excess = (scores - log_normalizer.unsqueeze_dim::<2>(0)).sub_scalar(denominator);
        let positive = softplus(-excess.clone().narrow(1, 0, 1), 1.0).squeeze_dim::<1>(1);
        if negatives == 0 {
            return positive;
        }
        let others = softplus(excess.narrow(1, 1, negatives), 1.0).add_scalar(denominator - noise.ln());
        positive + others.sum_dim(1).squeeze_dim::<1>(1)
    }

    /// `memory` `[samples, dimension]` with the rows `ids` `[batch]` moved towards `embeddings` `[batch, dimension]` and back to unit length.
    pub fn updated(&self, memory: Tensor<2>, ids: Tensor<1, Int>, embeddings: Tensor<2>) -> Tensor<2> {
        let momentum = self.settings.momentum;
        let (memory, embeddings) = (constant(memory), constant(embeddings));
        let old = memory.clone().select(0, ids.clone());
        let rows = unit(old.mul_scalar(momentum) + embeddings.mul_scalar(1.0 - momentum), 1, EPSILON);
        memory.select_assign(0, ids, rows, IndexingUpdateOp::Assign)
    }

    /// The contrasted samples of a batch, `[batch, 1 + negatives]` row by row: the own sample, then others, drawn evenly. The same numbers for the same seed, step and ids.
    fn contrast(&self, ids: &[usize], samples: usize, step: usize) -> Vec<i64> {
        let first = ids.first().copied().unwrap_or(0);
        let mut draws = SplitMix::new([self.settings.seed, step as u64, first as u64]);
        let mut rows = Vec::with_capacity(ids.len() * (1 + self.settings.negatives));
        for &id in ids {
            rows.push(id as i64);
            rows.extend((0..self.settings.negatives).map(|_| {
                let other = draws.below(samples.saturating_sub(1).max(1));
                if other < id { other as i64 } else { other as i64 + 1 }
            }));
        }
        rows
    }
}

/// Steele et al.'s SplitMix64: a stream of draws that depends on its keys alone, so that a resumed run draws the same.
struct SplitMix(u64);

impl SplitMix {
    fn new(keys: [u64; 3]) -> Self {
        keys.into_iter().fold(Self(0), |mut mixed, key| {
            mixed.0 ^= key;
            Self(mixed.next())
        })
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// An even draw from `0..bound`.
    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}

impl Term for Crd {
    fn wants(&self) -> Wants {
        self.pairs.wants()
    }

    fn init(&self, probe: &Probe, params: &mut TermParams<'_>) -> Result<(), TermError> {
        let (samples, dimension) = (probe.samples, self.settings.dimension);
        if samples < 2 {
            return Err(TermError::Other(format!(
                "contrastive distillation needs at least 2 training samples, but there are {samples}"
            )));
        }
        for (student, teacher) in self.pairs.iter() {
            let theirs = probe.teachers.first().ok_or(TermError::NoTeacher)?;
            let sides = [("student", probe.student.value(student)?), ("teacher", theirs.value(teacher)?)];
            for (side, value) in sides {
                let [_, features] = value.per_sample()?.dims();
                let random = |rows, columns, bound: f64| {
                    Tensor::<2>::random([rows, columns], Distribution::Uniform(-bound, bound), &probe.device)
                };
                let at = |part: &str| format!("{student}.{side}.{part}");
                let weight = random(dimension, features, (1.0 / features.max(1) as f64).sqrt());
                params.insert(&at("weight"), weight)?;
                params.insert(&at("bias"), Tensor::<1>::zeros([dimension], &probe.device))?;
                let rows = random(samples, dimension, (3.0 / dimension as f64).sqrt());
                params.insert_buffer(&at("memory"), rows)?;
                let unknown = Tensor::<1>::full([1], f32::NEG_INFINITY, &probe.device);
                params.insert_buffer(&at("log_normalizer"), unknown)?;
            }
        }
        Ok(())
    }

    fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError> {
        let Step { student, ids, time, .. } = *step;
        let teacher = step.first_teacher()?.clone();
        let params = &mut step.params;
        self.pairs.sum(|ours, theirs| {
            let at = |side: &str, part: &str| format!("{ours}.{side}.{part}");
            let values = [("student", student.value(ours)?), ("teacher", teacher.value(theirs)?)];
            let mut embeddings = Vec::with_capacity(2);
            let mut memories = Vec::with_capacity(2);
            for (side, value) in values {
                let (weight, bias) = (params.get(&at(side, "weight"))?, params.get(&at(side, "bias"))?);
                embeddings.push((side, Self::embed(value.per_sample()?, weight, bias)));
                memories.push(params.get::<2>(&at(side, "memory"))?);
            }
            let device = student.value(ours)?.device();
            let [samples, _] = memories.first().map(Tensor::dims).unwrap_or_default();
            check_ids(ids, student.value(ours)?.batch(), samples)?;
            let contrast = self.contrast(ids, samples, time.step);
            let shape = [ids.len(), 1 + self.settings.negatives];
            let contrast = Tensor::<2, Int>::from_data(TensorData::new(contrast, shape), &device);
            let own = contrast.clone().narrow(1, 0, 1).reshape([ids.len()]);

            let mut loss = Tensor::zeros([ids.len()], &device);
            for ((side, anchors), memory) in embeddings.iter().zip(memories.iter().rev()) {
                let scores = self.scores(anchors.clone(), memory.clone(), contrast.clone());
                let mut log_normalizer = params.get::<1>(&at(side, "log_normalizer"))?;
                if !log_normalizer.clone().into_scalar::<f32>().is_finite() {
                    log_normalizer = Self::log_normalizer(scores.clone(), samples);
                    params.set_buffer(&at(side, "log_normalizer"), log_normalizer.clone())?;
                }
                loss = loss + Self::per_example(scores, log_normalizer, samples);
            }
            for ((side, rows), memory) in embeddings.into_iter().zip(memories) {
                params.set_buffer(&at(side, "memory"), self.updated(memory, own.clone(), rows))?;
            }
            Ok(loss)
        })
    }
}

/// Every sample of the batch must have a row of the memory.
fn check_ids(ids: &[usize], batch: usize, samples: usize) -> Result<(), TermError> {
    let advice = "contrastive distillation needs the id of every sample in the batch";
    TermError::same_shape("batch and sample ids", &[batch], &[ids.len()], advice)?;
    match ids.iter().find(|&&id| id >= samples) {
        None => Ok(()),
        Some(id) => Err(TermError::Other(format!(
            "sample id {id} has no row in the memory of {samples} samples: ids must be below the number of training samples"
        ))),
    }
}

#[cfg(test)]
mod tests;
