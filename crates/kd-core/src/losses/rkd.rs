//! Relational knowledge distillation.
//!
//! `$$ L_D = \sum_{i \ne j} \ell\left( \frac{|t_i - t_j|}{\mu_t}, \frac{|s_i - s_j|}{\mu_s} \right), \qquad
//!    L_A = \sum_{i \ne j \ne k} \ell\left( \cos \angle t_j t_i t_k, \cos \angle s_j s_i s_k \right) $$`
//!
//! `$\ell$` is the Huber loss with `$\delta = 1$`, `$\mu$` the mean distance of the batch; the student's is differentiated through.
//! Park, Kim, Lu, Cho: *Relational Knowledge Distillation*, 2019, [arXiv:1904.05068](https://arxiv.org/abs/1904.05068). The paper writes sums; its
//! weights of 25 and 50 belong to means over the tuples ([`Tuples`]), as here.
//!
//! The number of angles is cubic in the batch. They are computed for `chunk` anchors at a time and only their gradient with respect to the
//! directions is kept: for batch `$B$` and `$D$` features the loss holds `$O(\mathrm{chunk} \cdot B^2)$` numbers at once besides the `$O(B^2 D)$` of the pairwise
//! differences, never `$B^3$`. At `$B = 384$`, `$D = 64$`, forward and backward peak at 217 MB for the whole process; one tensor of all angles is 226 MB.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::LossSettings;
use super::math::{EPSILON, constant, norm, unit};
use super::pairs::TapPairs;
use super::relations::{diagonal, differences};
use crate::settings::{SettingsError, in_range};
use crate::term::{Probe, Step, Term, TermError, TermParams, Wants};

/// Over which tuples of examples the means are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tuples {
    /// Pairs and triples of distinct examples, as the paper has them.
    #[default]
    Distinct,
    /// All `$B^2$` and `$B^3$`, degenerate ones included, as the authors' code and RepDistiller do. Degenerate tuples add (almost) nothing to the
    /// sum, so the mean is lower by about `$1/B$` and `$3/B$`.
    All,
}

/// Settings of [`Rkd`].
///
/// | key | default | meaning or range |
/// |---|---|---|
/// | `student` | none | student taps, vectors or maps (which are flattened) |
/// | `teacher` | none | the teacher taps they follow, as many; sizes may differ |
/// | `distance-weight` | 25 | at least 0 |
/// | `angle-weight` | 50 | at least 0 |
/// | `tuples` | `distinct` | `distinct`, `all` |
/// | `chunk` | 16 | anchors whose angles are computed at once, at least 1 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct RkdSettings {
    /// Student taps.
    pub student: Vec<String>,
    /// Teacher taps.
    pub teacher: Vec<String>,
    /// Factor of the distance term.
    pub distance_weight: f64,
    /// Factor of the angle term.
    pub angle_weight: f64,
    /// Tuples that the means run over.
    pub tuples: Tuples,
    /// Anchors at a time in the angle term.
    pub chunk: usize,
}

impl Default for RkdSettings {
    fn default() -> Self {
        Self {
            student: Vec::new(),
            teacher: Vec::new(),
            distance_weight: 25.0,
            angle_weight: 50.0,
            tuples: Tuples::default(),
            chunk: 16,
        }
    }
}

impl RkdSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] for a negative weight, two weights of 0, a chunk of 0, or lists of taps that are empty or differ in length.
    pub fn build(self) -> Result<Rkd, SettingsError> {
        let (distance, angle) = (self.distance_weight, self.angle_weight);
        in_range("distance-weight", distance, distance >= 0.0 && distance.is_finite(), "at least 0")?;
        in_range("angle-weight", angle, angle >= 0.0 && angle.is_finite(), "at least 0")?;
        in_range("angle-weight", angle, distance + angle > 0.0, "above 0 where `distance-weight` is 0")?;
        in_range("chunk", self.chunk, self.chunk > 0, "at least 1")?;
        let pairs = TapPairs::new(self.student.clone(), self.teacher.clone(), 1)?;
        Ok(Rkd { pairs, settings: self })
    }
}

impl LossSettings for RkdSettings {
    type Loss = Rkd;
    fn build(self) -> Result<Rkd, SettingsError> {
        self.build()
    }
}

