//! Losses over rows of logits, with their gradients in the same pass.
//!
//! Every row's loss and gradient is multiplied by a factor that the caller chooses: `1 / rows` makes the sum of the losses a mean over the batch.

mod cross_entropy;
mod row;
mod soft_targets;

pub use cross_entropy::CrossEntropy;
pub use soft_targets::SoftTargets;

use crate::error::{KernelError, geometry, length};

/// Rows of `[rows, classes]`, as many as there are losses.
fn check(classes: usize, logits: usize, losses: usize, gradient: usize) -> Result<(), KernelError> {
    geometry(classes > 0, "classes", classes, "at least 1")?;
    length("logits", logits, logits - logits % classes)?;
    length("losses", losses, logits / classes)?;
    length("gradient", gradient, logits)
}
