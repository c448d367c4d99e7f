//! Factor transfer.
//!
//! `$$ L = \frac{1}{n} \left\| \frac{F_S}{\|F_S\|_2} - \frac{F_T}{\|F_T\|_2} \right\|_p^p $$`
//!
//! Factors are compressed features: the teacher's from a *paraphraser* (an autoencoder trained without labels on its last map), the student's from a learned
//! *translator*. `$n$` is a factor's number of elements, `$p$` is 1 or 2.
//! Kim, Park, Kwak: *Paraphrasing Complex Network*, 2018, [arXiv:1802.04977](https://arxiv.org/abs/1802.04977).
//!
//! The teacher's factor is read from a tap: offer the output of a trained paraphraser as one, or take a map of the teacher as its own factor. The translator is
//! a 1×1 convolution that learns with the student, made where the channel counts differ. The paper writes the bare norm; its weight of **500** belongs
//! to the mean over elements with `$p = 1$`, which the authors' and all other code computes and which is the default here.
//! [`FactorDistance::Norm`] is the bare norm.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::math::{EPSILON, abs_power, row_norms, signed_power, unit};
use super::pairs::TapPairs;
use super::pooling::{pool_larger, poolable};
use super::{LossSettings, adapter};
use crate::settings::{SettingsError, in_range};
use crate::term::{Probe, Step, Term, TermError, TermParams, Wants};

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Factor {
    /// All channels and positions, as in the paper, Knowledge-Distillation-Zoo and torchdistill.
    #[default]
    Channels,
    /// `$\sum_c F_c^{q}$`, one number per position, with `$q$` the setting `channel-power`: RepDistiller. No translator is needed.
    ChannelSum,
}

/// How the difference `$d$` of two normalised factors of `$n$` elements becomes a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FactorDistance {
    /// `$\frac{1}{n} \sum |d|^p$`.
    #[default]
    Mean,
    /// `$(\sum |d|^p)^{1/p}$`: the paper's formula, and torchdistill for `$p \ne 1$`.
    Norm,
    /// `$\frac{1}{n} \sum d^p$`, without the absolute value, as RepDistiller for `$p \ne 1$`: another number for odd `$p$` only.
    SignedMean,
}

/// Settings of [`FactorTransfer`].
///
/// | key | default | range |
/// |---|---|---|
/// | `student` | none | student taps: maps `[batch, channel, h, w]` |
/// | `teacher` | none | the teacher's factors, as many |
/// | `factor` | `channels` | `channels`, `channel-sum` |
/// | `channel-power` | 2 | above 0; `channel-sum` only |
/// | `distance` | `mean` | `mean`, `norm`, `signed-mean` |
/// | `power` | 1 | at least 1 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct FactorTransferSettings {
    /// Student taps.
    pub student: Vec<String>,
    /// Teacher taps.
    pub teacher: Vec<String>,
    /// What is compared.
    pub factor: Factor,
    /// `$q$`, RepDistiller's `p1`.
    pub channel_power: f64,
    /// From difference to number.
    pub distance: FactorDistance,
    /// `$p$`, RepDistiller's `p2`.
    pub power: f64,
}

impl Default for FactorTransferSettings {
    fn default() -> Self {
        Self {
            student: Vec::new(),
            teacher: Vec::new(),
            factor: Factor::default(),
            channel_power: 2.0,
            distance: FactorDistance::default(),
            power: 1.0,
        }
    }
}

impl FactorTransferSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] for a power out of range, no pair of taps or lists of different length.
    pub fn build(self) -> Result<FactorTransfer, SettingsError> {
        let above = self.channel_power > 0.0 && self.channel_power.is_finite();
        in_range("channel-power", self.channel_power, above, "above 0")?;
        in_range("power", self.power, self.power >= 1.0 && self.power.is_finite(), "at least 1")?;
        let pairs = TapPairs::new(self.student.clone(), self.teacher.clone(), 1)?;
        Ok(FactorTransfer { pairs, settings: self })
    }
}

impl LossSettings for FactorTransferSettings {
    type Loss = FactorTransfer;
    fn build(self) -> Result<FactorTransfer, SettingsError> {
        self.build()
    }
}

