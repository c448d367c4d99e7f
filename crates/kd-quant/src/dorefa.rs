//! DoReFa-Net: weights, activations and gradients of few bits.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::binary::{Zero, sign};
use crate::error::in_range;
use crate::grid::levels;
use crate::ste::{clipped_through, straight_through};
use crate::{Bound, QuantError};

/// Whether the gradient of DoReFa's weights flows through $\max|\tanh w|$ as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normaliser {
    /// It does, as in the authors' code (tensorpack): the largest weight also receives the normaliser's gradient.
    #[default]
    Differentiated,
    /// The maximum counts as a constant, as in larq.
    Constant,
}

/// Weights of `bits` bits in $[-1, 1]$.
///
/// $$ y = \frac{2}{n}\,\mathrm{round}\Big(n\Big(\frac{\tanh w}{2\max|\tanh w|} + \frac12\Big)\Big) - 1, \qquad n = 2^b - 1 $$
///
/// Rounding is straight-through, half to even, all else is differentiated; the maximum is over the tensor. With one bit $y = \mathrm{sign}(w)\,
/// \mathrm{mean}|w|$, $\mathrm{sign}(0) = 1$, and the gradient passes unchanged. The first and the last layer are left out by the authors.
///
/// Zhou et al., *DoReFa-Net: Training Low Bitwidth Convolutional Neural Networks with Low Bitwidth Gradients*, 2016.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_quant::DorefaWeight;
///
/// let w = Tensor::<1>::from_floats([-2.0, -0.3, 0.1, 2.0], &Device::flex());
/// let y = DorefaWeight::new(2)?.quantize(w)?.into_data().try_to_vec::<f32>().unwrap_or_default();
/// assert_eq!([y[0], y[3]], [-1.0, 1.0]);
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DorefaWeight {
    /// From 1 to 8.
    pub bits: u32,
    /// Whether the normaliser is differentiated.
    #[serde(default)]
    pub normaliser: Normaliser,
}

impl DorefaWeight {
    /// # Errors
    /// [`QuantError::Setting`] unless `bits` is from 1 to 8.
    pub fn new(bits: u32) -> Result<Self, QuantError> {
        levels(bits).map(|_| Self { bits, normaliser: Normaliser::default() })
    }

    /// The quantised weights. Zero weights alone give zero.
    ///
    /// # Errors
    /// [`QuantError::Setting`] for bits out of range.
    pub fn quantize<const D: usize>(&self, w: Tensor<D>) -> Result<Tensor<D>, QuantError> {
        let n = levels(self.bits)?;
        let shape = w.dims();
        let elements: usize = shape.iter().product();
        let flat: Tensor<1> = w.reshape([elements]);
        if self.bits == 1 {
            let value = flat.clone().detach();
            let value = sign(value.clone(), Zero::Plus) * value.abs().mean();
            return Ok(straight_through(flat, value).reshape(shape));
        }
        let t = flat.tanh();
        let max = t.clone().abs().max();
        let max = match self.normaliser {
            Normaliser::Differentiated => max,
            Normaliser::Constant => max.detach(),
        };
        // All weights zero: any positive number keeps them so.
        let max = max.clamp_min(f32::MIN_POSITIVE);
        let u = (t / (max * 2.0) + 0.5) * n;
        let q = straight_through(u.clone(), u.detach().round());
        Ok((q * (2.0 / n) - 1.0).reshape(shape))
    }
}

/// Activations of `bits` bits in $[0, 1]$: $y = \mathrm{round}(n\,\mathrm{clamp}(x, 0, 1))/n$, $n = 2^b - 1$.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_quant::DorefaActivation;
///
/// let x = Tensor::<1>::from_floats([-0.3, 0.4, 0.9, 7.0], &Device::flex());
/// let y = DorefaActivation::new(1)?.quantize(x)?;
/// assert_eq!(y.into_data().try_to_vec::<f32>(), Ok(vec![0.0, 0.0, 1.0, 1.0]));
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DorefaActivation {
    /// From 1 to 8.
    pub bits: u32,
    /// Whether the gradient passes at exactly 0 and 1. `None`: the network has clipped already, no value is clipped and every gradient passes.
    #[serde(default = "exclusive")]
    pub clip: Option<Bound>,
}

fn exclusive() -> Option<Bound> {
    Some(Bound::Exclusive)
}

impl DorefaActivation {
    /// # Errors
    /// [`QuantError::Setting`] unless `bits` is from 1 to 8.
    pub fn new(bits: u32) -> Result<Self, QuantError> {
        levels(bits).map(|_| Self { bits, clip: exclusive() })
    }

    /// The quantised activation.
    ///
    /// # Errors
    /// [`QuantError::Setting`] for bits out of range.
    pub fn quantize<const D: usize>(&self, x: Tensor<D>) -> Result<Tensor<D>, QuantError> {
        let n = levels(self.bits)?;
        let value = x.clone().detach();
        Ok(match self.clip {
            Some(bound) => {
                let inside = bound.inside(value.clone(), 0.0, 1.0);
                clipped_through(x, (value.clamp(0.0, 1.0) * n).round() / n, inside)
            }
            None => straight_through(x, (value * n).round() / n),
        })
    }
}

/// Gradients of `bits` bits, for the backward pass of a layer.
///
/// $$ g_q = 2m\Big(\frac1n\,\mathrm{round}\Big(n\,\mathrm{clamp}\Big(\frac{g}{2m} + \frac12 + \epsilon, 0, 1\Big)\Big) - \frac12\Big) $$
///
/// $m = \max|g|$ of each sample (axis 0), $\epsilon$ uniform in $\pm\frac{1}{2n}$: with it the quantised gradient is unbiased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DorefaGradient {
    /// From 1 to 8.
    pub bits: u32,
}

impl DorefaGradient {
    /// # Errors
    /// [`QuantError::Setting`] unless `bits` is from 1 to 8.
    pub fn new(bits: u32) -> Result<Self, QuantError> {
        levels(bits).map(|_| Self { bits })
    }

    /// How far the noise reaches: $\frac{1}{2n}$.
    ///
    /// # Errors
    /// [`QuantError::Setting`] for bits out of range.
    pub fn noise_bound(&self) -> Result<f32, QuantError> {
        Ok(0.5 / levels(self.bits)?)
    }

    /// The quantised gradient of `gradient`, `[batch, ...]`, with a noise of the same shape. A sample without gradient stays without.
    ///
    /// # Errors
    /// [`QuantError::Shape`] for a noise of another shape; [`QuantError::Setting`] for bits out of range.
    pub fn quantize<const D: usize>(
        &self,
        gradient: Tensor<D>,
        noise: Tensor<D>,
    ) -> Result<Tensor<D>, QuantError> {
        let n = levels(self.bits)?;
        let shape = gradient.dims();
        if noise.dims() != shape {
            return Err(QuantError::Shape {
                what: "the noise",
                got: noise.dims().to_vec(),
                wanted: format!("the gradient's, {shape:?},"),
            });
        }
        let batch = shape.first().copied().unwrap_or(1).max(1);
        in_range("batch", batch, shape.iter().all(|&d| d > 0), "a gradient with elements")?;
        let rows = shape.iter().product::<usize>() / batch;
        let g = gradient.reshape([batch, rows]);
        let max = g.clone().abs().max_dim(1);
        let safe = max.clone().clamp_min(f32::MIN_POSITIVE);
        let u = g / safe * 0.5 + 0.5 + noise.reshape([batch, rows]);
        let q = (u.clamp(0.0, 1.0) * n).round() / n - 0.5;
        Ok((q * max * 2.0).reshape(shape))
    }
}
