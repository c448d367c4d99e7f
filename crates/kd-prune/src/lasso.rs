//! LASSO channel pruning: the channels that together explain a layer's responses best, and the weights that then explain them.

use crate::PruneError;

/// $$\min_{w, b} \frac{1}{2n} \lVert y - Zw - b \rVert^2 + \alpha \lVert w \rVert_1$$ by cyclic coordinate descent, from the given start.
///
/// `z` holds `n` rows of `start.len()` numbers. Ends when no coefficient moves by more than `tolerance` of the largest, or after `rounds` passes over
/// all coefficients.
///
/// # Errors
/// [`PruneError::Shape`] when the numbers do not make up such rows.
pub fn lasso(
    z: &[f64],
    y: &[f64],
    alpha: f64,
    start: &[f64],
    tolerance: f64,
    rounds: usize,
) -> Result<Vec<f64>, PruneError> {
    let (z, y) = centred(z, y, start.len())?;
    Ok(Descent::of(&z, &y, start.len()).run(alpha, start, tolerance, rounds))
}

/// Everything that coordinate descent needs of the data: products of columns, so that a pass costs no look at the rows.
struct Descent {
    columns: usize,
    /// $Z^T Z / n$.
    gram: Vec<f64>,
    /// $Z^T y / n$.
    target: Vec<f64>,
}

impl Descent {
    fn of(z: &[f64], y: &[f64], columns: usize) -> Self {
        let n = y.len().max(1) as f64;
        let mut gram = vec![0.0; columns * columns];
        let mut target = vec![0.0; columns];
        for (row, y) in z.chunks_exact(columns.max(1)).zip(y) {
            for ((a, line), target) in row.iter().zip(gram.chunks_exact_mut(columns.max(1))).zip(&mut target)
            {
                line.iter_mut().zip(row).for_each(|(sum, b)| *sum += a * b / n);
                *target += a * y / n;
            }
        }
        Self { columns, gram, target }
    }

    fn run(&self, alpha: f64, start: &[f64], tolerance: f64, rounds: usize) -> Vec<f64> {
        let mut w = start.to_vec();
        for _ in 0..rounds {
            let (mut moved, mut largest) = (0.0f64, 0.0f64);
            for (j, (line, target)) in self.gram.chunks_exact(self.columns).zip(&self.target).enumerate() {
                let (old, own) = (w.get(j).copied().unwrap_or(0.0), line.get(j).copied().unwrap_or(0.0));
                let rest: f64 = line.iter().zip(&w).map(|(a, b)| a * b).sum::<f64>() - own * old;
                let pull = target - rest;
                let new = if own > 0.0 { pull.signum() * (pull.abs() - alpha).max(0.0) / own } else { 0.0 };
                if let Some(slot) = w.get_mut(j) {
                    *slot = new;
                }
                moved = moved.max((new - old).abs());
                largest = largest.max(new.abs());
            }
            if moved <= tolerance * largest {
                break;
            }
        }
        w
    }
}

/// Columns and targets with mean 0: what an intercept does.
fn centred(z: &[f64], y: &[f64], columns: usize) -> Result<(Vec<f64>, Vec<f64>), PruneError> {
    if columns == 0 || y.is_empty() || z.len() != y.len() * columns {
        let reason = format!("is not {} rows of {columns} numbers", y.len());
        return Err(PruneError::Shape { what: "a design matrix".to_owned(), shape: vec![z.len()], reason });
    }
    let n = y.len() as f64;
    let mut means = vec![0.0; columns];
    for row in z.chunks_exact(columns) {
        means.iter_mut().zip(row).for_each(|(mean, value)| *mean += value / n);
    }
    let z = z.chunks_exact(columns).flat_map(|row| row.iter().zip(&means).map(|(value, mean)| value - mean));
    let mean = y.iter().sum::<f64>() / n;
    Ok((z.collect(), y.iter().map(|value| value - mean).collect()))
}

