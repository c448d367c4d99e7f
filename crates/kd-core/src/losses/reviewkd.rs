//! The hierarchical context loss of knowledge review.
//!
//! `$$ L = \frac{\sum_{l=0}^{m} \gamma^l \, \mathrm{mse}\left(\mathrm{pool}_l(s), \mathrm{pool}_l(t)\right)}{\sum_{l=0}^{m} \gamma^l} $$`
//!
//! Level 0 compares the maps as they are, the others their averages over a grid of 4×4, 2×2 and 1×1 cells, each level counting half of the one before
//! (`$\gamma = 1/2$`). Grids not smaller than the map's height are left out.
//! Chen et al.: *Distilling Knowledge via Knowledge Review*, 2021, [arXiv:2104.09044](https://arxiv.org/abs/2104.09044).
//!
//! This is the loss, for pairs of taps of equal height and width. The paper's fusion of several student stages (attention-based fusion) is not part of it: where
//! channels differ, a learned 1×1 convolution takes its place. The paper raises the weight linearly over the first 20 epochs; the schedule `warm-up` does so.

use burn::tensor::Tensor;
use burn::tensor::module::adaptive_avg_pool2d;
use serde::{Deserialize, Serialize};

use super::pairs::TapPairs;
use super::{Elements, LossSettings, adapter};
use crate::settings::{SettingsError, in_range};
use crate::term::{Probe, Step, Term, TermError, TermParams, Wants};

/// Settings of [`ReviewKd`].
///
/// | key | default | range |
/// |---|---|---|
/// | `student` | none | student taps: maps `[batch, channel, h, w]` |
/// | `teacher` | none | the teacher taps they follow, as many, with the same height and width |
/// | `grids` | `[4, 2, 1]` | cells per side of every further level, each at least 1 |
/// | `decay` | 0.5 | above 0, at most 1: `$\gamma$` |
/// | `elements` | `mean` | `mean` (the formula), `sum`: of every level's squares over channels and positions |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ReviewKdSettings {
    /// Student taps.
    pub student: Vec<String>,
    /// Teacher taps.
    pub teacher: Vec<String>,
    /// Cells per side, level by level.
    pub grids: Vec<usize>,
    /// Weight of a level relative to the one before.
    pub decay: f64,
    /// Reduction of every level's squares.
    pub elements: Elements,
}

impl Default for ReviewKdSettings {
    fn default() -> Self {
        let (student, teacher) = (Vec::new(), Vec::new());
        Self { student, teacher, grids: vec![4, 2, 1], decay: 0.5, elements: Elements::Mean }
    }
}

impl ReviewKdSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] for an empty grid, a decay out of range, no pair of taps or lists of different length.
    pub fn build(self) -> Result<ReviewKd, SettingsError> {
        let grids = self.grids.iter().all(|&cells| cells >= 1);
        in_range("grids", format!("{:?}", self.grids), grids, "a list of numbers of at least 1")?;
        let fine = self.decay > 0.0 && self.decay <= 1.0;
        in_range("decay", self.decay, fine, "above 0 and at most 1")?;
        let pairs = TapPairs::new(self.student.clone(), self.teacher.clone(), 1)?;
        Ok(ReviewKd { pairs, settings: self })
    }
}

impl LossSettings for ReviewKdSettings {
    type Loss = ReviewKd;
    fn build(self) -> Result<ReviewKd, SettingsError> {
        self.build()
    }
}

/// The loss: see the [settings](ReviewKdSettings) and the [formula](self). The terms of several pairs are added. Where channel counts differ, a pair owns
/// an adapter `<student tap>.adapter` of shape `[teacher channels, student channels]`.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_core::losses::ReviewKdSettings;
///
/// let taps = || vec!["stage3".to_owned()];
/// let loss = ReviewKdSettings { student: taps(), teacher: taps(), ..Default::default() }.build()?;
/// let zeros = Tensor::<4>::zeros([2, 3, 8, 8], &Device::flex());
/// let value = loss.per_example(zeros.clone(), zeros + 2.0); // every level sees a difference of 2
/// assert_eq!(value.into_data().try_to_vec::<f32>().unwrap(), [4.0, 4.0]);
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ReviewKd {
    pairs: TapPairs,
    settings: ReviewKdSettings,
}

