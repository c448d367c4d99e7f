//! Quantisation, binarisation and weight sharing for [burn](https://burn.dev).
//!
//! burn trains in float and its quantised tensors compute in float. Here are the quantisers that training with few bits needs, each with the gradient
//! its paper states, and the integer arithmetic that they stand for.
//!
//! | Module | Methods |
//! |---|---|
//! | here | [`Affine`] (uniform, scale and zero point), [`Lsq`], [`Pact`], DoReFa ([`DorefaWeight`], [`DorefaActivation`], [`DorefaGradient`]) |
//! | [`binary`] | BNN, BinaryConnect, BWN and XNOR-Net, ABC-Net, SiBNN, STTN |
//! | [`ternary`] | TWN, TTQ |
//! | [`power`] | power of two (DeepShift), additive powers of two (APoT) |
//! | [`adder`] | AdderNet's layer |
//! | [`observer`] | ranges: min-max, moving average, percentile, histogram, KL, MSE |
//! | [`post`] | cross-layer equalisation, bias correction, AdaRound, Bit-Split, ACIQ |
//! | [`sharing`] | k-means codebooks, HashedNets |
//! | [`plan`] | quantisers in a traced network: which tensor gets which, training with them |
//! | [`integer`] | a quantised network on codes ([`integer::IntegerNetwork`]) and what it is made of: convolution, product, sum, poolings, requantisation, gemmlowp's fixed point |
//! | [`hessian`] | bits per layer by the loss's curvature (Q-BERT) |
//! | [`analysis`] | every layer of a plan: SQNR, cosine, score alone, what is cut off, packed bytes; flips; bits by measured loss under a budget |
//!
//! **Conventions.** Rounding is half to even. Where public code disagrees (the sign of zero, the gradient at exactly a bound, what counts as $N$), the
//! choice is an option with a stated default. A quantiser is a small set of settings; learned scales are tensors of the caller, one per block of
//! [`Granularity`], and `project` says what the method does to its parameters after every optimizer step.

pub mod adder;
mod affine;
pub mod analysis;
pub mod binary;
mod data;
mod dorefa;
mod error;
mod fused;
mod gradient_node;
mod granularity;
mod grid;
pub mod hessian;
pub mod integer;
mod linear_system;
mod lsq;
pub mod observer;
mod pact;
pub mod plan;
pub mod post;
pub mod power;
pub mod sharing;
mod ste;
pub mod ternary;

pub use affine::{Affine, Scaling};
pub use dorefa::{DorefaActivation, DorefaGradient, DorefaWeight, Normaliser};
pub use error::QuantError;
pub use granularity::Granularity;
pub use grid::Grid;
pub use lsq::{Count, LEAST_STEP, Lsq};
pub use pact::Pact;
pub use ste::{Bound, only_gradient, straight_through, with_slope};
