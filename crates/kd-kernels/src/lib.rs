#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

pub mod conv;
mod error;
pub mod optim;
pub mod loss;
pub mod linear;
pub mod pool;
mod geometry;
pub mod layout;
#[cfg(test)]
mod testing;
mod parallel;
pub mod norm;
pub mod elementwise;
pub mod simd;
mod workspace;

pub use error::KernelError;
pub use geometry::{Conv2d, Geometry};
pub use workspace::{Scratch, Workspace};
