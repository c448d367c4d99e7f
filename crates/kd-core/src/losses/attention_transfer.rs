//! Attention transfer.
//!
//! `$$ L = \frac{1}{2} \sum_j \frac{1}{N_j} \left\| \frac{Q^S_j}{\|Q^S_j\|_2} - \frac{Q^T_j}{\|Q^T_j\|_2} \right\|_2 $$`
//!
//! Where in an image a layer is active: `$Q_j$` is the attention map of layer `$j$`, a feature map with its channels summarised away ([`AttentionMapping`]), and `$N_j$` its
//! number of positions. Channel counts need not match; of two maps of different size the larger is average-pooled.
//! Zagoruyko, Komodakis: *Paying More Attention to Attention*, 2017, [arXiv:1612.03928](https://arxiv.org/abs/1612.03928).
//!
//! The paper weights the distance by `$\beta/2$`, summed over the batch, with `$\beta = 1000$` divided by the number of positions and the batch size.
//! Here the division by positions is part of the formula, so that with the mean over the batch the weight is the paper's **1000**. The public code
//! is another function of the same weight: the mean *squared* difference. [`AttentionConvention`] chooses.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::LossSettings;
use super::math::{EPSILON, abs_power, norm, row_norms, signed_power, unit};
use super::pairs::TapPairs;
use super::pooling::{pool_larger, poolable};
use crate::settings::{SettingsError, in_range};
use crate::term::{Probe, Step, Term, TermError, TermParams, Wants};

/// How the channels `$A_c$` of a feature map become one attention map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttentionMapping {
    /// `$\sum_c |A_c|$`.
    AbsSum,
    /// `$\sum_c |A_c|^p$`.
    #[default]
    PowerSum,
    /// `$\max_c |A_c|^p$`.
    PowerMax,
    /// `$\sum_c A_c^p$`, without the absolute value, as RepDistiller does: another map for odd `$p$` only.
    SignedPowerSum,
}

/// How two normalised attention maps `$q$` of `$N$` positions are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttentionConvention {
    /// `$\frac{1}{2N} \|q^S - q^T\|_2$`, as in the paper: see above.
    #[default]
    Paper,
    /// `$\|q^S - q^T\|_2$`, torchdistill's mode `paper`.
    Norm,
    /// `$\frac{1}{N} \|q^S - q^T\|_2^2$`, as the authors' code, RepDistiller, Knowledge-Distillation-Zoo and torchdistill's mode `code`.
    Code,
}

/// What is average-pooled when the sizes differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttentionPooling {
    /// The attention map, before it is normalised: the paper interpolates attention maps.
    #[default]
    Attention,
    /// The features, before the mapping, as RepDistiller does.
    Features,
}

/// What an attention map is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttentionNormalizer {
    /// `$\max(\|Q\|_2, \epsilon)$`.
    #[default]
    Max,
    /// `$\|Q\|_2 + \epsilon$`, as Knowledge-Distillation-Zoo does with `$\epsilon = 10^{-6}$`.
    Sum,
}

/// Settings of [`AttentionTransfer`].
///
/// | key | default | range |
/// |---|---|---|
/// | `student` | none | student taps: maps `[batch, channel, h, w]` |
/// | `teacher` | none | the teacher taps they follow, as many |
/// | `mapping` | `power-sum` | `abs-sum`, `power-sum`, `power-max`, `signed-power-sum` |
/// | `power` | 2 | above 0; not used by `abs-sum` |
/// | `convention` | `paper` | `paper`, `norm`, `code` |
/// | `pooled-map` | `attention` | `attention`, `features` |
/// | `normalizer` | `max` | `max`, `sum` |
/// | `epsilon` | 1e-12 | above 0, at most 1 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct AttentionTransferSettings {
    /// Student taps.
    pub student: Vec<String>,
    /// Teacher taps.
    pub teacher: Vec<String>,
    /// From features to attention.
    pub mapping: AttentionMapping,
    /// `$p$`: the higher, the more the strongest activations count.
    pub power: f64,
    /// Comparison of the maps.
    pub convention: AttentionConvention,
    /// What is pooled.
    pub pooled_map: AttentionPooling,
    /// How a map is normalised.
    pub normalizer: AttentionNormalizer,
    /// `$\epsilon$` of the normaliser.
    pub epsilon: f64,
}

