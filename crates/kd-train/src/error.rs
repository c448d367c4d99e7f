//! Why a run stops early.

use std::path::PathBuf;

use burn::store::RecordError;
use kd_core::{ObjectiveError, SettingsError};
use kd_data::DataError;

use crate::checkpoint::CheckpointError;
use crate::hook::HookError;
use crate::log::LogError;
use crate::metrics::MetricError;
use crate::teacher::TeacherError;
use crate::weights::WeightsError;

/// Why a [`Run`](crate::Run) could not start, or stopped before its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A setting is out of range.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The data could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The training loader gives no batch.
    #[error("the training data holds no batch; use a smaller batch size or more data")]
    NoData,
    /// A term does not fit, or has no usable value.
    #[error(transparent)]
    Objective(#[from] ObjectiveError),
    /// A teacher failed.
    #[error(transparent)]
    Teacher(#[from] TeacherError),
    /// A checkpoint could not be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A log could not be written or read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The finished weights could not be written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A metric does not fit the output.
    #[error("metric `{metric}`: {source}")]
    Metric {
        /// The metric.
        metric: String,
        /// What it said.
        source: MetricError,
    },
    /// A hook failed.
    #[error("hook `{hook}`: {source}")]
    Hook {
        /// The hook.
        hook: String,
        /// What it said.
        source: HookError,
    },
    /// A module could not be recorded or restored.
    #[error("{what}: {source}")]
    Record {
        /// What was recorded.
        what: String,
        /// What burn said.
        source: RecordError,
    },
    /// The folder holds a run already.
    #[error("{} holds a run already; resume it, overwrite it, or choose another name", folder.display())]
    Exists {
        /// The folder.
        folder: PathBuf,
    },
    /// Another process works in the folder.
    #[error("{} is in use by another run; wait for it, or choose another name", folder.display())]
    Busy {
        /// The folder.
        folder: PathBuf,
    },
    /// There is a finished student but nothing to go on from.
    #[error("{} holds a finished student but no checkpoint to resume from; overwrite it, or choose another name", folder.display())]
    Finished {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder's run was made with other settings.
    #[error("the run in {} was started with other settings, model or data; give those again, or choose another name", folder.display())]
    Changed {
        /// The folder.
        folder: PathBuf,
    },
    /// The loss left the real numbers.
    #[error(
        "the loss is {value} at step {step} because of term `{term}`; lower the learning rate or the term's weight; {}",
        good(checkpoint)
    )]
    NotFinite {
        /// Optimizer step, from 0.
        step: usize,
        /// The first term that is not finite.
        term: String,
        /// The loss.
        value: f64,
        /// Where to go on from.
        checkpoint: Option<PathBuf>,
    },
    /// The gradient left the real numbers; noticed when gradients are clipped.
    #[error(
        "the gradient's norm is {norm} at step {step}; lower the learning rate or the weights of the terms; {}",
        good(checkpoint)
    )]
    GradientNotFinite {
        /// Optimizer step, from 0.
        step: usize,
        /// The norm.
        norm: f64,
        /// Where to go on from.
        checkpoint: Option<PathBuf>,
    },
    /// A weight or running statistic left the real numbers; noticed before it gets into a checkpoint.
    #[error(
        "`{path}` is no longer finite after step {step}; lower the learning rate or set `clip-norm`; {}",
        good(checkpoint)
    )]
    WeightNotFinite {
        /// Optimizer steps done.
        step: usize,
        /// Path of the first such tensor.
        path: String,
        /// Where to go on from.
        checkpoint: Option<PathBuf>,
    },
    /// A teacher's weights or running statistics changed.
    #[error(
        "teacher `{teacher}` changed during epoch {epoch}: its weights or batch-norm statistics moved, so its targets are not to be trusted; give it a network that nothing else trains"
    )]
    TeacherMoved {
        /// The teacher.
        teacher: String,
        /// The epoch, from 0.
        epoch: usize,
    },
    /// A learnable part of a loss gets no gradient, so that the optimizer never sees it.
    #[error(
        "adapter `{path}` gets no gradient: the optimizer would never move it; use it in the loss, or insert it as a buffer"
    )]
    AdapterWithoutGradient {
        /// Its path.
        path: String,
    },
    /// Somebody asked the run to stop.
    #[error("stopped at step {step}; resume from {}", checkpoint.display())]
    Interrupted {
        /// Optimizer steps done.
        step: usize,
        /// Where to go on from.
        checkpoint: PathBuf,
    },
}

fn good(checkpoint: &Option<PathBuf>) -> String {
    match checkpoint {
        Some(path) => format!("the last good checkpoint is {}", path.display()),
        None => "there is no checkpoint yet".to_owned(),
    }
}
