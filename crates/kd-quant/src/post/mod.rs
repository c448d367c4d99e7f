//! Post-training quantisation: scales and rounding chosen for a trained network ([`PostTraining`]), and the methods behind it.

mod absorb;
mod aciq;
mod adaround;
mod beside;
mod bias;
mod bit_split;
mod calibration;
mod equalise;
mod inverse_step;
mod layer;
mod moments;
mod pairs;
mod patches;
mod post_training;
mod reconstruct;
mod report;
mod reproduce;
#[cfg(test)]
mod tests;

pub use absorb::{AbsorbedBias, absorb_biases};
pub use aciq::{Aciq, Distribution};
pub use adaround::{AdaRound, Regulariser};
pub use bias::{bias_correction, bias_correction_without_data, mean_behind_rectifier};
pub use bit_split::{BitSplit, SplitWeight, fixed_point_weights};
pub use calibration::{Calibration, batches};
pub use equalise::{Equalised, equalise};
pub use inverse_step::{InverseStep, asymmetric, multiplier_and_shift, symmetric};
pub use moments::{DataFree, Moments};
pub use pairs::{EqualisedPair, equalise_graph};
pub use post_training::{PostTraining, Prepared};
pub use reconstruct::{AdaRoundFit, Rounding};
pub use report::{LayerReport, PostReport};
