//! ResNet-20 on CIFAR-10 distilled into ResNet-8: alone, by soft targets, by attention transfer, by both.
//!
//! ```text
//! KD_DATA_DIR=DIR cargo run --release -p kd-bench --bin cifar_attention -- --out runs/cifar-attention
//! ```
//!
//! 45,000 training images (or `--limit`), 5,000 held out for validation, which chooses the epoch; pad-crop and flip; errors are on the 10,000 test images.
//! Prints one line of JSON per network and, at the end, a table.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use kd_bench::{Candidate, Comparison, log, open, print};
use kd_data::Augment;
use kd_graph::Engine;
use kd_train::{LearningRateSchedule, OptimizerSettings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SOFT: (&str, &str) = ("soft-targets", "temperature = 4.0");
const ATTENTION: (&str, &str) = (
    "attention-transfer",
    "student = ['stage1', 'stage2', 'stage3']\nteacher = ['stage1', 'stage2', 'stage3']",
);
const STUDENTS: &[Candidate] = &[
    ("alone", 1.0, &[]),
    ("soft targets", 0.1, &[SOFT]),
    ("attention transfer", 1.0, &[ATTENTION]),
    ("both", 0.1, &[SOFT, ATTENTION]),
];

#[derive(Parser)]
struct Options {
    /// Folder with the datasets; $KD_DATA_DIR otherwise.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Where runs are kept; a killed program goes on from there.
    #[arg(long, default_value = "runs/cifar-attention")]
    out: PathBuf,
    #[arg(long, default_value_t = 10)]
    teacher_epochs: usize,
    #[arg(long, default_value_t = 10)]
    student_epochs: usize,
    /// Only so many training images, of every class in proportion.
    #[arg(long)]
    limit: Option<usize>,
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Compute with burn's own operations, layer by layer.
    #[arg(long)]
    burn: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    log();
    let optimizer = OptimizerSettings {
        learning_rate: 0.1,
        schedule: LearningRateSchedule::Cosine { minimum: 0.0 },
        weight_decay: 1e-4,
        clip_norm: Some(5.0),
        ..Default::default()
    };
    let comparison = Comparison {
        teacher: "resnet20",
        student: "resnet8",
        teacher_epochs: options.teacher_epochs,
        student_epochs: options.student_epochs,
        optimizer,
        augment: Augment { pad_crop: 4, flip: true, ..Default::default() },
        limit: options.limit,
        seeds: options.seeds,
        engine: if options.burn { Engine::Burn } else { Engine::Kernels },
        out: options.out,
    };
    print(&comparison.run(open("cifar10", options.data_dir.as_deref())?, STUDENTS)?);
    Ok(())
}
