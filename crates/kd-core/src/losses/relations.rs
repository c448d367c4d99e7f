//! What losses on the relations between the examples of a batch share. Gradients are zero, never NaN, where examples coincide.

use burn::tensor::{Bool, Device, Tensor};

use super::math::safe_sqrt;
use super::pairs::TapPairs;
use crate::term::{Probe, Step, TermError};

/// Vectors not longer than this count as zero.
pub(super) const EPSILON: f64 = 1e-12;

/// Euclidean norm along `axis`, which stays with size 1.
pub(super) fn norm<const D: usize>(x: Tensor<D>, axis: usize) -> Tensor<D> {
    safe_sqrt(x.square().sum_dim(axis))
}

/// Vectors along `axis` at unit length. Zero vectors stay zero and take no gradient: they have no direction to turn.
pub(super) fn unit<const D: usize>(x: Tensor<D>, axis: usize) -> Tensor<D> {
    let norm = norm(x.clone(), axis);
    let short = norm.clone().lower_equal_elem(EPSILON);
    x * norm.mask_fill(short.clone(), 1.0).recip().mask_fill(short, 0.0)
}

/// `[n, features]` to `[n, n, features]`: entry `[i, j]` is $x_j - x_i$.
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

/// The same numbers as a constant, also where `x` is a leaf of the autodiff graph.
pub(super) fn constant<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.detach().set_require_grad(false)
}

/// $\log \sum \exp$ along `axis`, which stays with size 1.
pub(super) fn log_sum_exp<const D: usize>(x: Tensor<D>, axis: usize) -> Tensor<D> {
    let top = constant(x.clone().max_dim(axis));
    (x - top.clone()).exp().sum_dim(axis).log() + top
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

    #[test]
    fn a_zero_vector_and_coincident_points_take_no_gradient() {
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::from_floats([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0]], &device).require_grad();
        let value = unit(x.clone(), 1).sum() + norm(x.clone(), 1).sum();
        let gradient = x.grad(&value.backward()).unwrap().into_data().to_vec::<f32>().unwrap();
        assert_eq!(gradient[..4], [0.0; 4]);
        assert!(gradient[4..].iter().all(|g| g.is_finite() && *g > 0.0), "{gradient:?}");
        let value = distances(x.clone()).slice([0..2, 0..2]).sum();
        let gradient = x.grad(&value.backward()).unwrap().into_data().to_vec::<f32>().unwrap();
        assert_eq!(gradient, [0.0; 6]);
    }

    #[test]
    fn a_constant_copy_of_a_leaf_takes_no_gradient() {
        let device = Device::flex().autodiff();
        let x = Tensor::<1>::from_floats([2.0], &device).require_grad();
        let value = x.clone() * constant(x.clone());
        let gradient = x.grad(&value.backward()).unwrap().into_scalar::<f32>();
        assert_eq!(gradient, 2.0);
    }

    #[test]
    fn log_sum_exp_of_large_scores_is_finite() {
        let x = Tensor::<2>::from_floats([[-3000.0, -3000.0]], &Device::flex());
        let value = log_sum_exp(x, 1).into_scalar::<f32>();
        assert!((value - (-3000.0 + 2f32.ln())).abs() < 1e-3, "{value}");
    }
}
