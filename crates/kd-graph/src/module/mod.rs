//! Graphs as trainable modules.
//!
//! [`GraphModule`] compiles a [`Graph`](crate::Graph) once into a flat list of steps and runs it on burn's rank-free primitives: the very
//! operations that burn's own layers call, so that results, gradients and running statistics are the same bit for bit.
//!
//! | File | What |
//! |---|---|
//! | `value` | a tensor of any rank and kind |
//! | `weight` | parameters and buffers behind burn's types |
//! | `plan` | from graph to steps |
//! | `run` | the executor |
//! | `ops/` | what a step calls, a file for every family |
//! | `engine`, `fuse`, `chain` | our own kernels in the place of whole runs of layers |
//! | `batch_norm`, `dropout` | the layers that train otherwise than they evaluate |
//! | `burn_module` | burn's `Module` trait |
//! | `rebuild` | the same module around an edited graph |
//! | `write_back`, `compare` | back to the user's struct |

mod batch_norm;
mod burn_module;
mod chain;
mod compare;
mod dropout;
mod engine;
mod error;
mod fuse;
mod graph_module;
mod kernel;
mod ops;
mod plan;
mod rebuild;
mod run;
mod value;
mod weight;
mod write_back;

pub use compare::{TrainingReport, compare_training};
pub use engine::Engine;
pub use error::{ModuleError, RunError, ValueError};
pub use graph_module::GraphModule;
pub use kernel::{Kernel, Kernels};
pub use value::Value;
pub use write_back::{Unwritten, WriteBackError};