impl Default for AttentionTransferSettings {
    fn default() -> Self {
        Self {
            student: Vec::new(),
            teacher: Vec::new(),
            mapping: AttentionMapping::default(),
            power: 2.0,
            convention: AttentionConvention::default(),
            pooled_map: AttentionPooling::default(),
            normalizer: AttentionNormalizer::default(),
            epsilon: EPSILON,
        }
    }
}

impl AttentionTransferSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] for a power or epsilon out of range, no pair of taps or lists of different length.
    pub fn build(self) -> Result<AttentionTransfer, SettingsError> {
        in_range("power", self.power, self.power > 0.0 && self.power.is_finite(), "above 0")?;
        let fine = self.epsilon > 0.0 && self.epsilon <= 1.0;
        in_range("epsilon", self.epsilon, fine, "above 0 and at most 1")?;
        let pairs = TapPairs::new(self.student.clone(), self.teacher.clone(), 1)?;
        Ok(AttentionTransfer { pairs, settings: self })
    }
}

impl LossSettings for AttentionTransferSettings {
    type Loss = AttentionTransfer;
    fn build(self) -> Result<AttentionTransfer, SettingsError> {
        self.build()
    }
}

/// The loss: see the [settings](AttentionTransferSettings) and the [formula](self). The terms of several pairs are added.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use kd_core::losses::AttentionTransferSettings;
///
/// let taps = || vec!["stage1".to_owned()];
/// let loss = AttentionTransferSettings { student: taps(), teacher: taps(), ..Default::default() }.build()?;
/// let map = Tensor::<4>::random([2, 8, 4, 4], Distribution::Default, &Device::flex());
/// let per_example = loss.per_example(map.clone(), map * 3.0); // attention has no scale
/// assert!(per_example.sum().into_scalar::<f32>() < 1e-6);
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct AttentionTransfer {
    pairs: TapPairs,
    settings: AttentionTransferSettings,
}

impl AttentionTransfer {
    /// Features `[batch, channel, h, w]` to attention `[batch, 1, h, w]`, not normalised.
    pub fn attention(&self, features: Tensor<4>) -> Tensor<4> {
        let power = self.settings.power;
        match self.settings.mapping {
            AttentionMapping::AbsSum => features.abs().sum_dim(1),
            AttentionMapping::PowerSum => abs_power(features, power).sum_dim(1),
            AttentionMapping::PowerMax => abs_power(features, power).max_dim(1),
            AttentionMapping::SignedPowerSum => signed_power(features, power).sum_dim(1),
        }
    }

    /// `student` and `teacher`: features `[batch, channel, h, w]` of any channels and size. Returns `[batch]`.
    pub fn per_example(&self, student: Tensor<4>, teacher: Tensor<4>) -> Tensor<1> {
        let (student, teacher) = match self.settings.pooled_map {
            AttentionPooling::Attention => pool_larger(self.attention(student), self.attention(teacher)),
            AttentionPooling::Features => {
                let (student, teacher) = pool_larger(student, teacher);
                (self.attention(student), self.attention(teacher))
            }
        };
        let difference = self.normalize(student) - self.normalize(teacher);
        let [_, positions] = difference.dims();
        match self.settings.convention {
            AttentionConvention::Paper => row_norms(difference).div_scalar(2.0 * positions as f64),
            AttentionConvention::Norm => row_norms(difference),
            AttentionConvention::Code => difference.square().mean_dim(1).squeeze_dim::<1>(1),
        }
    }

    /// `[batch, 1, h, w]` to `[batch, h * w]` of length one.
    fn normalize(&self, attention: Tensor<4>) -> Tensor<2> {
        let rows = attention.flatten::<2>(1, 3);
        let epsilon = self.settings.epsilon;
        match self.settings.normalizer {
            AttentionNormalizer::Max => unit(rows, 1, epsilon),
            AttentionNormalizer::Sum => {
                let norms = norm(rows.clone(), 1).add_scalar(epsilon);
                rows / norms
            }
        }
    }
}

impl Term for AttentionTransfer {
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

    const CONVENTIONS: [AttentionConvention; 3] =
        [AttentionConvention::Paper, AttentionConvention::Norm, AttentionConvention::Code];

