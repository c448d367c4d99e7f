//! Shows physical removal on a model written with burn alone: residuals, depthwise convolutions, no trait, no word of pruning.
//!
//! `cargo run --release --example prune_any_model`
//!
//! The model is traced and learns the drawn digits; then half of its arithmetic goes. That the removed network computes what the masked one does is
//! shown, it learns on from what it was, is saved, and loaded again gives the same outputs.
//! Expected, in half a minute of processor time: 614,112 -> 306,468 multiply-accumulates, dense 95.75 %, pruned and distilled 96.40 % (after twice as many epochs).

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::Distribution;
use burn::tensor::activation::relu;
use clap::Parser;
use kd::core::losses::SoftTargetsSettings;
use kd::graph::{Graph, GraphModule};
use kd::prelude::*;
use kd::prune::Stopwatch;
use kd::pruning::Net;
use kd::train::LearningRateSchedule;

/// A convolution that keeps the size of its input, divided by `stride`, and its normalisation.
#[derive(Module, Debug)]
struct Layer {
    conv: Conv2d,
    norm: BatchNorm,
}

impl Layer {
    fn new(channels: [usize; 2], size: usize, stride: usize, groups: usize, device: &Device) -> Self {
        let pad = size / 2;
        let conv = Conv2dConfig::new(channels, [size, size])
            .with_stride([stride, stride])
            .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
            .with_groups(groups)
            .with_bias(false)
            .init(device);
        Self { conv, norm: BatchNormConfig::new(channels[1]).init(device) }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.norm.forward(self.conv.forward(x))
    }
}

/// An inverted residual: wider, depthwise, narrow again.
#[derive(Module, Debug)]
struct Block {
    expand: Layer,
    depthwise: Layer,
    project: Layer,
}

impl Block {
    fn new(channels: usize, device: &Device) -> Self {
        let wide = 3 * channels;
        Self {
            expand: Layer::new([channels, wide], 1, 1, 1, device),
            depthwise: Layer::new([wide, wide], 3, 1, wide, device),
            project: Layer::new([wide, channels], 1, 1, 1, device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let wide = relu(self.depthwise.forward(relu(self.expand.forward(x.clone()))));
        x + self.project.forward(wide)
    }
}

/// A stem, two blocks on one residual stream, and a classifier.
#[derive(Module, Debug)]
struct Model {
    stem: Layer,
    blocks: Vec<Block>,
    narrow: Layer,
    output: Linear,
}

impl Model {
    fn new(task: &Task<'_>) -> Self {
        let device = task.device;
        Self {
            stem: Layer::new([task.input.channels, 12], 3, 2, 1, device),
            blocks: (0..2).map(|_| Block::new(12, device)).collect(),
            narrow: Layer::new([12, 24], 3, 2, 1, device),
            output: LinearConfig::new(24, task.classes).init(device),
        }
    }

    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.blocks.iter().fold(relu(self.stem.forward(images)), |x, block| block.forward(x));
        let x = relu(self.narrow.forward(x));
        self.output.forward(x.mean_dim(2).mean_dim(3).flatten(1, 3))
    }
}

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 6)]
    epochs: usize,
    /// What is left.
    #[arg(long, default_value = "macs=0.5")]
    target: Budget,
    /// The smallest run that shows everything, for tests: a few batches.
    #[arg(long)]
    smallest: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    kd::program::main(options.common.verbosity, |program| run(program, &options))
}

#[allow(clippy::print_stdout)]
fn run(program: &Program, Options { common, epochs, target, smallest }: &Options) -> Result<()> {
    let mut data = DataSettings::new("digits");
    if *smallest {
        data = DataSettings { limit: Some(256), validation: Some(64), batch_size: 64, ..data };
    }
    let epochs = if *smallest { 1 } else { *epochs };
    let mut study = program.study("prune_any_model", common.data(&data)?, common, common.start_again())?;
    let schedule = LearningRateSchedule::Cosine { minimum: 0.0 };
    let optimizer = OptimizerSettings { schedule, clip_norm: Some(2.0), ..Default::default() };
    let settings = RunSettings { epochs, optimizer, ..Default::default() };

    let model = |task: &Task<'_>| Ok(Net::from(task.trace(&Model::new(task), Model::forward)?));
    let dense = study.train_once(&Plan::new("dense", settings.clone(), model, labels))?;
    let graph = dense.outcome.best.module().to_graph()?;

    let plan = ChannelPruner::new(*target).plan(&graph, &Stopwatch::new(study.device()))?;
    println!("{}", plan.cost(&graph)?);
    let small = plan.apply(&graph)?;

    // Removed is masked, up to sums in another order.
    let (device, input) = (study.device().clone(), study.task().input);
    let sizes = [8, input.channels, input.height, input.width];
    let images = Tensor::<4>::random(sizes, Distribution::Default, &device);
    let outputs = |graph: &Graph| -> Result<Tensor<2>> {
        Ok(GraphModule::new(graph.clone(), &device)?.forward(images.clone())?)
    };
    let (masked, removed) = (outputs(&plan.mask(&graph)?)?, outputs(&small)?);
    let largest = masked.clone().abs().max().into_scalar::<f32>();
    let difference = (masked - removed).abs().max().into_scalar::<f32>() / largest;
    println!("largest difference between masked and removed: {difference:.1e} of the largest output");
    ensure!(difference <= 1e-5, "removing is not masking");

    let learn = || {
        let soft = SoftTargetsSettings::default().build()?;
        Ok(labels()?.with("soft-targets", soft, 0.9))
    };
    let network =
        |task: &Task<'_>| Ok(Net::from(GraphModule::new(small.clone(), task.device).map_err(other)?));
    let pruned =
        Plan::new("pruned, distilled", settings, network, learn).teacher(dense.teacher(study.device()));
    let pruned = study.train_once(&pruned)?.outcome.best.module().to_graph()?;

    let file = study.folder().join("pruned.json");
    pruned.save(&file)?;
    let loaded = Graph::load(&file).with_context(|| format!("cannot load {}", file.display()))?;
    let (saved, loaded) = (outputs(&pruned)?.into_data(), outputs(&loaded)?.into_data());
    ensure!(saved == loaded, "the network that was loaded says something else");
    println!("saved and loaded: {}", file.display());
    kd::program::finish(study).map(drop)
}

fn other(error: impl std::error::Error) -> kd::experiment::StudyError {
    kd::experiment::StudyError::Other(error.to_string())
}
