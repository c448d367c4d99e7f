//! BinaryConnect: binary weights, real ones behind them.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Zero, sign};
use crate::QuantError;
use crate::ste::straight_through;

/// Weights in $\{-1, +1\}$, whose gradient goes to the real weights unchanged. These are clipped to $[-1, 1]$ after every step
/// ([`project`](Self::project)): beyond it they would move no more.
///
/// Courbariaux et al., *BinaryConnect*, NeurIPS 2015; the weights of *Binarized Neural Networks* are the same.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_quant::binary::BinaryConnect;
///
/// let rule = BinaryConnect::default();
/// let w = Tensor::<1>::from_floats([-1.7, 0.0, 0.2], &Device::flex());
/// assert_eq!(rule.quantize(w.clone()).into_data().try_to_vec::<f32>(), Ok(vec![-1.0, 1.0, 1.0]));
/// // After a step of the optimizer:
/// assert_eq!(rule.project(w).into_data().try_to_vec::<f32>(), Ok(vec![-1.0, 0.0, 0.2]));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BinaryConnect {
    /// The sign of zero; default +1.
    pub zero: Zero,
}

impl BinaryConnect {
    /// The signs.
    pub fn quantize<const D: usize>(&self, w: Tensor<D>) -> Tensor<D> {
        let value = sign(w.clone().detach(), self.zero);
        straight_through(w, value)
    }

    /// Stochastic binarisation: +1 with the probability $\mathrm{clamp}((w + 1)/2, 0, 1)$. `uniform` holds draws from $[0, 1)$ in the weight's shape.
    ///
    /// # Errors
    /// [`QuantError::Shape`] for draws of another shape.
    pub fn quantize_stochastic<const D: usize>(
        &self,
        w: Tensor<D>,
        uniform: Tensor<D>,
    ) -> Result<Tensor<D>, QuantError> {
        let shape = w.dims();
        if uniform.dims() != shape {
            return Err(QuantError::Shape {
                what: "the draws",
                got: uniform.dims().to_vec(),
                wanted: format!("the weight's, {shape:?},"),
            });
        }
        let probability = ((w.clone().detach() + 1.0) * 0.5).clamp(0.0, 1.0);
        let value = uniform.lower(probability).float() * 2.0 - 1.0;
        Ok(straight_through(w, value))
    }

    /// The real weights, clipped to $[-1, 1]$.
    pub fn project<const D: usize>(&self, w: Tensor<D>) -> Tensor<D> {
        w.clamp(-1.0, 1.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn the_probability_of_plus_one_is_the_hard_sigmoid() {
        let device = Device::flex();
        let w = Tensor::<1>::from_floats([-1.0, 0.0, 0.0, 1.0, 0.5], &device);
        let draws = Tensor::<1>::from_floats([0.0, 0.49, 0.5, 0.999, 0.76], &device);
        let y = BinaryConnect::default().quantize_stochastic(w.clone(), draws).unwrap();
        assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [-1.0, 1.0, -1.0, 1.0, -1.0]);
        assert!(BinaryConnect::default().quantize_stochastic(w, Tensor::zeros([2], &device)).is_err());
    }

    #[test]
    fn the_gradient_reaches_the_real_weights_unchanged() {
        let device = Device::flex().autodiff();
        let w = Tensor::<1>::from_floats([-3.0, 0.2], &device).require_grad();
        let upstream = Tensor::<1>::from_floats([2.0, -5.0], &device);
        let gradients = (BinaryConnect::default().quantize(w.clone()) * upstream).sum().backward();
        assert_eq!(w.grad(&gradients).unwrap().into_data().try_to_vec::<f32>().unwrap(), [2.0, -5.0]);
        let clipped = BinaryConnect::default().project(w);
        assert_eq!(clipped.into_data().try_to_vec::<f32>().unwrap(), [-1.0, 0.2]);
    }
}
