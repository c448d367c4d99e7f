//! Squared error against the target, for regression.
//!
//! `$$ L = \frac{1}{D} \sum_d (s_d - y_d)^2 $$`
//!
//! The loss a regression network trains on beside what its teacher says; [`LogitMse`](super::LogitMse) is the same distance to a teacher.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::LossSettings;
use crate::settings::SettingsError;
use crate::taps::OUTPUT;
use crate::term::{Probe, Step, Term, TermError, TermParams, Wants};

/// Settings of [`SquaredError`]: there are none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SquaredErrorSettings {}

impl SquaredErrorSettings {
    /// The loss.
    ///
    /// # Errors
    /// None.
    pub fn build(self) -> Result<SquaredError, SettingsError> {
        Ok(SquaredError)
    }
}

impl LossSettings for SquaredErrorSettings {
    type Loss = SquaredError;
    fn build(self) -> Result<SquaredError, SettingsError> {
        self.build()
    }
}

/// The loss: see the [formula](self).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_core::losses::SquaredError;
///
/// let numbers = |x| Tensor::<2>::from_floats([x], &Device::flex());
/// let per_example = SquaredError::per_example(numbers([1.0, 2.0]), numbers([1.0, 6.0]));
/// assert_eq!(per_example.into_scalar::<f32>(), 8.0); // (0² + 4²) / 2
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SquaredError;

impl SquaredError {
    /// `output` and `target`: `[batch, numbers]`. Returns `[batch]`.
    pub fn per_example(output: Tensor<2>, target: Tensor<2>) -> Tensor<1> {
        (output - target).square().mean_dim(1).squeeze_dim::<1>(1)
    }
}

impl Term for SquaredError {
    fn wants(&self) -> Wants {
        Wants::student_output()
    }

    fn init(&self, probe: &Probe, _params: &mut TermParams<'_>) -> Result<(), TermError> {
        let (output, target) = (probe.student.value(OUTPUT)?.per_sample()?, probe.target.per_sample()?);
        let advice = "a regression target is floats, as many per sample as the network gives";
        TermError::same_shape("output and target, flattened", &output.dims(), &target.dims(), advice)
    }

    fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError> {
        Ok(Self::per_example(step.student.value(OUTPUT)?.per_sample()?, step.target.per_sample()?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Params, Taps, Value};
    use burn::tensor::{Device, Int};

    #[test]
    fn the_gradient_is_twice_the_difference_over_the_numbers() {
        let device = Device::flex().autodiff();
        let output = Tensor::<2>::from_floats([[1.0, 3.0]], &device).require_grad();
        let target = Tensor::<2>::from_floats([[0.0, 5.0]], &device);
        let grads = SquaredError::per_example(output.clone(), target).sum().backward();
        assert_eq!(output.grad(&grads).unwrap().into_data().try_to_vec::<f32>().unwrap(), [1.0, -2.0]);
    }

    #[test]
    fn integer_labels_are_refused_before_the_first_step() {
        let device = Device::flex();
        let mut student = Taps::none();
        student.insert(OUTPUT, Tensor::<2>::zeros([2, 1], &device));
        let target = Value::from(Tensor::<1, Int>::zeros([2], &device));
        let probe = Probe { student, teachers: vec![], target, samples: 2, device };
        let mut params = Params::default();
        assert!(SquaredError.init(&probe, &mut TermParams::new(&mut params, "error")).is_err());
    }
}
