//! SNIP: pruning at initialisation by the sensitivity of the loss to a connection.

use super::{Score, combined, divided, masked, total};
use crate::{Arrays, Masks, PruneError, Subject};

/// $$\frac{|w \cdot \partial L/\partial w|}{\sum |w \cdot \partial L/\partial w|}$$, the sum over all prunable weights.
///
/// It is the derivative of the loss by a mask on the weight, at 1. Lee et al., *SNIP: Single-shot Network Pruning based on Connection
/// Sensitivity* (2019).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snip;

impl Score for Snip {
    fn name(&self) -> &'static str {
        "snip"
    }

    fn score(&self, subject: &Subject<'_>, masks: &Masks) -> Result<Arrays, PruneError> {
        let weights = masked(subject, masks)?;
        let gradients = subject.gradients(self.name(), &weights, 1.0)?;
        let scores = combined(&weights, &gradients, |w, g| (w * g).abs())?;
        let sum = total(&scores);
        Ok(if sum > 0.0 { divided(scores, sum) } else { scores })
    }
}
