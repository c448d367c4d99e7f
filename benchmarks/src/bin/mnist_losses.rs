//! LeNet-5 on MNIST distilled into a student of a tenth of its size, by many losses, each at its published weight.
//!
//! ```text
//! KD_DATA_DIR=DIR cargo run --release -p kd-bench --bin mnist_losses -- --out runs/mnist-losses
//! ```
//!
//! 55,000 training images, 5,000 held out for validation, which chooses the epoch; errors are on the 10,000 test images. Student, teacher and batch order
//! are the same for all losses of a seed. Prints one line of JSON per network and, at the end, a table.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use burn::tensor::Device;
use clap::Parser;
use kd_bench::{errors, loader, log, logits, open};
use kd_core::losses::{METHODS, by_name};
use kd_core::{Objective, Reduction};
use kd_data::{Augment, ImageDataset, Loader};
use kd_models::{InputShape, ModelSpec, Zoo};
use kd_train::teacher::NetworkTeacher;
use kd_train::{LearningRateSchedule, OptimizerSettings, Run, RunSettings, Shown, Start};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is compared: a name, and the terms beside the cross-entropy with their settings.
const STUDENTS: &[(&str, f64, &[(&str, &str)])] = &[
    ("alone", 1.0, &[]),
    ("soft-targets", 0.1, &[("soft-targets", "temperature = 4.0")]),
    ("decoupled", 1.0, &[("decoupled", "")]),
    ("dist", 1.0, &[("dist", "")]),
    ("logit-standardisation", 0.1, &[("logit-standardisation", "")]),
    ("attention-transfer", 1.0, &[("attention-transfer", MAPS)]),
    ("fitnets", 1.0, &[("fitnets", "student = ['stage2']\nteacher = ['stage2']")]),
    ("nst", 1.0, &[("nst", "student = ['stage2']\nteacher = ['stage2']")]),
    ("rkd", 1.0, &[("rkd", FEATURES)]),
    ("similarity-preserving", 1.0, &[("similarity-preserving", FEATURES)]),
    ("pkt", 1.0, &[("pkt", FEATURES)]),
    ("vid", 1.0, &[("vid", "student = ['stage2']\nteacher = ['stage2']")]),
];
const MAPS: &str = "student = ['stage1', 'stage2']\nteacher = ['stage1', 'stage2']";
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
    /// Only these students, separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

struct Loaders {
    train: Loader<ImageDataset>,
    validation: Loader<ImageDataset>,
    test: Loader<ImageDataset>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    log();
    let opened = open("mnist", options.data_dir.as_deref())?;
    tracing::info!("{}", opened.form);
    let (train, validation) = opened.train.hold_out(5000, 0)?;
    let normalise = opened.train.statistics(&train)?.normalise()?;
    let (images, test) = (Arc::new(opened.train), Arc::new(opened.test));
    let all: Vec<_> = (0..test.len()).collect();
    let device = Device::flex();
    let mut results: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for seed in 0..options.seeds {
        let plain = Augment::default;
        let loaders = Loaders {
            train: loader(&images, &train, &normalise, plain(), 128, true, seed)?,
            validation: loader(&images, &validation, &normalise, plain(), 500, false, 0)?,
            test: loader(&test, &all, &normalise, plain(), 500, false, 0)?,
        };
        let folder = options.out.join(format!("seed{seed}"));
        let objective = Objective::new().with_boxed(
            "hard",
            by_name("cross-entropy", toml::Table::new())?,
            1.0,
            Reduction::Mean,
        );
        let run =
            Run::new(folder.join("teacher"), settings(options.teacher_epochs, seed), objective, &device);
        let teacher = fit(run, "lenet5", &loaders, seed, &device)?;
        let wrong = test_errors(&teacher, &loaders, &device)?;
        results.entry("teacher").or_default().push(wrong);
        print(&serde_json::json!({ "network": "teacher", "seed": seed, "test_errors": wrong }).to_string());
        let chosen = |name: &str| options.only.is_empty() || options.only.iter().any(|only| only == name);
        for &(name, hard, terms) in STUDENTS.iter().filter(|(name, ..)| chosen(name)) {
            let run = Run::new(
                folder.join(name),
                settings(options.student_epochs, seed),
                objective_of(hard, terms)?,
                &device,
            );
            let run = if terms.is_empty() {
                run
            } else {
                run.teacher(NetworkTeacher::new("lenet5", teacher.clone(), &device))
            };
            let student = fit(run, "lenet5-tenth", &loaders, seed + 1000, &device)?;
            let wrong = test_errors(&student, &loaders, &device)?;
            results.entry(name).or_default().push(wrong);
            print(&serde_json::json!({ "network": name, "seed": seed, "test_errors": wrong }).to_string());
        }
    }
    print(&table(&results));
    Ok(())
}

fn objective_of(hard: f64, terms: &[(&str, &str)]) -> Result<Objective> {
    let mut objective = Objective::new();
    for (loss, settings) in terms {
        let weight = METHODS.iter().find(|method| method.name == *loss).map_or(1.0, |method| method.weight);
        objective = objective.with_boxed(loss, by_name(loss, settings.parse()?)?, weight, Reduction::Mean);
    }
    Ok(objective.with_boxed("hard", by_name("cross-entropy", toml::Table::new())?, hard, Reduction::Mean))
}

fn settings(epochs: usize, seed: u64) -> RunSettings {
    let schedule = LearningRateSchedule::Cosine { minimum: 0.0 };
    // Some published weights make gradients a hundred times the cross-entropy's: the common norm is bounded for all alike.
    let optimizer = OptimizerSettings {
        learning_rate: 0.05,
        schedule,
        weight_decay: 5e-4,
        clip_norm: Some(5.0),
        ..Default::default()
    };
    RunSettings { seed, epochs, optimizer, ..Default::default() }
}

fn fit(run: Run<Zoo>, model: &str, loaders: &Loaders, seed: u64, device: &Device) -> Result<Zoo> {
    device.seed(seed);
    let network = model.parse::<ModelSpec>()?.init(InputShape::MNIST, 10, device)?;
    let outcome =
        run.progress(Shown::default()).fit(network, &loaders.train, &loaders.validation, Start::Resume)?;
    Ok(outcome.best)
}

fn test_errors(network: &Zoo, loaders: &Loaders, device: &Device) -> Result<usize> {
    let (rows, labels) = logits(network, &loaders.test, device)?;
    Ok(errors(&rows, &labels))
}

/// Test errors as mean ± sample deviation over the seeds.
fn table(results: &BTreeMap<&str, Vec<usize>>) -> String {
    let order = std::iter::once("teacher").chain(STUDENTS.iter().map(|(name, ..)| *name));
    let rows = order.filter_map(|name| Some((name, results.get(name)?))).map(|(name, errors)| {
        let count = errors.len() as f64;
        let mean = errors.iter().sum::<usize>() as f64 / count;
        let squares: f64 = errors.iter().map(|&wrong| (wrong as f64 - mean).powi(2)).sum();
        let deviation = (squares / (count - 1.0).max(1.0)).sqrt();
        format!("| {name} | {mean:.1} ± {deviation:.1} | {errors:?} |\n")
    });
    format!("| network | test errors | by seed |\n|---|---|---|\n{}", rows.collect::<String>())
}

#[expect(clippy::print_stdout, reason = "the results are this program's output")]
fn print(line: &str) {
    println!("{line}");
}
