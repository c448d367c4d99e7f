//! Power-of-two ("one-hot") weights, and shifts trained directly.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::QuantError;
use crate::error::in_range;
use crate::grid::Bits;
use crate::ste::{only_gradient, straight_through};

/// $2^k$ of integral `k`, exact.
fn power_of_two<const D: usize>(k: Tensor<D>) -> Tensor<D> {
    Tensor::full(k.dims(), 2.0, &k.device()).powf(k)
}

/// Weights $\mathrm{sign}(w)\,2^{\mathrm{round}(\log_2|w|)}$ (DeepShift-Q); zero stays zero.
///
/// Rounding is in the log domain: between $2^k$ and $2^{k+1}$ the next power changes at $2^{k+1/2}$. The gradient goes to the real weights unchanged. When a
/// plan is applied and after every step, [`project`](Self::project) brings magnitudes into $[2^{-(2^{b-1}-1)}, 1]$, which `b` bits with a sign can name. A
/// zero, as pruned weights are, is one value more than those: a file has to say where they are.
///
/// Elhoushi et al., *DeepShift: Towards Multiplication-Less Neural Networks*, 2019.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_quant::power::PowerOfTwo;
///
/// let w = Tensor::<1>::from_floats([0.0, -0.2, 0.72, 0.70], &Device::flex());
/// let y = PowerOfTwo::new(4)?.quantize(w);
/// assert_eq!(y.into_data().try_to_vec::<f32>(), Ok(vec![0.0, -0.25, 1.0, 0.5]));
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerOfTwo {
    bits: Bits<2>,
}

impl PowerOfTwo {
    /// # Errors
    /// [`QuantError::Setting`] unless `bits` is from 2 to 8.
    pub fn new(bits: u32) -> Result<Self, QuantError> {
        Ok(Self { bits: bits.try_into()? })
    }

    /// The bits, sign included.
    pub fn bits(&self) -> u32 {
        self.bits.get()
    }

    /// The least exponent, $-(2^{b-1} - 1)$; the greatest is 0.
    pub fn least_exponent(&self) -> i32 {
        1 - (1 << (self.bits.get() - 1))
    }

    /// The rounded exponents, $-\infty$ for zero; without gradient.
    pub fn exponents<const D: usize>(&self, w: Tensor<D>) -> Tensor<D> {
        (w.detach().abs().log() * std::f32::consts::LOG2_E).round()
    }

    /// The nearest powers of two.
    pub fn quantize<const D: usize>(&self, w: Tensor<D>) -> Tensor<D> {
        let zero = w.clone().detach().equal_elem(0.0);
        let exponents = self.exponents(w.clone()).mask_fill(zero, 0.0);
        let value = w.clone().detach().sign() * power_of_two(exponents);
        straight_through(w, value)
    }

    /// The real weights with magnitudes brought into range; zeros stay.
    pub fn project<const D: usize>(&self, w: Tensor<D>) -> Tensor<D> {
        let least = 2.0_f32.powi(self.least_exponent());
        w.clone().sign() * w.abs().clamp(least, 1.0)
    }
}

/// Weights $\mathrm{sign}(\mathrm{round}\,s)\,2^{\mathrm{round}\,k}$ whose shift $k$ and sign $s$ are the parameters (DeepShift-PS).
///
/// $g_k = g\,w\ln 2$ and $g_s = g$, the latter without the factor $2^k$, as in the authors' code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShiftWeight {
    bits: Bits<2>,
}

impl ShiftWeight {
    /// # Errors
    /// [`QuantError::Setting`] unless `bits` is from 2 to 8.
    pub fn new(bits: u32) -> Result<Self, QuantError> {
        Ok(Self { bits: bits.try_into()? })
    }

    /// The shifts, brought into $[-(2^{b-1} - 2), 0]$ after every step: one code less than [`PowerOfTwo`], it is for zero.
    pub fn project<const D: usize>(&self, shift: Tensor<D>) -> Tensor<D> {
        shift.clamp(2.0 - (1 << (self.bits.get() - 1)) as f32, 0.0)
    }

    /// The weights of `shift` and `sign`, of one shape.
    ///
    /// # Errors
    /// [`QuantError::Shape`] if the shapes differ.
    pub fn weight<const D: usize>(&self, shift: Tensor<D>, sign: Tensor<D>) -> Result<Tensor<D>, QuantError> {
        if shift.dims() != sign.dims() {
            return Err(QuantError::Shape {
                what: "the sign",
                got: sign.dims().to_vec(),
                wanted: format!("the shift's, {:?},", shift.dims()),
            });
        }
        let signs = sign.clone().detach().round().sign();
        let value = signs * power_of_two(shift.clone().detach().round());
        let slope = value.clone() * std::f32::consts::LN_2;
        Ok(value + only_gradient(shift) * slope + only_gradient(sign))
    }
}

/// Fixed-point numbers of `integer` and `fraction` bits, by rounding down.
///
/// The greatest is the integer $2^{i-1} - 1$: fractions above it are cut, as in the authors' code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FixedPoint {
    /// Bits before the point, the sign among them.
    pub integer: u32,
    /// Bits behind it.
    pub fraction: u32,
}

impl FixedPoint {
    /// The numbers next below, with the gradient of `x`.
    ///
    /// # Errors
    /// [`QuantError::Setting`] unless there are 1 to 16 integer and at most 16 fraction bits.
    pub fn quantize<const D: usize>(&self, x: Tensor<D>) -> Result<Tensor<D>, QuantError> {
        in_range("integer", self.integer, (1..=16).contains(&self.integer), "from 1 to 16")?;
        in_range("fraction", self.fraction, self.fraction <= 16, "at most 16")?;
        let unit = 2.0_f32.powi(-(self.fraction as i32));
        let bound = 2.0_f32.powi(self.integer as i32 - 1);
        let value = (x.clone().detach() / unit).floor() * unit;
        Ok(straight_through(x, value.clamp(-bound, bound - 1.0)))
    }
}
