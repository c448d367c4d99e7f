//! Network slimming of the perceptron 784-500-300-10 on MNIST, in passes: recovery by labels and by the dense self, beside the same size from scratch.
//!
//! ```text
//! KD_DATA_DIR=DIR cargo run --release -p kd-bench --bin slimming_mnist -- --out runs/slimming-mnist
//! ```
//!
//! 55,000 training images, 5,000 held out for validation, which chooses the epoch; errors are on the 10,000 test images. Every pass trains with the penalty, removes
//! the units of the smallest scales until `--keep` of the dense network's parameters are left, and trains again. The control has the same units with
//! fresh weights and trains as long as both stages together. Prints one line of JSON per network and, at the end, a table.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use kd_bench::{Conditions, Shrink, With, log, open, percent, print};
use kd_data::Augment;
use kd_graph::Graph;
use kd_prune::{Budget, SparsifyScales, Stopwatch, batch_norm_scales, slim_within};
use kd_train::{LearningRateSchedule, OptimizerSettings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MODEL: &str = "mlp-bn:500,300";

#[derive(Parser)]
struct Options {
    /// Folder with the datasets; $KD_DATA_DIR otherwise.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Where runs are kept; a killed program goes on from there.
    #[arg(long, default_value = "runs/slimming-mnist")]
    out: PathBuf,
    /// Epochs of the dense network and of every stage with the penalty.
    #[arg(long, default_value_t = 12)]
    epochs: usize,
    /// Epochs of every recovery; the control gets both.
    #[arg(long, default_value_t = 12)]
    recovery_epochs: usize,
    /// Factor of the penalty on the scales.
    #[arg(long, default_value_t = 2e-3)]
    lambda: f64,
    /// Share of the dense network's parameters that every pass leaves: 84.4 % gone, then 93.9 %, then more.
    #[arg(long, value_delimiter = ',', default_values_t = [0.156, 0.061, 0.04])]
    keep: Vec<f64>,
    #[arg(long, default_value_t = 3)]
    seeds: u64,
}

/// Errors by network, in the order of the rows.
type Rows = BTreeMap<(usize, String), (u64, Vec<usize>)>;

fn main() -> Result<()> {
    let options = Options::parse();
    log();
    let conditions = Conditions {
        out: options.out.clone(),
        limit: None,
        augment: Augment::default(),
        batch: 256,
        optimizer: OptimizerSettings {
            learning_rate: 0.1,
            schedule: LearningRateSchedule::Cosine { minimum: 0.0 },
            weight_decay: 1e-4,
            ..Default::default()
        },
    };
    let mut rows = Rows::new();
    for seed in 0..options.seeds {
        let data = open("mnist", options.data_dir.as_deref())?;
        passes(&Shrink::new(data, &conditions, seed)?, &options, &mut rows)?;
        print(&table(&rows));
    }
    Ok(())
}

fn passes(shrink: &Shrink, options: &Options, rows: &mut Rows) -> Result<()> {
    let mut row = 0;
    let mut add = |name: String, graph: &Graph| -> Result<()> {
        let wrong = shrink.report(&name, graph)?;
        let parameters = graph.cost(1)?.parameters;
        rows.entry((row, name)).or_insert((parameters, Vec::new())).1.push(wrong);
        row += 1;
        Ok(())
    };
    let initial = shrink.fresh(MODEL, 1)?;
    let total = initial.cost(1)?.parameters as f64;
    let dense = shrink.train("dense", &initial, options.epochs, With::default())?;
    add("dense".to_owned(), &dense)?;

    let mut graph = initial;
    let mut control = shrink.fresh(MODEL, 2)?;
    for (pass, keep) in options.keep.iter().enumerate() {
        let name = |what: &str| format!("pass {} {what}", pass + 1);
        let penalty = SparsifyScales::new(options.lambda, batch_norm_scales(&graph)?.into_keys())?;
        let sparse = With { penalty: Some(penalty), ..With::default() };
        let sparse = shrink.train(&name("sparse"), &graph, options.epochs, sparse)?;
        add(name("with the penalty, nothing removed"), &sparse)?;

        let left = keep * total / sparse.cost(1)?.parameters as f64;
        let (plan, report) =
            slim_within(&sparse, Budget::Parameters(left.into()), &Stopwatch::new(shrink.device()))?;
        tracing::info!("{report:?}");
        add(name("removed, shifts lost"), &plan.apply(&sparse)?)?;
        let (small, absorbed) = plan.absorb(&sparse, shrink.device())?;
        tracing::info!("{absorbed:?}");
        add(name("removed, shifts absorbed"), &small)?;

        let plain = shrink.train(&name("fine-tuned"), &small, options.recovery_epochs, With::default())?;
        add(name("fine-tuned"), &plain)?;
        let teacher = With { teacher: Some(&sparse), ..With::default() };
        let distilled = shrink.train(&name("distilled"), &small, options.recovery_epochs, teacher)?;
        add(name("distilled"), &distilled)?;

        control = plan.apply(&control)?;
        let both = options.epochs + options.recovery_epochs;
        let scratch = shrink.train(&name("from scratch"), &control, both, With::default())?;
        add(name("from scratch"), &scratch)?;
        graph = distilled;
    }
    Ok(())
}

fn table(rows: &Rows) -> String {
    let dense = rows.values().next().map_or(1.0, |(parameters, _)| *parameters as f64);
    let line = |((_, name), (parameters, errors)): (&(usize, String), &(u64, Vec<usize>))| {
        let gone = 100.0 * (1.0 - *parameters as f64 / dense);
        format!("| {name} | {parameters} | {gone:.1} % | {} |\n", percent(errors))
    };
    format!(
        "| network | parameters of seed 0 | gone | test error (errors by seed) |\n|---|---:|---:|---|\n{}",
        rows.iter().map(line).collect::<String>()
    )
}
