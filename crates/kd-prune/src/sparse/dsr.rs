//! Dynamic sparse reparameterisation: one threshold for all layers that adapts to how much it prunes.

use serde::{Deserialize, Serialize};

use crate::PruneError;

/// A global threshold on magnitudes. After every pruning it doubles when less than the target was pruned, and halves when more, each beyond the
/// tolerance; growth then goes to layers in proportion to the connections that they have left.
///
/// Mostafa and Wang, *Parameter Efficient Training of Deep Convolutional Neural Networks by Dynamic Sparse Reparameterization* (2019).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DsrThreshold {
    /// Weights of smaller magnitude go.
    pub threshold: f64,
    /// How many weights should go in one pruning.
    pub target: usize,
    /// Share of the target by which the number may be off; 0.1.
    pub tolerance: f64,
}

impl DsrThreshold {
    /// Refuses settings out of range.
    ///
    /// # Errors
    /// [`PruneError::Setting`] for a threshold that is not positive, or a tolerance outside `[0, 1)`.
    pub fn validate(self) -> Result<Self, PruneError> {
        if !(self.threshold > 0.0 && self.threshold.is_finite()) {
            return Err(PruneError::setting("threshold", self.threshold, "a positive number"));
        }
        if !(0.0..1.0).contains(&self.tolerance) {
            return Err(PruneError::setting("tolerance", self.tolerance, "0 or more and below 1"));
        }
        Ok(self)
    }

    /// The threshold for the next pruning, after one that removed this many.
    #[must_use]
    pub fn adapted(self, pruned: usize) -> Self {
        let (pruned, target) = (pruned as f64, self.target as f64);
        let threshold = if pruned < target * (1.0 - self.tolerance) {
            self.threshold * 2.0
        } else if pruned > target * (1.0 + self.tolerance) {
            self.threshold / 2.0
        } else {
            self.threshold
        };
        Self { threshold, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_follows_the_number_pruned() {
        let threshold = DsrThreshold { threshold: 1.0, target: 100, tolerance: 0.1 };
        assert_eq!(threshold.adapted(50).threshold, 2.0);
        assert_eq!(threshold.adapted(95).threshold, 1.0);
        assert_eq!(threshold.adapted(200).threshold, 0.5);
    }
}
