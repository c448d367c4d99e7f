//! Weights of a module on disk, and what identifies them.
//!
//! [`save`] writes burnpack (`.bpk`) and safetensors, both of which load with burn alone. [`load`] reads these, PyTorch state dicts (`.pt`,
//! `.pth`) and run folders into a module, and says name by name what does not fit.

mod error;
mod fingerprint;
mod format;
mod load;
mod save;
#[cfg(test)]
mod tests;

pub use error::{Mismatch, WeightsError};
pub use fingerprint::{FingerprintError, fingerprint};
pub use format::Layout;
pub use load::{Source, load};
pub use save::save;

/// The file in a run folder that holds the finished student.
pub const STUDENT: &str = "student.bpk";
