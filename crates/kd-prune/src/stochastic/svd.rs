//! Singular values by one-sided Jacobi rotations.

/// Sweeps after which rotations end in any case; a handful is enough.
const SWEEPS: usize = 60;

/// $A = U S V^T$ of a matrix of `rows` by `columns` with at least as many rows, in row-major order: the columns of $U S$, those of $V$, and the singular values, the
/// largest first.
pub(super) fn svd(matrix: &[f64], rows: usize, columns: usize) -> (Vec<Vec<f64>>, Vec<Vec<f64>>, Vec<f64>) {
    let column = |j: usize| (0..rows).map(|i| matrix.get(i * columns + j).copied().unwrap_or(0.0)).collect();
    let mut scaled: Vec<Vec<f64>> = (0..columns).map(column).collect();
    let unit = |j: usize| (0..columns).map(|i| f64::from(u8::from(i == j))).collect();
    let mut right: Vec<Vec<f64>> = (0..columns).map(unit).collect();
    for _ in 0..SWEEPS {
        let mut turned = false;
        for q in 1..columns {
            for p in 0..q {
                let (a, b, c) = match (scaled.get(p), scaled.get(q)) {
                    (Some(x), Some(y)) => (dot(x, x), dot(y, y), dot(x, y)),
                    _ => continue,
                };
                if c.abs() <= 1e-12 * (a * b).sqrt() {
                    continue;
                }
                turned = true;
                let zeta = (b - a) / (2.0 * c);
                let tangent = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
                let tangent = if zeta == 0.0 { 1.0 } else { tangent };
                let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
                rotate(&mut scaled, p, q, cosine, cosine * tangent);
                rotate(&mut right, p, q, cosine, cosine * tangent);
            }
        }
        if !turned {
            break;
        }
    }
    let mut parts: Vec<_> = scaled
        .into_iter()
        .zip(right)
        .map(|(left, right)| {
            let value = dot(&left, &left).sqrt();
            (left, right, value)
        })
        .collect();
    parts.sort_by(|a, b| b.2.total_cmp(&a.2));
    let mut result = (Vec::new(), Vec::new(), Vec::new());
    for (left, right, value) in parts {
        result.0.push(left);
        result.1.push(right);
        result.2.push(value);
    }
    result
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Turns column `p` and a later column `q` of a matrix.
fn rotate(columns: &mut [Vec<f64>], p: usize, q: usize, cosine: f64, sine: f64) {
    let (before, after) = columns.split_at_mut(q);
    if let (Some(x), Some(y)) = (before.get_mut(p), after.first_mut()) {
        for (x, y) in x.iter_mut().zip(y) {
            (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_product_is_the_matrix_and_the_factors_are_orthogonal() {
        let (rows, columns) = (7, 4);
        let matrix: Vec<f64> = (0..rows * columns).map(|i| ((i * i + 3) as f64 * 0.61).sin()).collect();
        let (left, right, values) = svd(&matrix, rows, columns);
        assert!(values.is_sorted_by(|a, b| a >= b));
        for i in 0..rows {
            for j in 0..columns {
                let sum: f64 = (0..columns).map(|k| left[k][i] * right[k][j]).sum();
                assert!((sum - matrix[i * columns + j]).abs() < 1e-10);
            }
        }
        for p in 0..columns {
            for q in 0..p {
                assert!(dot(&left[p], &left[q]).abs() < 1e-9 && dot(&right[p], &right[q]).abs() < 1e-9);
            }
            assert!((dot(&left[p], &left[p]).sqrt() - values[p]).abs() < 1e-10);
        }
    }
}
