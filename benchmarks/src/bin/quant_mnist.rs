//! LeNet-5 on MNIST with few bits: every method starts from the same float network, which itself goes on for as many epochs.
//!
//! ```text
//! KD_DATA_DIR=DIR cargo run --release -p kd-bench --bin quant_mnist -- --out runs/quant-mnist
//! ```
//!
//! 55,000 training images (or `--limit`), 5,000 (a tenth of the limit) held out for validation, which chooses the epoch; errors are on the 10,000 test images. Prints one line of
//! JSON per network and seed, and at the end a table.

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
    #[arg(long, default_value = "runs/quant-mnist")]
    out: PathBuf,
    /// Epochs of the float networks.
    #[arg(long, default_value_t = 5)]
    float_epochs: usize,
    /// Epochs of every other network, from the float one's weights.
    #[arg(long, default_value_t = 5)]
    epochs: usize,
    /// Only so many training images, of every class in proportion.
    #[arg(long)]
    limit: Option<usize>,
    /// Seeds of networks that are named in `--methods`.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Units of a hidden layer of the binary multilayer perceptron.
    #[arg(long, default_value_t = 1024)]
    width: usize,
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
    let data = open("mnist", options.data_dir.as_deref())?;
    let bench = Bench::new(data, Augment::default(), options.limit, optimizer, options.out, &Device::flex())?;
    let rows: Vec<Row> = rows(options.width)?
        .into_iter()
        .filter(|row| options.methods.is_empty() || options.methods.contains(&row.name))
        .collect();
    let mut results: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for seed in 0..options.seeds {
        let mut floats = BTreeMap::new();
        for row in &rows {
            if !floats.contains_key(&row.model) {
                floats.insert(row.model.clone(), bench.float(&row.model, options.float_epochs, seed)?);
            }
            let float = &floats[&row.model];
            let wrong = bench.run(row, float, options.epochs, seed).with_context(|| row.name.clone())?;
            results.entry(&row.name).or_default().push(wrong);
        }
    }
    print(&table(&rows, &results));
    Ok(())
}

/// Everything that is compared. Published errors stand beside, where there are any for this network.
fn rows(width: usize) -> Result<Vec<Row>, QuantError> {
    let lenet = |name: &str, settings: Option<PlanSettings>| Row::new(name, "lenet5", settings);
    let mlp = format!("mlp:{width},{width},{width}");
    Ok(vec![
        lenet("float", None).published("0.66 (XNOR-Net-PyTorch's LeNet-5)"),
        lenet("int8", Some(PlanSettings::int8()?)),
        lenet("lsq-8", Some(PlanSettings::lsq(8)?)),
        lenet("lsq-4", Some(PlanSettings::lsq(4)?)),
        lenet("lsq-3", Some(PlanSettings::lsq(3)?)),
        lenet("lsq-2", Some(PlanSettings::lsq(2)?)),
        lenet("dorefa-8", Some(PlanSettings::dorefa(8, 8, None)?)),
        lenet("dorefa-4", Some(PlanSettings::dorefa(4, 4, None)?)),
        lenet("dorefa-3", Some(PlanSettings::dorefa(3, 3, None)?)),
        lenet("dorefa-2", Some(PlanSettings::dorefa(2, 2, None)?)),
        lenet("xnor", Some(PlanSettings::xnor())).published("0.77 (XNOR-Net-PyTorch)"),
        lenet("bwn", Some(PlanSettings::bwn())),
        lenet("sibnn", Some(PlanSettings::sibnn())),
        lenet("sttn", Some(PlanSettings::sttn())),
        lenet("abc-net-3-3", Some(PlanSettings::abc_net(3, 3)?)),
        lenet("twn", Some(PlanSettings::twn())),
        lenet("ttq", Some(PlanSettings::ttq())),
        lenet("power-of-two", Some(PlanSettings::power_of_two(4)?)),
        lenet("apot-4", Some(PlanSettings::apot(4)?)),
        lenet("adder", Some(PlanSettings::adder())),
        lenet("pact-4", Some(PlanSettings::pact(4)?)),
        Row::new("float-mlp", &mlp, None),
        Row::new("bnn-mlp", &mlp, Some(PlanSettings::bnn())).published("0.96 (3x4096 wide)"),
    ])
}
