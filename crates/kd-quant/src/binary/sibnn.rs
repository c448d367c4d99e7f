//! SiBNN: activations of 0 and 1.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::Zero;
use crate::ste::clipped_through;
use crate::{Bound, QuantError};

/// Sparsity-inducing activations in $\{0, 1\}$, behind a learned threshold and scale per channel: $z = (x - \theta)\,\gamma$, then 1 where $z > 0$.
///
/// The gradient passes where $-0.3 < z < 1$. Zero padding is exact, and a bit kernel needs no correction for it. Weights are [`Xnor`](super::Xnor)
/// without centring.
///
/// Wang et al., *Sparsity-Inducing Binarized Neural Networks*, AAAI 2020.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_quant::binary::SibnnActivation;
///
/// let x = Tensor::<1>::from_floats([-0.2, 0.0, 3.0], &Device::flex());
/// let y = SibnnActivation::default().quantize(x);
/// assert_eq!(y.into_data().try_to_vec::<f32>(), Ok(vec![0.0, 1.0, 1.0]));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SibnnActivation {
    /// The sign of zero: 1 for [`Zero::Plus`], which is the default, and a half for [`Zero::Zero`], as the public code.
    pub zero: Zero,
    /// Where the gradient begins; default -0.3.
    pub low: f32,
    /// Where it ends; default 1.
    pub high: f32,
    /// Whether it passes at exactly these; default not.
    pub bound: Bound,
}

impl Default for SibnnActivation {
    fn default() -> Self {
        Self { zero: Zero::Plus, low: -0.3, high: 1.0, bound: Bound::Exclusive }
    }
}

impl SibnnActivation {
    /// The activation of $z$.
    pub fn quantize<const D: usize>(&self, z: Tensor<D>) -> Tensor<D> {
        let value = z.clone().detach();
        let y = super::sign(value.clone(), self.zero) * 0.5 + 0.5;
        clipped_through(z, y, self.bound.inside(value, self.low, self.high))
    }

    /// The activation of $(x - \theta)\,\gamma$. `x [batch, channels, ...]`, `threshold` and `scale [channels]`.
    ///
    /// # Errors
    /// [`QuantError::Length`] unless there is one threshold and one scale per channel.
    pub fn quantize_above<const D: usize>(
        &self,
        x: Tensor<D>,
        threshold: Tensor<1>,
        scale: Tensor<1>,
    ) -> Result<Tensor<D>, QuantError> {
        let channels = x.dims().get(1).copied().unwrap_or(0);
        let mut shape = [1; D];
        if let Some(axis) = shape.get_mut(1) {
            *axis = channels;
        }
        for (what, got) in [("the threshold", threshold.dims()), ("the scale", scale.dims())] {
            if got != [channels] {
                return Err(QuantError::Length { what, got: got[0], wanted: channels });
            }
        }
        Ok(self.quantize((x - threshold.reshape(shape)) * scale.reshape(shape)))
    }
}
