//! How often two networks say the same.

use kd_core::Value;

use super::read::{Scores, argmax};
use super::{MetricError, mean};

/// The share of rows for which student and teacher predict the same class, right or wrong, in `[0, 1]`.
///
/// Stanton et al.: *Does Knowledge Distillation Really Work?*, 2021, [arXiv:2106.05945](https://arxiv.org/abs/2106.05945), call it top-1 agreement.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_train::metrics::Agreement;
///
/// let device = Device::flex();
/// let student = Tensor::<2>::from_floats([[2.0, 1.0], [0.0, 1.0]], &device);
/// let teacher = Tensor::<2>::from_floats([[9.0, 0.0], [1.0, 0.0]], &device);
/// let mut agreement = Agreement::default();
/// agreement.update(&student.into(), &teacher.into())?;
/// assert_eq!(agreement.value(), 0.5);
/// # Ok::<(), kd_train::metrics::MetricError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Agreement {
    class_axis: isize,
    same: u64,
    count: u64,
}

impl Agreement {
    /// For outputs whose classes lie on this axis; negative counts from the end.
    pub fn on_axis(class_axis: isize) -> Self {
        Self { class_axis, same: 0, count: 0 }
    }

    /// Counts the outputs of both networks for the same batch in.
    ///
    /// # Errors
    /// [`MetricError`]; what was counted before stays.
    pub fn update(&mut self, student: &Value, teacher: &Value) -> Result<(), MetricError> {
        let (output, shape) = (student.shape(), teacher.shape());
        if output != shape {
            return Err(MetricError::Shape {
                output,
                other: "the teacher's output",
                shape,
                rule: "equal shapes",
            });
        }
        let student = Scores::read(student, self.class_axis)?;
        let teacher = Scores::read(teacher, self.class_axis)?;
        for (student, teacher) in student.rows().zip(teacher.rows()) {
            self.same += u64::from(argmax(student) == argmax(teacher));
            self.count += 1;
        }
        Ok(())
    }

    /// The share so far; not a number before the first row.
    pub fn value(&self) -> f64 {
        mean(self.same as f64, self.count)
    }
}

impl Default for Agreement {
    /// Classes on the last axis.
    fn default() -> Self {
        Self::on_axis(-1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::tensor::{Device, Tensor};

    fn scores<const R: usize>(rows: [[f32; 3]; R]) -> Value {
        Tensor::<2>::from_floats(rows, &Device::flex()).into()
    }

    #[test]
    fn ties_go_to_the_lowest_class_on_both_sides() {
        let mut agreement = Agreement::default();
        agreement.update(&scores([[1., 1., 0.]]), &scores([[3., 2., 1.]])).unwrap();
        agreement
            .update(&scores([[0., 1., 1.], [1., 0., 0.]]), &scores([[0., 0., 1.], [1., 0., 0.]]))
            .unwrap();
        assert!((agreement.value() - 2.0 / 3.0).abs() < 1e-15);
    }

    #[test]
    fn different_shapes_are_an_error_that_names_both() {
        let student = Tensor::<2>::zeros([1, 2], &Device::flex()).into();
        let error = Agreement::default().update(&student, &scores([[0., 1., 2.]])).unwrap_err().to_string();
        assert!(error.contains("[1, 2]") && error.contains("teacher's output of shape [1, 3]"), "{error}");
    }
}
