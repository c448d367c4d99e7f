//! Shows a lottery ticket: a small part of a network's initial weights that learns what the whole network learns, and that other initial weights in
//! its place do not.
//!
//! ```text
//! cargo run --release --example lottery_ticket
//! cargo run --release --example lottery_ticket -- --data-dir FOLDER --rounds 15
//! ```
//!
//! In every round LeNet-300-100 is trained, a fifth of its smallest weights goes, and the others return to their initial values. At the end the
//! smallest ticket is trained twice more: with other initial weights, and with other batch order, to see whether both networks lie in one valley.
//! Without MNIST on disk or network it goes on with `digits`, images that the program draws.
//! Frankle and Carbin, *The Lottery Ticket Hypothesis* (2019); Frankle et al., *Linear Mode Connectivity and the Lottery Ticket Hypothesis* (2020).

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use kd::core::Traced;
use kd::experiment::measure;
use kd::graph::{Graph, GraphModule};
use kd::prelude::*;
use kd::prune::{KeepMasks, LotteryTicket, Masks, instability, rewound};
use kd::train::OptimizerKind;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    common: Common,
    /// How often is pruned.
    #[arg(long, default_value_t = 6)]
    rounds: usize,
    /// Passes over the data in every round.
    #[arg(long, default_value_t = 3)]
    epochs: usize,
    /// The smallest run that shows everything, for tests: few images, two rounds of two epochs.
    #[arg(long)]
    smallest: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    kd::program::main(options.common.verbosity, |program| run(program, &options))
}

fn run(program: &Program, options: &Options) -> Result<()> {
    let (limit, validation) = (options.smallest.then_some(512), options.smallest.then_some(200));
    let mnist = DataSettings { limit, validation, ..DataSettings::new("mnist") };
    let data = Data::open_or_digits(&mnist, &options.common.search())?;
    let (rounds, epochs) = if options.smallest { (2, 2) } else { (options.rounds, options.epochs) };
    let mut study = program.study("lottery_ticket", data, &options.common, options.common.start_again())?;
    let (initial, other) = (initial(&study, 0)?, self::initial(&study, 1)?);

    // As in the paper, half as much of the output layer's weights goes.
    let shares = [("output.weight".to_owned(), 0.1)].into();
    let method = LotteryTicket { rounds, shares, ..LotteryTicket::default() };
    let mut train = |name: String, start: &Graph, masks: &Masks, seed: u64| -> Result<Graph> {
        let network = Traced::<Tensor<4>>::from(GraphModule::new(start.clone(), study.device())?);
        let plan = Plan::new(name, settings(epochs, seed), move |_| Ok(network.clone()), labels);
        let trained = study.train_once(&plan.hook(KeepMasks::new(masks.clone())))?;
        Ok(trained.outcome.last.module().to_graph()?)
    };
    let found = method.search(&initial, |_, ticket, masks| {
        train(format!("{:.1} % of the weights", 100.0 * left(masks)), &ticket, masks, 0)
    })?;
    let smallest = found.last().context("there was no round")?;
    let masks = &smallest.masks;
    train("smallest, other initial weights".to_owned(), &rewound(&other, masks)?, masks, 0)?;
    let start = rewound(&initial, masks)?;
    let twin = train("smallest, other batch order".to_owned(), &start, masks, 1)?;

    let test = study.data().test()?;
    let line = instability(&smallest.trained, &twin, 10, |graph| -> Result<f64> {
        let network = Traced::<Tensor<4>>::from(GraphModule::new(graph.clone(), study.device())?);
        Ok(1.0 - measure(&network, &test, None, study.device())?.accuracy)
    })?;
    kd::program::finish(study)?;
    show(line.height);
    Ok(())
}

/// LeNet-300-100 with initial weights of a seed.
fn initial(study: &Study, seed: u64) -> Result<Graph> {
    study.device().seed(seed);
    let network = zoo(&"lenet300-100".parse()?)(&study.task())?;
    Ok(network.graph().context("LeNet-300-100 is a graph")?.to_graph()?)
}

/// Share of the weights that masks keep.
fn left(masks: &Masks) -> f64 {
    let kept: usize = masks.values().map(kd::prune::Mask::kept).sum();
    let all: usize = masks.values().map(|mask| mask.keep().len()).sum();
    kept as f64 / all as f64
}

/// Adam as in the paper.
fn settings(epochs: usize, seed: u64) -> RunSettings {
    let adam = OptimizerSettings { kind: OptimizerKind::Adam, learning_rate: 1.2e-3, ..Default::default() };
    RunSettings { epochs, seed, optimizer: adam, ..Default::default() }
}

#[allow(clippy::print_stdout)]
fn show(height: f64) {
    let stable = if height < 0.02 { "below the 2 % that count as stable" } else { "training is not stable" };
    println!(
        "error between two trainings of the smallest ticket: {:+.2} % above its ends, {stable}",
        100.0 * height
    );
}
