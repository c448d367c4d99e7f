//! Soft-threshold ternary networks: two binary weights that share a scale add up to a ternary one.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Zero, filters, sign};
use crate::ste::{clipped_through, only_gradient};
use crate::{Bound, QuantError};

/// Ternary weights as the sum of two binaries, $\alpha\,(\mathrm{sign}\,w_1 + \mathrm{sign}\,w_2) \in \{-2\alpha, 0, 2\alpha\}$: no threshold has to be
/// chosen.
///
/// $$ \alpha = \frac{1}{2n}\sum\big(|w_1| + |w_2|\big) \text{ per filter (axis 0)}, \qquad
///    g_i' = 1(|w_i| \le 1.96)\,g_i + \frac{\mathrm{sign}\,w_i}{n}\sum g_i\,\mathrm{sign}\,w_i $$
///
/// The real weights are clipped to $[-1, 1]$ after every step ([`project`](Self::project)).
///
/// Xu et al., *Soft Threshold Ternary Networks*, IJCAI 2020.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_quant::binary::SttnWeight;
///
/// let device = Device::flex();
/// let w1 = Tensor::<2>::from_floats([[0.5, -0.25, 0.75]], &device);
/// let w2 = Tensor::<2>::from_floats([[0.25, 0.5, 0.75]], &device);
/// // The mean magnitude of both is a half.
/// let (a, b) = SttnWeight::default().quantize_pair(w1, w2)?;
/// assert_eq!((a + b).into_data().try_to_vec::<f32>(), Ok(vec![1.0, 0.0, 1.0]));
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SttnWeight {
    /// The sign of zero; default +1.
    pub zero: Zero,
}

impl SttnWeight {
    /// Up to which magnitude the gradient passes.
    pub const CLIP: f32 = 1.96;

    /// Both binary weights; their sum is the ternary one. `w1` and `w2` of one shape.
    ///
    /// # Errors
    /// [`QuantError::Shape`] if the shapes differ.
    pub fn quantize_pair<const D: usize>(
        &self,
        w1: Tensor<D>,
        w2: Tensor<D>,
    ) -> Result<(Tensor<D>, Tensor<D>), QuantError> {
        let shape = w1.dims();
        if w2.dims() != shape {
            return Err(QuantError::Shape {
                what: "the second weight",
                got: w2.dims().to_vec(),
                wanted: format!("the first's, {shape:?},"),
            });
        }
        let (a, b) = (filters(w1), filters(w2));
        let alpha = (a.clone().detach().abs() + b.clone().detach().abs()).mean_dim(1) * 0.5;
        let half = |w: Tensor<2>| {
            let value = w.clone().detach();
            let signs = value.clone().sign();
            let inside = value.clone().abs().lower_equal_scalar(Self::CLIP).float();
            let zero = only_gradient(w);
            let through_scale = (zero.clone() * signs.clone()).mean_dim(1) * signs;
            (sign(value, self.zero) * alpha.clone() + zero * inside + through_scale).reshape(shape)
        };
        Ok((half(a), half(b)))
    }

    /// A real weight, clipped to $[-1, 1]$.
    pub fn project<const D: usize>(&self, w: Tensor<D>) -> Tensor<D> {
        w.clamp(-1.0, 1.0)
    }
}

/// Activations in $\{-1, 0, 1\}$ by thresholds at $\pm t$: $y = \frac12(\mathrm{sign}(x - t) + \mathrm{sign}(x + t))$. The gradient passes within
/// $\pm 1$.
///
/// With $t = 0.05$ it is the ternary quantiser of larq (`SteTern`).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_quant::binary::SttnActivation;
///
/// let x = Tensor::<1>::from_floats([-0.7, -0.4, 0.5], &Device::flex());
/// let ternary = |rule: SttnActivation| rule.quantize(x.clone()).into_data().try_to_vec::<f32>();
/// assert_eq!(ternary(SttnActivation::default()), Ok(vec![-1.0, 0.0, 1.0]));
/// assert_eq!(ternary(SttnActivation { threshold: 0.05, ..Default::default() }), Ok(vec![-1.0, -1.0, 1.0]));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SttnActivation {
    /// What an activation at exactly $+t$ and $-t$ becomes: 1 and 0 for [`Zero::Plus`], the default (as the authors' CUDA kernel), $\pm\frac12$ for
    /// [`Zero::Zero`].
    pub zero: Zero,
    /// Whether the gradient passes at exactly $\pm 1$; default it does, as in that kernel.
    pub bound: Bound,
    /// $t$; default $\frac12$. Its sign does not matter.
    pub threshold: f32,
}

impl Default for SttnActivation {
    fn default() -> Self {
        Self { zero: Zero::Plus, bound: Bound::Inclusive, threshold: 0.5 }
    }
}

impl SttnActivation {
    /// The ternary activation with its gradient.
    pub fn quantize<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let value = x.clone().detach();
        let (below, above) = (value.clone() - self.threshold, value.clone() + self.threshold);
        let y = (sign(below, self.zero) + sign(above, self.zero)) * 0.5;
        clipped_through(x, y, self.bound.inside(value, -1.0, 1.0))
    }
}
