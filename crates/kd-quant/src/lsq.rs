//! LSQ: the step size is learned.

use burn::tensor::Tensor;
use kd_kernels::quantize::Gate;
use serde::{Deserialize, Serialize};

use crate::affine::column;
use crate::error::in_range;
use crate::fused::Rule;
use crate::ste::only_gradient;
use crate::{Bound, Granularity, Grid, QuantError};

/// How many elements $N$ counts in the gradient's scale, where there is a step for each channel. The paper has one step per layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Count {
    /// All elements of the tensor, as the common port.
    #[default]
    Tensor,
    /// The elements that share the step.
    Block,
}

/// Learned step size quantisation.
///
/// $$ v = x/s, \qquad y = s \cdot \mathrm{round}(\mathrm{clamp}(v, -Q_n, Q_p)) $$
///
/// with $\partial y/\partial x = 1$ inside the range and 0 outside, and
///
/// $$ \frac{\partial y}{\partial s} = g \cdot \begin{cases} \mathrm{round}(v) - v & -Q_n < v < Q_p \\\\ -Q_n & v \le -Q_n \\\\ Q_p & v \ge Q_p
/// \end{cases} \qquad g = \frac{1}{\sqrt{N Q_p}} $$
///
/// The step starts at $2\,\mathrm{mean}|x| / \sqrt{Q_p}$ of the first batch ([`initial_step`](Self::initial_step)) and is kept positive by
/// [`project`](Self::project) after every optimizer step. Rounding is half to even.
///
/// | Setting | Default | Purpose |
/// |---|---|---|
/// | `grid` | | $-Q_n..Q_p$; unsigned after a rectifier |
/// | `granularity` | tensor | which elements share a step |
/// | `bound` | exclusive | whether the gradient passes at exactly $-Q_n$ and $Q_p$ |
/// | `count` | tensor | what $N$ counts |
///
/// Esser et al., *Learned Step Size Quantization*, ICLR 2020.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_quant::{Grid, Lsq};
///
/// let x = Tensor::<1>::from_floats([-0.6, -0.1, 0.2, 0.9], &Device::flex());
/// let lsq = Lsq::new(Grid::signed(2)?)?;
/// let step = lsq.initial_step(x.clone())?;
/// let y = lsq.quantize(x, step)?;
/// assert_eq!(y.into_data().try_to_vec::<f32>(), Ok(vec![-0.9, 0.0, 0.0, 0.9]));
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lsq {
    /// The codes.
    pub grid: Grid,
    /// Which elements share a step.
    #[serde(default)]
    pub granularity: Granularity,
    /// Whether the gradient passes at exactly a bound.
    #[serde(default)]
    pub bound: Bound,
    /// What $N$ counts.
    #[serde(default)]
    pub count: Count,
}

/// The least step that [`Lsq::project`] leaves: f32's spacing at 1, as torch's observers have it.
pub const LEAST_STEP: f32 = f32::EPSILON;

impl Lsq {
    /// One step for the whole tensor, all else by default.
    ///
    /// # Errors
    /// [`QuantError::Setting`] for a grid without a positive code: $Q_p$ divides.
    pub fn new(grid: Grid) -> Result<Self, QuantError> {
        let lsq = Self {
            grid,
            granularity: Granularity::default(),
            bound: Bound::default(),
            count: Count::default(),
        };
        lsq.positive()?;
        Ok(lsq)
    }

    /// $Q_p$, which must not be zero.
    fn positive(&self) -> Result<f32, QuantError> {
        let max = self.grid.max();
        in_range(
            "grid.max",
            max,
            max > 0,
            "positive: one signed bit has no positive code, binarise instead",
        )?;
        Ok(max as f32)
    }

    /// $2\,\mathrm{mean}|x|/\sqrt{Q_p}$, `[blocks]`, at least [`LEAST_STEP`].
    ///
    /// # Errors
    /// As [`Granularity::blocks`] and [`new`](Self::new).
    pub fn initial_step<const D: usize>(&self, x: Tensor<D>) -> Result<Tensor<1>, QuantError> {
        let max = self.positive()?;
        let blocks = self.granularity.split(x.detach())?;
        let [count, _] = blocks.dims();
        Ok(self.project(blocks.abs().mean_dim(1).reshape([count]) * (2.0 / max.sqrt())))
    }

