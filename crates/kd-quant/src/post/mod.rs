//! Post-training quantisation: rounding and scales chosen for a trained weight.

mod aciq;
mod adaround;
mod bit_split;
mod inverse_step;

pub use aciq::{Aciq, Distribution};
pub use adaround::{AdaRound, Regulariser};
pub use bit_split::{BitSplit, SplitWeight, fixed_point_weights};
pub use inverse_step::{InverseStep, asymmetric, multiplier_and_shift, symmetric};
