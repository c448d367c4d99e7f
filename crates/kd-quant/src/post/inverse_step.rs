//! Scale parameters as inverse steps, and scales as a multiplier and a shift.

use crate::QuantError;
use crate::error::in_range;
use crate::grid::levels;

/// $q = \mathrm{round}(\text{scale} \cdot x - \text{zero})$: the scale is the inverse of [`Affine`](crate::Affine)'s, the zero point its negative. This is
/// distiller's convention, and here to read what it wrote.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InverseStep {
    /// Codes per unit.
    pub scale: f32,
    /// What is subtracted; integral or not.
    pub zero_point: f32,
}

/// For the range from `min` to `max`, widened to contain zero. A range of nothing but zero has the scale 1.
///
/// # Errors
/// [`QuantError::Setting`] unless `bits` is from 1 to 8.
pub fn asymmetric(
    bits: u32,
    min: f32,
    max: f32,
    signed: bool,
    integral: bool,
) -> Result<InverseStep, QuantError> {
    let n = levels(bits)?;
    let (min, max) = (min.min(0.0), max.max(0.0));
    let range = if max > min { max - min } else { n };
    let scale = n / range;
    let zero = scale * min;
    let zero = if integral { zero.round_ties_even() } else { zero };
    let shift = if signed { ((n + 1.0) / 2.0).floor() } else { 0.0 };
    Ok(InverseStep { scale, zero_point: zero + shift })
}

/// For the range $\pm$`saturation`. `restricted` leaves out the least signed code, so that the range has $2^{b-1} - 1$ codes on either side, else
/// $(2^b - 1)/2$. Without saturation the scale is 1.
///
/// # Errors
/// [`QuantError::Setting`] unless `bits` is from 2 to 8.
pub fn symmetric(bits: u32, saturation: f32, restricted: bool) -> Result<InverseStep, QuantError> {
    in_range("bits", bits, bits > 1, "from 2 to 8")?;
    let n = levels(bits)?;
    let half = if restricted { ((n + 1.0) / 2.0 - 1.0).floor() } else { n / 2.0 };
    let scale = if saturation > 0.0 { half / saturation } else { 1.0 };
    Ok(InverseStep { scale, zero_point: 0.0 })
}

/// A scale as `multiplier / 2^shift`, the multiplier within `bits` bits. With `limited` the shift is at most `bits`.
///
/// # Errors
/// [`QuantError::Setting`] unless `bits` is from 1 to 31 and the scale is positive.
pub fn multiplier_and_shift(scale: f64, bits: u32, limited: bool) -> Result<(u32, i32), QuantError> {
    in_range("bits", bits, (1..=31).contains(&bits), "from 1 to 31")?;
    in_range("scale", scale, scale > 0.0 && scale.is_finite(), "above 0")?;
    let most = 2.0_f64.powi(bits as i32) - 1.0;
    let shift = (most / scale).log2().floor() as i32;
    let shift = if limited { shift.min(bits as i32) } else { shift };
    Ok(((scale * 2.0_f64.powi(shift)).floor() as u32, shift))
}
