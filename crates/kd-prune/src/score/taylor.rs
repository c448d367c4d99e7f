//! Taylor: the change of the loss if a weight were zero, to first order.

use super::{Score, combined, masked};
use crate::{Arrays, Masks, PruneError, Subject};

/// $$|w \cdot \partial L/\partial w|$$, or its square as in the paper.
///
/// Molchanov et al., *Importance Estimation for Neural Network Pruning* (2019).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taylor {
    /// Whether the product is squared instead of taken absolutely; the order of single weights is the same.
    pub squared: bool,
}

impl Score for Taylor {
    fn name(&self) -> &'static str {
        "taylor"
    }

    fn score(&self, subject: &Subject<'_>, masks: &Masks) -> Result<Arrays, PruneError> {
        let weights = masked(subject, masks)?;
        let gradients = subject.gradients(self.name(), &weights, 1.0)?;
        combined(&weights, &gradients, |w, g| if self.squared { (w * g).powi(2) } else { (w * g).abs() })
    }
}
