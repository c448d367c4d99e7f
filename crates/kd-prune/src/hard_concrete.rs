//! L0 regularisation: gates that are exactly zero with a probability that can be learned.

use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;
use serde::{Deserialize, Serialize};

use crate::PruneError;

/// The hard concrete distribution: a sigmoid of noise, stretched beyond `[0, 1]` and clamped to it.
///
/// $$s = \sigma\left(\frac{\ln u - \ln(1-u) + \ln\alpha}{\beta}\right), \quad z = \min(1, \max(0, s (\zeta - \gamma) + \gamma))$$
/// $$P(z \ne 0) = \sigma\left(\ln\alpha - \beta \ln\frac{-\gamma}{\zeta}\right)$$
///
/// Louizos et al., *Learning Sparse Neural Networks through L0 Regularization* (2018).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_prune::HardConcrete;
///
/// let gates = HardConcrete::default();
/// let device = Device::flex();
/// let log_alpha = Tensor::<1>::from_floats([-8.0, 8.0], &device);
/// assert_eq!(gates.expected(log_alpha).into_data().try_to_vec::<f32>().unwrap(), [0.0, 1.0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HardConcrete {
    /// Temperature $\beta$; 2/3. Smaller is nearer to a coin.
    pub temperature: f64,
    /// Lower end $\gamma$, below 0; -0.1.
    pub lower: f64,
    /// Upper end $\zeta$, above 1; 1.1.
    pub upper: f64,
}

impl Default for HardConcrete {
    fn default() -> Self {
        Self { temperature: 2.0 / 3.0, lower: -0.1, upper: 1.1 }
    }
}

impl HardConcrete {
    /// Refuses settings out of range.
    ///
    /// # Errors
    /// [`PruneError::Setting`] unless the temperature is positive, the lower end negative and the upper above 1.
    pub fn validate(self) -> Result<Self, PruneError> {
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return Err(PruneError::setting("temperature", self.temperature, "a positive number"));
        }
        if !(self.lower < 0.0 && self.lower.is_finite()) {
            return Err(PruneError::setting("lower", self.lower, "a negative number"));
        }
        if !(self.upper > 1.0 && self.upper.is_finite()) {
            return Err(PruneError::setting("upper", self.upper, "a number above 1"));
        }
        Ok(self)
    }

    /// Gates for uniform noise in `(0, 1)`. Where a gate is clamped its gradient is 0.
    pub fn gates<const D: usize>(&self, log_alpha: Tensor<D>, noise: Tensor<D>) -> Tensor<D> {
        let logistic = noise.clone().log() - noise.neg().add_scalar(1.0).log();
        self.stretched(sigmoid((logistic + log_alpha).div_scalar(self.temperature)))
    }

    /// Gates without noise, for evaluation: $$\min(1, \max(0, \sigma(\ln\alpha)(\zeta-\gamma)+\gamma))$$
    pub fn expected<const D: usize>(&self, log_alpha: Tensor<D>) -> Tensor<D> {
        self.stretched(sigmoid(log_alpha))
    }

    fn stretched<const D: usize>(&self, s: Tensor<D>) -> Tensor<D> {
        s.mul_scalar(self.upper - self.lower).add_scalar(self.lower).clamp(0.0, 1.0)
    }

    /// The probability that a gate is not zero; their sum is the expected L0 norm.
    pub fn open<const D: usize>(&self, log_alpha: Tensor<D>) -> Tensor<D> {
        sigmoid(log_alpha.sub_scalar(self.temperature * (-self.lower / self.upper).ln()))
    }

    /// Gates that stay when the expected number of zeros is taken for the number of zeros: the `round(n - Σ P(z ≠ 0))` smallest of
    /// $\sigma(\ln\alpha/\beta \cdot \text{magic})$ are 0, the others keep that value, neither stretched nor clamped. This is FLOP's rule,
    /// with 0.8 for the factor (Wang et al., *Structured Pruning of Large Language Models*, 2020).
    pub fn deterministic(&self, log_alpha: &[f32], factor: f64) -> Vec<f32> {
        let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
        let shift = self.temperature * (-self.lower / self.upper).ln();
        let expected: f64 = log_alpha.iter().map(|la| logistic(f64::from(*la) - shift)).sum();
        let zeros = (log_alpha.len() as f64 - expected).round_ties_even().max(0.0) as usize;
        let soft = log_alpha.iter().map(|la| logistic(f64::from(*la) / self.temperature * factor) as f32);
        let soft: Vec<f32> = soft.collect();
        let keep = crate::top_k(&soft, soft.len().saturating_sub(zeros), crate::Ties::HigherIndex);
        soft.into_iter().zip(keep).map(|(soft, keep)| if keep { soft } else { 0.0 }).collect()
    }
}

/// What a layer with gates adds to the loss, as in the authors' code:
///
/// $$\sum_g P(z_g \ne 0) \left(\tfrac12 \delta \lVert w_g \rVert^2 + \lambda n_g\right)$$
///
/// for a weight whose groups lie along an axis, with $n_g$ weights each; $\delta$ is the weight decay.
pub fn l0_penalty<const D: usize>(
    weight: Tensor<D>,
    axis: usize,
    open: Tensor<1>,
    weight_decay: f64,
    lambda: f64,
) -> Tensor<1> {
    let groups = open.dims()[0];
    let others = weight.dims().iter().product::<usize>() / groups.max(1);
    let squares = weight.square().swap_dims(0, axis).reshape([groups, others]).sum_dim(1).reshape([groups]);
    let cost = squares.mul_scalar(0.5 * weight_decay).add_scalar(lambda * others as f64);
    (open * cost).sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn the_share_of_open_gates_is_the_probability() {
        let device = Device::flex();
        let gates = HardConcrete::default();
        let n = 20_000;
        // Noise in the middle of equal intervals: an integral, not a sample.
        let noise: Vec<f32> = (0..n).map(|i| (i as f32 + 0.5) / n as f32).collect();
        let log_alpha = Tensor::<1>::full([n], -0.7, &device);
        let z = gates.gates(log_alpha.clone(), Tensor::from_floats(noise.as_slice(), &device));
        let open = z.into_data().try_to_vec::<f32>().unwrap().iter().filter(|z| **z > 0.0).count();
        let expected = gates.open(log_alpha).mean().into_scalar::<f32>();
        assert!((open as f32 / n as f32 - expected).abs() < 1e-3);
    }

    #[test]
    fn ends_inside_the_interval_are_refused() {
        assert!(HardConcrete { lower: 0.0, ..HardConcrete::default() }.validate().is_err());
        assert!(HardConcrete { upper: 1.0, ..HardConcrete::default() }.validate().is_err());
        assert!(HardConcrete { temperature: 0.0, ..HardConcrete::default() }.validate().is_err());
    }
}
