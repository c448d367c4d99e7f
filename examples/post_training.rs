//! Shows what a trained network loses when it is quantised without training: eight bits, four bits rounded to the nearest and by AdaRound, no data at all.
//!
//! ```text
//! cargo run --release --example post_training
//! cargo run --release --example post_training -- --data mnist --data-dir FOLDER
//! ```
//!
//! Accuracies of quantised networks are those of their integer form: products of codes summed up in i32, one rounding per layer.
//! Expected on drawn digits, in half a minute: float and 8 bits 98.10 %, 8 bits without data 96.20 % (the network has no batch normalisation to state its
//! ranges), 4 bits to the nearest 97.50 %, by AdaRound 97.85 %.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use kd::core::Traced;
use kd::graph::Graph;
use kd::prelude::*;
use kd::quant::integer::IntegerNetwork;
use kd::quant::plan::{Ends, PlanSettings, QuantPlan, sites};
use kd::quant::post::{AdaRoundFit, Calibration, PostTraining, Rounding, batches};
use kd::train::LearningRateSchedule;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    common: Common,
    /// The dataset.
    #[arg(long, default_value = "digits")]
    data: String,
    #[arg(long, default_value_t = 4)]
    epochs: usize,
    /// Images to calibrate with.
    #[arg(long, default_value_t = 512)]
    examples: usize,
    /// The smallest run that shows everything, for tests: few images, one epoch.
    #[arg(long)]
    smallest: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    kd::program::main(options.common.verbosity, |program| run(program, &options))
}

#[allow(clippy::print_stdout)]
fn run(program: &Program, options: &Options) -> Result<()> {
    let data = DataSettings::new(&options.data).smallest_if(options.smallest);
    let (epochs, steps) = if options.smallest { (1, 20) } else { (options.epochs, 500) };
    let common = &options.common;
    let mut study = program.study("post_training", common.data(&data)?, common, common.start_again())?;
    let float = train(&mut study, epochs)?;

    let examples = batches(&study.data().validation()?, options.examples, study.device())?;
    let data = Calibration::Batches(&examples);
    let nearest = PostTraining::default();
    let learned = Rounding::AdaRound(AdaRoundFit { steps, ..AdaRoundFit::default() });
    let learned = PostTraining { rounding: learned, ..PostTraining::default() };
    let four = PlanSettings { ends: Ends::Same, ..PlanSettings::uniform(4)? };
    let rows = [
        ("8 bits", &nearest, PlanSettings::int8()?, data),
        ("8 bits, no data", &nearest, PlanSettings::int8()?, Calibration::Statistics),
        ("4 bits, nearest", &nearest, four.clone(), data),
        ("4 bits, AdaRound", &learned, four, data),
    ];
    for (name, settings, plan, calibration) in rows {
        let prepared = settings.prepare(&float)?;
        let plan = QuantPlan::new(prepared.graph(), &plan)?;
        let (graph, report) = settings.run(&prepared, &plan, calibration, study.device())?;
        println!("{name}\n{report}\n");
        study.add(name, &IntegerNetwork::<Tensor<4>>::new(&graph, study.device())?, bytes(&graph)?)?;
    }
    study.add_note(
        "Quantised networks in their integer form; their bytes are packed codes, scales and biases.",
    );
    kd::program::finish(study).map(drop)
}

/// A float network, as a graph.
fn train(study: &mut Study, epochs: usize) -> Result<Graph> {
    let model: ModelSpec = "lenet5-tenth".parse()?;
    let network = move |task: &Task<'_>| {
        let zoo = model.init(task.input, task.classes, task.device)?;
        Ok(Traced::from(task.trace(&zoo, |zoo, images| zoo.forward(images, &mut Taps::none()))?))
    };
    let schedule = LearningRateSchedule::Cosine { minimum: 0.0 };
    let settings = RunSettings {
        epochs,
        optimizer: OptimizerSettings { schedule, ..Default::default() },
        ..Default::default()
    };
    let trained = study.train_once(&Plan::new("float", settings, network, labels))?;
    Ok(trained.outcome.best.module().to_graph()?)
}

/// Codes packed at their bits, everything else as f32.
fn bytes(graph: &Graph) -> Result<u64> {
    let mut bits: usize = graph.parameters().map(|(_, node)| 32 * node.output().shape.elements(1)).sum();
    for site in sites(graph)? {
        let Some(weight) = site.weight else { continue };
        let elements = graph.node(weight).context("a weight is missing")?.output().shape.elements(1);
        bits -= (32 - site.quantizer.bits() as usize) * elements;
    }
    Ok(bits.div_ceil(8) as u64)
}
