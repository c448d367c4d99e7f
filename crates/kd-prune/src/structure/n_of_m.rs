//! N of every M consecutive elements: the sparsity that hardware can skip.

use crate::{Array, Mask, PruneError, Ties, top_k};

/// Keeps the `n` largest of every `m` consecutive scores along an axis: 2 of 4 along the input channels is what tensor cores skip, axis 1 of a
/// convolution's weight, axis 0 of a linear layer's. Mishra et al., *Accelerating Sparse Deep Neural Networks* (2021).
///
/// ```
/// use kd_prune::{Array, Ties, n_of_m};
///
/// let scores = Array::new([1, 4], vec![0.1, 0.4, 0.3, 0.2])?;
/// assert_eq!(n_of_m(&scores, 2, 4, 1, Ties::LowerIndex)?.keep(), [false, true, true, false]);
/// # Ok::<(), kd_prune::PruneError>(())
/// ```
///
/// # Errors
/// [`PruneError::Setting`] unless `n` is 1 to `m` and the axis exists, [`PruneError::Shape`] when its size is not a multiple of `m`.
pub fn n_of_m(scores: &Array, n: usize, m: usize, axis: usize, ties: Ties) -> Result<Mask, PruneError> {
    let (shape, values) = (scores.shape(), scores.values());
    let size = size_along(scores, axis, n, m)?;
    let step: usize = shape.iter().skip(axis + 1).product();
    let mut keep = vec![false; values.len()];
    for start in (0..values.len()).filter(|flat| (flat / step % size).is_multiple_of(m)) {
        let places: Vec<usize> = (0..m).map(|place| start + place * step).collect();
        let group: Vec<f32> = places.iter().filter_map(|place| values.get(*place)).copied().collect();
        for (place, kept) in places.into_iter().zip(top_k(&group, n, ties)) {
            if let Some(slot) = keep.get_mut(place) {
                *slot = kept;
            }
        }
    }
    Mask::new(shape, keep)
}

/// Keeps at most `n` of every `m` along both axes of a matrix, so that its transpose, which the backward pass reads, is as sparse: in every `m` by `m`
/// block the scores are taken from the largest down while row and column have room. Fewer than `n m` of a block may be kept.
///
/// # Errors
/// As [`n_of_m`], for either axis.
pub fn n_of_m_square(scores: &Array, n: usize, m: usize) -> Result<Mask, PruneError> {
    let (rows, columns) = (size_along(scores, 0, n, m)?, size_along(scores, 1, n, m)?);
    if scores.shape().len() != 2 {
        return Err(shape_error(scores, "is not a matrix"));
    }
    let mut order: Vec<(usize, f32)> = scores.values().iter().copied().enumerate().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut in_row = vec![0; rows * columns / m];
    let mut in_column = vec![0; rows / m * columns];
    let mut keep = vec![false; scores.len()];
    for (flat, _) in order {
        let (row, column) = (flat / columns, flat % columns);
        let (a, b) = (row * (columns / m) + column / m, row / m * columns + column);
        if let (Some(a), Some(b), Some(slot)) = (in_row.get_mut(a), in_column.get_mut(b), keep.get_mut(flat))
            && *a < n
            && *b < n
        {
            (*a, *b, *slot) = (*a + 1, *b + 1, true);
        }
    }
    Mask::new(scores.shape(), keep)
}

fn size_along(scores: &Array, axis: usize, n: usize, m: usize) -> Result<usize, PruneError> {
    if n == 0 || n > m {
        return Err(PruneError::setting("n", n, &format!("1 to m = {m}")));
    }
    let rank = scores.shape().len();
    let size = scores.shape().get(axis).copied();
    let size = size.ok_or_else(|| PruneError::setting("axis", axis, &format!("below {rank}")))?;
    if size == 0 || size % m != 0 {
        return Err(shape_error(
            scores,
            &format!("has {size} elements along axis {axis}, not a multiple of {m}"),
        ));
    }
    Ok(size)
}

fn shape_error(scores: &Array, reason: &str) -> PruneError {
    PruneError::Shape {
        what: "a tensor".to_owned(),
        shape: scores.shape().to_vec(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_group_along_the_axis_keeps_exactly_n() {
        let values = (0..96).map(|i| ((i * 37) % 101) as f32).collect();
        let scores = Array::new([3, 8, 4], values).unwrap();
        let mask = n_of_m(&scores, 2, 4, 1, Ties::LowerIndex).unwrap();
        for outer in 0..3 {
            for inner in 0..4 {
                for group in 0..2 {
                    let at = |place: usize| outer * 32 + (group * 4 + place) * 4 + inner;
                    assert_eq!((0..4).filter(|&place| mask.keep()[at(place)]).count(), 2);
                }
            }
        }
    }

    #[test]
    fn a_size_that_is_no_multiple_is_refused() {
        let scores = Array::new([2, 6], vec![0.0; 12]).unwrap();
        let error = n_of_m(&scores, 2, 4, 1, Ties::LowerIndex).unwrap_err().to_string();
        assert!(error.contains("6 elements along axis 1, not a multiple of 4"), "{error}");
        assert!(n_of_m(&scores, 3, 2, 0, Ties::LowerIndex).is_err());
    }
}
