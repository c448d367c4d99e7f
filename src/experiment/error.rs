//! Why a study stops.

use std::path::PathBuf;

use kd_core::{ObjectiveError, SettingsError};
use kd_data::DataError;
use kd_models::ModelError;
use kd_train::RunError;
use kd_train::metrics::MetricError;

use crate::recipe::RecipeError;

/// Why a study could not go on.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    /// The data is missing or broken.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A model cannot be made.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A setting is out of range.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A recipe's objective is wrong.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// An objective is wrong.
    #[error(transparent)]
    Objective(#[from] ObjectiveError),
    /// Training failed or was interrupted.
    #[error("{name}: {source}")]
    Run {
        /// What was trained.
        name: String,
        /// What happened.
        source: Box<RunError>,
    },
    /// A measurement failed.
    #[error("cannot measure: {0}")]
    Metric(#[from] MetricError),
    /// Weights could not be read.
    #[error(transparent)]
    Weights(#[from] kd_train::weights::WeightsError),
    /// A teacher failed.
    #[error(transparent)]
    Teacher(#[from] kd_train::teacher::TeacherError),
    /// The device could not hand over its numbers.
    #[error("could not read a tensor from the device: {0}")]
    Device(String),
    /// A network could not be quantised.
    #[error(transparent)]
    Quant(#[from] kd_quant::QuantError),
    /// A file that holds no plan.
    #[error("{} is no plan of `kd quantize`: {source}", path.display())]
    PlanFile {
        /// The file.
        path: PathBuf,
        /// What was found, in the parser's words.
        source: serde_json::Error,
    },
    /// A network could not be pruned.
    #[error(transparent)]
    Prune(#[from] kd_prune::PruneError),
    /// A run's log could not be read.
    #[error(transparent)]
    Log(#[from] kd_train::log::LogError),
    /// The report could not be made.
    #[error(transparent)]
    Report(#[from] kd_train::report::ReportError),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Anything that a plan of the user's own has to say.
    #[error("{0}")]
    Other(String),
}

impl StudyError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
