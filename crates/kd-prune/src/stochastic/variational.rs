//! Sparse variational dropout of a graph with noise.

use burn::tensor::Tensor;
use burn::tensor::activation::{sigmoid, softplus};
use kd_core::{Step, Term, TermError, Wants};
use kd_graph::Graph;

use super::noise::Noise;
use crate::PruneError;

/// The approximation's constants.
const K: [f64; 3] = [0.63576, 1.87320, 1.48695];

/// Beyond these, $\ln\alpha$ has no gradient.
const BOUND: f64 = 8.0;

/// Added to $\theta^2$ before its logarithm.
const EPSILON: f64 = 1e-8;

/// The divergence of noisy weights from the log-uniform prior, as a term of the objective, in the paper's approximation:
///
/// $$D = \sum_w k_1 - k_1 \sigma(k_2 + k_3 \ln\alpha_w) + \tfrac12 \ln(1 + \alpha_w^{-1}), \qquad \ln\alpha = \ln\sigma^2 - \ln\theta^2$$
///
/// with $k$ = 0.63576, 1.87320, 1.48695. It falls as $\alpha$ rises: weights that the data does not need become noise. The paper divides by the number of
/// training images, and lets the term's weight rise from 0 over the first epochs: `Schedule::WarmUp { to: 1.0 / images, share: 0.3 }`. Molchanov et
/// al., *Variational Dropout Sparsifies Deep Neural Networks* (2017).
#[derive(Clone, Debug)]
pub struct VariationalPenalty {
    noise: Vec<Noise>,
}

impl VariationalPenalty {
    /// Over all noise in a graph.
    ///
    /// # Errors
    /// [`PruneError::Setting`] for a graph without noise.
    pub fn new(graph: &Graph) -> Result<Self, PruneError> {
        let noise = Noise::of(graph)?;
        if noise.is_empty() {
            return Err(PruneError::setting(
                "network",
                "without noise",
                "one with noise, see `insert_noise`",
            ));
        }
        Ok(Self { noise })
    }
}

impl Term for VariationalPenalty {
    fn wants(&self) -> Wants {
        let student = self.noise.iter().flat_map(|noise| [noise.weight.clone(), noise.log_variance.clone()]);
        Wants { student: student.collect(), ..Wants::default() }
    }

    fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError> {
        let mut sum: Option<Tensor<1>> = None;
        for noise in &self.noise {
            let theta = step.student.value(&noise.weight)?.flat_float()?;
            let log_variance = step.student.value(&noise.log_variance)?.flat_float()?;
            let divergence = divergence(log_alpha(theta, log_variance)).sum();
            sum = Some(match sum {
                Some(sum) => sum + divergence,
                None => divergence,
            });
        }
        sum.ok_or_else(|| TermError::Other("there is no noise".to_owned()))
    }
}

/// $\ln\sigma^2 - \ln\theta^2$ within its bounds.
fn log_alpha(theta: Tensor<1>, log_variance: Tensor<1>) -> Tensor<1> {
    (log_variance - theta.square().add_scalar(EPSILON).log()).clamp(-BOUND, BOUND)
}

/// As [`log_alpha`], of one weight.
pub(super) fn log_alpha_of(theta: f32, log_variance: f32) -> f64 {
    (f64::from(log_variance) - (f64::from(theta).powi(2) + EPSILON).ln()).clamp(-BOUND, BOUND)
}

fn divergence(log_alpha: Tensor<1>) -> Tensor<1> {
    let [k1, k2, k3] = K;
    let gain = sigmoid(log_alpha.clone().mul_scalar(k3).add_scalar(k2)).mul_scalar(-k1).add_scalar(k1);
    gain + softplus(log_alpha.neg(), 1.0).mul_scalar(0.5)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::tensor::Device;

    fn numbers(tensor: Tensor<1>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn the_divergence_is_the_papers_and_its_gradient_the_closed_form() {
        let points = [-6.0f32, -1.0, 0.0, 2.0, 5.0];
        let x = Tensor::<1>::from_floats(points, &Device::flex().autodiff()).require_grad();
        let value = divergence(x.clone());
        let gradient = numbers(x.grad(&value.clone().sum().backward()).unwrap());
        for ((x, value), gradient) in points.iter().zip(numbers(value)).zip(gradient) {
            let x = f64::from(*x);
            let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
            let s = logistic(K[1] + K[2] * x);
            let expected = K[0] - K[0] * s + 0.5 * (1.0 + (-x).exp()).ln();
            assert!((f64::from(value) - expected).abs() < 1e-5, "{x}: {value} {expected}");
            let expected = -K[0] * K[2] * s * (1.0 - s) - 0.5 * logistic(-x);
            assert!((f64::from(gradient) - expected).abs() < 1e-5, "{x}: {gradient} {expected}");
        }
    }

    #[test]
    fn noise_as_large_as_the_weight_is_an_alpha_of_one() {
        assert!(log_alpha_of(0.5, 0.25f32.ln()).abs() < 1e-6);
        assert_eq!(log_alpha_of(0.0, 0.0), BOUND);
        let device = Device::flex();
        let tensors = [0.5f32, 0.25f32.ln()].map(|x| Tensor::<1>::from_floats([x], &device));
        let [theta, log_variance] = tensors;
        assert!(numbers(log_alpha(theta, log_variance))[0].abs() < 1e-5);
    }
}
