//! Overhaul of feature distillation.
//!
//! `$$ L = \sum_i d_p\big(\max(t_i, m_c),\, r(s)_i\big), \qquad d_p(t, s) = \begin{cases} 0 & s \le t \le 0 \\ (t - s)^2 & \text{otherwise} \end{cases} $$`
//!
//! on features *before* the ReLU: the teacher's negative values are raised to a margin `$m_c < 0$` per channel, and a student that is already below them is left
//! alone (partial `$L_2$`). `$r$` is a connector: 1×1 convolution and batch normalisation. Heo et al.: *A Comprehensive Overhaul of Feature Distillation*, 2019,
//! [arXiv:1904.01866](https://arxiv.org/abs/1904.01866). Of several pairs the last has weight 1, each one before it half of the next; the paper's weight of the whole
//! is 1/1000.

use burn::tensor::Tensor;
use burn::tensor::module::adaptive_avg_pool2d;
use serde::{Deserialize, Serialize};

use super::pairs::TapPairs;
use super::{Elements, LossSettings, connector};
use crate::settings::{SettingsError, in_range};
use crate::term::{Probe, Step, Term, TermError, TermParams, Wants};

/// Share of negative values below which a channel counts as having none.
const NEGLIGIBLE: f64 = 1e-3;

/// Where the margins come from; all are the expectation of a channel's negative values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Margin {
    /// `$E[x \mid x < 0]$` of a normal variable, as the paper takes it from the weight and bias of the teacher's batch normalisation. Here its mean and deviation are
    /// those of the teacher's values in the dry run before the first step, unless `margins` gives the numbers; constant over the run.
    #[default]
    Normal,
    /// The mean of the batch's own negative values, anew for every batch: Knowledge-Distillation-Zoo.
    Batch,
}

/// Settings of [`Ofd`].
///
/// | key | default | meaning |
/// |---|---|---|
/// | `student` | none | student taps before the ReLU |
/// | `teacher` | none | the teacher taps they follow, before the ReLU, as many; larger maps are average-pooled to the student's size |
/// | `margin` | `normal` | `normal`, `batch` |
/// | `margins` | none | the margins themselves, one list of numbers ≤ 0 per pair with one number per teacher channel ([`Ofd::margins`]) |
/// | `elements` | `sum` | `sum`, `mean` over channels and positions |
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct OfdSettings {
    /// Student taps.
    pub student: Vec<String>,
    /// Teacher taps.
    pub teacher: Vec<String>,
    /// Source of the margins.
    pub margin: Margin,
    /// Known margins; they take the place of `margin`.
    pub margins: Vec<Vec<f64>>,
    /// Reduction of every example's map.
    pub elements: Elements,
}

impl OfdSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] when there is no pair, the lists differ in length, or a margin is above 0.
    pub fn build(self) -> Result<Ofd, SettingsError> {
        let Self { student, teacher, margin, margins, elements } = self;
        let count = margins.is_empty() || margins.len() == student.len();
        in_range("margins", margins.len(), count, format!("one list per pair of taps: {}", student.len()))?;
        if let Some(&wrong) = margins.iter().flatten().find(|m| !m.is_finite() || **m > 0.0) {
            in_range("margins", wrong, false, "0 or less, each")?;
        }
        Ok(Ofd { pairs: TapPairs::new(student, teacher, 1)?, margin, margins, elements })
    }
}

impl LossSettings for OfdSettings {
    type Loss = Ofd;
    fn build(self) -> Result<Ofd, SettingsError> {
        self.build()
    }
}

/// The loss: see the [settings](OfdSettings) and the [formula](self). Every pair owns `<student tap>.connector.{weight, gamma, beta}` and, with
/// [`Margin::Normal`], the buffer `<student tap>.margin`.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_core::losses::OfdSettings;
///
/// let taps = |tap: &str| vec![tap.to_owned()];
/// let loss = OfdSettings { student: taps("conv3"), teacher: taps("conv3"), ..Default::default() }.build()?;
/// let device = Device::flex();
/// let map = |x: [f32; 3]| Tensor::<4>::from_floats([[[x]]], &device);
/// // Below a negative teacher nothing is asked; above it and below a positive one, the square of the way to go.
/// let per_example = loss.per_example(map([-3.0, 1.0, 0.0]), map([-9.0, -9.0, 2.0]), Tensor::from_floats([-1.0], &device));
/// assert_eq!(per_example.into_scalar::<f32>(), 0.0 + 4.0 + 4.0);
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Ofd {
    pairs: TapPairs,
    margin: Margin,
    margins: Vec<Vec<f64>>,
    elements: Elements,
}

