//! One reproducible training run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use kd_core::{Network, Objective, SettingsError, in_range};
use kd_data::{Dataset, Loader, LoaderSettings};
use serde::{Deserialize, Serialize};

use crate::batch::HostBatch;
use crate::checkpoint::sha256;
use crate::error::RunError;
use crate::fit::Fit;
use crate::hook::Hook;
use crate::log::EpochRecord;
use crate::metrics::{Accuracy, Metric};
use crate::optimizer::OptimizerSettings;
use crate::progress::{Progress, Silent};
use crate::teacher::Teacher;

/// Settings of a run.
///
/// | key | default | range |
/// |---|---|---|
/// | `seed` | 0 | any: adapters, dropout and what hooks draw; the loader's order and augmentation have a seed of their own |
/// | `epochs` | 10 | 1 or more |
/// | `checkpoint-steps` | none | 1 or more: a checkpoint within an epoch every so many steps; there is one after every epoch |
/// | `optimizer` | | see [`OptimizerSettings`] |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct RunSettings {
    /// Seed of everything random in the run.
    pub seed: u64,
    /// Passes over the training data.
    pub epochs: usize,
    /// Steps between checkpoints within an epoch.
    pub checkpoint_steps: Option<usize>,
    /// Optimizer and schedule.
    pub optimizer: OptimizerSettings,
}

impl Default for RunSettings {
    fn default() -> Self {
        Self { seed: 0, epochs: 10, checkpoint_steps: None, optimizer: OptimizerSettings::default() }
    }
}

impl RunSettings {
    /// Checks every value.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`].
    pub fn validate(&self) -> Result<(), SettingsError> {
        in_range("epochs", self.epochs, self.epochs > 0, "1 or more")?;
        if let Some(steps) = self.checkpoint_steps {
            in_range("checkpoint-steps", steps, steps > 0, "1 or more, or left out")?;
        }
        self.optimizer.validate()
    }
}

/// What to do with what a folder holds already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// Start; a run in the folder is an error.
    #[default]
    New,
    /// Go on from the newest good checkpoint, or start if there is none. A finished student without checkpoints is an error.
    Resume,
    /// Remove the old run's student, checkpoints and logs, and start.
    Overwrite,
}

/// What a run leaves.
#[derive(Clone, Debug)]
pub struct Outcome<N> {
    /// The student of the epoch that validation chose, in eval form.
    pub best: N,
    /// The student after the last epoch, in eval form.
    pub last: N,
    /// The chosen epoch, from 0.
    pub best_epoch: usize,
    /// The first validation metric at that epoch.
    pub best_value: f64,
    /// Every epoch's record.
    pub records: Vec<EpochRecord>,
}

/// One training run: seeds → loader → step → metrics → checkpoints.
///
/// `validation` is read as it comes: give it a loader without augmentation. The run's folder receives `metrics.jsonl`, `timing.jsonl`, `checkpoints/`, and at the end `student.bpk` and `student.safetensors`, the weights of the
/// best epoch, which load with burn alone. The best epoch is the one with the best *first* validation metric, never chosen on test data.
///
/// Batch order, augmentation and dropout are functions of seed and step: a killed run resumes bit for bit at the same thread count.
///
/// ```no_run
/// use std::sync::Arc;
/// use burn::tensor::Device;
/// use kd_core::{Objective, losses::CrossEntropySettings};
/// use kd_data::{Augment, ImageDataset, Loader, LoaderSettings, digits};
/// use kd_models::{InputShape, ModelSpec};
/// use kd_train::{Run, RunSettings, Start};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::flex();
/// let images = Arc::new(digits::generate(6_000, 0));
/// let (train, validation) = images.hold_out(1_000, 0)?;
/// let normalise = images.statistics(&train)?.normalise()?;
/// let loader = |ids| {
///     let dataset = ImageDataset::new(images.clone(), ids, normalise.clone(), Augment::default())?;
///     Loader::new(Arc::new(dataset), LoaderSettings::default())
/// };
/// let student = "lenet5".parse::<ModelSpec>()?.init(InputShape::new(1, 28, 28), 10, &device)?;
/// let objective = Objective::new().with("cross-entropy", CrossEntropySettings::default().build()?, 1.0);
/// let outcome = Run::new("runs/lenet5", RunSettings::default(), objective, &device)
///     .fit(student, &loader(train)?, &loader(validation)?, Start::New)?;
/// println!("best epoch {}: {:.2} %", outcome.best_epoch + 1, 100.0 * outcome.best_value);
/// # Ok(())
/// # }
/// ```
pub struct Run<N: Network> {
    pub(crate) folder: PathBuf,
    pub(crate) settings: RunSettings,
    pub(crate) objective: Objective,
    pub(crate) device: Device,
    pub(crate) teachers: Vec<Box<dyn Teacher<N::Input>>>,
    pub(crate) metrics: Vec<Box<dyn Metric>>,
    pub(crate) hooks: Vec<Box<dyn Hook<N>>>,
    pub(crate) progress: Box<dyn Progress>,
    pub(crate) stop: Arc<AtomicBool>,
}

