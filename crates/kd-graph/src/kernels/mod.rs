//! Our own kernels behind a graph's layers, where the device has them.
//!
//! | File | What |
//! |---|---|
//! | `ops` | what kernels compute, as an extension of burn's backends |
//! | `flex/` | the computation on flex, by `kd-kernels` |
//! | `autodiff` | how gradients flow through |
//! | `layout`, `pooled` | order of the elements in memory, and the memory itself |

mod autodiff;
#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "flex")]
mod layout;
#[cfg(not(feature = "flex"))]
mod none;
mod ops;
#[cfg(feature = "flex")]
mod pooled;
#[cfg(all(test, feature = "flex"))]
mod tests;

#[cfg(feature = "flex")]
pub(crate) use flex::{FoldCache, evaluate};
#[cfg(feature = "flex")]
pub(crate) use kd_kernels::on_pool;
#[cfg(not(feature = "flex"))]
pub(crate) use none::{FoldCache, evaluate, on_pool};
pub(crate) use ops::{Chains, Maybe, Norm, Pooling, Window};
