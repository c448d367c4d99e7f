//! Shows quantisation-aware training: a plain burn model traced, its weights and activations put on 8 bits, trained on, and run on integer codes.
//!
//! ```text
//! cargo run --release --example qat_int8
//! cargo run --release --example qat_int8 -- --bits 4 --temperature 1
//! ```
//!
//! Expected: a table in which the network on 8-bit codes is about as good as the float network that trained as long, and, above it, the plan: which tensor
//! has which quantiser.

use std::process::ExitCode;

use anyhow::Result;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use clap::Parser;
use kd::prelude::*;
use kd::quant::plan::Preset;
use kd::quantising::{QuantizeSettings, quantize};
use kd::train::LearningRateSchedule;

/// Two convolutions with batch normalisation and a classifier: a plain burn model that knows nothing of quantisers.
#[derive(Module, Debug)]
struct Net {
    convs: Vec<Conv2d>,
    norms: Vec<BatchNorm>,
    output: Linear,
}

impl Net {
    fn new(task: &Task<'_>) -> Self {
        let conv = |from: usize, to: usize| {
            Conv2dConfig::new([from, to], [3, 3])
                .with_stride([2, 2])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .with_bias(false)
                .init(task.device)
        };
        Self {
            convs: vec![conv(task.input.channels, 16), conv(16, 32)],
            norms: [16, 32].map(|width| BatchNormConfig::new(width).init(task.device)).to_vec(),
            output: LinearConfig::new(32, task.classes).init(task.device),
        }
    }

    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let layers = self.convs.iter().zip(&self.norms);
        let maps = layers.fold(images, |x, (conv, norm)| relu(norm.forward(conv.forward(x))));
        self.output.forward(maps.mean_dim(2).mean_dim(3).flatten(1, 3))
    }
}

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 6)]
    epochs: usize,
    /// Bits of weights and activations; the first and the last layer have 8.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=8))]
    bits: u32,
    /// Learn from the float network as well, its outputs softened so much; 1 or 2, for few bits cannot follow a softer one.
    #[arg(long)]
    temperature: Option<f64>,
    /// The smallest run that shows everything, for tests: a few batches.
    #[arg(long)]
    smallest: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    kd::program::main(options.common.verbosity, |program| run(program, &options))
}

fn run(program: &Program, Options { common, epochs, bits, temperature, smallest }: &Options) -> Result<()> {
    let data = DataSettings::new("digits").smallest_if(*smallest);
    let epochs = if *smallest { 1 } else { *epochs };
    let mut study = program.study("qat_int8", common.data(&data)?, common, common.start_again())?;
    let schedule = LearningRateSchedule::Cosine { minimum: 0.0 };
    let optimizer = OptimizerSettings { schedule, ..Default::default() };
    let run = RunSettings { epochs, optimizer, ..Default::default() };

    let method = Preset::Uniform { bits: *bits };
    let settings = QuantizeSettings {
        temperature: *temperature,
        // What is trained last is then what is evaluated.
        freeze_statistics: Some(epochs.div_ceil(2)),
        ..QuantizeSettings::new(method)
    };
    let network = |task: &Task<'_>| task.trace(&Net::new(task), Net::forward);
    for quantised in quantize(&mut study, network, &run, &settings)? {
        tracing::info!("seed {}\n{}", quantised.seed, quantised.plan);
    }
    kd::program::finish(study).map(drop)
}
