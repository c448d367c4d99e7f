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

/// What becomes of an activation at exactly $\pm\frac12$.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SttnActivation {
    /// At $+\frac12$ and $-\frac12$: 1 and 0 for [`Zero::Plus`], the default (as the authors' CUDA kernel), $\pm\frac12$ for [`Zero::Zero`].
    pub zero: Zero,
    /// Whether the gradient passes at exactly $\pm 1$; default it does, as in that kernel.
    pub bound: Bound,
}

impl Default for SttnActivation {
    fn default() -> Self {
        Self { zero: Zero::Plus, bound: Bound::Inclusive }
    }
}

impl SttnActivation {
    /// Activations in $\{-1, 0, 1\}$ by thresholds at $\pm\frac12$; the gradient passes within $\pm 1$.
    pub fn quantize<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let value = x.clone().detach();
        let y = (sign(value.clone() - 0.5, self.zero) + sign(value.clone() + 0.5, self.zero)) * 0.5;
        clipped_through(x, y, self.bound.inside(value, -1.0, 1.0))
    }
}
