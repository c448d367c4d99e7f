//! Magnitude: small weights matter least.

use serde::{Deserialize, Serialize};

use super::{Score, masked};
use crate::{Arrays, Masks, PruneError, Subject};

/// $$|w|$$ or $$w^2$$; the order is the same for single weights, not for sums over them.
///
/// Han et al., *Learning both Weights and Connections for Efficient Neural Networks* (2015); the norms of filters: Li et al., *Pruning
/// Filters for Efficient ConvNets* (2017).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Magnitude {
    /// The absolute value.
    #[default]
    L1,
    /// The square.
    L2,
}

impl Magnitude {
    /// The score of one weight.
    pub fn of(self, weight: f32) -> f32 {
        match self {
            Self::L1 => weight.abs(),
            Self::L2 => weight * weight,
        }
    }
}

impl Score for Magnitude {
    fn name(&self) -> &'static str {
        match self {
            Self::L1 => "l1",
            Self::L2 => "l2",
        }
    }

    fn score(&self, subject: &Subject<'_>, masks: &Masks) -> Result<Arrays, PruneError> {
        let weights = masked(subject, masks)?;
        Ok(weights.into_iter().map(|(path, weight)| (path, weight.map(|w| self.of(w)))).collect())
    }
}
