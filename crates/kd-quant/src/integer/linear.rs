//! The integer matrix product.

use crate::QuantError;

/// `[m, k]` times `[k, n]`: $\sum (a - z_a)(b - z_b)$, `[m, n]`, i32 that wraps around.
///
/// # Errors
/// [`QuantError::Length`] unless the slices have `m k` and `k n` elements.
pub fn matmul(
    a: &[i32],
    a_zero: i32,
    b: &[i32],
    b_zero: i32,
    [m, k, n]: [usize; 3],
) -> Result<Vec<i32>, QuantError> {
    for (what, got, wanted) in [("the left matrix", a.len(), m * k), ("the right matrix", b.len(), k * n)] {
        if got != wanted {
            return Err(QuantError::Length { what, got, wanted });
        }
    }
    let mut y = vec![0_i32; m * n];
    for (row, a) in y.chunks_exact_mut(n.max(1)).zip(a.chunks_exact(k.max(1))) {
        for (a, b) in a.iter().zip(b.chunks_exact(n.max(1))) {
            for (y, b) in row.iter_mut().zip(b) {
                *y = y.wrapping_add(a.wrapping_sub(a_zero).wrapping_mul(b.wrapping_sub(b_zero)));
            }
        }
    }
    Ok(y)
}
