//! TWN: ternary weights with one scale.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::ste::{clipped_through, straight_through};
use crate::{Bound, Granularity, QuantError};

/// Weights in $\{-\alpha, 0, \alpha\}$.
///
/// $$ \Delta = t\,\mathrm{mean}|w|, \qquad \alpha = \mathrm{mean}\{|w| : |w| > \Delta\} $$
///
/// The gradient goes to the real weights unchanged.
///
/// | Setting | Default | Purpose |
/// |---|---|---|
/// | `threshold` | 0.7 | $t$, in means of the magnitude |
/// | `granularity` | tensor | which elements share $\Delta$ and $\alpha$ |
/// | `scaled` | yes | without, the weights are -1, 0, 1 (larq) |
/// | `clip` | none | the gradient passes where $\lvert w\rvert$ is at most this |
///
/// Li et al., *Ternary Weight Networks*, 2016.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_quant::ternary::Twn;
///
/// let w = Tensor::<1>::from_floats([-0.9, 0.1, 0.2, 1.1], &Device::flex());
/// let y = Twn::default().quantize(w)?;
/// assert_eq!(y.into_data().try_to_vec::<f32>(), Ok(vec![-1.0, 0.0, 0.0, 1.0]));
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Twn {
    /// The threshold in means of the magnitude.
    pub threshold: f32,
    /// Which elements share threshold and scale.
    pub granularity: Granularity,
    /// Whether the scale is applied.
    pub scaled: bool,
    /// Up to which magnitude, itself included, the gradient passes.
    pub clip: Option<f32>,
}

impl Default for Twn {
    fn default() -> Self {
        Self { threshold: 0.7, granularity: Granularity::Tensor, scaled: true, clip: None }
    }
}

impl Twn {
    /// $\Delta$ and $\alpha$ of every block, `[blocks]` each; $\alpha$ is zero where no weight exceeds $\Delta$.
    ///
    /// # Errors
    /// As [`Granularity::blocks`].
    pub fn threshold_and_scale<const D: usize>(
        &self,
        w: Tensor<D>,
    ) -> Result<(Tensor<1>, Tensor<1>), QuantError> {
        let magnitude = self.granularity.split(w.detach())?.abs();
        let [blocks, _] = magnitude.dims();
        let delta = magnitude.clone().mean_dim(1) * self.threshold;
        let kept = (magnitude.clone() - delta.clone()).greater_scalar(0.0).float();
        let alpha = (magnitude * kept.clone()).sum_dim(1) / kept.sum_dim(1).clamp_min(1.0);
        Ok((delta.reshape([blocks]), alpha.reshape([blocks])))
    }

    /// The ternary weights.
    ///
    /// # Errors
    /// As [`Granularity::blocks`].
    pub fn quantize<const D: usize>(&self, w: Tensor<D>) -> Result<Tensor<D>, QuantError> {
        let shape = w.dims();
        let (delta, alpha) = self.threshold_and_scale(w.clone())?;
        let rows = self.granularity.split(w.clone().detach())?;
        let [blocks, _] = rows.dims();
        let kept = (rows.clone().abs() - delta.reshape([blocks, 1])).greater_scalar(0.0).float();
        let codes = rows.sign() * kept;
        let value = if self.scaled { codes * alpha.reshape([blocks, 1]) } else { codes };
        let value = self.granularity.join(value, shape);
        Ok(match self.clip {
            Some(clip) => {
                let inside = Bound::Inclusive.inside(w.clone().detach(), -clip, clip);
                clipped_through(w, value, inside)
            }
            None => straight_through(w, value),
        })
    }
}
