//! `kd eval`: a trained network on the test split.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use burn::tensor::{Device, Tensor};
use kd::experiment::{Data, Display, Study, StudySettings, measure};
use kd::graph::Graph;
use kd::models::ModelSpec;
use kd::program::{Kernels, Verbosity, search};
use kd::quant::integer::IntegerNetwork;
use kd::recipe::DataSettings;
use kd::train::Start;

use super::{say, say_json, say_results};

/// Options of `kd eval`.
#[derive(clap::Args)]
pub struct Options {
    /// A run's folder, or a .bpk, .safetensors or .pt file; or the .json file of a graph, which runs in integers if it is quantised.
    weights: PathBuf,
    /// The model that the weights belong to; a graph says it itself.
    #[arg(long)]
    model: Option<String>,
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
    let graph = options.weights.extension().is_some_and(|ending| ending == "json");
    let model: Option<ModelSpec> = options.model.as_deref().map(str::parse).transpose()?;
    let device = options.device.parse::<kd::DeviceName>()?.open();
    let (validation, limit) = (options.validation, options.limit);
    let settings = DataSettings { validation, limit, ..DataSettings::new(&options.data) };
    let data = Data::open(&settings, &search(options.data_dir.clone(), options.verbosity.shows_progress()))?;
    let model = match model {
        Some(model) if !graph => model,
        None if graph => return saved_graph(options, &data, &device),
        Some(_) => bail!("{} says what it is; leave out --model", options.weights.display()),
        None => bail!("name the model that the weights belong to with --model"),
    };
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

/// A graph as it was saved: in integers where it is quantised.
fn saved_graph(options: &Options, data: &Data, device: &Device) -> Result<()> {
    let graph = Graph::load(&options.weights)?;
    let network = IntegerNetwork::<Tensor<4>>::new(&graph, device)?;
    let measured = measure(&network, &data.test()?, None, device)?;
    if options.json {
        return say_json(&measured);
    }
    say(format!(
        "accuracy {:.2} %, {} errors, negative log-likelihood {:.4}; {} results in integers, {} in float",
        100.0 * measured.accuracy,
        measured.errors,
        measured.negative_log_likelihood,
        network.integer_nodes(),
        network.float_nodes().len()
    ))
}
