//! Shows two teachers for one student: it learns from the mean of their probabilities.
//!
//! ```text
//! cargo run --release --example ensemble_teachers
//! ```
//!
//! The teachers differ in kind, a LeNet-5 and a perceptron, so that they err on different images. On the drawn digits, no download.
//! Expected: LeNet-5 99.25 %, perceptron 95.25 %; the student 99.00 % alone, 99.05 % from the LeNet-5, 98.50 % from both: a teacher that is
//! worse than the student does not help it.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use kd::core::losses::{CrossEntropySettings, Ensemble, SoftTargetsSettings};
use kd::experiment::StudyError;
use kd::prelude::*;
use kd::train::LearningRateSchedule;

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 6)]
    epochs: usize,
}

fn main() -> ExitCode {
    let options = Options::parse();
    kd::program::main(options.common.verbosity, |program| run(program, &options))
}

fn run(program: &Program, Options { common, epochs }: &Options) -> Result<()> {
    let data = common.data(&DataSettings::new("digits"))?;
    let mut study = program.study("ensemble_teachers", data, common, common.start_again())?;
    let schedule = LearningRateSchedule::Cosine { minimum: 0.0 };
    let optimizer = OptimizerSettings { schedule, clip_norm: Some(2.0), ..Default::default() };
    let settings = RunSettings { epochs: *epochs, optimizer, ..Default::default() };

    let mut teachers = Vec::new();
    for (name, model) in [("teacher LeNet-5", "lenet5"), ("teacher MLP", "mlp:800,800;dropout=0.2,0.5")] {
        let plan = Plan::new(name, settings.clone(), zoo(&model.parse()?), labels);
        teachers.push(study.train_once(&plan)?.teacher(study.device()));
    }
    study.compare_with(&teachers)?;

    let student: ModelSpec = "lenet5-tenth".parse()?;
    study.train(&Plan::new("student alone", settings.clone(), zoo(&student), labels))?;
    let one = Plan::new("from the LeNet-5", settings.clone(), zoo(&student), taught);
    study.train(&one.teacher(teachers[0].clone()))?;
    let both = Plan::new("from both", settings, zoo(&student), taught);
    study.train(&teachers.into_iter().fold(both, Plan::teacher))?;
    kd::program::finish(study)?;
    Ok(())
}

/// Learns from the mean of the teachers' probabilities as well.
fn taught() -> Result<Objective, StudyError> {
    let soft = SoftTargetsSettings { ensemble: Ensemble::Probabilities, ..Default::default() }.build()?;
    let hard = CrossEntropySettings::default().build()?;
    Ok(Objective::new().with("soft-targets", soft, 0.9).with("cross-entropy", hard, 0.1))
}
