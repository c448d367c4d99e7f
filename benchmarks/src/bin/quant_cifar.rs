//! ResNet-20 on CIFAR-10 with few bits, with and without its float self as teacher, binary, and of sums.
//!
//! ```text
//! KD_DATA_DIR=DIR cargo run --release -p kd-bench --bin quant_cifar -- --out runs/quant-cifar
//! ```
//!
//! 45,000 training images (or `--limit`), 5,000 (a tenth of the limit) held out for validation, which chooses the epoch; pad-crop and flip; errors are on the
//! 10,000 test images. Every network starts from the same float one, which itself goes on for as many epochs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use burn::tensor::Device;
use clap::Parser;
use kd_bench::quantised::{Bench, Row, table};
use kd_bench::{log, open, print};
use kd_data::Augment;
use kd_quant::QuantError;
use kd_quant::plan::PlanSettings;
use kd_train::{LearningRateSchedule, OptimizerKind, OptimizerSettings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Options {
    /// Folder with the datasets; $KD_DATA_DIR otherwise.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Where runs are kept; a killed program goes on from there.
    #[arg(long, default_value = "runs/quant-cifar")]
    out: PathBuf,
    /// The network.
    #[arg(long, default_value = "resnet20")]
    model: String,
    /// Epochs of the float network.
    #[arg(long, default_value_t = 10)]
    float_epochs: usize,
    /// Epochs of every other network, from the float one's weights.
    #[arg(long, default_value_t = 5)]
    epochs: usize,
    /// Only so many training images, of every class in proportion.
    #[arg(long)]
    limit: Option<usize>,
    /// Seeds of every network.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Which, by name, separated by commas; all otherwise.
    #[arg(long, value_delimiter = ',')]
    methods: Vec<String>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    log();
    let optimizer = OptimizerSettings {
        kind: OptimizerKind::Adam,
        learning_rate: 1e-3,
        schedule: LearningRateSchedule::Cosine { minimum: 0.0 },
        ..Default::default()
    };
    let data = open("cifar10", options.data_dir.as_deref())?;
    let augment = Augment { pad_crop: 4, flip: true, ..Augment::default() };
    let bench = Bench::new(data, augment, options.limit, optimizer, options.out, &Device::flex())?;
    let rows: Vec<Row> = rows(&options.model)?
        .into_iter()
        .filter(|row| options.methods.is_empty() || options.methods.contains(&row.name))
        .collect();
    let mut results: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for seed in 0..options.seeds {
        let float = bench.float(&options.model, options.float_epochs, seed)?;
        for row in &rows {
            let wrong = bench.run(row, &float, options.epochs, seed).with_context(|| row.name.clone())?;
            results.entry(&row.name).or_default().push(wrong);
        }
    }
    print(&table(&rows, &results));
    Ok(())
}

/// Everything that is compared, with published errors of ResNet-20.
fn rows(model: &str) -> Result<Vec<Row>, QuantError> {
    let row = |name: &str, settings: Option<PlanSettings>| Row::new(name, model, settings);
    // In front of layers only: sums of residuals stay in float, as they were in the published networks.
    let four = || Ok::<_, QuantError>(PlanSettings { everywhere: false, ..PlanSettings::lsq(4)? });
    let few = |name: &str| Ok::<_, QuantError>(row(name, Some(four()?)));
    let eight = |name: &str| Ok::<_, QuantError>(row(name, Some(PlanSettings::int8()?)));
    Ok(vec![
        row("float", None),
        eight("int8")?,
        eight("int8-t1")?.distilled(1.0),
        eight("int8-t5")?.distilled(5.0),
        few("w4a4")?,
        few("w4a4-t1")?.distilled(1.0),
        few("w4a4-t2")?.distilled(2.0),
        few("w4a4-t5")?.distilled(5.0),
        row("xnor", Some(PlanSettings::xnor())),
        row("adder", Some(PlanSettings::adder())).published("7.98 (AdderNet)"),
    ])
}