impl Ofd {
    /// `$E[x \mid x < 0]$` of normal variables, one per channel: `deviation` and `mean` are the weight (its sign does not matter) and the bias of the teacher's batch
    /// normalisation. A channel that is hardly ever negative gets minus three deviations.
    pub fn margins(deviation: &[f64], mean: &[f64]) -> Vec<f64> {
        deviation.iter().zip(mean).map(|(&deviation, &mean)| margin(deviation.abs(), mean)).collect()
    }

    /// The mean of every channel's negative values; `teacher`: `[batch, channel, h, w]`. Returns `[channel]`, about 0 for a channel without any.
    pub fn margins_of_batch(teacher: Tensor<4>) -> Tensor<1> {
        let [_, channels, ..] = teacher.dims();
        let rows = teacher.swap_dims(0, 1).flatten::<2>(1, 3);
        let count = rows.clone().lower_elem(0.0).float().sum_dim(1).add_scalar(1e-6);
        (rows.clamp_max(0.0).sum_dim(1) / count).reshape([channels])
    }

    /// The partial distance of every element: `student`, `teacher` `[batch, channel, h, w]` alike, `margin` `[channel]`. Returns the same shape.
    pub fn partial_l2(student: Tensor<4>, teacher: Tensor<4>, margin: Tensor<1>) -> Tensor<4> {
        let margin = margin.unsqueeze_dims::<4>(&[0, 2, 3]).expand(student.dims());
        let teacher = teacher.max_pair(margin);
        let counts = student.clone().greater(teacher.clone()).bool_or(teacher.clone().greater_elem(0.0));
        (student - teacher).square() * counts.float()
    }

    /// The sum over channels and positions, or their mean, of [`partial_l2`](Self::partial_l2): `[batch]`.
    pub fn per_example(&self, student: Tensor<4>, teacher: Tensor<4>, margin: Tensor<1>) -> Tensor<1> {
        self.elements.reduce(Self::partial_l2(student, teacher, margin))
    }

    /// The student's map at the teacher's channels: 1×1 convolution by `weight` `[to, from]`, then batch normalisation by the batch's statistics with `gamma` and
    /// `beta` `[to]`.
    pub fn connect(
        student: Tensor<4>,
        weight: Tensor<2>,
        gamma: Tensor<1>,
        beta: Tensor<1>,
        epsilon: f64,
    ) -> Tensor<4> {
        connector::connect(student, weight, [gamma, beta], epsilon)
    }

    /// `map` average-pooled to `size`, if it has another.
    pub fn pool(map: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
        let [_, _, height, width] = map.dims();
        if [height, width] == size { map } else { adaptive_avg_pool2d(map, size) }
    }

    /// The weights of `pairs` pairs, in order: the last is 1, each one before it half of the next.
    pub fn weights(pairs: usize) -> Vec<f64> {
        (0..pairs).rev().map(|later| 0.5f64.powi(later as i32)).collect()
    }

    fn known_margin(&self, pair: usize, teacher: Tensor<4>) -> Vec<f64> {
        if let Some(known) = self.margins.get(pair) {
            return known.clone();
        }
        let rows = teacher.swap_dims(0, 1).flatten::<2>(1, 3);
        let (variance, mean) = rows.var_mean_bias(1);
        let numbers = |tensor: Tensor<2>| tensor.into_data().iter::<f64>().collect::<Vec<_>>();
        Self::margins(&numbers(variance.clamp_min(0.0).sqrt()), &numbers(mean))
    }
}

fn margin(deviation: f64, mean: f64) -> f64 {
    if deviation == 0.0 {
        return mean.min(0.0);
    }
    let ratio = mean / deviation;
    let negative = 0.5 * libm::erfc(ratio * std::f64::consts::FRAC_1_SQRT_2);
    if negative <= NEGLIGIBLE {
        return -3.0 * deviation;
    }
    let density = (-0.5 * ratio * ratio).exp() / (2.0 * std::f64::consts::PI).sqrt();
    mean - deviation * density / negative
}

impl Term for Ofd {
    fn wants(&self) -> Wants {
        self.pairs.wants()
    }

