//! The integers a quantiser may give.

use serde::{Deserialize, Serialize};

use crate::QuantError;
use crate::error::in_range;

/// A range of integer codes, of 1 to 8 bits.
///
/// ```
/// use kd_quant::Grid;
///
/// assert_eq!((Grid::signed(4)?.min(), Grid::signed(4)?.max()), (-8, 7));
/// assert_eq!((Grid::narrow(4)?.min(), Grid::narrow(4)?.max()), (-7, 7));
/// assert_eq!((Grid::unsigned(4)?.min(), Grid::unsigned(4)?.max()), (0, 15));
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Settings", into = "Settings")]
pub struct Grid {
    min: i32,
    max: i32,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    min: i32,
    max: i32,
}

impl TryFrom<Settings> for Grid {
    type Error = QuantError;

    fn try_from(settings: Settings) -> Result<Self, QuantError> {
        Self::new(settings.min, settings.max)
    }
}

impl From<Grid> for Settings {
    fn from(grid: Grid) -> Self {
        Self { min: grid.min, max: grid.max }
    }
}

fn checked(bits: u32, least: u32) -> Result<u32, QuantError> {
    in_range("bits", bits, (least..=8).contains(&bits), format!("from {least} to 8"))?;
    Ok(bits)
}

impl Grid {
    /// The codes from `min` to `max`, both included.
    ///
    /// # Errors
    /// [`QuantError::Setting`] unless `min < max` and 8 bits, signed or unsigned, hold both.
    pub fn new(min: i32, max: i32) -> Result<Self, QuantError> {
        let fits = (-128..=127).contains(&min) && (-128..=127).contains(&max)
            || (0..=255).contains(&min) && (0..=255).contains(&max);
        let allowed = "`min` below `max`, within -128..=127 or 0..=255";
        in_range("grid", format!("{min}..={max}"), min < max && fits, allowed)?;
        Ok(Self { min, max })
    }

    /// `-2^(b-1)..=2^(b-1)-1`: all codes of a signed integer.
    ///
    /// # Errors
    /// [`QuantError::Setting`] unless `bits` is from 1 to 8.
    pub fn signed(bits: u32) -> Result<Self, QuantError> {
        let half = 1 << (checked(bits, 1)? - 1);
        Self::new(-half, half - 1)
    }

    /// `-(2^(b-1)-1)..=2^(b-1)-1`: symmetric, one code unused.
    ///
    /// # Errors
    /// [`QuantError::Setting`] unless `bits` is from 2 to 8.
    pub fn narrow(bits: u32) -> Result<Self, QuantError> {
        let max = (1 << (checked(bits, 2)? - 1)) - 1;
        Self::new(-max, max)
    }

    /// `0..=2^b-1`.
    ///
    /// # Errors
    /// [`QuantError::Setting`] unless `bits` is from 1 to 8.
    pub fn unsigned(bits: u32) -> Result<Self, QuantError> {
        Self::new(0, (1 << checked(bits, 1)?) - 1)
    }

    /// The grid of this kind, signed, symmetric or unsigned, of another number of bits.
    ///
    /// # Errors
    /// [`QuantError::Setting`] unless the kind has that many bits.
    pub fn with_bits(self, bits: u32) -> Result<Self, QuantError> {
        match self.min {
            0 => Self::unsigned(bits),
            min if min == -self.max => Self::narrow(bits),
            _ => Self::signed(bits),
        }
    }

    /// The least code.
    pub fn min(self) -> i32 {
        self.min
    }

    /// The greatest code.
    pub fn max(self) -> i32 {
        self.max
    }

    /// How many steps lie between the least and the greatest code.
    pub fn steps(self) -> i32 {
        self.max - self.min
    }

    /// Bits that a packed code takes.
    pub fn bits(self) -> u32 {
        u32::BITS - self.steps().unsigned_abs().leading_zeros()
    }

    pub(crate) fn bounds(self) -> (f32, f32) {
        (self.min as f32, self.max as f32)
    }
}

/// A number of bits from `LEAST` to 8, also when read from a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub(crate) struct Bits<const LEAST: u32>(u32);

impl<const LEAST: u32> Bits<LEAST> {
    pub fn get(self) -> u32 {
        self.0
    }
}

impl<const LEAST: u32> TryFrom<u32> for Bits<LEAST> {
    type Error = QuantError;

    fn try_from(bits: u32) -> Result<Self, QuantError> {
        checked(bits, LEAST).map(Self)
    }
}

impl<const LEAST: u32> From<Bits<LEAST>> for u32 {
    fn from(bits: Bits<LEAST>) -> Self {
        bits.0
    }
}

/// $2^b - 1$ for 1 to 8 bits.
pub(crate) fn levels(bits: u32) -> Result<f32, QuantError> {
    Ok(Grid::unsigned(bits)?.max() as f32)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bits_count_the_codes() {
        for bits in 1..=8 {
            assert_eq!(Grid::signed(bits).unwrap().bits(), bits);
            assert_eq!(Grid::unsigned(bits).unwrap().bits(), bits);
        }
        assert_eq!(Grid::narrow(2).unwrap().bits(), 2);
    }

    #[test]
    fn another_number_of_bits_keeps_the_kind() {
        for (grid, wanted) in [
            (Grid::signed(8).unwrap(), Grid::signed(3).unwrap()),
            (Grid::narrow(8).unwrap(), Grid::narrow(3).unwrap()),
            (Grid::unsigned(8).unwrap(), Grid::unsigned(3).unwrap()),
        ] {
            assert_eq!(grid.with_bits(3).unwrap(), wanted);
        }
        assert!(Grid::narrow(8).unwrap().with_bits(1).is_err());
    }

    #[test]
    fn bits_out_of_range_name_key_value_and_range() {
        assert_eq!(Grid::signed(9).unwrap_err().to_string(), "`bits` is 9, but it must be from 1 to 8");
        assert!(Grid::unsigned(0).is_err());
        assert!(Grid::narrow(1).is_err());
    }

    #[test]
    fn a_saved_grid_is_checked_when_read() {
        let text = serde_json::to_string(&Grid::narrow(3).unwrap()).unwrap();
        assert_eq!(serde_json::from_str::<Grid>(&text).unwrap(), Grid::narrow(3).unwrap());
        assert!(serde_json::from_str::<Grid>(r#"{"min": 4, "max": 2}"#).is_err());
        assert!(serde_json::from_str::<Grid>(r#"{"min": -1, "max": 255}"#).is_err());
    }
}
