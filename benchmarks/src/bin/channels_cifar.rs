//! ResNet-20 on CIFAR-10 at half the multiply-accumulates: network slimming and group-L2 importance, recovered by labels and by the dense self, beside the same
//! channels from scratch, with milliseconds before and after.
//!
//! ```text
//! KD_DATA_DIR=DIR cargo run --release -p kd-bench --bin channels_cifar -- --out runs/channels-cifar
//! ```
//!
//! 45,000 training images (or `--limit`), 5,000 held out for validation, which chooses the epoch; pad-crop and flip; errors are on the 10,000 test images. Both methods prune the
//! same network, trained with the penalty on its scales. The control has the same channels with fresh weights and trains as long as both stages together.
//! Prints one line of JSON per network, a table of milliseconds once channels are removed, and at the end a table of errors.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use kd_bench::{Conditions, Shrink, With, log, open, print};
use kd_data::Augment;
use kd_graph::Graph;
use kd_prune::{
    Budget, ChannelLimits, ChannelPruner, SparsifyScales, Stopwatch, batch_norm_scales, slim_within,
};
use kd_train::{LearningRateSchedule, OptimizerSettings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Options {
    /// Folder with the datasets; $KD_DATA_DIR otherwise.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Where runs are kept; a killed program goes on from there.
    #[arg(long, default_value = "runs/channels-cifar")]
    out: PathBuf,
    /// Any model of the zoo with batch normalisation.
    #[arg(long, default_value = "resnet20")]
    model: String,
    #[arg(long, default_value_t = 12)]
    epochs: usize,
    #[arg(long, default_value_t = 6)]
    recovery_epochs: usize,
    /// Only so many training images, of every class in proportion.
    #[arg(long)]
    limit: Option<usize>,
    /// Factor of the penalty on the scales.
    #[arg(long, default_value_t = 1e-4)]
    lambda: f64,
    /// Share of the multiply-accumulates that is left.
    #[arg(long, default_value_t = 0.5)]
    keep: f64,
    /// Seed of weights and batch order.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    log();
    let conditions = Conditions {
        out: options.out.clone(),
        limit: options.limit,
        augment: Augment { pad_crop: 4, flip: true, ..Default::default() },
        batch: 128,
        optimizer: OptimizerSettings {
            learning_rate: 0.1,
            schedule: LearningRateSchedule::Cosine { minimum: 0.0 },
            weight_decay: 1e-4,
            clip_norm: Some(5.0),
            ..Default::default()
        },
    };
    let shrink = Shrink::new(open("cifar10", options.data_dir.as_deref())?, &conditions, options.seed)?;
    let initial = shrink.fresh(&options.model, 1)?;
    let penalty = SparsifyScales::new(options.lambda, batch_norm_scales(&initial)?.into_keys())?;
    let with = With { penalty: Some(penalty), ..With::default() };
    let dense = shrink.train("dense", &initial, options.epochs, with)?;
    let mut table = Table::default();
    table.add(&shrink, "dense, with the penalty", &dense)?;

    let (budget, stopwatch) = (Budget::Macs(options.keep.into()), Stopwatch::new(shrink.device()));
    let slimming = slim_within(&dense, budget, &stopwatch)?.0;
    // A layer of one channel does not recover in a few epochs.
    let limits = ChannelLimits { most: 0.9, ..ChannelLimits::default() };
    let group_l2 = ChannelPruner::new(budget).limits(limits).plan(&dense, &stopwatch)?;
    let mut small = Vec::new();
    for (method, plan) in [("slimming", slimming), ("group-L2", group_l2)] {
        let (removed, absorbed) = plan.absorb(&dense, shrink.device())?;
        tracing::info!("{absorbed:?}");
        table.add(&shrink, &format!("{method}, removed"), &removed)?;
        small.push((method, plan, removed));
    }
    let graphs: Vec<&Graph> = std::iter::once(&dense).chain(small.iter().map(|(.., graph)| graph)).collect();
    let names: Vec<&str> = std::iter::once("dense").chain(small.iter().map(|(method, ..)| *method)).collect();
    print(&milliseconds(&shrink, &names, &graphs)?);

    for (method, plan, removed) in &small {
        for (how, teacher) in [("fine-tuned", None), ("distilled", Some(&dense))] {
            let name = format!("{method}, {how}");
            let with = With { teacher, ..With::default() };
            let recovered = shrink.train(&name, removed, options.recovery_epochs, with)?;
            table.add(&shrink, &name, &recovered)?;
        }
        let name = format!("{method}, from scratch");
        let control = plan.apply(&shrink.fresh(&options.model, 2)?)?;
        let epochs = options.epochs + options.recovery_epochs;
        table.add(&shrink, &name, &shrink.train(&name, &control, epochs, With::default())?)?;
    }
    print(&table.text);
    Ok(())
}

/// Networks that take turns at batch 1 and 128: medians, and how many times faster than the first each is.
fn milliseconds(shrink: &Shrink, names: &[&str], graphs: &[&Graph]) -> Result<String> {
    let (single, batched) = (shrink.milliseconds(graphs, 1, 51)?, shrink.milliseconds(graphs, 128, 11)?);
    let mut text =
        "| network | ms, batch 1 | ms, batch 128 | times faster |\n|---|---:|---:|---|\n".to_owned();
    for ((name, one), many) in names.iter().zip(&single).zip(&batched) {
        let (first, all) = (single[0] / one, batched[0] / many);
        text += &format!("| {name} | {one:.2} | {many:.1} | {first:.2}, {all:.2} |\n");
    }
    Ok(text)
}

struct Table {
    text: String,
}

impl Default for Table {
    fn default() -> Self {
        Self { text: "| network | parameters | MACs | test error |\n|---|---:|---:|---:|\n".to_owned() }
    }
}

impl Table {
    fn add(&mut self, shrink: &Shrink, name: &str, graph: &Graph) -> Result<()> {
        let wrong = shrink.report(name, graph)? as f64 / 100.0;
        let cost = graph.cost(1)?;
        self.text += &format!("| {name} | {} | {} | {wrong:.2} % |\n", cost.parameters, cost.macs);
        Ok(())
    }
}