    fn loss(settings: AttentionTransferSettings) -> AttentionTransfer {
        let taps = || vec!["map".to_owned()];
        AttentionTransferSettings { student: taps(), teacher: taps(), ..settings }.build().unwrap()
    }

    fn of(mapping: AttentionMapping, power: f64, convention: AttentionConvention) -> AttentionTransfer {
        loss(AttentionTransferSettings { mapping, power, convention, ..Default::default() })
    }

    fn data<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn every_mapping_summarises_the_channels_as_its_formula_says() {
        let features = Tensor::<4>::from_floats([[[[1.0, -2.0]], [[-3.0, 1.0]]]], &Device::flex());
        for (mapping, power, expected) in [
            (AttentionMapping::AbsSum, 3.0, [4.0, 3.0]),
            (AttentionMapping::PowerSum, 3.0, [28.0, 9.0]),
            (AttentionMapping::PowerMax, 3.0, [27.0, 8.0]),
            (AttentionMapping::SignedPowerSum, 3.0, [-26.0, -7.0]),
            (AttentionMapping::SignedPowerSum, 2.0, [10.0, 5.0]),
        ] {
            let attention = data(of(mapping, power, AttentionConvention::Paper).attention(features.clone()));
            for (ours, exact) in attention.iter().zip(expected) {
                assert!((ours - exact).abs() < 1e-4, "{mapping:?}: {attention:?}");
            }
        }
    }

    #[test]
    fn the_conventions_are_functions_of_the_same_distance() {
        // Attention (1, 0) against (0, 1): the distance is the root of two, over two positions.
        let device = Device::flex();
        let student = Tensor::<4>::from_floats([[[[2.0, 0.0]]]], &device);
        let teacher = Tensor::<4>::from_floats([[[[0.0, 5.0]]]], &device);
        let root = std::f32::consts::SQRT_2;
        for (convention, expected) in [
            (AttentionConvention::Paper, root / 4.0),
            (AttentionConvention::Norm, root),
            (AttentionConvention::Code, 1.0),
        ] {
            let value = of(AttentionMapping::PowerSum, 2.0, convention)
                .per_example(student.clone(), teacher.clone())
                .into_scalar::<f32>();
            assert!((value - expected).abs() < 1e-6, "{convention:?}: {value}");
        }
    }

    #[test]
    fn gradients_are_central_differences_for_every_mapping_convention_and_pooling() {
        let device = Device::flex().autodiff();
        let teacher = Tensor::<1>::from_floats(numbers(12, 1).as_slice(), &device).reshape([2, 1, 2, 3]);
        for mapping in [
            AttentionMapping::AbsSum,
            AttentionMapping::PowerSum,
            AttentionMapping::PowerMax,
            AttentionMapping::SignedPowerSum,
        ] {
            for convention in CONVENTIONS {
                for pooled_map in [AttentionPooling::Attention, AttentionPooling::Features] {
                    let settings = AttentionTransferSettings {
                        mapping,
                        power: 3.0,
                        convention,
                        pooled_map,
                        ..Default::default()
                    };
                    let loss = loss(settings);
                    assert_gradient([2, 2, 4, 3], &numbers(48, 2), 2e-2, |student| {
                        loss.per_example(student, teacher.clone())
                    });
                }
            }
        }
    }

    #[test]
    fn a_dead_map_and_an_equal_map_have_finite_gradients() {
        let device = Device::flex().autodiff();
        for convention in CONVENTIONS {
            for normalizer in [AttentionNormalizer::Max, AttentionNormalizer::Sum] {
                let loss = loss(AttentionTransferSettings { convention, normalizer, ..Default::default() });
                let student =
                    Tensor::<4>::from_floats([[[[0.0, 0.0]]], [[[1.0, 2.0]]]], &device).require_grad();
                let teacher = Tensor::<4>::from_floats([[[[1.0, 2.0]]], [[[1.0, 2.0]]]], &device);
                let value = loss.per_example(student.clone(), teacher).sum();
                let gradient = data(student.grad(&value.backward()).unwrap());
                assert_eq!(gradient, [0.0; 4], "{convention:?} {normalizer:?}");
            }
        }
    }

    #[test]
    fn a_power_of_zero_is_refused_with_key_value_and_range() {
        let error = AttentionTransferSettings { power: 0.0, ..Default::default() }.build().unwrap_err();
        assert_eq!(error.to_string(), "`power` is 0, but it must be above 0");
    }
}