    /// The step, made positive. The method asks for this after every optimizer step.
    pub fn project(&self, step: Tensor<1>) -> Tensor<1> {
        step.clamp_min(LEAST_STEP)
    }

    /// The nearest values on the grid of `step`, `[blocks]`, with the gradients above.
    ///
    /// # Errors
    /// As [`Granularity::blocks`] and [`new`](Self::new); [`QuantError::Length`] unless there is one step per block.
    pub fn quantize<const D: usize>(&self, x: Tensor<D>, step: Tensor<1>) -> Result<Tensor<D>, QuantError> {
        let rule = Rule {
            grid: self.grid,
            by_inverse: false,
            gate: Gate::Quotient,
            bound: self.bound,
            gradient_scale: self.gradient_scale(&x.dims())?,
        };
        match rule.quantize(&x, self.granularity, &step, &step.zeros_like())? {
            Some(y) => Ok(y),
            None => self.by_operations(x, step),
        }
    }

    /// $g$.
    fn gradient_scale(&self, shape: &[usize]) -> Result<f32, QuantError> {
        let elements: usize = shape.iter().product();
        let count = match self.count {
            Count::Tensor => elements,
            Count::Block => elements / self.granularity.blocks(shape)?,
        };
        Ok(1.0 / (count as f32 * self.positive()?).sqrt())
    }

    /// As [`quantize`](Self::quantize), by operations that every backend has.
    pub(crate) fn by_operations<const D: usize>(
        &self,
        x: Tensor<D>,
        step: Tensor<1>,
    ) -> Result<Tensor<D>, QuantError> {
        let shape = x.dims();
        let g = self.gradient_scale(&shape)?;
        let x = self.granularity.split(x)?;
        let [blocks, _] = x.dims();
        let step = column("the step", step, blocks)?;
        let (low, high) = self.grid.bounds();

        let s = step.clone().detach();
        let v = x.clone().detach() / s.clone();
        let clipped = v.clone().clamp(low, high);
        let q = clipped.clone().round();
        let inside = self.bound.inside(v.clone(), low, high);
        let slope = clipped.mask_where(inside.clone(), q.clone() - v);
        let y = q * s + only_gradient(x) * inside.float() + only_gradient(step) * (slope * g);
        Ok(self.granularity.join(y, shape))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn one_signed_bit_is_refused() {
        assert!(Lsq::new(Grid::signed(1).unwrap()).unwrap_err().to_string().contains("binarise"));
    }

    #[test]
    fn the_step_stays_positive() {
        let lsq = Lsq::new(Grid::signed(4).unwrap()).unwrap();
        let step = lsq.project(Tensor::from_floats([-0.5, 0.0, 0.5], &Device::flex()));
        assert_eq!(step.into_data().try_to_vec::<f32>().unwrap(), [LEAST_STEP, LEAST_STEP, 0.5]);
        let zeros = lsq.initial_step(Tensor::<2>::zeros([3, 3], &Device::flex())).unwrap();
        assert_eq!(zeros.into_data().try_to_vec::<f32>().unwrap(), [LEAST_STEP]);
    }

    #[test]
    fn counting_the_block_makes_the_gradient_larger_by_the_root_of_the_blocks() {
        let device = Device::flex().autodiff();
        let gradient = |count| {
            let lsq = Lsq {
                count,
                granularity: Granularity::Channel { axis: 0 },
                ..Lsq::new(Grid::signed(3).unwrap()).unwrap()
            };
            let x = Tensor::<2>::from_floats([[0.1, 5.0], [0.2, -0.3], [0.1, 0.3], [0.5, 0.7]], &device);
            let step = Tensor::<1>::full([4], 0.25, &device).require_grad();
            let gradients = lsq.quantize(x, step.clone()).unwrap().sum().backward();
            step.grad(&gradients).unwrap().into_data().try_to_vec::<f32>().unwrap()
        };
        let (tensor, block) = (gradient(Count::Tensor), gradient(Count::Block));
        for (t, b) in tensor.iter().zip(block) {
            assert!((t * 2.0 - b).abs() < 1e-6, "{t} {b}");
        }
    }
}
