//! Trained networks quantised without training: ranges, rounding, bits, and without data.
//!
//! ```text
//! KD_DATA_DIR=DIR cargo run --release -p kd-bench --bin post_training -- --out runs/post-training
//! KD_DATA_DIR=DIR cargo run --release -p kd-bench --bin post_training -- --dataset cifar10 --model resnet20 --weights RUN_FOLDER
//! ```
//!
//! The float network is trained (`--epochs`) or read (`--weights`). Calibration takes `--examples` training images. Prints one line of JSON per network and, at
//! the end, a table of test errors, quantised networks in their integer form. `w4a8` is four bits in weights and eight in activations; all layers alike, the first and the last too, except in
//! rows that say `ends 8`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use kd_bench::ground::{Ground, sgd};
use kd_bench::{log, print};
use kd_graph::{Graph, Kernels, Value};
use kd_quant::observer::RangeMethod;
use kd_quant::plan::{Ends, PlanSettings, QuantPlan, Quantizer, Uniform};
use kd_quant::post::{AdaRoundFit, Calibration, PostTraining, Rounding};
use kd_quant::{Granularity, QuantError};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Options {
    /// Folder with the datasets; $KD_DATA_DIR otherwise.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Where the float network's run is kept.
    #[arg(long, default_value = "runs/post-training")]
    out: PathBuf,
    #[arg(long, default_value = "mnist")]
    dataset: String,
    #[arg(long, default_value = "lenet5")]
    model: String,
    /// Weights of a trained model, a file or a run folder, instead of training one.
    #[arg(long)]
    weights: Option<PathBuf>,
    /// Epochs of the float network.
    #[arg(long, default_value_t = 5)]
    epochs: usize,
    /// Only so many training images, as the float network was trained on: their mean and deviation normalise all others.
    #[arg(long)]
    limit: Option<usize>,
    /// Only so many test images.
    #[arg(long)]
    tested: Option<usize>,
    /// Images to calibrate with.
    #[arg(long, default_value_t = 512)]
    examples: usize,
    /// Steps of AdaRound per layer.
    #[arg(long, default_value_t = 1000)]
    steps: usize,
    /// Only rows whose name contains this; may be given several times.
    #[arg(long)]
    only: Vec<String>,
}

/// A way to quantise.
struct Row {
    name: String,
    settings: PostTraining,
    plan: PlanSettings,
    data: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    log();
    let ground = Ground::open(
        &options.dataset,
        options.data_dir.as_deref(),
        options.limit,
        options.tested,
        &options.out,
    )?;
    let float = match &options.weights {
        Some(weights) => ground.stored(&options.model, weights)?,
        None => {
            let start = ground.initial(&options.model, 0)?;
            let training = (options.epochs, sgd(0.05));
            ground.train(&format!("float-{}", options.model), &start, &Kernels::new(), training, |run| run)?
        }
    };
    let batches = ground.calibration(options.examples)?;
    let alone = ground.errors(&float, &Kernels::new())?;
    let mut table = format!("| network | errors of {} | more than float |\n|---|---|---|\n", ground.tested());
    let mut add = |name: &str, wrong: usize| {
        print(&serde_json::json!({ "network": name, "test_errors": wrong }).to_string());
        table += &format!("| {name} | {wrong} | {:+} |\n", wrong as i64 - alone as i64);
    };
    add("float", alone);
    for row in rows(options.steps)? {
        if !options.only.is_empty() && !options.only.iter().any(|part| row.name.contains(part.as_str())) {
            continue;
        }
        let graph = quantise(&row, &float, &batches, &ground).with_context(|| row.name.clone())?;
        add(&row.name, ground.integer_errors(&graph)?);
    }
    print(&table);
    Ok(())
}

