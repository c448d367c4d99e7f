//! LeNet-5 on MNIST with few bits: every method starts from the same float network, which itself goes on for as many epochs.
//!
//! ```text
//! KD_DATA_DIR=DIR cargo run --release -p kd-bench --bin quant_mnist -- --out runs/quant-mnist --epochs 10
//! ```
//!
//! 55,000 training images (or `--limit`), 5,000 (a tenth of the limit) held out for validation, which chooses the epoch; errors are on the 10,000 test images, those
//! of quantised networks in their integer form. Prints one line of JSON per network and seed, and at the end a table.

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
    /// Units of a hidden layer of the binary multilayer perceptron.
    #[arg(long, default_value_t = 1024)]
    width: usize,
}

fn main() -> Result<()> {
    let Program { options, width } = Program::parse();
    log();
    options.compare("mnist", Augment::default(), rows(width)?)
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
        // With a tenfold rate, then with the map of activation scales too.
        lenet("xnor-fast", Some(PlanSettings::xnor())).optimizer(OptimizerKind::Adam, 1e-2),
        lenet("xnor-map", Some(PlanSettings { scale_map: true, ..PlanSettings::xnor() }))
            .optimizer(OptimizerKind::Adam, 1e-2),
        lenet("bwn", Some(PlanSettings::bwn())),
        lenet("sibnn", Some(PlanSettings::sibnn())),
        lenet("sttn", Some(PlanSettings::sttn())),
        lenet("abc-net-3-3", Some(PlanSettings::abc_net(3, 3)?)),
        lenet("twn", Some(PlanSettings::twn())),
        lenet("ttq", Some(PlanSettings::ttq())),
        lenet("power-of-two", Some(PlanSettings::power_of_two(4)?)),
        lenet("apot-4", Some(PlanSettings::apot(4)?)),
        lenet("adder", Some(PlanSettings::adder()))
            .optimizer(OptimizerKind::Sgd, 0.1)
            .published("0.6 (AdderNet, LeNet-5 with batch normalisation)"),
        lenet("pact-4", Some(PlanSettings::pact(4)?)),
        Row::new("float-mlp", &mlp, None),
        Row::new("bnn-mlp", &mlp, Some(PlanSettings::bnn())).published("0.96 (3x4096 wide)"),
    ])
}
