//! One teacher, one student, many losses, several seeds: everything else the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use burn::tensor::{Device, Tensor};
use kd_core::losses::{METHODS, by_name};
use kd_core::{Compiled, Objective, Reduction};
use kd_data::{Augment, ImageDataset, Loader, Opened};
use kd_graph::Engine;
use kd_models::{InputShape, ModelSpec, Zoo};
use kd_train::teacher::NetworkTeacher;
use kd_train::{OptimizerSettings, Run, RunSettings, Shown, Start};

use crate::{errors, loader, logits, print};

/// A way to train the student: its name, the weight of the cross-entropy, and further terms as (loss, settings in TOML), each at its published weight.
pub type Candidate = (&'static str, f64, &'static [(&'static str, &'static str)]);

/// What is compared, and under which conditions.
pub struct Comparison {
    /// The teacher's model.
    pub teacher: &'static str,
    /// The student's model.
    pub student: &'static str,
    /// Epochs of the teacher.
    pub teacher_epochs: usize,
    /// Epochs of every student.
    pub student_epochs: usize,
    /// The same for all networks.
    pub optimizer: OptimizerSettings,
    /// The same for all networks.
    pub augment: Augment,
    /// Only this many of the training images, if given.
    pub limit: Option<usize>,
    /// How many seeds; seed, batch order and initial weights change together.
    pub seeds: u64,
    /// What computes the layers.
    pub engine: Engine,
    /// Where runs are kept.
    pub out: PathBuf,
}

struct Loaders {
    train: Loader<ImageDataset>,
    validation: Loader<ImageDataset>,
    test: Loader<ImageDataset>,
    shape: InputShape,
    classes: usize,
}

impl Comparison {
    /// Trains everything, prints a line of JSON per network and returns a table of test errors.
    ///
    /// # Errors
    /// When a run fails.
    pub fn run(&self, data: Opened, candidates: &[Candidate]) -> Result<String> {
        tracing::info!("{}", data.form);
        let held_out = data.validation;
        let (train, validation) = data.train.hold_out(held_out, 0)?;
        let train = data.train.keep(&train, self.limit.unwrap_or(usize::MAX), 0);
        let normalise = data.train.statistics(&train)?.normalise()?;
        let (images, test) = (Arc::new(data.train), Arc::new(data.test));
        let all: Vec<_> = (0..test.len()).collect();
        let shape = images.shape();
        let device = Device::flex();
        let mut results: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for seed in 0..self.seeds {
            let plain = Augment::default;
            let loaders = Loaders {
                train: loader(&images, &train, &normalise, self.augment.clone(), 128, true, seed)?,
                validation: loader(&images, &validation, &normalise, plain(), 500, false, 0)?,
                test: loader(&test, &all, &normalise, plain(), 500, false, 0)?,
                shape: InputShape::new(shape.channels, shape.height, shape.width),
                classes: images.classes().len(),
            };
            let folder = self.out.join(format!("seed{seed}"));
            let run = self.make(&folder, "teacher", self.teacher_epochs, seed, objective(1.0, &[])?, &device);
            let teacher = fit(run, self.teacher, &loaders, seed, self.engine, &device)?;
            results.entry("teacher").or_default().push(wrong("teacher", seed, &teacher, &loaders, &device)?);
            for &(name, hard, terms) in candidates {
                let mut run =
                    self.make(&folder, name, self.student_epochs, seed, objective(hard, terms)?, &device);
                if !terms.is_empty() {
                    run = run.teacher(NetworkTeacher::new("teacher", teacher.clone(), &device));
                }
                let student = fit(run, self.student, &loaders, seed + 1000, self.engine, &device)?;
                results.entry(name).or_default().push(wrong(name, seed, &student, &loaders, &device)?);
            }
        }
        Ok(table(&results, candidates))
    }

    fn make(
        &self,
        folder: &Path,
        name: &str,
        epochs: usize,
        seed: u64,
        objective: Objective,
        device: &Device,
    ) -> Run<Compiled<Zoo>> {
        let settings = RunSettings { seed, epochs, optimizer: self.optimizer.clone(), ..Default::default() };
        Run::new(folder.join(name), settings, objective, device).progress(Shown::default())
    }
}

fn objective(hard: f64, terms: &[(&str, &str)]) -> Result<Objective> {
    let mut objective = Objective::new();
    for (loss, settings) in terms {
        let weight = METHODS.iter().find(|method| method.name == *loss).map_or(1.0, |method| method.weight);
        objective = objective.with_boxed(loss, by_name(loss, settings.parse()?)?, weight, Reduction::Mean);
    }
    let labels = by_name("cross-entropy", toml::Table::new())?;
    Ok(objective.with_boxed("hard", labels, hard, Reduction::Mean))
}

fn fit(
    run: Run<Compiled<Zoo>>,
    model: &str,
    loaders: &Loaders,
    seed: u64,
    engine: Engine,
    device: &Device,
) -> Result<Compiled<Zoo>> {
    device.seed(seed);
    let network = model.parse::<ModelSpec>()?.init(loaders.shape, loaders.classes, device)?;
    let InputShape { channels, height, width } = loaders.shape;
    let network = Compiled::new(network, Tensor::zeros([1, channels, height, width], device), engine);
    Ok(run.fit(network, &loaders.train, &loaders.validation, Start::Resume)?.best)
}

fn wrong(
    name: &str,
    seed: u64,
    network: &Compiled<Zoo>,
    loaders: &Loaders,
    device: &Device,
) -> Result<usize> {
    let (rows, labels) = logits(network, &loaders.test, device)?;
    let wrong = errors(&rows, &labels);
    print(&serde_json::json!({ "network": name, "seed": seed, "test_errors": wrong }).to_string());
    Ok(wrong)
}

/// Test errors as mean ± sample deviation over the seeds.
fn table(results: &BTreeMap<&str, Vec<usize>>, candidates: &[Candidate]) -> String {
    let order = std::iter::once("teacher").chain(candidates.iter().map(|(name, ..)| *name));
    let rows = order.filter_map(|name| Some((name, results.get(name)?))).map(|(name, errors)| {
        let count = errors.len() as f64;
        let mean = errors.iter().sum::<usize>() as f64 / count;
        let squares: f64 = errors.iter().map(|&wrong| (wrong as f64 - mean).powi(2)).sum();
        let deviation = (squares / (count - 1.0).max(1.0)).sqrt();
        format!("| {name} | {mean:.1} ± {deviation:.1} | {errors:?} |\n")
    });
    format!("| network | test errors | by seed |\n|---|---|---|\n{}", rows.collect::<String>())
}
