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
    /// The folder's run was made with other settings.
    #[error("the run in {} was started with other settings, model or data; give those again, or choose another name", folder.display())]
    Changed {
        /// The folder.
        folder: PathBuf,
    },
    /// The loss left the real numbers.
    #[error("the loss is {value} at step {step} because of term `{term}`; the last good checkpoint is {}",
        checkpoint.as_ref().map_or("none".to_owned(), |path| path.display().to_string()))]
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
    /// A teacher's weights or running statistics changed.
    #[error(
        "teacher `{teacher}` changed during epoch {epoch}: its weights or batch-norm statistics moved, so its targets are not to be trusted"
    )]
    TeacherMoved {
        /// The teacher.
        teacher: String,
        /// The epoch, from 0.
        epoch: usize,
    },
    /// A learnable part of a loss gets no gradient, so that the optimizer never sees it.
    #[error("adapter `{path}` gets no gradient: the optimizer would never move it")]
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