impl<N: Network> Run<N> {
    /// A run that writes into `folder` and works on `device`, with accuracy as its metric, no teacher, no hooks and no display.
    pub fn new(
        folder: impl Into<PathBuf>,
        settings: RunSettings,
        objective: Objective,
        device: &Device,
    ) -> Self {
        Self {
            folder: folder.into(),
            settings,
            objective,
            device: device.clone().autodiff(),
            teachers: Vec::new(),
            metrics: vec![Box::new(Accuracy::default())],
            hooks: Vec::new(),
            progress: Box::new(Silent),
            stop: Arc::default(),
        }
    }

    /// Adds a teacher; several are an ensemble.
    #[must_use]
    pub fn teacher(mut self, teacher: impl Teacher<N::Input> + 'static) -> Self {
        self.teachers.push(Box::new(teacher));
        self
    }

    /// Replaces the metrics; the first one chooses the best epoch.
    #[must_use]
    pub fn metrics(mut self, metrics: Vec<Box<dyn Metric>>) -> Self {
        self.metrics = metrics;
        self
    }

    /// Adds a hook; hooks run in the order they were added.
    #[must_use]
    pub fn hook(mut self, hook: impl Hook<N> + 'static) -> Self {
        self.hooks.push(Box::new(hook));
        self
    }

    /// As [`hook`](Self::hook), for one that is in a box already.
    #[must_use]
    pub fn boxed_hook(mut self, hook: Box<dyn Hook<N>>) -> Self {
        self.hooks.push(hook);
        self
    }

    /// Shows progress.
    #[must_use]
    pub fn progress(mut self, progress: impl Progress + 'static) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// A flag that stops the run with a checkpoint once it is true, as Ctrl-C does.
    #[must_use]
    pub fn stop_flag(mut self, stop: Arc<AtomicBool>) -> Self {
        self.stop = stop;
        self
    }

    /// Where the run writes.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Trains `student` and returns it.
    ///
    /// # Errors
    /// [`RunError`]: settings, shapes and taps before the first step; a loss that is not finite; an interruption.
    pub fn fit<T, V>(
        mut self,
        student: N,
        train: &Loader<T>,
        validation: &Loader<V>,
        start: Start,
    ) -> Result<Outcome<N>, RunError>
    where
        T: Dataset,
        T::Batch: HostBatch<Input = N::Input>,
        V: Dataset,
        V::Batch: HostBatch<Input = N::Input>,
    {
        self.settings.validate()?;
        let some = !self.metrics.is_empty();
        in_range("metrics", "an empty list", some, "at least one metric: it chooses the best epoch")?;
        let mut names = BTreeSet::new();
        for hook in &self.hooks {
            let fresh = names.insert(hook.name());
            in_range("hooks", hook.name(), fresh, "a name that no other hook of the run has")?;
        }
        Fit::new(&mut self, student, train, start)?.run(train, validation)
    }

    /// A hash of all that must be the same when a run is resumed: settings, objective, shapes of the learner, teachers, hooks, and how the
    /// loader cuts and orders its data.
    pub(crate) fn key<T: Dataset>(
        &self,
        shapes: &[(String, Vec<usize>)],
        teachers: &[String],
        train: &Loader<T>,
    ) -> String {
        let hooks: Vec<_> = self.hooks.iter().map(|hook| hook.name()).collect();
        // How far the loader works ahead changes nothing that it gives.
        let loader = LoaderSettings { prefetch: 0, ..train.settings().clone() };
        let (settings, objective, samples) = (&self.settings, &self.objective, train.dataset().len());
        let text =
            format!("{settings:?} {objective:?} {shapes:?} {teachers:?} {hooks:?} {loader:?} {samples}");
        sha256(text.as_bytes())
    }
}
