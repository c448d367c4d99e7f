//! gemmlowp's fixed-point arithmetic: requantisation without floats.
//!
//! A multiplier in $(0, 1)$ is $M_0 2^{-n}$ with $M_0 \in [\frac12, 1)$ as an i32 of 31 fraction bits. The product rounds ties up for positive and towards
//! plus infinity for negative numbers; the shift rounds ties away from zero. Both are not half to even: choose one form per model.

use crate::error::in_range;
use crate::{Grid, QuantError};

use super::LinearCodes;

/// $ab/2^{31}$ rounded; only $-2^{31} \cdot -2^{31}$ saturates.
pub fn saturating_rounding_doubling_high_mul(a: i32, b: i32) -> i32 {
    let product = i64::from(a) * i64::from(b);
    let nudge = if product >= 0 { 1 << 30 } else { 1 - (1 << 30) };
    ((product + nudge) / (1 << 31)).min(i64::from(i32::MAX)) as i32
}

/// $ab/2^{15}$ rounded; only $-2^{15} \cdot -2^{15}$ saturates.
pub fn saturating_rounding_doubling_high_mul_i16(a: i16, b: i16) -> i16 {
    let product = i32::from(a) * i32::from(b);
    let nudge = if product >= 0 { 1 << 14 } else { 1 - (1 << 14) };
    ((product + nudge) / (1 << 15)).min(i32::from(i16::MAX)) as i16
}

/// $x/2^e$ rounded to nearest, ties away from zero.
///
/// # Errors
/// [`QuantError::Setting`] unless `exponent` is from 0 to 31.
pub fn rounding_divide_by_power(x: i32, exponent: i32) -> Result<i32, QuantError> {
    in_range("exponent", exponent, (0..=31).contains(&exponent), "from 0 to 31")?;
    let mask = (1_i64 << exponent) - 1;
    let wide = i64::from(x);
    let threshold = (mask >> 1) + i64::from(x < 0);
    Ok(((wide >> exponent) + i64::from((wide & mask) > threshold)) as i32)
}

/// $x \cdot 2^e$, saturated; for a negative $e$ the rounded quotient.
///
/// # Errors
/// [`QuantError::Setting`] unless `exponent` is from -31 to 31.
pub fn saturating_rounding_multiply_by_power(x: i32, exponent: i32) -> Result<i32, QuantError> {
    in_range("exponent", exponent, (-31..=31).contains(&exponent), "from -31 to 31")?;
    if exponent < 0 {
        return rounding_divide_by_power(x, -exponent);
    }
    let wide = i64::from(x) << exponent;
    Ok(wide.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32)
}

/// A multiplier below one as an integer and a shift to the right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedMultiplier {
    /// In $[2^{30}, 2^{31})$.
    pub multiplier: i32,
    /// At least 0.
    pub right_shift: i32,
}

impl FixedMultiplier {
    /// Of a number in $(0, 1)$.
    ///
    /// # Errors
    /// [`QuantError::Setting`] for another number.
    pub fn new(multiplier: f32) -> Result<Self, QuantError> {
        in_range("multiplier", multiplier, multiplier > 0.0 && multiplier < 1.0, "above 0 and below 1")?;
        let (mut m, mut right_shift) = (multiplier, 0);
        while m < 0.5 {
            m *= 2.0;
            right_shift += 1;
        }
        let mut q = (m * (1_i64 << 31) as f32).round() as i64;
        if q == 1 << 31 {
            q /= 2;
            right_shift -= 1;
        }
        Ok(Self { multiplier: q as i32, right_shift })
    }

    /// The rounded product with an accumulator: high product, then shift.
    ///
    /// # Errors
    /// [`QuantError::Setting`] for a shift beyond 31 bits.
    pub fn apply(&self, accumulator: i32) -> Result<i32, QuantError> {
        let high = saturating_rounding_doubling_high_mul(accumulator, self.multiplier);
        rounding_divide_by_power(high, self.right_shift)
    }
}

/// Eight unsigned bits for a range, widened to contain zero; the zero point rounds half away from zero.
///
/// # Errors
/// [`QuantError::NonFinite`] for an infinite end.
pub fn choose_parameters(min: f32, max: f32) -> Result<LinearCodes, QuantError> {
    crate::data::check_finite("the range", &[min, max])?;
    let grid = Grid::unsigned(8)?;
    let (low, high) = (min.min(0.0), max.max(0.0));
    // The quotient is rounded to f32 before the zero point is found, which decides ties.
    let scale = ((high - low) / grid.steps() as f32).max(f32::MIN_POSITIVE);
    let (least, most) = (f64::from(grid.min()), f64::from(grid.max()));
    let zero = (least - f64::from(low) / f64::from(scale)).clamp(least, most);
    Ok(LinearCodes { scale, zero_point: zero.round() as i32 })
}
