//! What the `kd` program and the examples share: common options, logging, Ctrl-C, exit codes.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use kd_data::{DataError, Search};
use kd_graph::{Engine, GraphError};
use kd_prune::PruneError;
use kd_quant::QuantError;
use kd_train::{RunError, Start};
use tracing_subscriber::EnvFilter;

use crate::device::{DeviceError, DeviceName};
use crate::experiment::{Data, Display, Results, Study, StudyError, StudySettings};
use crate::recipe::{DataSettings, RecipeError};

/// Everything went well.
pub const SUCCESS: u8 = 0;
/// Something failed.
pub const FAILURE: u8 = 1;
/// The command line or a recipe is wrong.
pub const USAGE: u8 = 2;
/// Ctrl-C, after a checkpoint.
pub const INTERRUPTED: u8 = 130;

/// How much a program says on standard error; `RUST_LOG` overrides both.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Verbosity {
    /// Say more; twice for everything.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
    /// Say only what went wrong, and show no progress.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
}

/// Whose kernels compute the layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Kernels {
    /// kd's, where the device has them: whole chains of layers in one call.
    #[default]
    Own,
    /// burn's, layer by layer: slower on a CPU, the reference for everything else.
    Burn,
}

impl From<Kernels> for Engine {
    fn from(kernels: Kernels) -> Self {
        match kernels {
            Kernels::Own => Engine::Kernels,
            Kernels::Burn => Engine::Burn,
        }
    }
}

/// Options of every program that trains.
#[derive(Clone, Debug, clap::Args)]
pub struct Common {
    /// Train every network so many times, each with another seed.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub seeds: u32,
    /// Where to compute: NAME or NAME:INDEX.
    #[arg(long, default_value = "flex", value_name = "DEVICE")]
    pub device: String,
    /// What computes the layers on the CPU.
    #[arg(long, value_enum, default_value_t = Kernels::Own, value_name = "WHOSE")]
    pub kernels: Kernels,
    /// Keep less for the backward pass and compute it again: about half the memory of activations for some more time.
    #[arg(long)]
    pub recompute: bool,
    /// Where datasets lie; otherwise $KD_DATA_DIR, then the user's cache folder, then the network.
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// Folder for weights, logs and report.
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Go on from the newest checkpoints in the folder.
    #[arg(long, conflicts_with = "overwrite")]
    pub resume: bool,
    /// Start anew in a folder that holds runs already.
    #[arg(long)]
    pub overwrite: bool,
    /// Show live charts in the terminal.
    #[cfg(feature = "tui")]
    #[arg(long, conflicts_with = "quiet")]
    pub tui: bool,
    /// How much to say.
    #[command(flatten)]
    pub verbosity: Verbosity,
}

/// A running program: its flag for Ctrl-C.
#[derive(Clone, Debug)]
pub struct Program {
    /// True once somebody asked the program to stop.
    pub stop: Arc<AtomicBool>,
}

/// Runs a program: logs to standard error, takes Ctrl-C (the first writes a checkpoint and stops, the second exits at once), and
/// turns an error into one line on standard error and an exit code: 1, 2 for a wrong command line or recipe, 130 after Ctrl-C.
pub fn main(verbosity: Verbosity, run: impl FnOnce(&Program) -> anyhow::Result<()>) -> ExitCode {
    log_to_stderr(verbosity);
    let program = Program { stop: Arc::default() };
    let result = program.take_ctrl_c().and_then(|()| run(&program));
    let Err(error) = result else { return ExitCode::from(SUCCESS) };
    #[allow(clippy::print_stderr)]
    {
        eprintln!("error: {}", in_one_line(&error));
    }
    ExitCode::from(code(&error))
}

fn log_to_stderr(verbosity: Verbosity) {
    let default = match verbosity {
        Verbosity { quiet: true, .. } => "error",
        Verbosity { verbose: 0, .. } => "warn,kd=info",
        Verbosity { verbose: 1, .. } => "info,kd=debug",
        Verbosity { .. } => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second program in one process, as in tests, keeps the first one's log.
    let _ = log.with_target(false).without_time().with_ansi(std::io::stderr().is_terminal()).try_init();
}

impl Program {
    fn take_ctrl_c(&self) -> anyhow::Result<()> {
        let stop = self.stop.clone();
        let handler = move || {
            if stop.swap(true, Ordering::SeqCst) {
                std::process::exit(i32::from(INTERRUPTED));
            }
            tracing::warn!("stopping after this step with a checkpoint; Ctrl-C again to stop at once");
        };
        ctrlc::set_handler(handler).context("cannot take Ctrl-C")
    }

    /// Opens a study of `data` with the common options; without `--out` it writes to `runs/<title>`.
    ///
    /// # Errors
    /// A device that is not there.
    pub fn study(&self, title: &str, data: Data, common: &Common, start: Start) -> anyhow::Result<Study> {
        let folder = common.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(title));
        let settings = StudySettings {
            folder,
            device: common.device()?,
            engine: common.kernels.into(),
            recompute: common.recompute,
            seeds: common.seeds as usize,
            start,
            stop: self.stop.clone(),
            display: common.display(),
        };
        Ok(Study::new(title, data, settings)?)
    }
}

