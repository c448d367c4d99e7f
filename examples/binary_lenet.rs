//! Shows a binary network: LeNet-5 with the signs of its weights and activations, as XNOR-Net, BNN, SiBNN or STTN have them.
//!
//! ```text
//! cargo run --release --example binary_lenet
//! cargo run --release --example binary_lenet -- --method sibnn
//! ```
//!
//! What a method needs around it is put there: batch normalisation in front of every sign, no rectifier, real weights clipped after every step.
//! Expected: a table in which the binary network makes a few more errors than the float one, on products that are single bits.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use kd::prelude::*;
use kd::quant::plan::Preset;
use kd::quantising::{QuantizeSettings, quantize};
use kd::train::{LearningRateSchedule, OptimizerKind};

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Method {
    /// Scaled signs of weights, signs of activations.
    Xnor,
    /// Signs everywhere.
    Bnn,
    /// Scaled signs of weights, activations of 0 and 1.
    Sibnn,
    /// Ternary weights as two binaries, ternary activations.
    Sttn,
}

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 6)]
    epochs: usize,
    #[arg(long, value_enum, default_value_t = Method::Xnor)]
    method: Method,
    /// The smallest run that shows everything, for tests: a few batches.
    #[arg(long)]
    smallest: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    kd::program::main(options.common.verbosity, |program| run(program, &options))
}

fn run(program: &Program, Options { common, epochs, method, smallest }: &Options) -> Result<()> {
    let data = DataSettings::new("digits").smallest_if(*smallest);
    let epochs = if *smallest { 1 } else { *epochs };
    let mut study = program.study("binary_lenet", common.data(&data)?, common, common.start_again())?;
    let schedule = LearningRateSchedule::Cosine { minimum: 0.0 };
    // Binary weights change when a real one crosses zero: Adam's steps of one size get them there.
    let kind = OptimizerKind::Adam;
    let optimizer = OptimizerSettings { kind, learning_rate: 1e-3, schedule, ..Default::default() };
    let run = RunSettings { epochs, optimizer, ..Default::default() };

    let preset = match method {
        Method::Xnor => Preset::Xnor,
        Method::Bnn => Preset::Bnn,
        Method::Sibnn => Preset::Sibnn,
        Method::Sttn => Preset::Sttn,
    };
    let network = kd::pruning::zoo_graph(&"lenet5-tenth".parse()?);
    quantize(&mut study, network, &run, &QuantizeSettings::new(preset))?;
    kd::program::finish(study).map(drop)
}
