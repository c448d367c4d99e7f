//! Where codes of different scales meet: addition, concatenation, pooling.

use super::{LinearCodes, dequantize, quantize};
use crate::{Grid, QuantError};

/// The sum of two tensors of codes, each brought to the result's scale in f32: $y = \mathrm{saturate}(\mathrm{round}(((a - z_a) s_a + (b - z_b) s_b)/s_y) +
/// z_y)$, each step rounded to f32.
///
/// # Errors
/// [`QuantError::Length`] for tensors of different sizes.
pub fn add(
    (a, a_codes): (&[i32], LinearCodes),
    (b, b_codes): (&[i32], LinearCodes),
    y: LinearCodes,
    grid: Grid,
) -> Result<Vec<i32>, QuantError> {
    if a.len() != b.len() {
        return Err(QuantError::Length { what: "the second summand", got: b.len(), wanted: a.len() });
    }
    let sum = |(&a, &b): (&i32, &i32)| quantize(dequantize(a, a_codes) + dequantize(b, b_codes), y, grid);
    Ok(a.iter().zip(b).map(sum).collect())
}

/// Codes brought to another scale, as concatenation needs where its inputs do not share one. Codes of the same scale and zero point stay as they are.
pub fn rescale(codes: &[i32], from: LinearCodes, to: LinearCodes, grid: Grid) -> Vec<i32> {
    let move_one = |&code: &i32| {
        if from == to {
            code.clamp(grid.min(), grid.max())
        } else {
            quantize(dequantize(code, from), to, grid)
        }
    };
    codes.iter().map(move_one).collect()
}

/// Mean of a window's codes, half to even: scale and zero point stay, and the mean of codes is the code of the mean.
///
/// # Errors
/// [`QuantError::Empty`] for a window without codes.
pub fn average(window: &[i32]) -> Result<i32, QuantError> {
    if window.is_empty() {
        return Err(QuantError::Empty { what: "the pooling window" });
    }
    let sum: i64 = window.iter().map(|&code| i64::from(code)).sum();
    let n = window.len() as i64;
    let (floor, rest) = (sum.div_euclid(n), sum.rem_euclid(n));
    let up = 2 * rest > n || (2 * rest == n && floor % 2 != 0);
    Ok((floor + i64::from(up)) as i32)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sums_saturate_and_round_once() {
        let grid = Grid::signed(8).unwrap();
        let half = LinearCodes { scale: 0.5, zero_point: 0 };
        let one = LinearCodes { scale: 1.0, zero_point: 10 };
        // 0.5 + 1 = 1.5 and 1.5 + 1 = 2.5 are ties; -64 - 138 leaves the grid.
        let y = add((&[1, 3, -128], half), (&[11, 11, -128], one), one, grid).unwrap();
        assert_eq!(y, [12, 12, -128]);
        assert!(add((&[1], half), (&[], half), one, grid).is_err());
    }

    #[test]
    fn a_shared_scale_changes_no_code() {
        let grid = Grid::unsigned(8).unwrap();
        let codes = LinearCodes { scale: 0.037, zero_point: 3 };
        let all: Vec<i32> = (0..=255).collect();
        assert_eq!(rescale(&all, codes, codes, grid), all);
        let double = LinearCodes { scale: 0.074, zero_point: 3 };
        assert_eq!(rescale(&[3, 5, 103], codes, double, grid), [3, 4, 53]);
    }

    #[test]
    fn averages_round_half_to_even_on_both_sides_of_zero() {
        let of = |window: &[i32]| average(window).unwrap();
        assert_eq!([of(&[0, 1]), of(&[1, 2]), of(&[-1, 0]), of(&[-2, -1]), of(&[5, 5, 6])], [0, 2, 0, -2, 5]);
        assert!(average(&[]).is_err());
    }
}
