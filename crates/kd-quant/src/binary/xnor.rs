//! BWN and XNOR-Net: binary weights with a scale per filter.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Zero, filters, sign};
use crate::ste::only_gradient;

/// What gradient reaches the real weights, $g$ being that of the binary ones, $n$ a filter's elements and $c$ its input channels.
///
/// Public code departs from the paper's derivative by factors that Adam takes out again and SGD doesn't.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum XnorGradient {
    /// $\alpha\,1(|w| \le 1)\,g + \frac{\mathrm{sign}\,w}{n}\sum g\,\mathrm{sign}\,w$: through the sign and through $\alpha$.
    #[default]
    Derivative,
    /// The derivative times $(1 - 1/c)\,n\,f$, as the PyTorch port: $f = 1$, or $10^9$ in its ImageNet copy.
    Port {
        /// $f$.
        factor: f32,
    },
    /// $(1 - 1/n)\,1(|w| \le 1)\,g + \frac{\mathrm{sign}\,w}{n}\sum g\,\mathrm{sign}\,w$, as SiBNN.
    WithoutScale,
    /// $\alpha\,1(|w| \le 1)\,g$: through the sign alone, $\alpha$ counts as a constant, as in Bi-Real Net and larq's magnitude-aware sign.
    ConstantScale,
}

/// Weights $\alpha\,\mathrm{sign}(w)$ with $\alpha = \mathrm{mean}|w|$ of the filter (axis 0).
///
/// [`project`](Self::project) belongs to the method: after every step the real weights are centred over the input channels and clipped to $[-1, 1]$.
///
/// Rastegari et al., *XNOR-Net*, ECCV 2016.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_quant::binary::Xnor;
///
/// let w = Tensor::<2>::from_floats([[-0.5, 0.25], [0.1, 0.3]], &Device::flex());
/// let y = Xnor::default().quantize(w);
/// assert_eq!(y.into_data().try_to_vec::<f32>(), Ok(vec![-0.375, 0.375, 0.2, 0.2]));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Xnor {
    /// Whether [`project`](Self::project) subtracts the mean over the input channels (axis 1); default yes, SiBNN doesn't.
    pub centre: bool,
    /// The sign of zero; default +1.
    pub zero: Zero,
    /// The gradient; default the derivative.
    pub gradient: XnorGradient,
}

impl Default for Xnor {
    fn default() -> Self {
        Self { centre: true, zero: Zero::default(), gradient: XnorGradient::default() }
    }
}

impl Xnor {
    /// The real weights, centred (rank 2 and more) and clipped to $[-1, 1]$.
    pub fn project<const D: usize>(&self, w: Tensor<D>) -> Tensor<D> {
        let w = if self.centre && D > 1 { w.clone() - w.mean_dim(1) } else { w };
        w.clamp(-1.0, 1.0)
    }

    /// The scale of every filter, `[filters]`.
    pub fn scale<const D: usize>(&self, w: Tensor<D>) -> Tensor<1> {
        let rows = filters(w);
        let [count, _] = rows.dims();
        rows.abs().mean_dim(1).reshape([count])
    }

    /// The scaled signs, with the gradient chosen.
    pub fn quantize<const D: usize>(&self, w: Tensor<D>) -> Tensor<D> {
        let shape = w.dims();
        let rows = filters(w);
        let [_, n] = rows.dims();
        let value = rows.clone().detach();
        let alpha = value.clone().abs().mean_dim(1);
        let signs = sign(value.clone(), self.zero);
        // The derivative of |w| is zero at zero, whatever the sign of zero is taken to be.
        let slope_signs = value.clone().sign();
        let inside = value.abs().lower_equal_scalar(1.0).float();
        let (through_sign, factor) = match self.gradient {
            XnorGradient::Derivative | XnorGradient::ConstantScale => (inside * alpha.clone(), 1.0),
            XnorGradient::Port { factor } => {
                let channels = shape.get(1).copied().unwrap_or(1) as f32;
                (inside * alpha.clone(), (1.0 - 1.0 / channels) * n as f32 * factor)
            }
            XnorGradient::WithoutScale => (inside * (1.0 - 1.0 / n as f32), 1.0),
        };
        let zero = only_gradient(rows);
        let mut through = zero.clone() * through_sign;
        if self.gradient != XnorGradient::ConstantScale {
            through = through + (zero * slope_signs.clone()).mean_dim(1) * slope_signs;
        }
        (signs * alpha + through * factor).reshape(shape)
    }
}
