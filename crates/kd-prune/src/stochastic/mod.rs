//! Networks that are drawn anew at every step: gates that learn to close, weights that learn how noisy they may be.
//!
//! | System | In the graph | In the objective | After training |
//! |---|---|---|---|
//! | L0, hard concrete | [`insert_gates`] | [`L0Penalty`] | [`fold_gates`], then [`plan_zeros`](crate::plan_zeros) |
//! | sparse variational dropout | [`insert_noise`] | [`VariationalPenalty`] | [`fold_noise`] |
//! | FLOP | [`factorise`], [`insert_gates`] on the left factor | [`SizeLagrangian`], [`AscendMultipliers`] | [`fold_gates`], then [`plan_zeros`](crate::plan_zeros) |
//!
//! A graph with gates or noise is run with [`stochastic_kernels`]: in training they draw, in evaluation they don't.

mod factorise;
mod flop;
mod fold;
mod gates;
mod l0;
mod noise;
mod svd;
mod variational;

use std::sync::Arc;

use kd_graph::{Kernel, Kernels};

pub use factorise::factorise;
pub use flop::{AscendMultipliers, SizeLagrangian};
pub use fold::{GateRule, fold_gates, fold_noise};
pub use gates::{GateKernel, Gates, insert_gates};
pub use l0::{ClampGates, L0Penalty};
pub use noise::{NoiseKernel, insert_noise};
pub use variational::VariationalPenalty;

/// Kernels of the operations that [`insert_gates`] and [`insert_noise`] put into graphs, for
/// [`GraphModule::with_kernels`](kd_graph::GraphModule::with_kernels).
pub fn stochastic_kernels() -> Kernels {
    let gate: Arc<dyn Kernel> = Arc::new(GateKernel);
    let noise: Arc<dyn Kernel> = Arc::new(NoiseKernel);
    [(gates::OP.to_owned(), gate), (noise::OP.to_owned(), noise)].into()
}
