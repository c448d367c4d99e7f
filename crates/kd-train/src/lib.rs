//! Reproducible training runs for [burn](https://burn.dev).
#![doc = include_str!("../README.md")]

mod batch;
pub mod cache;
pub mod checkpoint;
mod diagnose;
mod error;
mod evaluate;
pub mod files;
mod fit;
mod hook;
mod learner;
pub mod log;
pub mod metrics;
mod moments;
mod optimizer;
mod persist;
mod progress;
mod record;
mod replay;
pub mod report;
mod run;
mod schedule;
mod step;
pub mod teacher;
#[cfg(feature = "tui")]
mod tui;
mod twin;
pub mod weights;

pub use batch::HostBatch;
pub use error::RunError;
pub use evaluate::evaluate;
pub use hook::{Hook, HookError, LearnerState};
pub use learner::{Gradients, Learner, TensorMap, map_weights};
pub use moments::map_moments;
pub use optimizer::{Adam, AdamDecay, OptimizerKind, OptimizerSettings, ParameterGroup, Sgd, SgdState};
pub use progress::{Progress, Shown, Silent};
pub use run::{Outcome, Run, RunSettings, Start};
pub use schedule::LearningRateSchedule;
#[cfg(feature = "tui")]
pub use tui::Tui;
