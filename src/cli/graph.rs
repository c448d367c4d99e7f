//! `kd graph`: a model as a graph.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn::tensor::Tensor;
use kd::core::{Network, Taps};
use kd::graph::{Cost, Graph, GraphModule, Machine, Roofline};
use kd::models::{Architecture, InputShape, ModelSpec};
use kd::program::Verbosity;
use serde::Serialize;

use super::{say, say_json};

/// Forward passes to time the nodes, besides one that warms up.
const PASSES: usize = 9;

/// Jobs for every processor above which measurements are not to be trusted.
const BUSY: f64 = 0.5;

/// What to do.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Print every node: what it does, what it reads, the shape of its result, its parameters.
    Show(ShowOptions),
    /// Count parameters, arithmetic, traffic and memory of every node, and say what bounds the model on this machine.
    Cost(CostOptions),
    /// Draw the graph: DOT for Graphviz, or a picture.
    Dot(DotOptions),
}

/// Which graph.
#[derive(clap::Args)]
pub struct Source {
    /// A model of `kd list models`, or the .json file of a saved graph.
    model: String,
    /// Image that the model is made for; otherwise 1x28x28 for perceptrons and LeNets, 3x32x32 for the others.
    #[arg(long, value_name = "CxHxW", value_parser = image)]
    image: Option<InputShape>,
    /// Classes that the model is made for.
    #[arg(long, default_value_t = 10, value_name = "N")]
    classes: usize,
    #[command(flatten)]
    verbosity: Verbosity,
}

/// Options of `kd graph show`.
#[derive(clap::Args)]
pub struct ShowOptions {
    #[command(flatten)]
    source: Source,
    /// Write the graph to this .json file too, and its tensors to the .safetensors file beside it.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

/// Options of `kd graph cost`.
#[derive(clap::Args)]
pub struct CostOptions {
    #[command(flatten)]
    source: Source,
    /// Batch size.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Where to measure: NAME or NAME:INDEX.
    #[arg(long, default_value = "flex", value_name = "DEVICE")]
    device: String,
    /// The machine's peak arithmetic, instead of measuring it.
    #[arg(long, value_name = "GFLOP/S", requires = "bandwidth", value_parser = positive)]
    gflops: Option<f64>,
    /// The machine's peak bandwidth, instead of measuring it.
    #[arg(long, value_name = "GB/S", requires = "gflops", value_parser = positive)]
    bandwidth: Option<f64>,
    /// Only count: run nothing to time the nodes.
    #[arg(long)]
    no_times: bool,
    /// Memory that weights and activations must fit into, otherwise that of this machine.
    #[arg(long, value_name = "MIB", value_parser = positive)]
    memory: Option<f64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Options of `kd graph dot`.
#[derive(clap::Args)]
pub struct DotOptions {
    #[command(flatten)]
    source: Source,
    /// Draw an SVG picture.
    #[arg(long)]
    svg: bool,
    /// Write to a file.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Command {
    /// How much to say.
    pub fn verbosity(&self) -> Verbosity {
        match self {
            Self::Show(options) => options.source.verbosity,
            Self::Cost(options) => options.source.verbosity,
            Self::Dot(options) => options.source.verbosity,
        }
    }
}

/// Looks.
pub fn run(command: &Command) -> Result<()> {
    match command {
        Command::Show(options) => show(options),
        Command::Cost(options) => cost(options),
        Command::Dot(options) => dot(options),
    }
}

fn show(options: &ShowOptions) -> Result<()> {
    let graph = options.source.graph()?;
    if let Some(path) = &options.save {
        graph.save(path)?;
    }
    say(graph.to_string())
}

/// What `--json` prints.
#[derive(Serialize)]
struct CostAndBound {
    #[serde(flatten)]
    cost: Cost,
    roofline: Roofline,
    /// Jobs running or waiting for a processor before anything was measured, by processor; more than one leaves only a share to measure.
    #[serde(skip_serializing_if = "Option::is_none")]
    load: Option<f64>,
}

fn cost(options: &CostOptions) -> Result<()> {
    let device = options.device.parse::<kd::DeviceName>()?.open();
    let graph = options.source.graph()?;
    let batch = options.batch as usize;
    let mut cost = graph.cost(batch)?;
    let measures = !options.no_times || options.gflops.is_none();
    let load = load().filter(|_| measures);
    // Before the nodes are timed: on a busy machine a process that has just computed for seconds gets less of it.
    let mut machine = match (options.gflops, options.bandwidth) {
        (Some(flops), Some(bandwidth)) => {
            Machine { flops: flops * 1e9, bandwidth: bandwidth * 1e9, memory: None }
        }
        _ => Machine::probe(&device)?,
    };
    if !options.no_times {
        cost = cost.with_times(&GraphModule::new(graph, &device)?.time_nodes(batch, PASSES)?);
    }
    machine.memory = options.memory.map(|mib| (mib * f64::from(1 << 20)) as u64).or_else(memory);
    let roofline = cost.roofline(machine);
    if options.json {
        return say_json(&CostAndBound { cost, roofline, load });
    }
    say(format!("{cost}\n\n{roofline}"))?;
    match load {
        Some(load) if load > BUSY => say(format!(
            "caution: {load:.1} jobs for every processor before measuring; what was measured, and a bottleneck that follows from it, \
             may be wrong"
        )),
        _ => Ok(()),
    }
}

fn dot(options: &DotOptions) -> Result<()> {
    let graph = options.source.graph()?;
    let drawn = if options.svg { graph.to_svg() } else { graph.to_dot() };
    match &options.out {
        None => say(drawn.trim_end()),
        Some(path) => kd::train::files::write(path, drawn.as_bytes())
            .with_context(|| format!("cannot write {}", path.display())),
    }
}

impl Source {
    /// A model by its name or file.
    pub fn new(model: String, image: Option<InputShape>, classes: usize, verbosity: Verbosity) -> Self {
        Self { model, image, classes, verbosity }
    }

