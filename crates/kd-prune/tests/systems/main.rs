//! Systems that train: in runs that are stopped and taken up again, and what is left of a network after them.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;
mod flop;
mod l0;
mod lasso_pruning;
mod network_slimming;
mod structured_sparsity;
mod variational;
