//! Dynamic network surgery: what was pruned by mistake is spliced back.

mod thresholds;
mod training;

pub use thresholds::{Moments, Thresholds, UpdateProbability};
pub use training::{Surgery, SurgerySettings};