    fn graph(&self) -> Result<Graph> {
        self.graph_with(None)
    }

    /// The graph, a model of the zoo with weights from a file.
    pub fn graph_with(&self, weights: Option<&Path>) -> Result<Graph> {
        if Path::new(&self.model).extension().is_some_and(|ending| ending == "json") {
            if let Some(weights) = weights {
                bail!("{} has its weights beside it; leave out {}", self.model, weights.display());
            }
            return Ok(Graph::load(&self.model)?);
        }
        let model: ModelSpec = self.model.parse()?;
        let image = self.image.unwrap_or_else(|| usual_image(model.architecture()));
        let device = "flex".parse::<kd::DeviceName>()?.open();
        // Initial weights are random; with a seed the same files are written every time.
        device.seed(0);
        let mut network = model.init(image, self.classes, &device)?;
        if let Some(weights) = weights {
            network = kd::train::weights::load(network, &kd::train::weights::Source::new(weights))?;
        }
        let sample = Tensor::<4>::zeros([1, image.channels, image.height, image.width], &device);
        Ok(kd::graph::trace(&network, sample, |network, x| network.forward(x, &mut Taps::none()))?)
    }
}

fn usual_image(architecture: &Architecture) -> InputShape {
    match architecture {
        Architecture::Mlp(_) | Architecture::LeNet5(_) => InputShape::MNIST,
        _ => InputShape::CIFAR,
    }
}

/// `CxHxW`.
pub fn image(text: &str) -> Result<InputShape> {
    let sizes: Vec<usize> = text.split('x').map(str::parse).collect::<Result<_, _>>().unwrap_or_default();
    match sizes.as_slice() {
        &[channels, height, width] => Ok(InputShape::new(channels, height, width)),
        _ => bail!("write channels, height and width as 3x32x32"),
    }
}

fn positive(text: &str) -> Result<f64> {
    match text.parse() {
        Ok(value) if value > 0.0 && f64::is_finite(value) => Ok(value),
        _ => bail!("it must be a positive number"),
    }
}

/// Bytes of memory of this machine, where the system says so.
fn memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Mean number of jobs in the last minute for every processor, where the system says so.
fn load() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    let jobs: f64 = text.split_whitespace().next()?.parse().ok()?;
    let processors = std::thread::available_parallelism().ok()?.get();
    Some(jobs / processors as f64)
}
