//! A graph computes what burn's own layers and functions compute, bit for bit: results, gradients of inputs and parameters, running
//! statistics; in training and evaluation, at batch sizes 1 and 7.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod activations;
mod batch_norm;
mod errors;
mod examples;
mod layers;
mod model;
mod movement;
mod norms;
mod pointwise;
mod pooling;
mod records;
mod reductions;
mod support;