impl Common {
    /// Opens the device.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn device(&self) -> Result<burn::tensor::Device, DeviceError> {
        Ok(self.device.parse::<DeviceName>()?.open())
    }

    /// How to show progress, from `--quiet` and, with feature `tui`, `--tui`.
    pub fn display(&self) -> Display {
        #[cfg(feature = "tui")]
        if self.tui {
            return Display::Charts;
        }
        if self.verbosity.quiet { Display::Silent } else { Display::Bar }
    }

    /// Where datasets are looked for.
    pub fn search(&self) -> Search {
        search(self.data_dir.clone(), !self.verbosity.quiet)
    }

    /// Opens a dataset.
    ///
    /// # Errors
    /// [`StudyError::Data`].
    pub fn data(&self, settings: &DataSettings) -> Result<Data, StudyError> {
        Data::open(settings, &self.search())
    }

    /// What to do with runs that are there already, from `--resume` and `--overwrite`.
    pub fn start(&self) -> Start {
        match (self.resume, self.overwrite) {
            (true, _) => Start::Resume,
            (_, true) => Start::Overwrite,
            _ => Start::New,
        }
    }

    /// The same for examples, which run again and again: overwrite unless asked to resume.
    pub fn start_again(&self) -> Start {
        if self.resume { Start::Resume } else { Start::Overwrite }
    }
}

impl Verbosity {
    /// Whether progress is to be shown.
    pub fn shows_progress(self) -> bool {
        !self.quiet
    }
}

/// Where datasets are looked for.
pub fn search(data_dir: Option<PathBuf>, progress: bool) -> Search {
    Search { data_dir, progress, ..Search::default() }
}

/// Writes a study's files and prints its table.
///
/// # Errors
/// When a file cannot be written.
#[allow(clippy::print_stdout)]
pub fn finish(study: Study) -> anyhow::Result<Results> {
    let folder = study.folder().to_path_buf();
    let results = study.finish()?;
    println!("{}", results.table());
    println!("report: {}", folder.join("report.html").display());
    Ok(results)
}

/// An error and its causes, leaving out causes that were quoted already.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn code(error: &anyhow::Error) -> u8 {
    let interrupted = error.chain().any(|cause| {
        let run = cause.downcast_ref::<RunError>();
        let study = cause.downcast_ref::<StudyError>();
        matches!(run, Some(RunError::Interrupted { .. }))
            || matches!(study, Some(StudyError::Run { source, .. }) if matches!(**source, RunError::Interrupted { .. }))
    });
    if interrupted {
        return INTERRUPTED;
    }
    let usage = error.chain().any(|cause| {
        let data = match cause.downcast_ref::<StudyError>() {
            Some(StudyError::Recipe(_) | StudyError::Settings(_) | StudyError::Model(_)) => return true,
            Some(StudyError::Quant(error)) => return asked_of_quantisation(error),
            Some(StudyError::Prune(error)) => return asked_of_pruning(error),
            Some(StudyError::Data(data)) => Some(data),
            _ => cause.downcast_ref::<DataError>(),
        };
        matches!(data, Some(DataError::UnknownDataset { .. } | DataError::Setting { .. }))
            || cause.is::<RecipeError>()
            || cause.is::<DeviceError>()
            || cause.is::<kd_models::ModelError>()
            || cause.is::<kd_core::SettingsError>()
            || cause.downcast_ref::<PruneError>().is_some_and(asked_of_pruning)
            || cause.downcast_ref::<QuantError>().is_some_and(asked_of_quantisation)
    });
    if usage { USAGE } else { FAILURE }
}

/// As [`asked_of_pruning`].
fn asked_of_quantisation(error: &QuantError) -> bool {
    matches!(
        error,
        QuantError::Setting { .. }
            | QuantError::Plan { .. }
            | QuantError::Graph(GraphError::UnknownName { .. })
    )
}

/// Whether what was asked for is what is wrong.
fn asked_of_pruning(error: &PruneError) -> bool {
    use PruneError::{Architecture, Graph, Setting, Unreachable};
    matches!(
        error,
        Setting { .. } | Unreachable { .. } | Architecture { .. } | Graph(GraphError::UnknownName { .. })
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_cause_that_the_error_quotes_is_not_said_twice() {
        let error = anyhow::anyhow!("no such file").context("cannot read x: no such file").context("loading");
        assert_eq!(in_one_line(&error), "loading: cannot read x: no such file");
    }

    #[test]
    fn errors_of_usage_are_told_from_failures_and_interruptions() {
        let unknown = kd_data::manifest("minst").unwrap_err();
        assert_eq!(code(&StudyError::from(unknown).into()), USAGE);
        assert_eq!(code(&"flux".parse::<DeviceName>().unwrap_err().into()), USAGE);
        assert_eq!(code(&anyhow::anyhow!("disk full")), FAILURE);
        let stopped = RunError::Interrupted { step: 3, checkpoint: "c".into() };
        let stopped = StudyError::Run { name: "student".to_owned(), source: Box::new(stopped) };
        assert_eq!(code(&anyhow::Error::from(stopped).context("in the study")), INTERRUPTED);
    }
}
