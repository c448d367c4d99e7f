//! Pair-wise distillation of feature maps.
//!
//! `$$ L = \frac{1}{R^2} \sum_{i,j} \left( a_{ij}^s - a_{ij}^t \right)^2, \qquad a_{ij} = \frac{f_i \cdot f_j}{\|f_i\| \|f_j\|} $$`
//!
//! over the `$R$` regions of a feature map, each pooled to one vector `$f_i$`. Liu, Chen, Liu et al.: *Structured Knowledge Distillation for Semantic
//! Segmentation*, 2019, [arXiv:1903.04197](https://arxiv.org/abs/1903.04197).

use burn::tensor::Tensor;
use burn::tensor::module::{avg_pool2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};
use serde::{Deserialize, Serialize};

use super::LossSettings;
use super::math::{EPSILON, constant, norm, unit};
use super::pairs::TapPairs;
use crate::settings::{SettingsError, in_range};
use crate::term::{Probe, Step, Term, TermError, TermParams, Wants};

/// How a region becomes one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegionPool {
    /// The mean over the region, as in the paper's last version.
    #[default]
    Average,
    /// The maximum over the region, as the authors' code does.
    Max,
}

/// How vectors come to unit length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VectorNorm {
    /// `$f / \|f\|$`, with its whole gradient.
    #[default]
    Differentiated,
    /// `$f / (\|f\| + 10^{-8})$` with the norm as a constant, as the authors' code does: the gradient also has a part along `$f$`.
    Detached,
}

/// Settings of [`PairWise`].
///
/// | key | default | meaning or range |
/// |---|---|---|
/// | `student` | none | student taps: maps `[batch, channel, h, w]` |
/// | `teacher` | none | the teacher taps they follow, with the same height and width; channels may differ |
/// | `scale` | 0.5 | height and width of a region as a share of the map's, above 0, at most 1; regions at the border may be smaller |
/// | `pool` | `average` | `average`, `max` |
/// | `norm` | `differentiated` | `differentiated`, `detached` |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct PairWiseSettings {
    /// Student taps.
    pub student: Vec<String>,
    /// Teacher taps.
    pub teacher: Vec<String>,
    /// Size of a region.
    pub scale: f64,
    /// Pooling of a region.
    pub pool: RegionPool,
    /// Treatment of the norm.
    pub norm: VectorNorm,
}

impl Default for PairWiseSettings {
    fn default() -> Self {
        Self {
            student: Vec::new(),
            teacher: Vec::new(),
            scale: 0.5,
            pool: RegionPool::default(),
            norm: VectorNorm::default(),
        }
    }
}

impl PairWiseSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] for a scale outside its range, or lists of taps that are empty or differ in length.
    pub fn build(self) -> Result<PairWise, SettingsError> {
        in_range("scale", self.scale, self.scale > 0.0 && self.scale <= 1.0, "above 0 and at most 1")?;
        let pairs = TapPairs::new(self.student.clone(), self.teacher.clone(), 1)?;
        Ok(PairWise { pairs, settings: self })
    }
}

impl LossSettings for PairWiseSettings {
    type Loss = PairWise;
    fn build(self) -> Result<PairWise, SettingsError> {
        self.build()
    }
}

/// The loss: see the [settings](PairWiseSettings) and the [formula](self).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_core::losses::PairWiseSettings;
///
/// let taps = vec!["layer4".to_owned()];
/// let settings = PairWiseSettings { student: taps.clone(), teacher: taps, ..Default::default() };
/// let device = Device::flex();
/// let (student, teacher) = (Tensor::<4>::ones([2, 8, 6, 6], &device), Tensor::<4>::ones([2, 32, 6, 6], &device));
/// assert_eq!(settings.build()?.per_example(student, teacher).dims(), [2]); // channels may differ
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct PairWise {
    pairs: TapPairs,
    settings: PairWiseSettings,
}

impl PairWise {
    /// `student` and `teacher`: `[batch, channel, h, w]`, of equal height and width. Returns `[batch]`.
    pub fn per_example(&self, student: Tensor<4>, teacher: Tensor<4>) -> Tensor<1> {
        self.compare(self.regions(student), self.regions(teacher))
    }

    /// As [`per_example`](Self::per_example), every position being a region.
    pub fn compare(&self, student: Tensor<4>, teacher: Tensor<4>) -> Tensor<1> {
        let difference = self.similarities(student) - self.similarities(teacher);
        difference.square().flatten::<2>(1, 2).mean_dim(1).squeeze_dim::<1>(1)
    }

