//! Hints.
//!
//! `$$ L = \frac{1}{|t|} \left\| t - r(s) \right\|_2^2 $$`
//!
//! The student's hidden features, through a learned regressor `$r$` (a 1×1 convolution or a linear map, without bias) to the teacher's channels, are pulled to
//! the teacher's. Romero et al.: *FitNets: Hints for Thin Deep Nets*, 2015, [arXiv:1412.6550](https://arxiv.org/abs/1412.6550). The paper halves the square
//! and sums; public code takes the mean over all elements, as here.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::pairs::TapPairs;
use super::{LossSettings, adapter};
use crate::settings::SettingsError;
use crate::term::{Probe, Step, Term, TermError, TermParams, Wants};

/// Settings of [`FitNets`].
///
/// | key | default | meaning |
/// |---|---|---|
/// | `student` | none | student taps: maps `[batch, channel, h, w]` or vectors `[batch, feature]` |
/// | `teacher` | none | the teacher taps they follow, as many, with the same height and width |
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct FitNetsSettings {
    /// Guided layers of the student.
    pub student: Vec<String>,
    /// Hint layers of the teacher.
    pub teacher: Vec<String>,
}

impl FitNetsSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] when there is no pair or the lists differ in length.
    pub fn build(self) -> Result<FitNets, SettingsError> {
        Ok(FitNets { pairs: TapPairs::new(self.student, self.teacher, 1)? })
    }
}

impl LossSettings for FitNetsSettings {
    type Loss = FitNets;
    fn build(self) -> Result<FitNets, SettingsError> {
        self.build()
    }
}

/// The loss: see the [settings](FitNetsSettings) and the [formula](self). Where channel counts differ, every pair owns a regressor called
/// `<student tap>.regressor` of shape `[teacher channels, student channels]`.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_core::losses::FitNets;
///
/// let device = Device::flex();
/// let student = Tensor::<4>::ones([2, 3, 8, 8], &device);
/// let weight = Tensor::<2>::ones([5, 3], &device); // `[teacher channels, student channels]`
/// let hint = Tensor::<4>::ones([2, 5, 8, 8], &device);
/// let per_example = FitNets::per_example(FitNets::regress(student, weight), hint);
/// assert_eq!(per_example.into_data().try_to_vec::<f32>().unwrap(), [4.0, 4.0]); // (3 - 1)²
/// ```
#[derive(Clone, Debug)]
pub struct FitNets {
    pairs: TapPairs,
}

impl FitNets {
    /// `student` and `teacher`: `[batch, channel, h, w]`, alike. Returns `[batch]`.
    pub fn per_example(student: Tensor<4>, teacher: Tensor<4>) -> Tensor<1> {
        (student - teacher).square().flatten::<2>(1, 3).mean_dim(1).squeeze_dim::<1>(1)
    }

    /// `[batch, student channels, h, w]` to `[batch, teacher channels, h, w]` by a 1×1 convolution; `weight`: `[teacher channels, student channels]`.
    pub fn regress(student: Tensor<4>, weight: Tensor<2>) -> Tensor<4> {
        adapter::project(student, weight)
    }
}

fn regressor(student: &str) -> String {
    format!("{student}.regressor")
}

impl Term for FitNets {
    fn wants(&self) -> Wants {
        self.pairs.wants()
    }

    fn init(&self, probe: &Probe, params: &mut TermParams<'_>) -> Result<(), TermError> {
        let advice = "a hint compares position by position: choose taps of equal height and width";
        let maps = self.pairs.equal_maps(probe, advice)?;
        maps.into_iter()
            .try_for_each(|(student, channels)| adapter::init(&regressor(student), channels, probe, params))
    }

    fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError> {
        let theirs = step.first_teacher()?;
        self.pairs.sum(|student, teacher| {
            let theirs = theirs.value(teacher)?.as_map()?;
            let ours = step.student.value(student)?.as_map()?;
            let ours = adapter::apply(&regressor(student), ours, theirs.dims()[1], &step.params)?;
            Ok(Self::per_example(ours, theirs))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{OUTPUT, Params, Taps, Value};
    use burn::module::Module;
    use burn::tensor::Device;

    fn probe(device: &Device, student: [usize; 4], teacher: [usize; 4]) -> Probe {
        let taps = |shape| {
            let mut taps = Taps::all();
            taps.insert("map", Tensor::<4>::ones(shape, device));
            taps.insert(OUTPUT, Tensor::<2>::ones([2, 3], device));
            taps
        };
        let target = Value::from(Tensor::<2>::zeros([2, 3], device));
        Probe {
            student: taps(student),
            teachers: vec![taps(teacher)],
            target,
            samples: 2,
            device: device.clone(),
        }
    }

    fn loss() -> FitNets {
        FitNetsSettings { student: vec!["map".into()], teacher: vec!["map".into()] }.build().unwrap()
    }

    #[test]
    fn a_regressor_is_made_only_where_channels_differ() {
        let device = Device::flex();
        let parameters = |student, teacher| {
            let mut params = Params::default();
            loss()
                .init(&probe(&device, student, teacher), &mut TermParams::new(&mut params, "hint"))
                .unwrap();
            params.num_params()
        };
        assert_eq!(parameters([2, 4, 5, 5], [2, 6, 5, 5]), 24);
        assert_eq!(parameters([2, 6, 5, 5], [2, 6, 5, 5]), 0);
    }

    #[test]
    fn maps_of_another_size_are_refused_before_the_first_step() {
        let mut params = Params::default();
        let probe = probe(&Device::flex(), [2, 4, 5, 5], [2, 4, 7, 7]);
        let error = loss().init(&probe, &mut TermParams::new(&mut params, "hint")).unwrap_err();
        assert!(error.to_string().contains("[5, 5] does not fit [7, 7]"), "{error}");
    }

    #[test]
    fn the_value_is_the_mean_square_of_every_example() {
        let device = Device::flex();
        let ours = Tensor::<4>::from_floats([[[[1.0, 2.0]]], [[[0.0, 0.0]]]], &device);
        let theirs = Tensor::<4>::from_floats([[[[1.0, 4.0]]], [[[3.0, 3.0]]]], &device);
        let value = FitNets::per_example(ours, theirs).into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(value, [2.0, 9.0]);
    }
}