impl ReviewKd {
    /// `student` and `teacher`: `[batch, channel, h, w]`, alike. Returns `[batch]`.
    pub fn per_example(&self, student: Tensor<4>, teacher: Tensor<4>) -> Tensor<1> {
        let [_, _, height, _] = student.dims();
        let difference = student - teacher;
        let squares = |difference: Tensor<4>| self.settings.elements.reduce(difference.square());
        let mut sum = squares(difference.clone());
        let (mut weight, mut total) = (1.0, 1.0);
        // Pooling is linear: the difference of the averages is the average of the difference.
        for &cells in self.settings.grids.iter().filter(|&&cells| cells < height) {
            weight *= self.settings.decay;
            total += weight;
            let pooled = adaptive_avg_pool2d(difference.clone(), [cells, cells]);
            sum = sum + squares(pooled).mul_scalar(weight);
        }
        sum.div_scalar(total)
    }
}

fn adapter_of(student: &str) -> String {
    format!("{student}.adapter")
}

impl Term for ReviewKd {
    fn wants(&self) -> Wants {
        self.pairs.wants()
    }

    fn init(&self, probe: &Probe, params: &mut TermParams<'_>) -> Result<(), TermError> {
        let advice = "the loss compares position by position: choose taps of equal height and width";
        let maps = self.pairs.equal_maps(probe, advice)?;
        maps.into_iter()
            .try_for_each(|(student, channels)| adapter::init(&adapter_of(student), channels, probe, params))
    }

    fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError> {
        self.pairs.sum(|student, teacher| {
            let theirs = step.first_teacher()?.value(teacher)?.as_map()?;
            let ours = step.student.value(student)?.as_map()?;
            let ours = adapter::apply(&adapter_of(student), ours, theirs.dims()[1], &step.params)?;
            Ok(self.per_example(ours, theirs))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{OUTPUT, Objective, Taps, Value};
    use burn::module::Module;
    use burn::tensor::Device;

    fn loss(grids: Vec<usize>, decay: f64) -> ReviewKd {
        let taps = || vec!["map".to_owned()];
        ReviewKdSettings { student: taps(), teacher: taps(), grids, decay, ..Default::default() }
            .build()
            .unwrap()
    }

    #[test]
    fn the_gradient_is_the_mean_over_levels_of_each_difference() {
        // One channel of 2 by 1, one further level of one cell: L = [(a² + b²)/2 + γ ((a + b)/2)²] / (1 + γ).
        let device = Device::flex().autodiff();
        let (a, b, decay) = (3.0f32, -1.0f32, 0.25f32);
        let student = Tensor::<4>::from_floats([[[[a], [b]]]], &device).require_grad();
        let teacher = Tensor::<4>::zeros([1, 1, 2, 1], &device);
        let value = loss(vec![4, 2, 1], decay.into()).per_example(student.clone(), teacher);
        let exact = ((a * a + b * b) / 2.0 + decay * (a + b).powi(2) / 4.0) / (1.0 + decay);
        assert!((value.clone().into_scalar::<f32>() - exact).abs() < 1e-6);
        let gradient = student.grad(&value.backward()).unwrap().into_data().try_to_vec::<f32>().unwrap();
        for (ours, x) in gradient.iter().zip([a, b]) {
            let exact = (x + decay * (a + b) / 2.0) / (1.0 + decay);
            assert!((ours - exact).abs() < 1e-6, "{ours} {exact}");
        }
    }

    #[test]
    fn without_further_levels_it_is_the_mean_square() {
        let device = Device::flex();
        let student = Tensor::<4>::from_floats([[[[1.0, 3.0]]], [[[0.0, 2.0]]]], &device);
        let value = loss(vec![], 0.5).per_example(student, Tensor::zeros([2, 1, 1, 2], &device));
        assert_eq!(value.into_data().try_to_vec::<f32>().unwrap(), [5.0, 2.0]);
    }

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

    #[test]
    fn an_adapter_bridges_channels_but_not_sizes() {
        let device = Device::flex();
        let objective = Objective::new().with("review", loss(vec![4, 2, 1], 0.5), 1.0);
        let params = objective.init(&probe(&device, [2, 4, 5, 5], [2, 6, 5, 5])).unwrap();
        assert_eq!((params.paths(), params.num_params()), (vec!["review.map.adapter".to_owned()], 24));
        let error = objective.init(&probe(&device, [2, 4, 5, 5], [2, 4, 7, 7])).unwrap_err();
        assert!(error.to_string().contains("[5, 5] does not fit [7, 7]"), "{error}");
    }

    #[test]
    fn a_grid_without_cells_is_refused() {
        let error = ReviewKdSettings { grids: vec![4, 0], ..Default::default() }.build().unwrap_err();
        assert_eq!(error.to_string(), "`grids` is [4, 0], but it must be a list of numbers of at least 1");
    }
}
