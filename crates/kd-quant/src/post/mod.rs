//! Post-training quantisation: rounding and scales chosen for a trained weight.

mod aciq;
mod adaround;
mod bias;
mod bit_split;
mod equalise;
mod inverse_step;

pub use aciq::{Aciq, Distribution};
pub use adaround::{AdaRound, Regulariser};
pub use bias::{bias_correction, bias_correction_without_data, mean_behind_rectifier};
pub use bit_split::{BitSplit, SplitWeight, fixed_point_weights};
pub use equalise::{Equalised, equalise};
pub use inverse_step::{InverseStep, asymmetric, multiplier_and_shift, symmetric};
