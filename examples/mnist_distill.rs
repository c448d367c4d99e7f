//! Shows what distillation buys: a LeNet-5 teacher, a student ten times smaller trained alone, and the same student taught by the teacher.
//!
//! ```text
//! cargo run --release --example mnist_distill
//! cargo run --release --example mnist_distill -- --data-dir FOLDER --seeds 3
//! ```
//!
//! Without MNIST on disk or network it goes on with `digits`, images that the program draws, and says so.
//! Expected on MNIST with `--seeds 3`: about 81 test errors of 10,000 for the teacher, 105 ± 2 for the student alone, 94 ± 5 for the
//! distilled student, which has a tenth of the teacher's parameters.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use kd::core::losses::{CrossEntropySettings, SoftTargetsSettings};
use kd::prelude::*;
use kd::train::LearningRateSchedule;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    common: Common,
    /// Passes over the data, of teacher and students alike. By default as many as show 110,000 images: two of MNIST.
    #[arg(long)]
    epochs: Option<usize>,
    /// Temperature of the soft targets.
    #[arg(long, default_value_t = 4.0)]
    temperature: f64,
    /// The smallest run that shows everything, for tests: few images, two epochs.
    #[arg(long)]
    smallest: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    kd::program::main(options.common.verbosity, |program| run(program, &options))
}

fn run(program: &Program, options: &Options) -> Result<()> {
    let (limit, validation) = (options.smallest.then_some(1_024), options.smallest.then_some(500));
    let mnist = DataSettings { limit, validation, ..DataSettings::new("mnist") };
    let data = Data::open_or_digits(&mnist, &options.common.search())?;
    let default = if options.smallest { 2 } else { 110_000_usize.div_ceil(data.training_images()) };
    let epochs = options.epochs.unwrap_or(default);
    let mut study = program.study("mnist_distill", data, &options.common, options.common.start_again())?;

    let teacher =
        study.train_once(&Plan::new("teacher", settings(epochs), zoo(&"lenet5".parse()?), labels))?;
    let teacher = teacher.teacher(study.device());
    study.compare_with(std::slice::from_ref(&teacher))?;

    let student: ModelSpec = "lenet5-tenth".parse()?;
    study.train(&Plan::new("student alone", settings(epochs), zoo(&student), labels))?;

    let temperature = options.temperature;
    let taught = move || {
        let soft = SoftTargetsSettings { temperature, ..Default::default() }.build()?;
        let hard = CrossEntropySettings::default().build()?;
        Ok(Objective::new().with("soft-targets", soft, 0.9).with("cross-entropy", hard, 0.1))
    };
    let distilled = Plan::new("distilled student", settings(epochs), zoo(&student), taught);
    study.train(&distilled.cached_teacher(teacher, &CacheSettings::default()))?;
    kd::program::finish(study)?;
    Ok(())
}

/// Stochastic gradient descent whose learning rate falls along a cosine.
fn settings(epochs: usize) -> RunSettings {
    let schedule = LearningRateSchedule::Cosine { minimum: 0.0 };
    // Soft targets have steep gradients as long as the student knows nothing.
    let optimizer = OptimizerSettings { schedule, clip_norm: Some(2.0), ..Default::default() };
    RunSettings { epochs, optimizer, ..Default::default() }
}
