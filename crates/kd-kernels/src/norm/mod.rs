//! Batch normalisation, forward and backward, in training and evaluation.

mod backward;
mod batch;
mod period;
mod statistics;
mod sums;

#[cfg(test)]
mod tests;

pub use backward::{Gate, Gradients, Statistics};
pub use batch::BatchNorm;
pub use statistics::{statistics, statistics_from_sums, update_running};

pub(crate) use period::Period;
pub(crate) use sums::{Sums, Terms, load};
