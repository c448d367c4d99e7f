//! TTQ: ternary weights with two learned scales.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::QuantError;
use crate::affine::column;
use crate::ste::only_gradient;

/// What becomes of a weight of exactly the threshold's magnitude.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Edge {
    /// Zero: a weight has to exceed the threshold.
    #[default]
    Zero,
    /// Its sign, without a scale, as in the authors' code: a fourth and fifth value, which no ternary kernel holds.
    Sign,
}

/// Weights in $\{-W_n, 0, W_p\}$ with the threshold $\Delta = t\max|w|$ of the tensor.
///
/// $$ \frac{\partial L}{\partial W_p} = \sum_{w > \Delta} g, \qquad \frac{\partial L}{\partial W_n} = -\sum_{w < -\Delta} g, \qquad
///    g_w = g \cdot \begin{cases} W_p & w > \Delta \\\\ 1 & |w| \le \Delta \\\\ W_n & w < -\Delta \end{cases} $$
///
/// Both scales start at 1 ([`INITIAL`](Self::INITIAL)). First and last layer and the biases stay real in the paper. A public port has the sign of the
/// second gradient wrong; this is the derivative.
///
/// Zhu et al., *Trained Ternary Quantization*, ICLR 2017.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_quant::ternary::Ttq;
///
/// let device = Device::flex();
/// let w = Tensor::<1>::from_floats([-0.9, 0.01, 1.1], &device);
/// let (wp, wn) = (Tensor::from_floats([0.7], &device), Tensor::from_floats([1.2], &device));
/// let y = Ttq::default().quantize(w, wp, wn)?;
/// assert_eq!(y.into_data().try_to_vec::<f32>(), Ok(vec![-1.2, 0.0, 0.7]));
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ttq {
    /// $t$, in parts of the largest magnitude; default 0.05.
    pub threshold: f32,
    /// What becomes of a weight of exactly the threshold's magnitude; default zero.
    pub edge: Edge,
}

impl Default for Ttq {
    fn default() -> Self {
        Self { threshold: 0.05, edge: Edge::default() }
    }
}

impl Ttq {
    /// Where $W_p$ and $W_n$ start.
    pub const INITIAL: [f32; 2] = [1.0, 1.0];

    /// The ternary weights. `positive` ($W_p$) and `negative` ($W_n$) are `[1]` each.
    ///
    /// # Errors
    /// [`QuantError::Length`] unless there is one of each.
    pub fn quantize<const D: usize>(
        &self,
        w: Tensor<D>,
        positive: Tensor<1>,
        negative: Tensor<1>,
    ) -> Result<Tensor<D>, QuantError> {
        let shape = w.dims();
        let w = w.reshape([1, shape.iter().product::<usize>()]);
        let wp = column("the positive scale", positive, 1)?;
        let wn = column("the negative scale", negative, 1)?;
        let value = w.clone().detach();
        let delta = (value.clone().abs().max() * self.threshold).reshape([1, 1]);
        let above = (value.clone() - delta.clone()).greater_scalar(0.0).float();
        let below = (value.clone() + delta.clone()).lower_scalar(0.0).float();
        let (p, n) = (wp.clone().detach(), wn.clone().detach());
        let mut codes = above.clone() * p.clone() - below.clone() * n.clone();
        if self.edge == Edge::Sign {
            let edge = (value.clone().abs() - delta).equal_elem(0.0).float();
            codes = codes + value.sign() * edge;
        }
        let rest = (above.clone() + below.clone()) * -1.0 + 1.0;
        let slope = above.clone() * p + below.clone() * n + rest;
        let y = codes + only_gradient(w) * slope + only_gradient(wp) * above - only_gradient(wn) * below;
        Ok(y.reshape(shape))
    }
}
