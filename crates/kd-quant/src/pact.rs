//! PACT: the activation's clipping level is learned.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::QuantError;
use crate::affine::column;
use crate::grid::{Bits, levels};
use crate::ste::only_gradient;

/// Parameterised clipping activation, in place of a rectifier.
///
/// $$ y = \frac{\alpha}{n}\,\mathrm{round}\Big(\frac{n}{\alpha}\,\mathrm{clamp}(x, 0, \alpha)\Big), \qquad n = 2^b - 1 $$
///
/// $\partial y/\partial x = 1$ where $0 < x < \alpha$, else 0; $\partial y/\partial\alpha = 1$ where $x \ge \alpha$, else 0: rounding adds nothing.
/// The clipping level starts at [`INITIAL`](Self::INITIAL). The paper regularises it as the weights are: an optimizer's weight decay does, since it is a
/// parameter like them; [`penalty`](Self::penalty) is for a coefficient of its own.
///
/// Choi et al., *PACT: Parameterized Clipping Activation for Quantized Neural Networks*, 2018.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_quant::Pact;
///
/// let device = Device::flex();
/// let x = Tensor::<1>::from_floats([-1.0, 1.1, 9.0], &device);
/// let y = Pact::new(2)?.quantize(x, Tensor::from_floats([6.0], &device))?;
/// assert_eq!(y.into_data().try_to_vec::<f32>(), Ok(vec![0.0, 2.0, 6.0]));
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pact {
    bits: Bits<1>,
}

impl Pact {
    /// Where the clipping level starts.
    pub const INITIAL: f32 = 8.0;

    /// # Errors
    /// [`QuantError::Setting`] unless `bits` is from 1 to 8.
    pub fn new(bits: u32) -> Result<Self, QuantError> {
        Ok(Self { bits: bits.try_into()? })
    }

    /// The bits.
    pub fn bits(&self) -> u32 {
        self.bits.get()
    }

    /// The clipped and rounded activation. `alpha` is `[1]` and positive.
    ///
    /// # Errors
    /// [`QuantError::Length`] unless `alpha` holds one value.
    pub fn quantize<const D: usize>(&self, x: Tensor<D>, alpha: Tensor<1>) -> Result<Tensor<D>, QuantError> {
        let n = levels(self.bits.get())?;
        let shape = x.dims();
        let elements: usize = shape.iter().product();
        let x = x.reshape([1, elements]);
        let alpha = column("the clipping level", alpha, 1)?;
        let a = alpha.clone().detach();
        let value = x.clone().detach();
        let above = value.clone().greater_equal(a.clone().expand([1, elements]));
        let below = value.clone().lower_equal_scalar(0.0);
        let scale = a.clone().recip() * n;
        let clipped = value.mask_where(above.clone(), a.expand([1, elements])).mask_fill(below.clone(), 0.0);
        let inside = above.clone().bool_or(below).bool_not().float();
        let y = (clipped * scale.clone()).round() / scale
            + only_gradient(x) * inside
            + only_gradient(alpha) * above.float();
        Ok(y.reshape(shape))
    }

    /// The clipping level, made positive after an optimizer step.
    pub fn project(&self, alpha: Tensor<1>) -> Tensor<1> {
        alpha.clamp_min(crate::LEAST_STEP)
    }

    /// $\lambda\alpha^2$, to be added to the loss, `[1]`.
    pub fn penalty(&self, alpha: Tensor<1>, lambda: f64) -> Tensor<1> {
        alpha.square().sum() * lambda
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn the_penalty_pulls_the_level_down_by_twice_itself() {
        let alpha = Tensor::<1>::from_floats([3.0], &Device::flex().autodiff()).require_grad();
        let penalty = Pact::new(4).unwrap().penalty(alpha.clone(), 0.5);
        assert_eq!(penalty.clone().into_scalar::<f32>(), 4.5);
        let gradient = alpha.grad(&penalty.backward()).unwrap();
        assert_eq!(gradient.into_scalar::<f32>(), 3.0);
    }
}
