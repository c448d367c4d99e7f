//! Weights that share values.
//!
//! In a recipe and in a plan these are the methods `shared` and `hashed` ([`PlanSettings::shared`](crate::plan::PlanSettings::shared)); what they do to a
//! graph are [`share_weights`] and [`hash_weight`].

mod codebook;
mod hashed;
mod hashed_layer;
mod kmeans;
mod shared;
mod stored;

pub use codebook::Codebook;
pub use hashed::Hashed;
pub use hashed_layer::{hash_linear, hash_weight};
pub use kmeans::{Clusters, Initial, KMeans};
pub use shared::{share_weights, unshare_weights};
pub(crate) use stored::{Form, stored};

use std::sync::Arc;

use kd_graph::{Kernel, Kernels};

/// What [`GraphModule::with_kernels`](kd_graph::GraphModule::with_kernels) needs for shared and hashed weights.
pub fn kernels() -> Kernels {
    let look_up: Arc<dyn Kernel> = Arc::new(shared::LookUp);
    let linear: Arc<dyn Kernel> = Arc::new(hashed_layer::HashedLinear);
    let weight: Arc<dyn Kernel> = Arc::new(hashed_layer::HashedWeight);
    [(shared::LOOK_UP, look_up), (hashed_layer::LINEAR, linear), (hashed_layer::WEIGHT, weight)]
        .map(|(name, kernel)| (name.to_owned(), kernel))
        .into()
}
