//! Choosing the best of a list: how many, and what happens to equal scores.

use serde::{Deserialize, Serialize};

/// How many of `n` are kept at a sparsity `s`. Public implementations differ, by one at most.
///
/// | Convention | kept | used by |
/// |---|---|---|
/// | [`HalfEven`](Self::HalfEven) | `n (1-s)` to the nearest, halves to the even number | SNIP; with single-precision arithmetic JaxPruner |
/// | [`FloorKept`](Self::FloorKept) | `floor(n (1-s))` | Torch-Pruning |
/// | [`FloorPruned`](Self::FloorPruned) | `n - floor(n s)` | RigL's densities, SynFlow |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// To the nearest.
    #[default]
    HalfEven,
    /// As few as possible.
    FloorKept,
    /// As many as possible.
    FloorPruned,
}

impl Rounding {
    /// The number kept of `n`.
    pub fn kept(self, n: usize, sparsity: f64) -> usize {
        let kept = match self {
            // The product of two single-precision numbers is what decides a tie in the reference.
            Self::HalfEven => f64::from((n as f32 * (1.0 - sparsity as f32)).round_ties_even()),
            Self::FloorKept => (n as f64 * (1.0 - sparsity)).floor(),
            Self::FloorPruned => n as f64 - (n as f64 * sparsity).floor(),
        };
        (kept.max(0.0) as usize).min(n)
    }
}

/// What happens to scores equal to the last one that is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ties {
    /// The lower index is kept, so that exactly as many stay as were asked for.
    #[default]
    LowerIndex,
    /// The higher index is kept, likewise.
    HigherIndex,
    /// All go that are not above the largest score that is pruned: a strict threshold, as in network slimming. More may go than were asked for.
    Strict,
}

/// Marks the `count` largest scores. Equal scores are settled by [`Ties`], so that the result is a function of the scores alone.
///
/// ```
/// use kd_prune::{Ties, top_k};
///
/// let scores = [1.0, 3.0, 3.0, 2.0, 3.0];
/// assert_eq!(top_k(&scores, 2, Ties::LowerIndex), [false, true, true, false, false]);
/// assert_eq!(top_k(&scores, 2, Ties::HigherIndex), [false, false, true, false, true]);
/// assert_eq!(top_k(&scores, 2, Ties::Strict), [false; 5]); // 3 is the largest pruned score
/// ```
pub fn top_k(scores: &[f32], count: usize, ties: Ties) -> Vec<bool> {
    let mut keep = vec![false; scores.len()];
    let mut order: Vec<usize> = (0..scores.len()).collect();
    // Adding 0 makes a negative zero positive, which `total_cmp` would rank below.
    let score = |index: &usize| scores.get(*index).map_or(f32::NEG_INFINITY, |score| score + 0.0);
    order.sort_by(|a, b| {
        let by_index = if ties == Ties::HigherIndex { b.cmp(a) } else { a.cmp(b) };
        score(b).total_cmp(&score(a)).then(by_index)
    });
    let threshold = order.get(count).map_or(f32::NEG_INFINITY, score);
    for index in order.into_iter().take(count) {
        let stays = ties != Ties::Strict || count == scores.len() || score(&index) > threshold;
        if let Some(slot) = keep.get_mut(index) {
            *slot = stays;
        }
    }
    keep
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_differ_by_their_rounding() {
        assert_eq!(Rounding::HalfEven.kept(5, 0.5), 2);
        assert_eq!(Rounding::FloorKept.kept(7, 0.5), 3);
        assert_eq!(Rounding::FloorPruned.kept(7, 0.5), 4);
        assert_eq!(Rounding::HalfEven.kept(10, 1.0), 0);
    }

    #[test]
    fn exactly_as_many_are_kept_whatever_is_equal() {
        for count in 0..=6 {
            let keep = top_k(&[0.5; 6], count, Ties::LowerIndex);
            assert_eq!(keep.iter().filter(|keep| **keep).count(), count);
        }
    }

    #[test]
    fn keeping_all_keeps_all_under_a_strict_threshold_too() {
        assert_eq!(top_k(&[1.0, 1.0], 2, Ties::Strict), [true, true]);
    }

    #[test]
    fn zeros_of_either_sign_are_equal() {
        assert_eq!(top_k(&[-0.0, 0.0], 1, Ties::LowerIndex), [true, false]);
    }
}
