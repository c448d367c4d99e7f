#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod error;
pub mod simd;
mod workspace;

pub use error::KernelError;
pub use workspace::{Scratch, Workspace};
