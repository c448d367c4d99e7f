//! `kd eval`: a trained network on the test split.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use kd::experiment::{Data, Display, Study, StudySettings};
use kd::models::ModelSpec;
use kd::program::{Kernels, Verbosity, search};
use kd::recipe::DataSettings;
use kd::train::Start;

use super::say_results;

/// Options of `kd eval`.
#[derive(clap::Args)]
pub struct Options {
    /// A run's folder, or a .bpk, .safetensors or .pt file.
    weights: PathBuf,
    /// The model that the weights belong to.
    #[arg(long)]
    model: String,
    /// The dataset; normalised as in training only if `--validation` and `--limit` are those of training.
    #[arg(long, value_name = "DATASET")]
    data: String,
    /// Training images held out when the network was trained, if not the dataset's default.
    #[arg(long, value_name = "N")]
    validation: Option<usize>,
    /// Training images that were used, if not all.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Where datasets lie.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Where to compute: NAME or NAME:INDEX.
    #[arg(long, default_value = "flex")]
    device: String,
    /// What computes the layers on the CPU.
    #[arg(long, value_enum, default_value_t = Kernels::Own, value_name = "WHOSE")]
    kernels: Kernels,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub verbosity: Verbosity,
}

/// Evaluates.
pub fn run(options: &Options) -> Result<()> {
    let model: ModelSpec = options.model.parse()?;
    let device = options.device.parse::<kd::DeviceName>()?.open();
    let (validation, limit) = (options.validation, options.limit);
    let settings = DataSettings { validation, limit, ..DataSettings::new(&options.data) };
    let data = Data::open(&settings, &search(options.data_dir.clone(), options.verbosity.shows_progress()))?;
    let settings = StudySettings {
        folder: PathBuf::new(),
        device,
        engine: options.kernels.into(),
        recompute: false,
        seeds: 1,
        start: Start::New,
        stop: Arc::default(),
        display: Display::Silent,
    };
    let mut study = Study::new("evaluation", data, settings)?;
    study.load(&model.to_string(), &model, &options.weights)?;
    say_results(study.results(), options.json)
}
