//! 2:4 sparsity of a whole network, and of a matrix and its transpose at once.

use serde::{Deserialize, Serialize};

use super::n_of_m;
use crate::{Array, Mask, Masks, PruneError, Subject, Ties};

/// How masks with two of four weights are searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaskSearch {
    /// The best of the 6 patterns of every four inputs: what hardware can skip in the forward pass.
    #[default]
    Inputs,
    /// The best of the 90 patterns of every four inputs by four outputs with two in each row and column: the transpose, which the backward pass
    /// reads, is as sparse. Layers whose outputs are no multiple of four are searched along their inputs.
    Transposable,
}

/// Masks that keep two of every four weights along the inputs of every layer, those of the largest magnitude; a layer whose inputs are no multiple
/// of four, as a first convolution of one or three channels, stays dense and gets no mask. Train on with [`KeepMasks`](crate::KeepMasks).
///
/// Mishra et al., *Accelerating Sparse Deep Neural Networks* (2021).
///
/// # Errors
/// [`PruneError::Shape`] for a weight that can't be read.
pub fn two_of_four(subject: &Subject<'_>, search: MaskSearch) -> Result<Masks, PruneError> {
    let mut masks = Masks::new();
    for (path, weight) in subject.weights()? {
        let scores = weight.map(f32::abs);
        let [inputs, outputs] = axes(subject, &path)?;
        let fits = |axis: usize| scores.shape().get(axis).is_some_and(|size| size % 4 == 0 && *size > 0);
        if !fits(inputs) {
            tracing::info!(path, "stays dense: its inputs are no multiple of four");
            continue;
        }
        let mask = match search {
            MaskSearch::Transposable if fits(outputs) => transposable(&scores, [inputs, outputs])?,
            _ => n_of_m(&scores, 2, 4, inputs, Ties::LowerIndex)?,
        };
        masks.insert(path, mask);
    }
    Ok(masks)
}

/// Input and output axis of a layer's weight.
fn axes(subject: &Subject<'_>, path: &str) -> Result<[usize; 2], PruneError> {
    let outputs_first = crate::pruner::outputs_first(subject.graph(), path)?;
    Ok(if outputs_first { [1, 0] } else { [0, 1] })
}

/// The mask of largest sum with two of every four along both axes.
///
/// ```
/// use kd_prune::{Array, transposable_two_of_four};
///
/// let scores = Array::new([4, 4], (0..16).map(|i| if i % 5 == 0 { 1.0 } else { 0.0 }).collect())?;
/// let mask = transposable_two_of_four(&scores)?;
/// assert_eq!(mask.kept(), 8);
/// assert!((0..4).all(|i| mask.keep()[5 * i])); // the diagonal stays
/// # Ok::<(), kd_prune::PruneError>(())
/// ```
///
/// # Errors
/// [`PruneError::Shape`] unless `scores` is a matrix of multiples of four.
pub fn transposable_two_of_four(scores: &Array) -> Result<Mask, PruneError> {
    match scores.shape() {
        [rows, columns] if rows % 4 == 0 && columns % 4 == 0 => transposable(scores, [0, 1]),
        shape => Err(PruneError::Shape {
            what: "a tensor".to_owned(),
            shape: shape.to_vec(),
            reason: "is not a matrix of multiples of four".to_owned(),
        }),
    }
}

/// As above, along two axes of any tensor.
fn transposable(scores: &Array, [a, b]: [usize; 2]) -> Result<Mask, PruneError> {
    let step = |axis: usize| scores.shape().iter().skip(axis + 1).product::<usize>();
    let (step_a, step_b) = (step(a), step(b));
    let size = |axis: usize| scores.shape().get(axis).copied().unwrap_or(1);
    let patterns = patterns();
    let mut keep = vec![false; scores.len()];
    let is_corner = |flat: &usize| {
        (flat / step_a % size(a)).is_multiple_of(4) && (flat / step_b % size(b)).is_multiple_of(4)
    };
    for corner in (0..scores.len()).filter(is_corner) {
        let places: Vec<usize> = (0..16).map(|i| corner + i / 4 * step_a + i % 4 * step_b).collect();
        let of = |pattern: &u16| -> f32 {
            let kept = places.iter().enumerate().filter(|(bit, _)| pattern >> bit & 1 == 1);
            kept.filter_map(|(_, place)| scores.values().get(*place)).sum()
        };
        let best = patterns.iter().max_by(|x, y| of(x).total_cmp(&of(y)).then(y.cmp(x)));
        for (bit, place) in places.iter().enumerate() {
            if let (Some(slot), Some(best)) = (keep.get_mut(*place), best) {
                *slot = best >> bit & 1 == 1;
            }
        }
    }
    Mask::new(scores.shape(), keep)
}

/// The 90 four-by-four patterns with two in every row and column, a bit for each place, row by row.
fn patterns() -> Vec<u16> {
    let pairs: Vec<u16> = (0..16).filter(|row: &u16| row.count_ones() == 2).collect();
    let mut found = Vec::new();
    for &first in &pairs {
        for &second in &pairs {
            for &third in &pairs {
                let in_column =
                    |column: u16| [first, second, third].iter().map(|row| row >> column & 1).sum::<u16>();
                // The last row follows from the others, if there is one.
                if (0..4).all(|column| in_column(column) <= 2) {
                    let last: u16 = (0..4).map(|column| (2 - in_column(column)).min(1) << column).sum();
                    if last.count_ones() == 2
                        && (0..4).all(|column| in_column(column) + (last >> column & 1) == 2)
                    {
                        found.push(first | second << 4 | third << 8 | last << 12);
                    }
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn there_are_ninety_patterns() {
        let mut patterns = patterns();
        patterns.sort_unstable();
        patterns.dedup();
        assert_eq!(patterns.len(), 90);
    }

    #[test]
    fn a_searched_mask_has_two_of_four_both_ways_and_is_never_worse_than_the_greedy_one() {
        for seed in 0..20 {
            let values = (0..64).map(|i| ((i * 37 + seed * 101) % 97) as f32).collect();
            let scores = Array::new([8, 8], values).unwrap();
            let mask = transposable_two_of_four(&scores).unwrap();
            for four in 0..16 {
                let (line, block) = (four / 2, four % 2 * 4);
                let row = (block..block + 4).filter(|column| mask.keep()[line * 8 + column]).count();
                let column = (block..block + 4).filter(|row| mask.keep()[row * 8 + line]).count();
                assert_eq!((row, column), (2, 2));
            }
            let sum = |mask: &Mask| mask.apply(&scores).unwrap().values().iter().sum::<f32>();
            assert!(sum(&mask) >= sum(&crate::n_of_m_square(&scores, 2, 4).unwrap()));
        }
    }

    #[test]
    fn a_convolution_is_searched_over_its_channels() {
        let scores = Array::new([4, 4, 1, 3], (0..48).map(|i| ((i * 29) % 53) as f32).collect()).unwrap();
        let mask = transposable(&scores, [1, 0]).unwrap();
        for place in 0..3 {
            for line in 0..4 {
                let at = |output: usize, input: usize| mask.keep()[(output * 4 + input) * 3 + place];
                assert_eq!((0..4).filter(|&input| at(line, input)).count(), 2);
                assert_eq!((0..4).filter(|&output| at(output, line)).count(), 2);
            }
        }
    }
}