/// The loss: see the [settings](FactorTransferSettings) and the [formula](self). The terms of several pairs are added. Where channel counts differ and
/// [`Factor::Channels`] is compared, a pair owns a translator `<student tap>.translator` of shape `[teacher channels, student channels]`.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_core::losses::FactorTransferSettings;
///
/// let taps = || vec!["stage3".to_owned()];
/// let loss = FactorTransferSettings { student: taps(), teacher: taps(), ..Default::default() }.build()?;
/// let factor = |x: [f32; 2]| Tensor::<4>::from_floats([[[x]]], &Device::flex());
/// let value = loss.per_example(factor([2.0, 0.0]), factor([0.0, 7.0])); // (1, 0) and (0, 1)
/// assert_eq!(value.into_scalar::<f32>(), 1.0);
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct FactorTransfer {
    pairs: TapPairs,
    settings: FactorTransferSettings,
}

impl FactorTransfer {
    /// `student` and `teacher`: factors `[batch, channel, h, w]` of any size (the larger is average-pooled first), and of equal channels where channels are
    /// compared. Returns `[batch]`.
    pub fn per_example(&self, student: Tensor<4>, teacher: Tensor<4>) -> Tensor<1> {
        let (student, teacher) = pool_larger(student, teacher);
        let difference = self.factor(student) - self.factor(teacher);
        let power = self.settings.power;
        let mean = |powers: Tensor<2>| powers.mean_dim(1).squeeze_dim::<1>(1);
        match self.settings.distance {
            FactorDistance::Mean => mean(abs_power(difference, power)),
            FactorDistance::SignedMean => mean(signed_power(difference, power)),
            FactorDistance::Norm if power == 2.0 => row_norms(difference),
            FactorDistance::Norm => {
                let sum = abs_power(difference, power).sum_dim(1).squeeze_dim::<1>(1);
                abs_power(sum, 1.0 / power)
            }
        }
    }

    /// `[batch, channel, h, w]` to normalised rows.
    fn factor(&self, map: Tensor<4>) -> Tensor<2> {
        let factor = match self.settings.factor {
            Factor::Channels => map,
            Factor::ChannelSum => signed_power(map, self.settings.channel_power).sum_dim(1),
        };
        unit(factor.flatten::<2>(1, 3), 1, EPSILON)
    }

    fn translates(&self) -> bool {
        self.settings.factor == Factor::Channels
    }
}

fn translator(student: &str) -> String {
    format!("{student}.translator")
}

impl Term for FactorTransfer {
    fn wants(&self) -> Wants {
        self.pairs.wants()
    }

    fn init(&self, probe: &Probe, params: &mut TermParams<'_>) -> Result<(), TermError> {
        let theirs = probe.teachers.first().ok_or(TermError::NoTeacher)?;
        self.pairs.iter().try_for_each(|(student, teacher)| {
            let (ours, theirs) = (probe.student.get::<4>(student)?.dims(), theirs.get::<4>(teacher)?.dims());
            poolable(&format!("sizes of taps `{student}` and `{teacher}`"), &ours, &theirs)?;
            if self.translates() {
                adapter::init(&translator(student), [ours[1], theirs[1]], probe, params)?;
            }
            Ok(())
        })
    }

    fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError> {
        self.pairs.sum(|student, teacher| {
            let theirs = step.teacher::<4>(teacher)?;
            let mut ours = step.student::<4>(student)?;
            if self.translates() {
                ours = adapter::apply(&translator(student), ours, theirs.dims()[1], &step.params)?;
            }
            Ok(self.per_example(ours, theirs))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::gradient::{assert_gradient, numbers};
    use super::*;
    use crate::{Batch, OUTPUT, Objective, Params, Taps, Time, Value};
    use burn::module::Module;
    use burn::tensor::Device;

    fn loss(factor: Factor, distance: FactorDistance, power: f64) -> FactorTransfer {
        let taps = || vec!["map".to_owned()];
        let settings = FactorTransferSettings {
            student: taps(),
            teacher: taps(),
            factor,
            distance,
            power,
            ..Default::default()
        };
        settings.build().unwrap()
    }

    const DISTANCES: [FactorDistance; 3] =
        [FactorDistance::Mean, FactorDistance::Norm, FactorDistance::SignedMean];

    #[test]
    fn gradients_are_central_differences_for_every_factor_distance_and_power() {
        let device = Device::flex().autodiff();
        let teacher = Tensor::<1>::from_floats(numbers(12, 1).as_slice(), &device).reshape([1, 2, 2, 3]);
        for factor in [Factor::Channels, Factor::ChannelSum] {
            for (distance, power) in DISTANCES.into_iter().flat_map(|d| [(d, 1.0), (d, 2.0), (d, 3.0)]) {
                let loss = loss(factor, distance, power);
                assert_gradient([1, 2, 4, 3], &numbers(24, 2), 2e-2, |student| {
                    loss.per_example(student, teacher.clone())
                });
            }
        }
    }

    #[test]
    fn equal_factors_have_zero_loss_and_zero_gradient_whatever_their_scale() {
        let device = Device::flex().autodiff();
        for distance in DISTANCES {
            for power in [1.0, 2.0, 3.0] {
                let student = Tensor::<4>::from_floats([[[[3.0, 4.0]]]], &device).require_grad();
                let teacher = student.clone().detach() * 2.0;
                let value = loss(Factor::Channels, distance, power).per_example(student.clone(), teacher);
                assert_eq!(value.clone().into_scalar::<f32>(), 0.0);
                let gradient =
                    student.grad(&value.backward()).unwrap().into_data().try_to_vec::<f32>().unwrap();
                assert!(gradient.iter().all(|x| x.is_finite()), "{distance:?} {power}: {gradient:?}");
            }
        }
    }

    fn taps(device: &Device, shape: [usize; 4]) -> Taps {
        let mut taps = Taps::all();
        let map = Tensor::<1>::from_floats(numbers(shape.iter().product(), 3).as_slice(), device);
        taps.insert("map", map.reshape(shape));
        taps.insert(OUTPUT, Tensor::<2>::ones([2, 3], device));
        taps
    }

    fn params(device: &Device, factor: Factor, channels: usize) -> (Objective, Params) {
        let probe = Probe {
            student: taps(device, [2, 4, 6, 6]),
            teachers: vec![taps(device, [2, channels, 3, 3])],
            target: Value::from(Tensor::<2>::zeros([2, 3], device)),
            samples: 2,
            device: device.clone(),
        };
        let objective = Objective::new().with("ft", loss(factor, FactorDistance::Mean, 1.0), 500.0);
        let params = objective.init(&probe).unwrap();
        (objective, params)
    }

    #[test]
    fn a_translator_is_made_only_where_channels_are_compared_and_differ() {
        for (factor, channels, expected) in
            [(Factor::Channels, 7, 28), (Factor::Channels, 4, 0), (Factor::ChannelSum, 7, 0)]
        {
            let (_, params) = params(&Device::flex(), factor, channels);
            assert_eq!(params.num_params(), expected, "{factor:?} {channels}");
        }
    }

    #[test]
    fn the_translator_learns() {
        let device = Device::flex().autodiff();
        let (objective, mut params) = params(&device, Factor::Channels, 7);
        let (student, teachers) = (taps(&device, [2, 4, 6, 6]), [taps(&device, [2, 7, 3, 3])]);
        let target = Value::from(Tensor::<2>::zeros([2, 3], &device));
        let (ids, time) = ([0, 1], Time::default());
        let batch =
            Batch { student: &student, teachers: &teachers, target: &target, ids: &ids, time, replay: None };
        let value = objective.forward(&batch, &mut params).unwrap();
        let grads = value.total.backward();
        let translator = params.get::<2>("ft.map.translator").unwrap();
        assert_eq!(translator.dims(), [7, 4]);
        assert!(translator.grad(&grads).unwrap().abs().sum().into_scalar::<f32>() > 0.0);
    }

    #[test]
    fn a_power_below_one_is_refused() {
        let error = FactorTransferSettings { power: 0.5, ..Default::default() }.build().unwrap_err();
        assert_eq!(error.to_string(), "`power` is 0.5, but it must be at least 1");
    }
}
