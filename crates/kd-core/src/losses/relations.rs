//! What losses on the relations between the examples of a batch share. Gradients are zero, never NaN, where examples coincide.

use burn::tensor::{Bool, Device, Tensor};

use super::math::norm;
use super::pairs::TapPairs;
use crate::term::{Probe, Step, TermError};

/// `[n, features]` to `[n, n, features]`: entry `[i, j]` is `$x_j - x_i$`.
pub(super) fn differences(x: Tensor<2>) -> Tensor<3> {
    x.clone().unsqueeze_dim::<3>(0) - x.unsqueeze_dim::<3>(1)
}

/// Euclidean distances of all pairs, `[n, features]` to `[n, n]`. Taken from the differences, since the shorter way over dot products
/// loses small distances to rounding; holds `n * n * features` numbers.
pub(super) fn distances(x: Tensor<2>) -> Tensor<2> {
    norm(differences(x), 2).squeeze_dim::<2>(2)
}

/// `[n, n]`, true on the diagonal.
pub(super) fn diagonal(n: usize, device: &Device) -> Tensor<2, Bool> {
    Tensor::<2, Bool>::diag_mask([n, n], 0, device).bool_not()
}

impl TapPairs {
    /// The sum over all pairs of a per-example value of `[batch, features]`; maps are flattened.
    pub(super) fn sum_vectors(
        &self,
        step: &Step<'_>,
        value: impl Fn(Tensor<2>, Tensor<2>) -> Tensor<1>,
    ) -> Result<Tensor<1>, TermError> {
        let theirs = step.first_teacher()?;
        self.sum(|student, teacher| {
            let student = step.student.value(student)?.per_sample()?;
            Ok(value(student, theirs.value(teacher)?.per_sample()?))
        })
    }

    /// Refuses pairs that differ in the batch, and batches of fewer than two examples.
    pub(super) fn check_relations(&self, probe: &Probe) -> Result<(), TermError> {
        let theirs = probe.teachers.first().ok_or(TermError::NoTeacher)?;
        for (student, teacher) in self.iter() {
            let [ours, _] = probe.student.value(student)?.per_sample()?.dims();
            let [theirs, _] = theirs.value(teacher)?.per_sample()?.dims();
            let what = format!("examples of taps `{student}` and `{teacher}`");
            TermError::same_shape(&what, &[ours], &[theirs], "choose taps whose first axis is the batch")?;
            if ours < 2 {
                let few =
                    format!("tap `{student}` holds {ours} example; relations need 2: raise the batch size");
                return Err(TermError::Other(few));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::losses::by_name;
    use crate::{Batch, Objective, Params, Reduction, Taps, Time, Value};

    fn taps(shape: [usize; 4], device: &Device) -> Taps {
        let mut taps = Taps::all();
        let count = shape.iter().product();
        let numbers = super::super::gradient::numbers(count, shape[1]);
        taps.insert("map", Tensor::<1>::from_floats(numbers.as_slice(), device).reshape(shape));
        taps.insert(crate::OUTPUT, Tensor::<2>::ones([shape[0], 3], device));
        taps
    }

    fn probe(student: [usize; 4], teacher: [usize; 4], device: &Device) -> Probe {
        Probe {
            student: taps(student, device),
            teachers: vec![taps(teacher, device)],
            target: Value::from(Tensor::<2>::zeros([student[0], 3], device)),
            samples: student[0],
            device: device.clone(),
        }
    }

    fn objective(loss: &str, more: &str) -> Objective {
        let settings = format!("student = [\"map\"]\nteacher = [\"map\"]\n{more}");
        let term = by_name(loss, settings.parse().unwrap()).unwrap();
        Objective::new().with_boxed(loss, term, 1.0, Reduction::Mean)
    }

    #[test]
    fn every_relational_loss_takes_maps_of_other_channels_and_sizes_from_a_recipe() {
        let device = Device::flex().autodiff();
        let probe = probe([4, 2, 3, 5], [4, 3, 2, 2], &device);
        let adjacent = ("correlation-congruence", "congruence = \"adjacent-pairs\"");
        let losses = ["rkd", "darkrank", "similarity-preserving", "correlation-congruence", "pkt"];
        for (loss, more) in losses.map(|loss| (loss, "")).into_iter().chain([adjacent]) {
            let objective = objective(loss, more);
            let mut params: Params = objective.init(&probe).unwrap();
            assert_eq!(params.paths().len(), usize::from(!more.is_empty()));
            let batch = Batch {
                student: &probe.student,
                teachers: &probe.teachers,
                target: &probe.target,
                ids: &[0, 1, 2, 3],
                time: Time::default(),
                replay: None,
            };
            let value = objective.forward(&batch, &mut params).unwrap().total.into_scalar::<f32>();
            assert!(value > 0.0 && value.is_finite(), "{loss}: {value}");
        }
    }

    #[test]
    fn a_batch_of_one_has_no_relations_and_is_refused_before_the_first_step() {
        let device = Device::flex();
        let error = objective("pkt", "").init(&probe([1, 2, 3, 5], [1, 2, 3, 5], &device)).unwrap_err();
        assert!(error.to_string().contains("relations need 2: raise the batch size"), "{error}");
    }

    #[test]
    fn coincident_points_take_no_gradient() {
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::from_floats([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0]], &device).require_grad();
        let value = distances(x.clone()).slice([0..2, 0..2]).sum();
        let gradient = x.grad(&value.backward()).unwrap().into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(gradient, [0.0; 6]);
    }
}
