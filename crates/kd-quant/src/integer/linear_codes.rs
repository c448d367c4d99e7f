//! Quantise, dequantise, requantise, as ONNX states them.

use serde::{Deserialize, Serialize};

use crate::data::check_finite;
use crate::{Grid, QuantError};

/// A scale and the code of zero: $x = (q - z)\,s$.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearCodes {
    /// The step.
    pub scale: f32,
    /// The code of zero.
    pub zero_point: i32,
}

/// $\mathrm{saturate}(\mathrm{round}(x/s) + z)$, half to even.
///
/// ```
/// use kd_quant::Grid;
/// use kd_quant::integer::{LinearCodes, quantize};
///
/// let codes = LinearCodes { scale: 0.5, zero_point: 1 };
/// let grid = Grid::signed(4)?;
/// assert_eq!([0.25, 0.75, -99.0].map(|x| quantize(x, codes, grid)), [1, 3, -8]);
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
pub fn quantize(x: f32, codes: LinearCodes, grid: Grid) -> i32 {
    place((x / codes.scale).round_ties_even(), codes.zero_point, grid)
}

/// An integral number moved by the zero point and saturated; NaN counts as 0.
fn place(rounded: f32, zero_point: i32, grid: Grid) -> i32 {
    // The cast saturates to i32, whose sums i64 holds.
    let code = i64::from(rounded as i32) + i64::from(zero_point);
    code.clamp(i64::from(grid.min()), i64::from(grid.max())) as i32
}

/// $(q - z)\,s$.
pub fn dequantize(code: i32, codes: LinearCodes) -> f32 {
    (code - codes.zero_point) as f32 * codes.scale
}

/// Eight unsigned bits for the range of these values, widened to contain zero: $s = (\max - \min)/255$, $z = \mathrm{round}(\mathrm{saturate}(-\min/s))$.
///
/// # Errors
/// [`QuantError::Empty`] and [`QuantError::NonFinite`] for values that can't be used.
pub fn dynamic_unsigned(values: &[f32]) -> Result<LinearCodes, QuantError> {
    check_finite("the values to quantise", values)?;
    let low = values.iter().copied().fold(0.0, f32::min);
    let high = values.iter().copied().fold(0.0, f32::max);
    let scale = ((high - low) / 255.0).max(f32::MIN_POSITIVE);
    let zero_point = (-low / scale).clamp(0.0, 255.0).round_ties_even() as i32;
    Ok(LinearCodes { scale, zero_point })
}

/// From an accumulator to a code: times an f32 multiplier, half to even, plus the result's zero point, saturated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requantize {
    /// $s_x s_w / s_y$.
    pub multiplier: f32,
    /// The result's code of zero.
    pub zero_point: i32,
    /// The result's codes.
    pub grid: Grid,
}

impl Requantize {
    /// For an input and a weight of these scales and a result of these codes. The multiplier is `x * w / y`, each step rounded to f32.
    pub fn new(x_scale: f32, w_scale: f32, y: LinearCodes, grid: Grid) -> Self {
        Self { multiplier: x_scale * w_scale / y.scale, zero_point: y.zero_point, grid }
    }

    /// The code of an accumulator.
    pub fn apply(&self, accumulator: i32) -> i32 {
        place((accumulator as f32 * self.multiplier).round_ties_even(), self.zero_point, self.grid)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_to_the_even_code_before_the_zero_point_is_added() {
        let grid = Grid::signed(8).unwrap();
        let codes = LinearCodes { scale: 0.5, zero_point: 1 };
        let quantized = [0.25, 0.75, 1.25, -0.25].map(|x| quantize(x, codes, grid));
        assert_eq!(quantized, [1, 3, 3, 1]);
    }

    #[test]
    fn ends_saturate() {
        let grid = Grid::signed(4).unwrap();
        let codes = LinearCodes { scale: 1.0, zero_point: 7 };
        assert_eq!(quantize(1e30, codes, grid), 7);
        assert_eq!(quantize(f32::NEG_INFINITY, codes, grid), -8);
        let r = Requantize { multiplier: 1.0, zero_point: 5, grid };
        assert_eq!((r.apply(i32::MAX), r.apply(i32::MIN), r.apply(1)), (7, -8, 6));
    }

    #[test]
    fn an_integer_code_survives_dequantising() {
        let grid = Grid::unsigned(8).unwrap();
        let codes = LinearCodes { scale: 0.013, zero_point: 93 };
        for code in 0..=255 {
            assert_eq!(quantize(dequantize(code, codes), codes, grid), code);
        }
    }
}
