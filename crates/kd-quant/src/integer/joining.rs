//! Where codes of different scales meet: addition, concatenation.

use super::{LinearCodes, Requantize, dequantize, quantize};
use crate::{Grid, QuantError};

/// The sum of two tensors of codes.
///
/// Codes of one scale and zero point are accumulated in i32 and requantised once, as a layer's products are; others meet as numbers in f32:
///
/// $$ y = \mathrm{saturate}\Big(\mathrm{round}\big(((a - z) + (b - z))\,m\big) + z_y\Big), \quad m = \frac{s}{s_y}, \qquad
///    y = \mathrm{saturate}\Big(\mathrm{round}\Big(\frac{(a - z_a) s_a + (b - z_b) s_b}{s_y}\Big) + z_y\Big) $$
///
/// Every step is rounded to f32, halves go to the even code before $z_y$ is added.
///
/// ```
/// use kd_quant::Grid;
/// use kd_quant::integer::{LinearCodes, add};
///
/// let (half, one) = (LinearCodes { scale: 0.5, zero_point: 0 }, LinearCodes { scale: 1.0, zero_point: 0 });
/// let grid = Grid::signed(8)?;
/// assert_eq!(add((&[3, 4], half), (&[2, 2], one), one, grid)?, [4, 4]);
/// assert_eq!(add((&[3, 4], half), (&[2, 1], half), one, grid)?, [2, 2]);
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
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
    let pairs = a.iter().zip(b);
    if a_codes == b_codes {
        let rule = Requantize::new(a_codes.scale, 1.0, y, grid);
        let zero = a_codes.zero_point;
        let sum = |(&a, &b): (&i32, &i32)| a.wrapping_sub(zero).wrapping_add(b.wrapping_sub(zero));
        return Ok(pairs.map(|pair| rule.apply(sum(pair))).collect());
    }
    let sum = |(&a, &b): (&i32, &i32)| quantize(dequantize(a, a_codes) + dequantize(b, b_codes), y, grid);
    Ok(pairs.map(sum).collect())
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
    fn codes_of_one_scale_are_summed_before_they_are_rounded() {
        let grid = Grid::unsigned(8).unwrap();
        let x = LinearCodes { scale: 0.1, zero_point: 7 };
        let y = LinearCodes { scale: 0.2, zero_point: 3 };
        // Differences 1 + 2, 1 + 0, -7 - 7 and 248 + 248, halved: 1.5 and 0.5 are ties, -7 and 248 leave the grid.
        assert_eq!(add((&[8, 8, 0, 255], x), (&[9, 7, 0, 255], x), y, grid).unwrap(), [5, 3, 0, 251]);
        let fine = LinearCodes { scale: 0.05, zero_point: 3 };
        assert_eq!(add((&[255, 0], x), (&[255, 0], x), fine, grid).unwrap(), [255, 0]);
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
}
