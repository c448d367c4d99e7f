//! Shows what a graph is good for: two models written with burn alone, one taught from the middle of the other.
//!
//! `cargo run --release --example trace_any_model`
//!
//! Neither model knows anything of kd: no trait, no taps. Tracing makes a graph of each, whose nodes are named after the modules; every name is
//! a tap. The student learns the drawn digits from the teacher's output, and from where it is active after its concatenation.
//! Expected, in a minute of processor time: the teacher's graph, then teacher 98.60 %, student alone 97.65 %, distilled 97.40 %. The example shows how it
//! is done, not that it pays here.

use std::process::ExitCode;

use anyhow::Result;
use burn::nn::attention::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use clap::Parser;
use kd::core::losses::{AttentionTransferSettings, SoftTargetsSettings};
use kd::prelude::*;
use kd::pruning::Net;
use kd::train::LearningRateSchedule;

/// A convolution that keeps the size of its input, divided by `stride`.
fn conv(channels: [usize; 2], size: usize, stride: usize, groups: usize, device: &Device) -> Conv2d {
    let padding = size / 2;
    Conv2dConfig::new(channels, [size, size])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding))
        .with_groups(groups)
        .init(device)
}

/// Places of the last feature map of both models: a quarter of the image's height and width.
fn places(task: &Task<'_>) -> usize {
    task.input.height.div_ceil(4) * task.input.width.div_ceil(4)
}

/// A bit of everything.
#[derive(Module, Debug)]
struct Teacher {
    stem: Conv2d,
    norm: BatchNorm,
    depthwise: Conv2d,
    pointwise: Conv2d,
    narrow: Conv2d,
    wide: Conv2d,
    attention: MultiHeadAttention,
    output: Linear,
}

impl Teacher {
    fn new(task: &Task<'_>) -> Self {
        let device = task.device;
        Self {
            stem: conv([task.input.channels, 24], 5, 2, 1, device),
            norm: BatchNormConfig::new(24).init(device),
            depthwise: conv([24, 24], 3, 1, 24, device),
            pointwise: conv([24, 24], 1, 1, 1, device),
            narrow: conv([24, 16], 1, 1, 1, device),
            wide: conv([24, 16], 3, 2, 1, device),
            attention: MultiHeadAttentionConfig::new(32, 4).with_dropout(0.0).init(device),
            output: LinearConfig::new(32 * places(task), task.classes).init(device),
        }
    }

    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = relu(self.norm.forward(self.stem.forward(images)));
        let x = relu(x.clone() + self.pointwise.forward(relu(self.depthwise.forward(x))));
        let pooled = max_pool2d(x.clone(), MaxPoolOptions::new([2, 2]).with_stride([2, 2]));
        let x = relu(Tensor::cat(vec![self.narrow.forward(pooled), self.wide.forward(x)], 1));
        // Every place of the map is a token.
        let tokens: Tensor<3> = x.flatten::<3>(2, 3).swap_dims(1, 2);
        let tokens = tokens.clone() + self.attention.forward(MhaInput::self_attn(tokens)).context;
        self.output.forward(tokens.flatten(1, 2))
    }
}

/// Two convolutions and a classifier.
#[derive(Module, Debug)]
struct Student {
    conv1: Conv2d,
    conv2: Conv2d,
    output: Linear,
}

impl Student {
    fn new(task: &Task<'_>) -> Self {
        Self {
            conv1: conv([task.input.channels, 6], 5, 2, 1, task.device),
            conv2: conv([6, 8], 3, 2, 1, task.device),
            output: LinearConfig::new(8 * places(task), task.classes).init(task.device),
        }
    }

    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = relu(self.conv2.forward(relu(self.conv1.forward(images))));
        self.output.forward(x.flatten(1, 3))
    }
}

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 6)]
    epochs: usize,
    /// The smallest run that shows everything, for tests: a few batches.
    #[arg(long)]
    smallest: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    kd::program::main(options.common.verbosity, |program| run(program, &options))
}

#[allow(clippy::print_stdout)]
fn run(program: &Program, Options { common, epochs, smallest }: &Options) -> Result<()> {
    let mut data = DataSettings::new("digits");
    if *smallest {
        data = DataSettings { limit: Some(256), validation: Some(64), batch_size: 64, ..data };
    }
    let epochs = if *smallest { 1 } else { *epochs };
    let mut study = program.study("trace_any_model", common.data(&data)?, common, common.start_again())?;
    let schedule = LearningRateSchedule::Cosine { minimum: 0.0 };
    let optimizer = OptimizerSettings { schedule, clip_norm: Some(2.0), ..Default::default() };
    let settings = RunSettings { epochs, optimizer, ..Default::default() };

    let teacher = |task: &Task<'_>| Ok(Net::from(task.trace(&Teacher::new(task), Teacher::forward)?));
    let teacher = study.train_once(&Plan::new("teacher", settings.clone(), teacher, labels))?;
    println!("{}\n", teacher.outcome.best.module().graph());
    let teacher = teacher.teacher(study.device());
    study.compare_with(std::slice::from_ref(&teacher))?;

    let student = |task: &Task<'_>| Ok(Net::from(task.trace(&Student::new(task), Student::forward)?));
    study.train(&Plan::new("student alone", settings.clone(), student, labels))?;
    // Any node of both graphs can be named here; one that is not there is refused with those most like it.
    let taught = || {
        let soft = SoftTargetsSettings::default().build()?;
        let (student, teacher) = (vec!["relu_1".to_owned()], vec!["relu_3".to_owned()]);
        let attention = AttentionTransferSettings { student, teacher, ..Default::default() }.build()?;
        Ok(labels()?.with("soft-targets", soft, 0.9).with("attention", attention, 100.0))
    };
    study.train(&Plan::new("distilled student", settings, student, taught).teacher(teacher))?;
    kd::program::finish(study).map(drop)
}
