//! Weights of a module on disk, and what identifies them.

mod fingerprint;

pub use fingerprint::{FingerprintError, fingerprint};
