//! The sign function, its value at zero and its surrogate gradients.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::Bound;
use crate::ste::{clipped_through, straight_through, with_slope};

/// What the sign of zero is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Zero {
    /// +1, also for -0: the result is binary, and what the bit kernels compute.
    #[default]
    Plus,
    /// 0, as torch's and TensorFlow's `sign`: one value in between, which no bit holds.
    Zero,
}

/// The sign, without gradient.
pub fn sign<const D: usize>(x: Tensor<D>, zero: Zero) -> Tensor<D> {
    match zero {
        Zero::Plus => x.greater_equal_scalar(0.0).float() * 2.0 - 1.0,
        Zero::Zero => x.sign(),
    }
}

/// What stands in for the derivative of the sign.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum SignGradient {
    /// 1 everywhere: the clip is elsewhere, such as a [`hard_tanh`] in front.
    Identity,
    /// 1 where $|x| \le c$: the derivative of a hard tanh (BNN).
    Clipped {
        /// $c$.
        clip: f32,
        /// Whether $|x| = c$ is inside.
        bound: Bound,
    },
    /// $2 - 2|x|$ where $|x| \le 1$: the derivative of a piecewise quadratic (Bi-Real Net).
    Quadratic,
    /// $\beta\,(2 - \beta x \tanh(\beta x/2)) / (1 + \cosh(\beta x))$: of a sign-swish (BNN+).
    Swish {
        /// How steep.
        beta: f32,
    },
}

impl Default for SignGradient {
    fn default() -> Self {
        Self::Clipped { clip: 1.0, bound: Bound::Inclusive }
    }
}

/// Activations in $\{-1, +1\}$ (BNN, XNOR-Net). The normalisation comes before it: BN, sign, convolution.
///
/// Hubara et al., *Binarized Neural Networks*, NeurIPS 2016.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_quant::binary::SignActivation;
///
/// let x = Tensor::<1>::from_floats([-0.2, 0.0, 3.0], &Device::flex());
/// let y = SignActivation::default().quantize(x);
/// assert_eq!(y.into_data().try_to_vec::<f32>(), Ok(vec![-1.0, 1.0, 1.0]));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignActivation {
    /// The sign of zero; default +1.
    pub zero: Zero,
    /// The surrogate; default 1 where $|x| \le 1$.
    pub gradient: SignGradient,
}

impl SignActivation {
    /// The sign with the surrogate gradient.
    pub fn quantize<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let y = sign(x.clone().detach(), self.zero);
        self.through(x, y)
    }

    /// The sign times the greatest magnitude of the tensor, with the same gradient: BNN's PyTorch port calls it `allow_scale`. The scale is one number that
    /// changes from batch to batch, so that plans and bit kernels do without it.
    pub fn quantize_scaled<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let value = x.clone().detach();
        let y = sign(value.clone(), self.zero) * value.abs().max().reshape([1; D]);
        self.through(x, y)
    }

    /// `y` with the surrogate gradient at `x`.
    fn through<const D: usize>(&self, x: Tensor<D>, y: Tensor<D>) -> Tensor<D> {
        let value = x.clone().detach();
        match self.gradient {
            SignGradient::Identity => straight_through(x, y),
            SignGradient::Clipped { clip, bound } => clipped_through(x, y, bound.inside(value, -clip, clip)),
            SignGradient::Quadratic => {
                let slope = (value.abs() * -2.0 + 2.0).clamp_min(0.0);
                with_slope(x, y, slope)
            }
            SignGradient::Swish { beta } => {
                let bx = value * beta;
                let numerator = (bx.clone() * (bx.clone() * 0.5).tanh() * -1.0 + 2.0) * beta;
                // cosh overflows beyond 88, where the slope has long been zero.
                with_slope(x, y, numerator / (bx.clamp(-80.0, 80.0).cosh() + 1.0))
            }
        }
    }
}

/// $\mathrm{clamp}(x, -1, 1)$, whose gradient passes within $\pm 1$, and at exactly $\pm 1$ as `bound` says: what clips in front of a sign with
/// [`SignGradient::Identity`].
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_quant::{Bound, binary::hard_tanh};
///
/// let x = Tensor::<1>::from_floats([-3.0, 0.5, 1.0], &Device::flex().autodiff()).require_grad();
/// let y = hard_tanh(x.clone(), Bound::Exclusive);
/// assert_eq!(y.clone().into_data().try_to_vec::<f32>(), Ok(vec![-1.0, 0.5, 1.0]));
/// let gradient = x.grad(&y.sum().backward()).map(|g| g.into_data().try_to_vec::<f32>());
/// assert_eq!(gradient, Some(Ok(vec![0.0, 1.0, 0.0])));
/// ```
pub fn hard_tanh<const D: usize>(x: Tensor<D>, bound: Bound) -> Tensor<D> {
    let value = x.clone().detach();
    clipped_through(x, value.clone().clamp(-1.0, 1.0), bound.inside(value, -1.0, 1.0))
}

/// Activations in $\{0, 1\}$: 1 where $x > 0$, with the gradient 1 where $|x| \le 1$.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heaviside;

impl Heaviside {
    /// The step with the surrogate gradient.
    pub fn quantize<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let value = x.clone().detach();
        let y = value.clone().greater_scalar(0.0).float();
        clipped_through(x, y, Bound::Inclusive.inside(value, -1.0, 1.0))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    const X: [f32; 6] = [-2.0, -1.0, -0.3, 0.0, 1.0, 4.0];

    /// The values of a function and its gradient for an incoming gradient of 1, 2, 3...
    fn of(f: impl Fn(Tensor<2>) -> Tensor<2>) -> [Vec<f32>; 2] {
        let device = Device::flex().autodiff();
        let x = Tensor::<1>::from_floats(X, &device).reshape([2, 3]).detach().require_grad();
        let upstream = Tensor::<1>::from_floats([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &device).reshape([2, 3]);
        let y = f(x.clone());
        let gradient = x.grad(&(y.clone() * upstream).sum().backward()).unwrap();
        [y.into_data().try_to_vec().unwrap(), gradient.into_data().try_to_vec().unwrap()]
    }

    #[test]
    fn a_hard_tanh_in_front_of_a_straight_sign_is_the_clipped_sign() {
        let zero = Zero::Plus;
        let straight = SignActivation { zero, gradient: SignGradient::Identity };
        for bound in [Bound::Exclusive, Bound::Inclusive] {
            let clipped = SignActivation { zero, gradient: SignGradient::Clipped { clip: 1.0, bound } };
            assert_eq!(of(|x| straight.quantize(hard_tanh(x, bound))), of(|x| clipped.quantize(x)));
        }
    }

    #[test]
    fn scaled_signs_have_the_greatest_magnitude_and_the_gradient_of_plain_ones() {
        let rule = SignActivation::default();
        let [plain, gradient] = of(|x| rule.quantize(x));
        let scaled: Vec<f32> = plain.iter().map(|sign| 4.0 * sign).collect();
        assert_eq!(of(|x| rule.quantize_scaled(x)), [scaled, gradient]);
    }
}
