//! Flow of solution procedure.
//!
//! `$$ L = \sum_i \left\| G^S_i - G^T_i \right\|_F^2, \qquad G = \frac{1}{h w} \sum_{x, y} F^1_{x y} \, {F^2_{x y}}^{\!\top} $$`
//!
//! A section of a network is described by how its first map's channels go together with its last map's, `$G$`: `[channels of the first, of the last]`. Both
//! networks need the same channel counts at a section's ends. Yim, Joo, Bae, Kim: *A Gift from Knowledge Distillation*, CVPR 2017. All sections count alike, so
//! the weight is 1; public code takes the mean over the matrix ([`FspDistance::Mean`]) with weights such as 50.
//!
//! The paper trains in two stages: first with this loss alone, then on the task alone. Stepped weights do that in one run; with 10 epochs of stage 1:
//!
//! ```toml
//! [[loss]]
//! method = "fsp"
//! weight = { kind = "steps", epochs = [10], values = [1.0, 0.0] }
//! student = [["stem", "stage1"], ["stage1", "stage2"], ["stage2", "stage3"]]
//! teacher = [["stem", "stage1"], ["stage1", "stage2"], ["stage2", "stage3"]]
//!
//! [[loss]]
//! method = "cross-entropy"
//! weight = { kind = "steps", epochs = [10], values = [0.0, 1.0] }
//! ```

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::LossSettings;
use super::math::safe_sqrt;
use super::pairs::TapPairs;
use super::pooling::{adaptive_max_pool2d, pool_larger};
use crate::settings::SettingsError;
use crate::term::{Probe, Step, Term, TermError, TermParams, Wants};

/// How the larger map of a section is brought to the size of the smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FspPooling {
    /// The largest number of every window, as in the paper and torchdistill.
    #[default]
    Max,
    /// The average, as RepDistiller and Knowledge-Distillation-Zoo do.
    Average,
}

/// How two matrices are compared; `$D$` is their difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FspDistance {
    /// `$\sum_{ij} D_{ij}^2$`, as in the paper.
    #[default]
    Sum,
    /// The mean of `$D_{ij}^2$`, as RepDistiller and Knowledge-Distillation-Zoo.
    Mean,
    /// `$\sum_j \left(\sum_i D_{ij}^2\right)^{1/2}$`, the norms of the columns (one per channel of the last map), as torchdistill.
    ColumnNorms,
}

/// Settings of [`Fsp`].
///
/// | key | default | range |
/// |---|---|---|
/// | `student` | none | sections, each `[first tap, last tap]`: maps `[batch, channel, h, w]` |
/// | `teacher` | none | the teacher's sections, as many, with the same channels at their ends |
/// | `pooling` | `max` | `max`, `average` |
/// | `distance` | `sum` | `sum`, `mean`, `column-norms` |
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct FspSettings {
    /// First and last tap of every section of the student.
    pub student: Vec<[String; 2]>,
    /// First and last tap of every section of the teacher.
    pub teacher: Vec<[String; 2]>,
    /// How sizes are equalised within a section.
    pub pooling: FspPooling,
    /// Comparison of the matrices.
    pub distance: FspDistance,
}

impl FspSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] when there is no section or the lists differ in length.
    pub fn build(self) -> Result<Fsp, SettingsError> {
        let ends = |sections: &[[String; 2]], end: usize| {
            sections.iter().filter_map(|section| section.get(end).cloned()).collect::<Vec<_>>()
        };
        let first = TapPairs::new(ends(&self.student, 0), ends(&self.teacher, 0), 1)?;
        let last = TapPairs::new(ends(&self.student, 1), ends(&self.teacher, 1), 1)?;
        Ok(Fsp { first, last, pooling: self.pooling, distance: self.distance })
    }
}

impl LossSettings for FspSettings {
    type Loss = Fsp;
    fn build(self) -> Result<Fsp, SettingsError> {
        self.build()
    }
}

/// The loss: see the [settings](FspSettings) and the [formula](self). The terms of several sections are added.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_core::losses::FspSettings;
///
/// let sections = || vec![["stem".to_owned(), "stage1".to_owned()]];
/// let loss = FspSettings { student: sections(), teacher: sections(), ..Default::default() }.build()?;
/// let device = Device::flex();
/// let first = Tensor::<4>::ones([2, 3, 8, 8], &device);
/// let last = Tensor::<4>::ones([2, 5, 4, 4], &device) * 2.0;
/// assert_eq!(loss.matrix(first, last).into_data().try_to_vec::<f32>().unwrap(), [2.0; 2 * 3 * 5]);
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Fsp {
    first: TapPairs,
    last: TapPairs,
    pooling: FspPooling,
    distance: FspDistance,
}

