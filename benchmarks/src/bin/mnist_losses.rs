//! LeNet-5 on MNIST distilled into a student of a tenth of its size, by many losses, each at its published weight.
//!
//! ```text
//! KD_DATA_DIR=DIR cargo run --release -p kd-bench --bin mnist_losses -- --out runs/mnist-losses
//! ```
//!
//! 55,000 training images, 5,000 held out for validation, which chooses the epoch; errors are on the 10,000 test images. Student, teacher and batch order
//! are the same for all losses of a seed. Prints one line of JSON per network and, at the end, a table.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use kd_bench::{Candidate, Comparison, log, open, print};
use kd_data::Augment;
use kd_graph::Engine;
use kd_train::{LearningRateSchedule, OptimizerSettings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const STUDENTS: &[Candidate] = &[
    ("alone", 1.0, &[]),
    ("soft-targets", 0.1, &[("soft-targets", "temperature = 4.0")]),
    ("decoupled", 1.0, &[("decoupled", "")]),
    ("dist", 1.0, &[("dist", "")]),
    ("logit-standardisation", 0.1, &[("logit-standardisation", "")]),
    ("attention-transfer", 1.0, &[("attention-transfer", BOTH_STAGES)]),
    ("fitnets", 1.0, &[("fitnets", LAST_STAGE)]),
    ("nst", 1.0, &[("nst", LAST_STAGE)]),
    ("rkd", 1.0, &[("rkd", FEATURES)]),
    ("similarity-preserving", 1.0, &[("similarity-preserving", FEATURES)]),
    ("pkt", 1.0, &[("pkt", FEATURES)]),
    ("vid", 1.0, &[("vid", LAST_STAGE)]),
];
const BOTH_STAGES: &str = "student = ['stage1', 'stage2']\nteacher = ['stage1', 'stage2']";
const LAST_STAGE: &str = "student = ['stage2']\nteacher = ['stage2']";
const FEATURES: &str = "student = ['features']\nteacher = ['features']";

#[derive(Parser)]
struct Options {
    /// Folder with the datasets; $KD_DATA_DIR otherwise.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Where runs are kept; a killed program goes on from there.
    #[arg(long, default_value = "runs/mnist-losses")]
    out: PathBuf,
    #[arg(long, default_value_t = 5)]
    teacher_epochs: usize,
    #[arg(long, default_value_t = 4)]
    student_epochs: usize,
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Compute with burn's own operations, layer by layer.
    #[arg(long)]
    burn: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    log();
    // Some published weights make gradients a hundred times the cross-entropy's: the common norm is bounded for all alike.
    let optimizer = OptimizerSettings {
        learning_rate: 0.05,
        schedule: LearningRateSchedule::Cosine { minimum: 0.0 },
        weight_decay: 5e-4,
        clip_norm: Some(5.0),
        ..Default::default()
    };
    let comparison = Comparison {
        teacher: "lenet5",
        student: "lenet5-tenth",
        teacher_epochs: options.teacher_epochs,
        student_epochs: options.student_epochs,
        optimizer,
        augment: Augment::default(),
        limit: None,
        seeds: options.seeds,
        engine: if options.burn { Engine::Burn } else { Engine::Kernels },
        out: options.out,
    };
    print(&comparison.run(open("mnist", options.data_dir.as_deref())?, STUDENTS)?);
    Ok(())
}
