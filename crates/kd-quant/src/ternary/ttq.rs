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

/// Where the two scales start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InitialScales {
    /// At the mean magnitude of the weights that each of them will stand for, so that a trained network is hardly disturbed.
    #[default]
    Means,
    /// At 1, as in the authors' code.
    One,
}

/// Weights in $\{-W_n, 0, W_p\}$ with the threshold $\Delta = t\max|w|$ of the tensor.
///
/// $$ \frac{\partial L}{\partial W_p} = \sum_{w > \Delta} g, \qquad \frac{\partial L}{\partial W_n} = -\sum_{w < -\Delta} g, \qquad
///    g_w = g \cdot \begin{cases} W_p & w > \Delta \\\\ 1 & |w| \le \Delta \\\\ W_n & w < -\Delta \end{cases} $$
///
/// First and last layer and the biases stay real in the paper. A public port has the sign of the
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
    /// Where $W_p$ and $W_n$ start; default their weights' means.
    pub initial: InitialScales,
}

impl Default for Ttq {
    fn default() -> Self {
        Self { threshold: 0.05, edge: Edge::default(), initial: InitialScales::default() }
    }
}

impl Ttq {
    /// Where $W_p$ and $W_n$ start for this weight, `[1]` each. A side without weights starts at the mean of both, and at 1 if there are none at all.
    pub fn initial_scales<const D: usize>(&self, w: Tensor<D>) -> [Tensor<1>; 2] {
        let w = w.detach();
        let one = Tensor::ones([1], &w.device());
        if self.initial == InitialScales::One {
            return [one.clone(), one];
        }
        let [above, below] = self.sides(&w);
        let mean = |side: Tensor<D>, otherwise: Tensor<1>| {
            let count = side.clone().sum();
            let mean = (w.clone().abs() * side).sum() / count.clone().clamp_min(1.0);
            mean.mask_where(count.equal_elem(0.0), otherwise)
        };
        let both = mean(above.clone() + below.clone(), one);
        [mean(above, both.clone()), mean(below, both)]
    }

    /// Ones where a weight is above the threshold, and where it is below its negative.
    fn sides<const D: usize>(&self, w: &Tensor<D>) -> [Tensor<D>; 2] {
        let delta = (w.clone().abs().max() * self.threshold).reshape([1; D]);
        let above = (w.clone() - delta.clone()).greater_scalar(0.0).float();
        [above, (w.clone() + delta).lower_scalar(0.0).float()]
    }

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
        let [above, below] = self.sides(&value);
        let (p, n) = (wp.clone().detach(), wn.clone().detach());
        let mut codes = above.clone() * p.clone() - below.clone() * n.clone();
        if self.edge == Edge::Sign {
            let delta = (value.clone().abs().max() * self.threshold).reshape([1, 1]);
            let edge = (value.clone().abs() - delta).equal_elem(0.0).float();
            codes = codes + value.sign() * edge;
        }
        let rest = (above.clone() + below.clone()) * -1.0 + 1.0;
        let slope = above.clone() * p + below.clone() * n + rest;
        let y = codes + only_gradient(w) * slope + only_gradient(wp) * above - only_gradient(wn) * below;
        Ok(y.reshape(shape))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn starts(ttq: Ttq, w: [f32; 4]) -> [f32; 2] {
        let w = Tensor::<1>::from_floats(w, &Device::flex());
        ttq.initial_scales(w).map(|scale| scale.into_scalar())
    }

    #[test]
    fn scales_start_at_the_means_of_their_sides() {
        let one = Ttq { initial: InitialScales::One, ..Ttq::default() };
        assert_eq!(starts(Ttq::default(), [0.5, 0.25, -2.0, 0.01]), [0.375, 2.0]);
        assert_eq!(starts(one, [0.5, 0.25, -2.0, 0.01]), [1.0, 1.0]);
    }

    #[test]
    fn a_side_without_weights_starts_with_the_other() {
        assert_eq!(starts(Ttq::default(), [0.5, 0.25, 0.75, 0.0]), [0.5, 0.5]);
        assert_eq!(starts(Ttq::default(), [0.0; 4]), [1.0, 1.0]);
    }
}