/// The loss: see the [settings](RkdSettings) and the [formula](self).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_core::losses::RkdSettings;
///
/// let taps = vec!["embedding".to_owned()];
/// let loss = RkdSettings { student: taps.clone(), teacher: taps, ..Default::default() }.build()?;
/// let teacher = Tensor::<2>::from_floats([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]], &Device::flex());
/// let larger_and_shifted = teacher.clone() * 3.0 + 1.0;
/// let per_example = loss.per_example(larger_and_shifted, teacher);
/// assert!(per_example.sum().into_scalar::<f32>() < 1e-6); // the relations are the same
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Rkd {
    pairs: TapPairs,
    settings: RkdSettings,
}

impl Rkd {
    /// Both terms, weighted. `student` and `teacher`: `[batch, features]`, of any widths. Returns `[batch]`, one value per anchor.
    pub fn per_example(&self, student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
        let RkdSettings { distance_weight, angle_weight, .. } = self.settings;
        let (ours, theirs) = (differences(student), differences(teacher));
        match (distance_weight > 0.0, angle_weight > 0.0) {
            (true, false) => self.distance(ours, theirs).mul_scalar(distance_weight),
            (false, true) => self.angle(ours, theirs).mul_scalar(angle_weight),
            _ => {
                let distance = self.distance(ours.clone(), theirs.clone()).mul_scalar(distance_weight);
                distance + self.angle(ours, theirs).mul_scalar(angle_weight)
            }
        }
    }

    /// From differences `[batch, batch, features]` to the distance term of every anchor.
    fn distance(&self, student: Tensor<3>, teacher: Tensor<3>) -> Tensor<1> {
        let [batch, ..] = student.dims();
        let others = match self.settings.tuples {
            Tuples::Distinct => batch.saturating_sub(1).max(1),
            Tuples::All => batch,
        };
        let difference = self.relative_distances(student) - self.relative_distances(teacher);
        huber(difference).sum_dim(1).squeeze_dim::<1>(1).div_scalar(others as f64)
    }

    /// Distances over their mean; the authors' code leaves coincident examples out of the mean.
    fn relative_distances(&self, differences: Tensor<3>) -> Tensor<2> {
        let distances = norm(differences, 2).squeeze_dim::<2>(2);
        let [batch, _] = distances.dims();
        let counted = match self.settings.tuples {
            Tuples::Distinct => diagonal(batch, &distances.device()).bool_not(),
            Tuples::All => distances.clone().greater_elem(0.0),
        };
        let count = counted.float().sum().clamp_min(1.0);
        let mean = (distances.clone().sum() / count).clamp_min(EPSILON);
        distances / mean.unsqueeze::<2>()
    }

    /// From differences `[batch, batch, features]` to the angle term of every anchor.
    fn angle(&self, student: Tensor<3>, teacher: Tensor<3>) -> Tensor<1> {
        let [batch, ..] = student.dims();
        let triples = match self.settings.tuples {
            Tuples::Distinct => (batch.saturating_sub(1) * batch.saturating_sub(2)).max(1),
            Tuples::All => batch * batch,
        };
        let (student, teacher) = (unit(student, 2, EPSILON), unit(teacher, 2, EPSILON));
        let chunk = |start: usize| {
            let anchors = self.settings.chunk.min(batch - start);
            self.angle_chunk(
                student.clone().narrow(0, start, anchors),
                teacher.clone().narrow(0, start, anchors),
            )
        };
        let chunks = (0..batch).step_by(self.settings.chunk).map(chunk).collect();
        Tensor::cat(chunks, 0).div_scalar(triples as f64)
    }

    /// Sum over all angles of some anchors, from directions `[anchors, batch, features]`.
    ///
    /// The angles are computed off the autodiff graph. With `$d_{jk}$` the derivative of the Huber loss, symmetric in `$j$` and `$k$`, the gradient with
    /// respect to the direction `$u_j$` is `$2 \sum_k d_{jk} u_k$`: the graph keeps that, of the size of the directions, instead of every angle.
    fn angle_chunk(&self, student: Tensor<3>, teacher: Tensor<3>) -> Tensor<1> {
        let cosines = |u: &Tensor<3>| u.clone().matmul(u.clone().swap_dims(1, 2));
        let fixed = constant(student.clone());
        let mut difference = cosines(&fixed) - cosines(&teacher);
        if self.settings.tuples == Tuples::Distinct {
            let [_, batch, _] = difference.dims();
            let same = diagonal(batch, &difference.device()).unsqueeze::<3>();
            difference = difference.clone().mask_fill(same.expand(difference.dims()), 0.0);
        }
        let derivative = difference.clone().clamp(-1.0, 1.0);
        let gradient = derivative.matmul(fixed.clone()).mul_scalar(2.0);
        let per_anchor = |x: Tensor<3>| x.flatten::<2>(1, 2).sum_dim(1).squeeze_dim::<1>(1);
        per_anchor(huber(difference)) + per_anchor((student - fixed) * gradient)
    }
}

