//! ResNet-20 on CIFAR-10 with few bits, with and without its float self as teacher, binary, and of sums.
//!
//! ```text
//! KD_DATA_DIR=DIR cargo run --release -p kd-bench --bin quant_cifar -- --out runs/quant-cifar --float-epochs 10
//! ```
//!
//! 45,000 training images (or `--limit`), 5,000 (a tenth of the limit) held out for validation, which chooses the epoch; pad-crop and flip; errors are on the
//! 10,000 test images, those of quantised networks in their integer form. Every network starts from the same float one, which itself goes on for as many epochs.

use anyhow::Result;
use clap::Parser;
use kd_bench::log;
use kd_bench::quantised::{Options, Row};
use kd_data::Augment;
use kd_quant::QuantError;
use kd_quant::plan::PlanSettings;
use kd_train::OptimizerKind;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    options: Options,
    /// The network, by its name in the zoo.
    #[arg(long, default_value = "resnet20")]
    model: String,
}

fn main() -> Result<()> {
    let Program { options, model } = Program::parse();
    log();
    let augment = Augment { pad_crop: 4, flip: true, ..Augment::default() };
    options.compare("cifar10", augment, rows(&model)?)
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
        eight("int8-t2")?.distilled(2.0),
        eight("int8-t5")?.distilled(5.0),
        few("w4a4")?,
        few("w4a4-t1")?.distilled(1.0),
        few("w4a4-t2")?.distilled(2.0),
        few("w4a4-t5")?.distilled(5.0),
        row("xnor", Some(PlanSettings::xnor())),
        row("adder", Some(PlanSettings::adder()))
            .optimizer(OptimizerKind::Sgd, 0.1)
            .published("7.98 (AdderNet)"),
    ])
}
