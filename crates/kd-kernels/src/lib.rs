#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod error;
#[cfg(test)]
mod testing;
mod parallel;
pub mod norm;
pub mod elementwise;
pub mod simd;
mod workspace;

pub use error::KernelError;
pub use workspace::{Scratch, Workspace};
