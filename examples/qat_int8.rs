//! Shows quantisation-aware training: a plain burn model traced, its weights and activations put on 8 bits, trained on, and run on integer codes.
//!
//! ```text
//! cargo run --release --example qat_int8
//! cargo run --release --example qat_int8 -- --bits 4 --distil
//! ```
//!
//! Expected: a table in which the network on 8-bit codes is about as good as the float network that trained as long; above it the plan, which tensor has which
//! quantiser; below it the network's packed size, how often its codes differ from those of training, and what stayed in float: nothing.

use std::process::ExitCode;

use anyhow::Result;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig};
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
    pool: AdaptiveAvgPool2d,
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
            pool: AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            output: LinearConfig::new(32, task.classes).init(task.device),
        }
    }

    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let layers = self.convs.iter().zip(&self.norms);
        let maps = layers.fold(images, |x, (conv, norm)| relu(norm.forward(conv.forward(x))));
        self.output.forward(self.pool.forward(maps).flatten(1, 3))
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
    /// Learn from the float network as well.
    #[arg(long)]
    distil: bool,
    /// The smallest run that shows everything, for tests: a few batches.
    #[arg(long)]
    smallest: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    kd::program::main(options.common.verbosity, |program| run(program, &options))
}

#[allow(clippy::print_stdout)]
fn run(program: &Program, Options { common, epochs, bits, distil, smallest }: &Options) -> Result<()> {
    let data = DataSettings::new("digits").smallest_if(*smallest);
    let epochs = if *smallest { 1 } else { *epochs };
    let mut study = program.study("qat_int8", common.data(&data)?, common, common.start_again())?;
    let schedule = LearningRateSchedule::Cosine { minimum: 0.0 };
    let optimizer = OptimizerSettings { schedule, ..Default::default() };
    let run = RunSettings { epochs, optimizer, ..Default::default() };

    let method = Preset::Uniform { bits: *bits };
    let settings = QuantizeSettings {
        distil: *distil,
        // The normalisations' scales are in the weights that are quantised, and what is trained last is what is evaluated.
        fold_batch_norm: true,
        freeze_statistics: Some(epochs.div_ceil(2)),
        ..QuantizeSettings::new(method)
    };
    let network = |task: &Task<'_>| task.trace(&Net::new(task), Net::forward);
    let networks = quantize(&mut study, network, &run, &settings)?;
    if let Some(first) = networks.first() {
        println!("{}\n", first.plan);
    }
    kd::program::finish(study)?;
    for quantised in networks {
        println!("seed {}, {}", quantised.seed, quantised.on_codes);
    }
    Ok(())
}