/// `$x^2 / 2$`, and `$|x| - 1/2$` beyond 1.
fn huber<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let near = x.clone().clamp(-1.0, 1.0);
    near.clone() * (x - near.mul_scalar(0.5))
}

impl Term for Rkd {
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
    use burn::tensor::{Device, Tolerance};

    fn loss(distance_weight: f64, angle_weight: f64) -> RkdSettings {
        let taps = vec!["embedding".to_owned()];
        let mut settings = RkdSettings { student: taps.clone(), teacher: taps, ..Default::default() };
        (settings.distance_weight, settings.angle_weight) = (distance_weight, angle_weight);
        settings
    }

    fn teacher(device: &Device) -> Tensor<2> {
        Tensor::<1>::from_floats(numbers(5 * 3, 1).as_slice(), device).reshape([5, 3])
    }

    #[test]
    fn both_gradients_match_central_differences() {
        let device = Device::flex().autodiff();
        for (settings, tuples) in [(loss(1.0, 0.0), Tuples::All), (loss(0.0, 1.0), Tuples::Distinct)] {
            let loss = RkdSettings { tuples, chunk: 2, ..settings }.build().unwrap();
            let weights = Tensor::<1>::from_floats([1.0, 0.0, 2.0, -1.0, 0.5], &device);
            assert_gradient([5, 4], &numbers(20, 2), 1e-2, |x| {
                loss.per_example(x, teacher(&device)) * weights.clone()
            });
        }
    }

    #[test]
    fn the_chunk_does_not_change_the_values() {
        let device = Device::flex();
        let student = Tensor::<1>::from_floats(numbers(20, 2).as_slice(), &device).reshape([5, 4]);
        let value = |chunk| {
            let loss = RkdSettings { chunk, ..loss(1.0, 1.0) }.build().unwrap();
            loss.per_example(student.clone(), teacher(&device)).into_data()
        };
        value(2).assert_approx_eq::<f32>(&value(100), Tolerance::absolute(1e-6));
    }

    #[test]
    fn coincident_examples_take_a_finite_gradient() {
        let device = Device::flex().autodiff();
        for tuples in [Tuples::All, Tuples::Distinct] {
            let loss = RkdSettings { tuples, ..loss(1.0, 1.0) }.build().unwrap();
            let student = Tensor::<2>::ones([5, 4], &device).require_grad();
            let grads = loss.per_example(student.clone(), teacher(&device)).sum().backward();
            let gradient = student.grad(&grads).unwrap().into_data().try_to_vec::<f32>().unwrap();
            assert_eq!(gradient, [0.0; 20]);
        }
    }

    #[test]
    fn means_over_distinct_triples_are_larger_by_the_share_of_degenerate_ones() {
        let device = Device::flex();
        let student = Tensor::<1>::from_floats(numbers(20, 2).as_slice(), &device).reshape([5, 4]);
        let value = |tuples| {
            let loss = RkdSettings { tuples, ..loss(0.0, 1.0) }.build().unwrap();
            loss.per_example(student.clone(), teacher(&device)).sum().into_scalar::<f32>()
        };
        let ratio = value(Tuples::Distinct) / value(Tuples::All);
        assert!((ratio - 25.0 / 12.0).abs() < 1e-4, "{ratio}");
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let error = loss(-1.0, 1.0).build().unwrap_err().to_string();
        assert_eq!(error, "`distance-weight` is -1, but it must be at least 0");
        assert!(loss(0.0, 0.0).build().is_err());
        assert!(RkdSettings { chunk: 0, ..loss(1.0, 1.0) }.build().is_err());
    }
}
