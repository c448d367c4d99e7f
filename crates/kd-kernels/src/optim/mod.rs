//! Updates of parameters, each in one pass over weights, gradients and state.
//!
//! The formulas and their order are those of burn's optimizers, so that one may be exchanged for the other in the middle of a training.

mod adam;
mod sgd;
mod update;

pub use adam::{Adam, AdamState, Decay};
pub use sgd::Sgd;
