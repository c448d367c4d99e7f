//! Shows feature and output distillation together on CIFAR-10: a ResNet-8 alone, and taught by a ResNet-20 with attention transfer and soft targets.
//!
//! ```text
//! kd data fetch cifar10
//! cargo run --release --example cifar_distill
//! cargo run --release --example cifar_distill -- --data-dir FOLDER --epochs 4 --limit 10000
//! ```
//!
//! On two cores an epoch of the teacher takes about eight minutes, of a student three: use `--limit`, a GPU (`--features cuda`, `--device cuda`), or patience.
//! Expected: a table of three rows, and in the report the attention maps of all three on sample images.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use kd::core::losses::{AttentionTransferSettings, CrossEntropySettings, SoftTargetsSettings};
use kd::data::Augment;
use kd::experiment::StudyError;
use kd::prelude::*;
use kd::train::LearningRateSchedule;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    common: Common,
    /// Passes over the data, of teacher and students alike.
    #[arg(long, default_value_t = 30)]
    epochs: usize,
    /// Use the first so many training images only.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// The smallest run that shows everything, for tests: a few batches of the drawn digits.
    #[arg(long)]
    smallest: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    kd::program::main(options.common.verbosity, |program| run(program, &options))
}

fn run(program: &Program, options: &Options) -> Result<()> {
    let augment = Augment { pad_crop: 4, flip: true, ..Augment::default() };
    let mut settings = DataSettings { limit: options.limit, augment, ..DataSettings::new("cifar10") };
    let mut epochs = options.epochs;
    if options.smallest {
        let batches = DataSettings { limit: Some(256), validation: Some(64), ..settings };
        settings = DataSettings { name: "digits".to_owned(), batch_size: 64, ..batches };
        epochs = 1;
    }
    let data = options.common.data(&settings)?;
    let mut study = program.study("cifar_distill", data, &options.common, options.common.start_again())?;

    let run = run_settings(epochs);
    let teacher: ModelSpec = if options.smallest { "resnet8" } else { "resnet20" }.parse()?;
    let teacher = study.train_once(&Plan::new("teacher", run.clone(), zoo(&teacher), labels))?;
    let teacher = teacher.teacher(study.device());
    study.compare_with(std::slice::from_ref(&teacher))?;

    let student: ModelSpec = "resnet8".parse()?;
    let alone = study.train(&Plan::new("student alone", run.clone(), zoo(&student), labels))?;
    let distilled = Plan::new("distilled student", run, zoo(&student), taught).teacher(teacher.clone());
    let distilled = study.train(&distilled)?;

    // The report shows where each of them looks.
    study.show_attention("teacher", teacher.network(), &stages())?;
    study.show_attention("alone", &alone[0].outcome.best, &stages())?;
    study.show_attention("distilled", &distilled[0].outcome.best, &stages())?;
    kd::program::finish(study)?;
    Ok(())
}

/// He et al., 2016, with a cosine in place of the steps.
fn run_settings(epochs: usize) -> RunSettings {
    let schedule = LearningRateSchedule::Cosine { minimum: 0.0 };
    let optimizer =
        OptimizerSettings { learning_rate: 0.1, weight_decay: 1e-4, schedule, ..Default::default() };
    RunSettings { epochs, optimizer, ..Default::default() }
}

/// Learns from the teacher's output as well, and from where it is active after each stage.
fn taught() -> Result<Objective, StudyError> {
    let stages: Vec<String> = ["stage1", "stage2", "stage3"].map(str::to_owned).to_vec();
    let attention =
        AttentionTransferSettings { student: stages.clone(), teacher: stages, ..Default::default() };
    let soft = SoftTargetsSettings { temperature: 4.0, ..Default::default() };
    Ok(Objective::new()
        .with("cross-entropy", CrossEntropySettings::default().build()?, 0.1)
        .with("soft-targets", soft.build()?, 0.9)
        .with("attention-transfer", attention.build()?, 1000.0))
}

fn stages() -> Vec<String> {
    ["stage1", "stage2", "stage3"].map(str::to_owned).to_vec()
}