impl Fsp {
    /// `$G$` of one section: `[batch, m, h, w]` and `[batch, n, h', w']` to `[batch, m, n]`. Of two sizes the smaller is used.
    pub fn matrix(&self, first: Tensor<4>, last: Tensor<4>) -> Tensor<3> {
        let (first, last) = self.equalize(first, last);
        let [_, _, height, width] = first.dims();
        let (first, last) = (first.flatten::<3>(2, 3), last.flatten::<3>(2, 3));
        first.matmul(last.swap_dims(1, 2)).div_scalar((height * width) as f64)
    }

    /// Matrices of student and teacher, `[batch, m, n]`, alike. Returns `[batch]`.
    pub fn per_example(&self, student: Tensor<3>, teacher: Tensor<3>) -> Tensor<1> {
        let square = (student - teacher).square();
        match self.distance {
            FspDistance::Sum => square.flatten::<2>(1, 2).sum_dim(1),
            FspDistance::Mean => square.flatten::<2>(1, 2).mean_dim(1),
            FspDistance::ColumnNorms => safe_sqrt(square.sum_dim(1)).flatten::<2>(1, 2).sum_dim(1),
        }
        .squeeze_dim::<1>(1)
    }

    fn equalize(&self, first: Tensor<4>, last: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        match self.pooling {
            FspPooling::Average => pool_larger(first, last),
            FspPooling::Max => {
                let size = |map: &Tensor<4>| map.dims();
                let ([_, _, h1, w1], [_, _, h2, w2]) = (size(&first), size(&last));
                let smaller = [h1.min(h2), w1.min(w2)];
                (adaptive_max_pool2d(first, smaller), adaptive_max_pool2d(last, smaller))
            }
        }
    }
}

impl Term for Fsp {
    fn wants(&self) -> Wants {
        let (mut wants, last) = (self.first.wants(), self.last.wants());
        wants.student.extend(last.student);
        wants.teacher.extend(last.teacher);
        wants
    }

    fn init(&self, probe: &Probe, _params: &mut TermParams<'_>) -> Result<(), TermError> {
        let theirs = probe.teachers.first().ok_or(TermError::NoTeacher)?;
        for (student, teacher) in self.first.iter().chain(self.last.iter()) {
            let [_, ours, ..] = probe.student.get::<4>(student)?.dims();
            let [_, theirs, ..] = theirs.get::<4>(teacher)?.dims();
            let what = format!("channels of taps `{student}` and `{teacher}`");
            let advice =
                "the matrix is channels by channels: choose sections whose ends have equal channel counts";
            TermError::same_shape(&what, &[ours], &[theirs], advice)?;
        }
        Ok(())
    }

    fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError> {
        let sections = self.first.iter().zip(self.last.iter());
        let terms = sections.map(|((student, teacher), (student_last, teacher_last))| {
            let ours = self.matrix(step.student(student)?, step.student(student_last)?);
            let theirs = self.matrix(step.teacher(teacher)?, step.teacher(teacher_last)?);
            Ok(self.per_example(ours, theirs))
        });
        let none = || Err(TermError::Other("there is no section to compare".to_owned()));
        terms.reduce(|sum, term| Ok(sum? + term?)).unwrap_or_else(none)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::gradient::{assert_gradient, numbers};
    use super::*;
    use crate::{Batch, OUTPUT, Objective, Params, Taps, Time, Value};
    use burn::tensor::Device;

    const DISTANCES: [FspDistance; 3] = [FspDistance::Sum, FspDistance::Mean, FspDistance::ColumnNorms];

    fn loss(pooling: FspPooling, distance: FspDistance) -> Fsp {
        let sections = || vec![["first".to_owned(), "last".to_owned()]];
        FspSettings { student: sections(), teacher: sections(), pooling, distance }.build().unwrap()
    }

    #[test]
    fn the_matrix_is_the_mean_product_of_channels_over_positions() {
        let device = Device::flex();
        let first = Tensor::<4>::from_floats([[[[1.0, 2.0]], [[0.0, 4.0]]]], &device);
        let last = Tensor::<4>::from_floats([[[[3.0, 5.0]]]], &device);
        let matrix = loss(FspPooling::Max, FspDistance::Sum).matrix(first, last);
        assert_eq!(matrix.dims(), [1, 2, 1]);
        assert_eq!(matrix.into_data().try_to_vec::<f32>().unwrap(), [6.5, 10.0]);
    }

    #[test]
    fn distances_are_the_sum_the_mean_and_the_column_norms() {
        let student = Tensor::<3>::from_floats([[[3.0, 1.0], [4.0, 0.0]]], &Device::flex());
        for (distance, expected) in DISTANCES.into_iter().zip([26.0, 6.5, 6.0]) {
            let value = loss(FspPooling::Max, distance).per_example(student.clone(), student.zeros_like());
            assert_eq!(value.into_scalar::<f32>(), expected, "{distance:?}");
        }
    }

    #[test]
    fn the_gradient_of_a_pooled_section_is_its_central_difference() {
        let device = Device::flex().autodiff();
        let map = |n: usize, seed, shape: [usize; 4]| {
            Tensor::<1>::from_floats(numbers(n, seed).as_slice(), &device).reshape(shape)
        };
        for pooling in [FspPooling::Max, FspPooling::Average] {
            for distance in DISTANCES {
                let loss = loss(pooling, distance);
                let target = loss.matrix(map(64, 1, [2, 2, 4, 4]), map(24, 2, [2, 3, 2, 2]));
                let last = map(24, 3, [2, 3, 2, 2]);
                assert_gradient([2, 2, 4, 4], &numbers(64, 36), 5e-3, |first| {
                    loss.per_example(loss.matrix(first, last.clone()), target.clone())
                });
            }
        }
    }

    #[test]
    fn equal_matrices_have_no_gradient() {
        for distance in DISTANCES {
            let student = Tensor::<3>::ones([1, 2, 2], &Device::flex().autodiff()).require_grad();
            let value =
                loss(FspPooling::Max, distance).per_example(student.clone(), student.clone().detach());
            let gradient = student.grad(&value.backward()).unwrap().into_data().try_to_vec::<f32>().unwrap();
            assert_eq!(gradient, [0.0; 4], "{distance:?}");
        }
    }

    fn taps(device: &Device, channels: usize) -> Taps {
        let mut taps = Taps::all();
        taps.insert("first", Tensor::<4>::ones([2, 3, 4, 4], device));
        taps.insert("last", Tensor::<4>::ones([2, channels, 2, 2], device));
        taps.insert(OUTPUT, Tensor::<2>::ones([2, 3], device));
        taps
    }

    #[test]
    fn every_section_reads_its_own_two_taps() {
        let device = Device::flex();
        let mut student = taps(&device, 4);
        student.insert("last", Tensor::<4>::ones([2, 4, 2, 2], &device) * 3.0);
        let section = |first: &str, last: &str| [first.to_owned(), last.to_owned()];
        let sections = || vec![section("first", "last"), section("first", "first")];
        let loss =
            FspSettings { student: sections(), teacher: sections(), ..Default::default() }.build().unwrap();
        let target = Value::from(Tensor::<2>::zeros([2, 3], &device));
        let teachers = [taps(&device, 4)];
        let batch = Batch {
            student: &student,
            teachers: &teachers,
            target: &target,
            ids: &[0, 1],
            time: Time::default(),
            replay: None,
        };
        let value = Objective::new().with("fsp", loss, 1.0).forward(&batch, &mut Params::default()).unwrap();
        // Only the first section differs: 3 instead of 1 in a matrix of 3 by 4.
        assert_eq!(value.total.into_scalar::<f32>(), 48.0);
    }

    #[test]
    fn other_channels_at_an_end_are_refused_before_the_first_step() {
        let device = Device::flex();
        let target = Value::from(Tensor::<2>::zeros([2, 3], &device));
        let probe = Probe {
            student: taps(&device, 4),
            teachers: vec![taps(&device, 8)],
            target,
            samples: 2,
            device: device.clone(),
        };
        let objective = Objective::new().with("fsp", loss(FspPooling::Max, FspDistance::Sum), 1.0);
        let error = objective.init(&probe).unwrap_err().to_string();
        assert!(error.contains("`last`") && error.contains("[4] does not fit [8]"), "{error}");
    }
}
