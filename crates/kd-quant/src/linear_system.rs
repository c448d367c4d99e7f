//! Small least-squares problems, in f64.

/// The `x` of least norm among those that minimise $\lVert \sum_i x_i a_i - b \rVert$, nearly: by the normal equations with a ridge of $10^{-12}$ of their
/// trace, which leaves coinciding columns equal shares.
pub(crate) fn least_squares(columns: &[Vec<f32>], b: &[f32]) -> Vec<f64> {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
    let m = columns.len();
    let mut rows: Vec<Vec<f64>> =
        columns.iter().map(|x| columns.iter().map(|y| dot(x, y)).chain([dot(x, b)]).collect()).collect();
    let trace: f64 = rows.iter().enumerate().map(|(i, row)| row[i]).sum();
    for (i, row) in rows.iter_mut().enumerate() {
        row[i] += trace * 1e-12;
    }
    eliminate(&mut rows, m)
}

/// Gauss-Jordan elimination with pivoting of `m` rows `[a | b]`. A column without pivot gets 0.
fn eliminate(rows: &mut [Vec<f64>], m: usize) -> Vec<f64> {
    for column in 0..m {
        let pivot = (column..m).max_by(|&i, &j| rows[i][column].abs().total_cmp(&rows[j][column].abs()));
        let Some(pivot) = pivot.filter(|&i| rows[i][column] != 0.0) else { continue };
        rows.swap(column, pivot);
        let head = rows[column].clone();
        for (i, row) in rows.iter_mut().enumerate() {
            let factor = row[column] / head[column];
            if i != column && factor != 0.0 {
                row.iter_mut().zip(&head).for_each(|(x, h)| *x -= factor * h);
            }
        }
    }
    let solution = |(i, row): (usize, &Vec<f64>)| if row[i] == 0.0 { 0.0 } else { row[m] / row[i] };
    rows.iter().enumerate().map(solution).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_of_the_columns_is_found_again() {
        let a = vec![1.0, 0.0, 2.0, -1.0];
        let b = vec![0.5, 1.0, -1.0, 3.0];
        let target: Vec<f32> = a.iter().zip(&b).map(|(a, b)| 2.0 * a - 0.5 * b).collect();
        let x = least_squares(&[a, b], &target);
        assert!((x[0] - 2.0).abs() < 1e-9 && (x[1] + 0.5).abs() < 1e-9, "{x:?}");
    }

    #[test]
    fn equal_columns_share() {
        let a = vec![1.0, -1.0, 1.0];
        let x = least_squares(&[a.clone(), a.clone()], &[3.0, -3.0, 3.0]);
        assert!((x[0] - 1.5).abs() < 1e-3 && (x[1] - 1.5).abs() < 1e-3, "{x:?}");
    }
}
