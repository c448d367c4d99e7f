//! Bits per layer by the loss's curvature (Q-BERT).
//!
//! [`PowerIteration`] finds the Hessian's top eigenvalue in the weights of one layer, [`sensitivities`] does so for every layer of a network over several
//! batches, and [`bits_by_sensitivity`] gives those whose loss is most curved the most bits. Weights are then quantised in groups
//! ([`set_bits`], [`Granularity::Group`](crate::Granularity::Group)): the rows of a transformer's matrices differ too much in range for one scale.

mod assign;
mod power_iteration;
mod sensitivity;

pub use assign::{bits_by_sensitivity, set_bits};
pub use power_iteration::{Eigenvalue, PowerIteration};
pub use sensitivity::{Sensitivity, sensitivities};
