//! Sparse training from scratch: weights are dropped and others grown, so that the network is sparse all the time.

mod drop_fraction;
mod dsr;
mod rule;
mod snfs;
mod training;
mod update;

pub use drop_fraction::{Anneal, DropFraction};
pub use dsr::DsrThreshold;
pub use rule::{SparseRule, SparseView};
pub use snfs::redistribute;
pub use training::{SparseTraining, SparseTrainingSettings};
pub use update::{DropGrow, regrow};
