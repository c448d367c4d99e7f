//! Our own kernels behind a graph's layers, where the device has them.

mod autodiff;
#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "flex")]
mod layout;
mod ops;
#[cfg(feature = "flex")]
mod pooled;
#[cfg(all(test, feature = "flex"))]
mod tests;
