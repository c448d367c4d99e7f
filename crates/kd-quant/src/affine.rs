//! Uniform quantisation with a scale and a zero point.

use burn::tensor::Tensor;
use kd_kernels::quantize::Gate;
use serde::{Deserialize, Serialize};

use crate::fused::Rule;
use crate::ste::only_gradient;
use crate::{Bound, Granularity, Grid, QuantError};

/// How $x / s$ is computed. The two differ by one unit in the last place, and so by one code where $x / s$ is next to a tie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scaling {
    /// $x / s$, as ONNX and the integer form here.
    #[default]
    Divide,
    /// $x \cdot (1/s)$ in f32, as torch's fake quantisation.
    MultiplyByInverse,
}

/// Uniform (affine) fake quantisation, its scale and zero point fixed or learned.
///
/// $$ c = \mathrm{round}(x / s) + z, \qquad q = \mathrm{clamp}(c, q_{\min}, q_{\max}), \qquad y = (q - z)\, s $$
///
/// Rounding is half to even. Gradients, where `inside` says whether the code $c$ before clamping lies in the grid:
///
/// | Of | inside | outside |
/// |---|---|---|
/// | $x$ | 1 | 0 |
/// | $s$ | $(y - x)/s$ | $q - z$ |
/// | $z$ | 0 | $-s$ |
///
/// those of $s$ and $z$ times [`gradient_scale`](Self::gradient_scale) and summed over the block.
///
/// | Setting | Default | Purpose |
/// |---|---|---|
/// | `grid` | | the codes |
/// | `granularity` | tensor | which elements share a scale |
/// | `bound` | inclusive | whether a code at the grid's end counts as inside: it is representable |
/// | `scaling` | divide | division or multiplication by the inverse |
/// | `gradient_scale` | 1 | factor on the gradients of scale and zero point |
///
/// Jacob et al., *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference*, CVPR 2018.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_quant::{Affine, Grid};
///
/// let device = Device::flex();
/// let x = Tensor::<1>::from_floats([-9.0, 0.3, 0.26], &device);
/// let scale = Tensor::from_floats([0.25], &device);
/// let y = Affine::new(Grid::signed(4)?).quantize(x, scale, Tensor::zeros([1], &device))?;
/// assert_eq!(y.into_data().try_to_vec::<f32>(), Ok(vec![-2.0, 0.25, 0.25]));
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Affine {
    /// The codes.
    pub grid: Grid,
    /// Which elements share a scale.
    #[serde(default)]
    pub granularity: Granularity,
    /// Whether a code at the grid's end counts as inside.
    #[serde(default = "inclusive")]
    pub bound: Bound,
    /// How the quotient is computed.
    #[serde(default)]
    pub scaling: Scaling,
    /// Factor on the gradients of scale and zero point.
    #[serde(default = "one")]
    pub gradient_scale: f32,
}

fn inclusive() -> Bound {
    Bound::Inclusive
}

fn one() -> f32 {
    1.0
}

/// A tensor's blocks beside their scale and zero point, `[blocks, 1]` each.
struct Parts {
    x: Tensor<2>,
    scale: Tensor<2>,
    zero_point: Tensor<2>,
}

impl Affine {
    /// One scale for the whole tensor, all else by default.
    pub fn new(grid: Grid) -> Self {
        Self {
            grid,
            granularity: Granularity::Tensor,
            bound: inclusive(),
            scaling: Scaling::default(),
            gradient_scale: one(),
        }
    }

    fn parts<const D: usize>(
        &self,
        x: Tensor<D>,
        scale: Tensor<1>,
        zero_point: Tensor<1>,
    ) -> Result<Parts, QuantError> {
        let x = self.granularity.split(x)?;
        let [blocks, _] = x.dims();
        Ok(Parts {
            x,
            scale: column("the scale", scale, blocks)?,
            zero_point: column("the zero point", zero_point, blocks)?,
        })
    }

    /// The code before it is clamped.
    fn code(&self, parts: &Parts) -> Tensor<2> {
        let (x, scale) = (parts.x.clone().detach(), parts.scale.clone().detach());
        let quotient = match self.scaling {
            Scaling::Divide => x / scale,
            Scaling::MultiplyByInverse => x * scale.recip(),
        };
        quotient.round() + parts.zero_point.clone().detach()
    }

    /// The codes as integral floats, in the shape of `x`. `scale` and the integral `zero_point` are `[blocks]`.
    ///
    /// # Errors
    /// As [`Granularity::blocks`]; [`QuantError::Length`] for scales that are not one per block.
    pub fn codes<const D: usize>(
        &self,
        x: Tensor<D>,
        scale: Tensor<1>,
        zero_point: Tensor<1>,
    ) -> Result<Tensor<D>, QuantError> {
        let shape = x.dims();
        let parts = self.parts(x, scale, zero_point)?;
        let (low, high) = self.grid.bounds();
        Ok(self.granularity.join(self.code(&parts).clamp(low, high), shape))
    }

    /// The nearest values on the grid, with the gradients above. `scale` and the integral `zero_point` are `[blocks]`; they may be on the tape.
    ///
    /// # Errors
    /// As [`codes`](Self::codes).
    pub fn quantize<const D: usize>(
        &self,
        x: Tensor<D>,
        scale: Tensor<1>,
        zero_point: Tensor<1>,
    ) -> Result<Tensor<D>, QuantError> {
        match self.rule().quantize(&x, self.granularity, &scale, &zero_point)? {
            Some(y) => Ok(y),
            None => self.by_operations(x, scale, zero_point),
        }
    }

    pub(crate) fn rule(&self) -> Rule {
        Rule {
            grid: self.grid,
            by_inverse: self.scaling == Scaling::MultiplyByInverse,
            gate: Gate::Code,
            bound: self.bound,
            gradient_scale: self.gradient_scale,
        }
    }

    /// As [`quantize`](Self::quantize), by operations that every backend has.
    pub(crate) fn by_operations<const D: usize>(
        &self,
        x: Tensor<D>,
        scale: Tensor<1>,
        zero_point: Tensor<1>,
    ) -> Result<Tensor<D>, QuantError> {
        let shape = x.dims();
        let parts = self.parts(x, scale, zero_point)?;
        let code = self.code(&parts);
        let Parts { x, scale, zero_point } = parts;
        let (low, high) = self.grid.bounds();
        let inside = self.bound.inside(code.clone(), low, high).float();
        let step = scale.clone().detach();
        let offset = code.clamp(low, high) - zero_point.clone().detach();
        let value = offset.clone() * step.clone();
        let scale_slope = offset - x.clone().detach() / step.clone() * inside.clone();
        let zero_slope = (inside.clone() - 1.0) * step;
        let parameters = only_gradient(scale) * scale_slope + only_gradient(zero_point) * zero_slope;
        let y = value + only_gradient(x) * inside + parameters * self.gradient_scale;
        Ok(self.granularity.join(y, shape))
    }

    /// A learned zero point made integral and put on the grid, with the gradient one. `[blocks]`.
    pub fn integral_zero_point(&self, zero_point: Tensor<1>) -> Tensor<1> {
        let (low, high) = self.grid.bounds();
        let value = zero_point.clone().detach().round().clamp(low, high);
        crate::straight_through(zero_point, value)
    }
}

/// `[blocks]` as `[blocks, 1]`.
pub(crate) fn column(what: &'static str, values: Tensor<1>, blocks: usize) -> Result<Tensor<2>, QuantError> {
    let [got] = values.dims();
    if got != blocks {
        return Err(QuantError::Length { what, got, wanted: blocks });
    }
    Ok(values.reshape([blocks, 1]))
}
