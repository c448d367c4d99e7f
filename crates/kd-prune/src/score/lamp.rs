//! LAMP: magnitudes that can be compared between layers.

use super::{Score, masked};
use crate::{Array, Arrays, Masks, PruneError, Subject};

/// The square of a weight over the sum of all squares in its layer that are at least as large:
///
/// $$\text{LAMP}(u) = \frac{w_u^2}{\sum_{v: w_v^2 \ge w_u^2} w_v^2}$$
///
/// The largest weight of every layer scores 1, so that a global threshold leaves none empty. Lee et al., *Layer-adaptive Sparsity for the
/// Magnitude-based Pruning* (2021). Among equal weights, that of the lower index scores higher; zeros score 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lamp;

impl Lamp {
    /// The scores of one layer.
    pub fn of(weight: &Array) -> Array {
        let mut order: Vec<(usize, f64)> =
            weight.values().iter().map(|w| f64::from(*w).powi(2)).enumerate().collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let mut scores = vec![0.0; weight.len()];
        let mut sum = 0.0;
        for (index, square) in order {
            sum += square;
            if let Some(score) = scores.get_mut(index) {
                *score = if sum > 0.0 { (square / sum) as f32 } else { 0.0 };
            }
        }
        let mut scores = scores.into_iter();
        weight.map_in_order(|_| scores.next().unwrap_or(0.0))
    }
}

impl Score for Lamp {
    fn name(&self) -> &'static str {
        "lamp"
    }

    fn score(&self, subject: &Subject<'_>, masks: &Masks) -> Result<Arrays, PruneError> {
        Ok(masked(subject, masks)?.into_iter().map(|(path, weight)| (path, Self::of(&weight))).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_denominator_sums_what_is_at_least_as_large() {
        let weight = Array::new([4], vec![1.0, -3.0, 2.0, 0.0]).unwrap();
        assert_eq!(Lamp::of(&weight).values(), [1.0 / 14.0, 1.0, 4.0 / 13.0, 0.0]);
        assert_eq!(Lamp::of(&Array::new([2], vec![0.0, 0.0]).unwrap()).values(), [0.0, 0.0]);
    }
}