/// Which channels to keep: $\alpha$ doubles from 1e-3 until fewer than `rank` coefficients are left, then is bisected until
/// `rank` to `1.1 rank` are.
///
/// `z` holds a row for every sampled response: what each channel contributes to it; `y` the responses. He et al., *Channel Pruning for
/// Accelerating Very Deep Neural Networks* (2017).
///
/// # Errors
/// [`PruneError::Setting`] for a rank outside 1 to the number of channels; [`PruneError::Unreachable`] when no $\alpha$ gives that
/// many; [`PruneError::Shape`] as [`lasso`].
pub fn lasso_channels(z: &[f64], y: &[f64], channels: usize, rank: usize) -> Result<Vec<usize>, PruneError> {
    if rank == 0 || rank > channels {
        return Err(PruneError::setting("rank", rank, &format!("1 to {channels}")));
    }
    if rank == channels {
        return Ok((0..channels).collect());
    }
    let (z, y) = centred(z, y, channels)?;
    let descent = Descent::of(&z, &y, channels);
    let solve = |alpha: f64| descent.run(alpha, &vec![0.0; channels], 1e-9, 20_000);
    let count = |w: &[f64]| w.iter().filter(|w| **w != 0.0).count();
    let (mut low, mut high) = (0.0, 1e-3);
    while count(&solve(high)) >= rank {
        low = high;
        high *= 2.0;
        if !f64::is_finite(high) {
            return Err(unreachable(rank, channels));
        }
    }
    let most = (rank as f64 * 1.1) as usize;
    for _ in 0..200 {
        let alpha = 0.5 * (low + high);
        let w = solve(alpha);
        let left = count(&w);
        if left > most {
            low = alpha;
        } else if left < rank {
            high = alpha;
        } else {
            return Ok(w
                .iter()
                .enumerate()
                .filter(|(_, w)| **w != 0.0)
                .map(|(channel, _)| channel)
                .collect());
        }
    }
    Err(unreachable(rank, channels))
}

fn unreachable(rank: usize, channels: usize) -> PruneError {
    PruneError::Unreachable {
        target: format!("a LASSO solution with {rank} channels"),
        least: "no penalty with as many".to_owned(),
        before: channels.to_string(),
    }
}

