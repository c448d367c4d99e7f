//! ABC-Net: weights and activations as sums of binaries.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Zero, sign};
use crate::data::numbers;
use crate::error::in_range;
use crate::linear_system::least_squares;
use crate::ste::{clipped_through, only_gradient};
use crate::{Bound, QuantError};

/// Weights as a sum of $M$ binary bases.
///
/// $$ B_i = \mathrm{sign}(w - \bar w + u_i\,\sigma_w), \quad u_i = -1 + \frac{2i}{M-1}, \qquad
///    \alpha = \arg\min_\alpha \Big\lVert w - \sum_i \alpha_i B_i \Big\rVert^2 $$
///
/// Mean and (population) standard deviation are of the whole tensor. The gradient goes through every base straight, $\sum_i \alpha_i\,g$.
///
/// Lin et al., *Towards Accurate Binary Convolutional Neural Network*, NeurIPS 2017.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_quant::binary::{AbcNet, Zero};
///
/// let w = Tensor::<1>::from_floats([-3.0, -1.0, 1.0, 3.0], &Device::flex());
/// let values = |bases| AbcNet::new(bases, Zero::default())?.quantize(w.clone());
/// let error = |y: Tensor<1>| (y - w.clone()).abs().max().into_scalar::<f32>();
/// // One base makes two values, here -2 and 2; three make these four.
/// assert!(error(values(1)?) > 0.99 && error(values(3)?) < 1e-5);
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbcNet {
    bases: usize,
    #[serde(default)]
    zero: Zero,
}

impl AbcNet {
    /// With `bases` binary weights and the sign of zero.
    ///
    /// # Errors
    /// [`QuantError::Setting`] unless `bases` is from 1 to 8.
    pub fn new(bases: usize, zero: Zero) -> Result<Self, QuantError> {
        in_range("bases", bases, (1..=8).contains(&bases), "from 1 to 8")?;
        Ok(Self { bases, zero })
    }

    /// $u_i$: -1 to 1 in even steps, or 0 alone.
    pub fn shifts(&self) -> Vec<f32> {
        match self.bases {
            0 | 1 => vec![0.0],
            m => (0..m).map(|i| 2.0 * i as f32 / (m - 1) as f32 - 1.0).collect(),
        }
    }

    /// The $M$ binary bases, without gradient.
    pub fn bases<const D: usize>(&self, w: Tensor<D>) -> Vec<Tensor<D>> {
        let shape = w.dims();
        let elements: usize = shape.iter().product();
        let w: Tensor<1> = w.detach().reshape([elements]);
        let centred = w.clone() - w.mean();
        let deviation = centred.clone().square().mean().sqrt();
        let base = |u: f32| sign(centred.clone() + deviation.clone() * u, self.zero).reshape(shape);
        self.shifts().into_iter().map(base).collect()
    }

    /// The least-squares scales of the bases, computed in f64. Bases that coincide share what is theirs.
    ///
    /// # Errors
    /// [`QuantError::Read`] if the device can't hand the weights over.
    pub fn scales<const D: usize>(&self, w: &Tensor<D>) -> Result<Vec<f64>, QuantError> {
        let target = numbers("the weight", w.clone())?;
        let bases: Result<Vec<_>, _> =
            self.bases(w.clone()).into_iter().map(|base| numbers("a base", base)).collect();
        Ok(least_squares(&bases?, &target))
    }

    /// $\sum_i \alpha_i B_i$ with its gradient.
    ///
    /// # Errors
    /// As [`scales`](Self::scales).
    pub fn quantize<const D: usize>(&self, w: Tensor<D>) -> Result<Tensor<D>, QuantError> {
        let scales = self.scales(&w)?;
        let mut sum = Tensor::zeros(w.dims(), &w.device());
        for (base, scale) in self.bases(w.clone()).into_iter().zip(&scales) {
            sum = sum + base * *scale;
        }
        let slope: f64 = scales.iter().sum();
        Ok(sum + only_gradient(w) * slope)
    }
}

/// Activations as a sum of $N$ shifted binaries, $\sum_j \beta_j\,(2 \cdot 1[\mathrm{clamp}(x + v_j, 0, 1) \ge \tfrac12] - 1)$, with learned $\beta$ and
/// $v$. The gradient passes a binary where $0 \le x + v_j \le 1$. The convolution runs once for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbcActivation {}

impl AbcActivation {
    /// The binaries times their scales, one for each shift. `shifts` and `scales` are `[N]`, learned, and on the tape if they are.
    ///
    /// # Errors
    /// [`QuantError::Length`] unless there are as many scales as shifts.
    pub fn quantize<const D: usize>(
        &self,
        x: Tensor<D>,
        shifts: Tensor<1>,
        scales: Tensor<1>,
    ) -> Result<Tensor<D>, QuantError> {
        let [count] = shifts.dims();
        if scales.dims() != [count] {
            return Err(QuantError::Length { what: "the scales", got: scales.dims()[0], wanted: count });
        }
        let mut sum = Tensor::zeros(x.dims(), &x.device());
        for j in 0..count {
            let shift = shifts.clone().narrow(0, j, 1).reshape([1; D]);
            let scale = scales.clone().narrow(0, j, 1).reshape([1; D]);
            let shifted = x.clone() + shift;
            let value = shifted.clone().detach();
            let inside = Bound::Inclusive.inside(value.clone(), 0.0, 1.0);
            sum = sum + clipped_through(shifted, sign(value - 0.5, Zero::Plus), inside) * scale;
        }
        Ok(sum)
    }
}
