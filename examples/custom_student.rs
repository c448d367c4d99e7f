//! Shows a student of your own: any burn module with one method, `forward`, that offers its intermediate values to `taps`.
//!
//! `cargo run --release --example custom_student`
//!
//! It learns the drawn digits from a LeNet-5 of the zoo: from its output, and from where it is active.
//! Expected, in a minute: teacher 99.25 %, student alone 98.15 %, distilled 98.30 %.

use std::process::ExitCode;

use anyhow::Result;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use clap::Parser;
use kd::core::losses::{AttentionTransferSettings, SoftTargetsSettings};
use kd::experiment::StudyError;
use kd::prelude::*;
use kd::train::LearningRateSchedule;

/// One convolution and a classifier.
#[derive(Module, Debug)]
struct Student {
    conv: Conv2d,
    output: Linear,
}

impl Student {
    fn new(task: &Task<'_>) -> Result<Self, StudyError> {
        let conv = Conv2dConfig::new([task.input.channels, 12], [5, 5]).init(task.device);
        let output = LinearConfig::new(12 * 12 * 12, task.classes).init(task.device);
        Ok(Self { conv, output })
    }
}

impl Network for Student {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn forward(&self, input: Tensor<4>, taps: &mut Taps) -> Tensor<2> {
        let maps = max_pool2d(self.conv.forward(input), MaxPoolOptions::new([2, 2]).with_stride([2, 2]));
        let maps = taps.tap("maps", relu(maps));
        self.output.forward(maps.flatten(1, 3))
    }
}

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
    let mut study = program.study("custom_student", data, common, common.start_again())?;
    let schedule = LearningRateSchedule::Cosine { minimum: 0.0 };
    let optimizer = OptimizerSettings { schedule, clip_norm: Some(2.0), ..Default::default() };
    let settings = RunSettings { epochs: *epochs, optimizer, ..Default::default() };
    let teacher = Plan::new("teacher", settings.clone(), zoo(&"lenet5".parse()?), labels);
    let teacher = study.train_once(&teacher)?.teacher(study.device());
    study.compare_with(std::slice::from_ref(&teacher))?;
    study.train(&Plan::new("student alone", settings.clone(), Student::new, labels))?;
    let taught = || {
        let soft = SoftTargetsSettings::default().build()?;
        let (student, teacher) = (vec!["maps".to_owned()], vec!["stage1".to_owned()]);
        let attention = AttentionTransferSettings { student, teacher, ..Default::default() }.build()?;
        Ok(labels()?.with("soft-targets", soft, 0.9).with("attention", attention, 100.0))
    };
    study.train(&Plan::new("distilled student", settings, Student::new, taught).teacher(teacher))?;
    kd::program::finish(study).map(drop)
}