    fn init(&self, probe: &Probe, params: &mut TermParams<'_>) -> Result<(), TermError> {
        for (pair, (student, teacher)) in self.pairs.iter().enumerate() {
            let [_, from, height, width] = probe.student.value(student)?.as_map()?.dims();
            let theirs = probe.teachers.first().ok_or(TermError::NoTeacher)?.value(teacher)?.as_map()?;
            let [_, to, their_height, their_width] = theirs.dims();
            if their_height < height || their_width < width {
                let what = format!("height and width of taps `{student}` and `{teacher}`");
                let advice =
                    "the teacher's map is pooled to the student's size: choose one at least as large";
                TermError::same_shape(&what, &[height, width], &[their_height, their_width], advice)?;
            }
            connector::init(student, [from, to], probe, params)?;
            if self.margins.is_empty() && self.margin == Margin::Batch {
                continue;
            }
            let margin = self.known_margin(pair, theirs);
            let what = format!("margins and channels of tap `{teacher}`");
            TermError::same_shape(&what, &[margin.len()], &[to], "give one margin per channel")?;
            let margin: Vec<f32> = margin.into_iter().map(|m| m as f32).collect();
            let margin = Tensor::<1>::from_floats(margin.as_slice(), &probe.device);
            params.insert_buffer(&format!("{student}.margin"), margin)?;
        }
        Ok(())
    }

    fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError> {
        let theirs = step.first_teacher()?;
        let mut weights = Self::weights(self.pairs.iter().count()).into_iter();
        self.pairs.sum(|student, teacher| {
            let theirs = theirs.value(teacher)?.as_map()?;
            let margin = if self.margins.is_empty() && self.margin == Margin::Batch {
                Self::margins_of_batch(theirs.clone())
            } else {
                step.params.get(&format!("{student}.margin"))?
            };
            let ours = connector::apply(student, step.student.value(student)?.as_map()?, &step.params)?;
            let [_, _, height, width] = ours.dims();
            let value = self.per_example(ours, Self::pool(theirs, [height, width]), margin);
            Ok(value.mul_scalar(weights.next().unwrap_or(1.0)))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::losses::gradient::{assert_gradient, numbers};
    use burn::tensor::{Device, Tolerance};

    #[test]
    fn the_margin_is_the_mean_of_the_negative_values_of_a_normal_sample() {
        for (deviation, mean) in [(1.0, 0.0), (0.7, 0.4), (2.0, -1.0)] {
            let (mut sum, mut mass) = (0.0, 0.0);
            for i in 0..200_000 {
                let x = -20.0 + f64::from(i) * 1e-4;
                let density = (-0.5 * ((x - mean) / deviation).powi(2)).exp();
                sum += x * density;
                mass += density;
            }
            let [ours] = Ofd::margins(&[-deviation], &[mean])[..] else { unreachable!() };
            assert!((ours - sum / mass).abs() < 1e-3, "{ours} {}", sum / mass);
        }
        assert_eq!(Ofd::margins(&[0.5, 0.0, 0.0], &[4.0, -2.0, 1.0]), [-1.5, -2.0, 0.0]);
    }

    #[test]
    fn only_a_student_below_a_negative_teacher_is_left_alone() {
        let map = |x: [f32; 5]| Tensor::<1>::from_floats(x, &Device::flex()).reshape([1, 1, 1, 5]);
        let student = map([-3.0, 0.5, -0.2, 1.0, -1.0]);
        let teacher = map([-2.0, -2.0, -0.4, 2.0, 2.0]);
        let margin = Tensor::<1>::from_floats([-0.5], &Device::flex());
        let value = Ofd::partial_l2(student, teacher, margin).into_data();
        let expected = map([0.0, 1.0, 0.04, 1.0, 9.0]).into_data();
        value.assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-6));
    }

    #[test]
    fn the_gradient_through_the_connector_is_the_finite_difference() {
        let device = Device::flex().autodiff();
        let tensor = |n, seed| Tensor::<1>::from_floats(numbers(n, seed).as_slice(), &device);
        let weight = tensor(6, 1).reshape([3, 2]);
        let teacher = Ofd::pool(tensor(96, 2).reshape([2, 3, 4, 4]), [2, 2]);
        let loss = OfdSettings { student: vec!["a".into()], teacher: vec!["b".into()], ..Default::default() };
        let loss = loss.build().unwrap();
        assert_gradient([2, 2, 2, 2], &numbers(16, 3), 0.05, |student| {
            let student = Ofd::connect(student, weight.clone(), tensor(3, 4), tensor(3, 5), 1e-5);
            loss.per_example(student, teacher.clone(), Ofd::margins_of_batch(teacher.clone()))
        });
    }

    #[test]
    fn a_margin_above_zero_is_refused() {
        let settings = OfdSettings {
            student: vec!["a".into()],
            teacher: vec!["b".into()],
            margins: vec![vec![-0.1, 0.2]],
            ..Default::default()
        };
        assert_eq!(
            settings.build().unwrap_err().to_string(),
            "`margins` is 0.2, but it must be 0 or less, each"
        );
    }
}
