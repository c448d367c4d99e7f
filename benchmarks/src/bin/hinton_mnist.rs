//! Hinton's MNIST experiment: a large regularised teacher, a smaller student alone and distilled, and a student that never sees a 3.
//!
//! Hinton, Vinyals, Dean 2015, section 3. Command:
//!
//! ```text
//! KD_DATA_DIR=DIR cargo run --release -p kd-bench --bin hinton_mnist -- --out runs/hinton
//! ```
//!
//! All networks train on all 60,000 images and the errors are those after the last epoch: nothing is chosen on test data. (The 1,000 training
//! images that the run calls its validation split are only watched.) Prints one line of JSON per network.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use burn::tensor::Device;
use clap::Parser;
use kd_bench::{argmax, errors, loader, log, logits, open, print};
use kd_core::Objective;
use kd_core::losses::{CrossEntropySettings, SoftTargetsSettings};
use kd_data::{Augment, ImageDataset, Images, Loader, Normalise};
use kd_models::{InputShape, ModelSpec, Zoo};
use kd_train::teacher::NetworkTeacher;
use kd_train::{LearningRateSchedule, OptimizerSettings, Run, RunSettings, Shown, Start};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Options {
    /// Folder with the datasets; $KD_DATA_DIR otherwise.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Where runs are kept; a killed program goes on from there.
    #[arg(long, default_value = "runs/hinton")]
    out: PathBuf,
    #[arg(long, default_value_t = 40)]
    teacher_epochs: usize,
    #[arg(long, default_value_t = 30)]
    student_epochs: usize,
    /// Temperature of the soft targets.
    #[arg(long, default_value_t = 20.0)]
    temperature: f64,
    /// Which students, by name, separated by commas.
    #[arg(long, default_value = "alone,soft,mixed,without-3", value_delimiter = ',')]
    students: Vec<String>,
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// MNIST in memory, normalised with the training split's statistics.
struct Mnist {
    train: Arc<Images>,
    test: Arc<Images>,
    normalise: Normalise,
}

impl Mnist {
    fn training(
        &self,
        keep: impl Fn(u32) -> bool,
        augment: Augment,
        seed: u64,
    ) -> Result<Loader<ImageDataset>> {
        let labels = self.train.labels();
        let ids: Vec<_> = (0..labels.len()).filter(|&id| keep(labels[id])).collect();
        loader(&self.train, &ids, &self.normalise, augment, 128, true, seed)
    }

    fn watched(&self) -> Result<Loader<ImageDataset>> {
        let ids: Vec<_> = (0..1000).collect();
        loader(&self.train, &ids, &self.normalise, Augment::default(), 500, false, 0)
    }

    fn testing(&self) -> Result<Loader<ImageDataset>> {
        let ids: Vec<_> = (0..self.test.len()).collect();
        loader(&self.test, &ids, &self.normalise, Augment::default(), 500, false, 0)
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    log();
    let opened = open("mnist", options.data_dir.as_deref())?;
    tracing::info!("{}", opened.form);
    let all: Vec<_> = (0..opened.train.len()).collect();
    let normalise = opened.train.statistics(&all)?.normalise()?;
    let mnist = Mnist { train: Arc::new(opened.train), test: Arc::new(opened.test), normalise };
    let device = Device::flex();

    let hard = || CrossEntropySettings::default().build();
    let soft = || SoftTargetsSettings { temperature: options.temperature, ..Default::default() }.build();
    let jitter = Augment { jitter: 2, ..Augment::default() };
    let training = mnist.training(|_| true, jitter, options.seed)?;
    let objective = Objective::new().with("hard", hard()?, 1.0);
    let model = "mlp:1200,1200;dropout=0.2,0.5";
    let settings = settings(options.teacher_epochs, 0.05, options.seed);
    let run = Run::new(options.out.join("teacher"), settings, objective, &device);
    let teacher = fit(run, model, &training, &mnist, options.seed, &device)?;
    report("teacher", options.teacher_epochs, &teacher, &mnist, &device)?;

    for name in &options.students {
        let (objective, rate) = match name.as_str() {
            "alone" => (Objective::new().with("hard", hard()?, 1.0), 0.05),
            "mixed" => (Objective::new().with("soft", soft()?, 0.9).with("hard", hard()?, 0.1), 0.02),
            "soft" | "without-3" => (Objective::new().with("soft", soft()?, 1.0), 0.02),
            other => anyhow::bail!("there is no student `{other}`; there are alone, soft, mixed, without-3"),
        };
        let keep = |label: u32| name != "without-3" || label != 3;
        let training = mnist.training(keep, Augment::default(), options.seed)?;
        let settings = self::settings(options.student_epochs, rate, options.seed);
        let mut run = Run::new(options.out.join(name), settings, objective, &device);
        if name != "alone" {
            run = run.teacher(NetworkTeacher::new("teacher", teacher.clone(), &device));
        }
        let student = fit(run, "mlp:800,800", &training, &mnist, options.seed + 1, &device)?;
        report(name, options.student_epochs, &student, &mnist, &device)?;
        if name == "without-3" {
            bias_correction(&student, &mnist, &device)?;
        }
    }
    Ok(())
}

fn settings(epochs: usize, learning_rate: f64, seed: u64) -> RunSettings {
    let schedule = LearningRateSchedule::Cosine { minimum: 0.0 };
    let optimizer = OptimizerSettings { learning_rate, schedule, ..Default::default() };
    RunSettings { seed, epochs, optimizer, ..Default::default() }
}

fn fit(
    run: Run<Zoo>,
    model: &str,
    training: &Loader<ImageDataset>,
    mnist: &Mnist,
    seed: u64,
    device: &Device,
) -> Result<Zoo> {
    device.seed(seed);
    let network = model.parse::<ModelSpec>()?.init(InputShape::MNIST, 10, device)?;
    Ok(run.progress(Shown::default()).fit(network, training, &mnist.watched()?, Start::Resume)?.last)
}

fn report(name: &str, epochs: usize, network: &Zoo, mnist: &Mnist, device: &Device) -> Result<()> {
    let (rows, labels) = logits(network, &mnist.testing()?, device)?;
    print(
        &serde_json::json!({ "network": name, "epochs": epochs, "test_errors": errors(&rows, &labels) })
            .to_string(),
    );
    Ok(())
}

/// Raises the logit of class 3 in steps of 0.1. The paper takes the amount that is best on the test set; the other line takes the one that makes 3
/// as frequent among the predictions as it is in the training labels, which needs no test labels.
fn bias_correction(network: &Zoo, mnist: &Mnist, device: &Device) -> Result<()> {
    let (rows, labels) = logits(network, &mnist.testing()?, device)?;
    let share =
        mnist.train.labels().iter().filter(|&&label| label == 3).count() as f64 / mnist.train.len() as f64;
    let raised = |bias: f64| {
        let mut rows = rows.clone();
        rows.iter_mut().for_each(|row| row[3] += bias as f32);
        let wrong = errors(&rows, &labels);
        let threes = rows.iter().zip(&labels).filter(|(_, label)| **label == 3);
        let missed = threes.filter(|(row, _)| argmax(row) != 3).count();
        let predicted = rows.iter().filter(|row| argmax(row) == 3).count() as f64 / rows.len() as f64;
        (bias, wrong, missed, (predicted - share).abs())
    };
    let all: Vec<_> = (0..=200).map(|tenths| raised(f64::from(tenths) / 10.0)).collect();
    let best = all.iter().min_by_key(|(_, wrong, ..)| *wrong);
    let matched = all.iter().min_by(|a, b| a.3.total_cmp(&b.3));
    for (name, chosen) in [
        ("no correction", all.first()),
        ("best on test, as in the paper", best),
        ("frequency of 3 in training", matched),
    ] {
        if let Some((bias, wrong, missed, _)) = chosen {
            let line = serde_json::json!({ "network": "without-3", "bias": name, "raised_by": bias, "test_errors": wrong, "errors_on_3": missed });
            print(&line.to_string());
        }
    }
    Ok(())
}