    /// Pools every region; the windows are `⌊scale · h⌋` by `⌊scale · w⌋`, at least 1 by 1, and do not overlap.
    pub fn regions(&self, map: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = map.dims();
        let window = [height, width].map(|size| ((size as f64 * self.settings.scale) as usize).max(1));
        match self.settings.pool {
            RegionPool::Max => max_pool2d(map, MaxPoolOptions::new(window).with_ceil_mode(true)),
            RegionPool::Average => {
                let options = AvgPoolOptions::new(window).with_ceil_mode(true).with_count_include_pad(false);
                avg_pool2d(map, options)
            }
        }
    }

    /// `$a$`, `[batch, regions, regions]`.
    fn similarities(&self, map: Tensor<4>) -> Tensor<3> {
        let vectors = map.flatten::<3>(2, 3);
        let unit = match self.settings.norm {
            VectorNorm::Differentiated => unit(vectors, 1, EPSILON),
            VectorNorm::Detached => vectors.clone() / constant(norm(vectors, 1)).add_scalar(1e-8),
        };
        unit.clone().swap_dims(1, 2).matmul(unit)
    }
}

impl Term for PairWise {
    fn wants(&self) -> Wants {
        self.pairs.wants()
    }

    fn init(&self, probe: &Probe, _params: &mut TermParams<'_>) -> Result<(), TermError> {
        let advice = "regions are compared one by one: choose taps of equal height and width";
        self.pairs.equal_maps(probe, advice).map(drop)
    }

    fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError> {
        let theirs = step.first_teacher()?;
        self.pairs.sum(|student, teacher| {
            let student = step.student.value(student)?.as_map()?;
            Ok(self.per_example(student, theirs.value(teacher)?.as_map()?))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::gradient::{assert_gradient, numbers};
    use super::*;
    use burn::tensor::{Device, Int};

    fn settings() -> PairWiseSettings {
        let taps = vec!["map".to_owned()];
        PairWiseSettings { student: taps.clone(), teacher: taps, ..Default::default() }
    }

    fn teacher(device: &Device) -> Tensor<4> {
        Tensor::<1>::from_floats(numbers(90, 1).as_slice(), device).reshape([2, 3, 3, 5])
    }

    #[test]
    fn the_gradient_matches_central_differences() {
        for pool in [RegionPool::Average, RegionPool::Max] {
            let loss = PairWiseSettings { pool, ..settings() }.build().unwrap();
            assert_gradient([2, 2, 3, 5], &numbers(60, 2), 2e-2, |x| {
                loss.per_example(x, teacher(&Device::flex().autodiff()))
            });
        }
    }

    #[test]
    fn a_detached_norm_adds_a_gradient_along_the_vector() {
        let device = Device::flex().autodiff();
        let along = |norm| {
            let loss = PairWiseSettings { norm, ..settings() }.build().unwrap();
            let student = Tensor::<1>::from_floats(numbers(90, 3).as_slice(), &device)
                .reshape([2, 3, 3, 5])
                .require_grad();
            let grads = loss.compare(student.clone(), teacher(&device)).sum().backward();
            let gradient = student.grad(&grads).unwrap();
            (gradient * student.inner()).sum_dim(1).abs().max().into_scalar::<f32>()
        };
        assert!(along(VectorNorm::Differentiated) < 1e-6);
        assert!(along(VectorNorm::Detached) > 1e-3);
    }

    #[test]
    fn regions_at_the_border_average_what_they_have() {
        let map = Tensor::<1, Int>::arange(0..15, &Device::flex()).float().reshape([1, 1, 3, 5]);
        let pooled = settings().build().unwrap().regions(map);
        assert_eq!(pooled.dims(), [1, 1, 3, 3]);
        assert_eq!(pooled.into_data().try_to_vec::<f32>().unwrap()[..3], [0.5, 2.5, 4.0]);
    }

    #[test]
    fn a_dead_position_takes_a_finite_gradient() {
        let device = Device::flex().autodiff();
        for norm in [VectorNorm::Differentiated, VectorNorm::Detached] {
            let loss = PairWiseSettings { norm, ..settings() }.build().unwrap();
            let student = Tensor::<4>::zeros([2, 2, 3, 5], &device).require_grad();
            let grads = loss.per_example(student.clone(), teacher(&device)).sum().backward();
            let gradient = student.grad(&grads).unwrap().into_data().try_to_vec::<f32>().unwrap();
            assert!(gradient.iter().all(|g| *g == 0.0));
        }
    }

    #[test]
    fn a_scale_above_one_is_refused() {
        let error = PairWiseSettings { scale: 1.5, ..settings() }.build().unwrap_err();
        assert_eq!(error.to_string(), "`scale` is 1.5, but it must be above 0 and at most 1");
    }
}