/// The weights and intercepts that reproduce responses from the inputs that are left, by least squares.
///
/// `x` holds rows of `columns` numbers, `y` as many rows of `outputs`. Returns weights `[outputs][columns]` in one row after the other,
/// and intercepts. Columns that others explain get 0.
///
/// # Errors
/// [`PruneError::Shape`] when the numbers do not make up such rows.
pub fn least_squares(
    x: &[f64],
    columns: usize,
    y: &[f64],
    outputs: usize,
) -> Result<(Vec<f64>, Vec<f64>), PruneError> {
    let rows = y.len() / outputs.max(1);
    let first: Vec<f64> = y.iter().step_by(outputs.max(1)).copied().collect();
    let (z, _) = centred(x, &first, columns)?;
    let n = rows as f64;
    let (mut gram, mut targets) = (vec![0.0; columns * columns], vec![0.0; columns * outputs]);
    for (row, responses) in z.chunks_exact(columns).zip(y.chunks_exact(outputs)) {
        let lines = gram.chunks_exact_mut(columns).zip(targets.chunks_exact_mut(outputs));
        for (a, (line, targets)) in row.iter().zip(lines) {
            line.iter_mut().zip(row).for_each(|(sum, b)| *sum += a * b / n);
            targets.iter_mut().zip(responses).for_each(|(sum, y)| *sum += a * y / n);
        }
    }
    let solution = solved(gram, targets, columns, outputs);
    let (mut weights, mut intercepts) = (Vec::with_capacity(columns * outputs), Vec::with_capacity(outputs));
    let mut means = vec![0.0; columns];
    x.chunks_exact(columns).for_each(|row| means.iter_mut().zip(row).for_each(|(mean, x)| *mean += x / n));
    for output in 0..outputs {
        let w: Vec<f64> = solution.iter().skip(output).step_by(outputs).copied().collect();
        let mean = y.iter().skip(output).step_by(outputs).sum::<f64>() / n;
        intercepts.push(mean - dot(&means, &w));
        weights.extend(w);
    }
    Ok((weights, intercepts))
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Solves a symmetric positive system of `n` unknowns for `m` right-hand sides, the columns of `right`, by elimination with the largest diagonal first;
/// unknowns without pivot are 0.
fn solved(mut matrix: Vec<f64>, mut right: Vec<f64>, n: usize, m: usize) -> Vec<f64> {
    let largest = (0..n).filter_map(|i| matrix.get(i * n + i)).fold(0.0f64, |m, d| m.max(*d));
    let mut order = Vec::new();
    let mut open: Vec<usize> = (0..n).collect();
    while let Some((place, &pivot)) =
        open.iter().enumerate().max_by(|a, b| matrix[a.1 * n + a.1].total_cmp(&matrix[b.1 * n + b.1]))
    {
        let diagonal = matrix[pivot * n + pivot];
        if diagonal <= largest * 1e-12 {
            break;
        }
        open.swap_remove(place);
        order.push(pivot);
        let (line, sides) = (matrix[pivot * n..][..n].to_vec(), right[pivot * m..][..m].to_vec());
        for &row in &open {
            let factor = matrix[row * n + pivot] / diagonal;
            matrix[row * n..][..n].iter_mut().zip(&line).for_each(|(entry, pivot)| *entry -= factor * pivot);
            right[row * m..][..m].iter_mut().zip(&sides).for_each(|(entry, pivot)| *entry -= factor * pivot);
        }
    }
    let mut solution = vec![0.0; n * m];
    for &pivot in order.iter().rev() {
        // Entries of columns that were eliminated earlier are not used: their unknowns come later in this loop, and are still 0.
        let mut rest = right[pivot * m..][..m].to_vec();
        for (entry, known) in matrix[pivot * n..][..n].iter().zip(solution.chunks_exact(m.max(1))) {
            rest.iter_mut().zip(known).for_each(|(rest, known)| *rest -= entry * known);
        }
        let diagonal = matrix[pivot * n + pivot];
        solution[pivot * m..][..m]
            .iter_mut()
            .zip(rest)
            .for_each(|(unknown, rest)| *unknown = rest / diagonal);
    }
    solution
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_penalty_shrinks_an_orthogonal_solution_by_itself() {
        // Two orthogonal columns of mean 0 and variance 1.
        let z = [1.0, 1.0, 1.0, -1.0, -1.0, 1.0, -1.0, -1.0];
        let y: Vec<f64> = z.chunks(2).map(|row| 3.0 * row[0] - 0.5 * row[1] + 7.0).collect();
        let w = lasso(&z, &y, 1.0, &[0.0, 0.0], 1e-12, 100).unwrap();
        assert!((w[0] - 2.0).abs() < 1e-12 && w[1] == 0.0, "{w:?}");
        assert_eq!(lasso_channels(&z, &y, 2, 1).unwrap(), [0]);
        assert!(lasso_channels(&z, &y, 2, 3).is_err());
    }

    #[test]
    fn least_squares_recovers_weights_and_intercept_and_survives_a_repeated_column() {
        let x = [1.0, 2.0, 2.0, 0.5, 1.0, 1.0, -3.0, 4.0, 4.0, 2.0, -1.0, -1.0];
        let y: Vec<f64> = x.chunks(3).map(|row| 2.0 * row[0] - 3.0 * row[1] + 1.0).collect();
        let (w, b) = least_squares(&x, 3, &y, 1).unwrap();
        assert!((w[0] - 2.0).abs() < 1e-9 && (w[1] + w[2] + 3.0).abs() < 1e-9, "{w:?}");
        assert!((b[0] - 1.0).abs() < 1e-9);
    }
}
