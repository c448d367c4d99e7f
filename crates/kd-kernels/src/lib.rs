#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

pub mod conv;
pub mod distance;
pub mod elementwise;
mod error;
mod geometry;
pub mod layout;
pub mod linear;
pub mod loss;
pub mod norm;
pub mod optim;
mod parallel;
pub mod pool;
pub mod quantize;
pub mod simd;
mod workspace;

#[cfg(test)]
mod testing;

pub use error::KernelError;
pub use geometry::{Conv2d, Geometry};
pub use parallel::on_pool;
pub use workspace::{Scratch, Workspace};
