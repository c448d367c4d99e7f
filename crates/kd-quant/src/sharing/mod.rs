//! Weights that share values.

mod codebook;
mod hashed;
mod kmeans;

pub use codebook::Codebook;
pub use hashed::Hashed;
pub use kmeans::{Clusters, Initial, KMeans};
