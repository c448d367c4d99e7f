//! Weights that share values.

mod codebook;
mod hashed;
mod hashed_layer;
mod kmeans;
mod shared;

pub use codebook::Codebook;
pub use hashed::Hashed;
pub use hashed_layer::hash_linear;
pub use kmeans::{Clusters, Initial, KMeans};
pub use shared::{share_weights, unshare_weights};

use std::sync::Arc;

use kd_graph::{Kernel, Kernels};

/// What [`GraphModule::with_kernels`](kd_graph::GraphModule::with_kernels) needs for shared and hashed weights.
pub fn kernels() -> Kernels {
    let look_up: Arc<dyn Kernel> = Arc::new(shared::LookUp);
    let linear: Arc<dyn Kernel> = Arc::new(hashed_layer::HashedLinear);
    [(shared::LOOK_UP.to_owned(), look_up), (hashed_layer::LINEAR.to_owned(), linear)].into()
}