fn quantise(row: &Row, float: &Graph, batches: &[Vec<Value>], ground: &Ground) -> Result<Graph> {
    let prepared = row.settings.prepare(float)?;
    let plan = QuantPlan::new(prepared.graph(), &row.plan)?;
    let calibration = if row.data { Calibration::Batches(batches) } else { Calibration::Statistics };
    let (graph, report) = row.settings.run(&prepared, &plan, calibration, ground.device())?;
    tracing::info!("{}\n{report}", row.name);
    Ok(graph)
}

/// Uniform quantisers of so many bits, every layer alike.
fn uniform(weights: u32, activations: u32, range: RangeMethod) -> Result<PlanSettings, QuantError> {
    let activation = Uniform { range, ..Uniform::activation(activations)? };
    let weight = Quantizer::Uniform(Uniform::weight(weights)?);
    Ok(PlanSettings { ends: Ends::Same, ..PlanSettings::new(weight, Some(Quantizer::Uniform(activation))) })
}

fn rows(steps: usize) -> Result<Vec<Row>, QuantError> {
    let default = PostTraining::default;
    let min_max = RangeMethod::default;
    let error = RangeMethod::LeastError { power: 2.0 };
    let row = |name: &str, settings, plan| Row { name: name.to_owned(), settings, plan, data: true };
    let mut rows = vec![
        row("w8a8", default(), uniform(8, 8, min_max())?),
        row(
            "w8a8, biases as they are",
            PostTraining { correct_bias: false, ..default() },
            uniform(8, 8, min_max())?,
        ),
        Row { data: false, ..row("w8a8, no data", default(), uniform(8, 8, min_max())?) },
    ];
    // One scale for a whole weight.
    let whole = |equalise: bool, data: bool| -> Result<Row, QuantError> {
        let plan = uniform(8, 8, min_max())?;
        let weights = Uniform { granularity: Granularity::Tensor, ..Uniform::weight(8)? };
        let name = format!(
            "w8a8, scale per tensor{}{}",
            if equalise { ", equalised" } else { "" },
            if data { "" } else { ", no data" }
        );
        let plan = PlanSettings { weights: Quantizer::Uniform(weights), ..plan };
        Ok(Row { data, ..row(&name, PostTraining { equalise, ..default() }, plan) })
    };
    for (equalise, data) in [(false, true), (true, true), (false, false), (true, false)] {
        rows.push(whole(equalise, data)?);
    }
    for (name, range) in [
        ("min-max", min_max()),
        ("moving average", RangeMethod::MovingAverage { constant: 0.1 }),
        ("percentile 0.1 %", RangeMethod::Percentile { tail: 0.001 }),
        ("histogram", RangeMethod::Histogram { bins: 2048 }),
        ("KL", RangeMethod::Entropy { bins: 2048 }),
        ("least squared error", error),
    ] {
        rows.push(row(&format!("w8a4, activations by {name}"), default(), uniform(8, 4, range)?));
    }
    let fit = Rounding::AdaRound(AdaRoundFit { steps, ..AdaRoundFit::default() });
    for (weights, activations) in [(4, 8), (3, 8), (2, 8), (4, 4)] {
        let plan = || uniform(weights, activations, error);
        let name = |how: &str| format!("w{weights}a{activations}, {how}");
        let with = |rounding| PostTraining { rounding, ..default() };
        let plain = PostTraining { correct_bias: false, ..default() };
        rows.push(row(&name("nearest, biases as they are"), plain, plan()?));
        rows.push(row(&name("nearest"), default(), plan()?));
        rows.push(row(&name("AdaRound"), with(fit), plan()?));
        rows.push(row(
            &name("Bit-Split without reconstruction"),
            with(Rounding::BitSplit { epochs: 0 }),
            plan()?,
        ));
        rows.push(row(&name("Bit-Split"), with(Rounding::BitSplit { epochs: 4 }), plan()?));
    }
    let ends = PlanSettings { ends: Ends::Bits(8), ..uniform(4, 4, error)? };
    rows.push(row("w4a4, AdaRound, ends 8", PostTraining { rounding: fit, ..default() }, ends));
    Ok(rows)
}
