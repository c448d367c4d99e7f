//! Networks trained and measured side by side.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use kd_core::{Compiled, Network, OUTPUT};
use kd_data::mix;
use kd_graph::Engine;
use kd_models::{ModelSpec, Zoo, force_init, parameter_count};
use kd_train::metrics::{Accuracy, NegativeLogLikelihood};
use kd_train::report::Sweep;
use kd_train::teacher::{NetworkTeacher, Teacher};
use kd_train::weights::{Source, load};
use kd_train::{HostBatch, Outcome, Run, Shown, Start};

use super::attention;
use super::data::Data;
use super::error::StudyError;
use super::measure::{Latency, measure};
use super::plan::{CACHE, Plan, Setting, Task, slug};
use super::results::{Candidate, Results, SeedResult};

/// Mixed with the run's seed for initial weights, so that they share nothing with the run's other draws.
const WEIGHTS: u64 = 0x7765_6967_6874_7300;

/// How a study works.
#[derive(Clone, Debug)]
pub struct StudySettings {
    /// Where it writes; every network has a folder in it.
    pub folder: PathBuf,
    /// The device, without autodiff.
    pub device: Device,
    /// What computes the layers of networks that are compiled.
    pub engine: Engine,
    /// Gradient checkpointing: compiled networks keep less for the backward pass and compute it again.
    pub recompute: bool,
    /// How often every network is trained, each time with another seed.
    pub seeds: usize,
    /// What to do with runs that are in the folder already.
    pub start: Start,
    /// Once true, the run in progress writes a checkpoint and stops.
    pub stop: Arc<AtomicBool>,
    /// How to show progress.
    pub display: Display,
}

/// How a study shows the progress of its runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Display {
    /// Not at all.
    Silent,
    /// A bar on standard error if that is a terminal, else lines in the log.
    Bar,
    /// burn-train's live charts.
    #[cfg(feature = "tui")]
    Charts,
}

/// Trains and measures networks on the same data.
pub struct Study {
    settings: StudySettings,
    data: Data,
    reference: Option<Vec<Tensor<2>>>,
    results: Results,
}

/// A network that a study trained.
pub struct Trained<N> {
    /// What it is called in tables.
    pub name: String,
    /// The network of the epoch that validation chose, in evaluation form, with the run's records.
    pub outcome: Outcome<N>,
    /// The run's folder.
    pub folder: PathBuf,
    /// The run's seed.
    pub seed: u64,
}

impl<N: Network<Input = Tensor<4>>> Trained<N> {
    /// The network as a teacher.
    pub fn teacher(&self, device: &Device) -> NetworkTeacher<N> {
        NetworkTeacher::new(&self.name, self.outcome.best.clone(), device)
    }
}

impl Study {
    /// A study called `title`. Told to overwrite, it removes the folder's cached teacher outputs.
    ///
    /// # Errors
    /// [`StudyError::Io`] when they cannot be removed.
    pub fn new(title: impl Into<String>, data: Data, settings: StudySettings) -> Result<Self, StudyError> {
        let cache = settings.folder.join(CACHE);
        if settings.start == Start::Overwrite && cache.exists() {
            std::fs::remove_dir_all(&cache).map_err(StudyError::io(cache))?;
        }
        let results = Results::new(title.into(), &data, &settings.device);
        Ok(Self { settings, data, reference: None, results })
    }

    /// The data.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The device, without autodiff.
    pub fn device(&self) -> &Device {
        &self.settings.device
    }

    /// Where the study writes.
    pub fn folder(&self) -> &Path {
        &self.settings.folder
    }

    /// What was measured so far.
    pub fn results(&self) -> &Results {
        &self.results
    }

    /// Trains a network once per seed: a row with mean and standard deviation.
    ///
    /// # Errors
    /// [`StudyError`].
    pub fn train<N: Network<Input = Tensor<4>>>(
        &mut self,
        plan: &Plan<'_, N>,
    ) -> Result<Vec<Trained<N>>, StudyError> {
        self.seeds(plan.settings.seed).map(|seed| self.train_seed(plan, seed)).collect()
    }

    /// The seeds of a plan whose first is `first`.
    pub fn seeds(&self, first: u64) -> std::ops::Range<u64> {
        first..first + self.settings.seeds as u64
    }

    /// Trains a network with its first seed only, as teachers are.
    ///
    /// # Errors
    /// [`StudyError`].
    pub fn train_once<N: Network<Input = Tensor<4>>>(
        &mut self,
        plan: &Plan<'_, N>,
    ) -> Result<Trained<N>, StudyError> {
        self.train_seed(plan, plan.settings.seed)
    }

    /// From now on, says how often networks agree with these teachers (with the mean of their probabilities).
    ///
    /// # Errors
    /// [`StudyError`].
    pub fn compare_with<N: Network<Input = Tensor<4>>>(
        &mut self,
        teachers: &[NetworkTeacher<N>],
    ) -> Result<(), StudyError> {
        let mut teachers = teachers.to_vec();
        let mut reference = Vec::new();
        for loaded in self.data.test()?.epoch(0, 0) {
            let loaded = loaded?;
            let (input, _) = loaded.batch.to_device(&self.settings.device);
            let mut sum: Option<Tensor<2>> = None;
            for teacher in &mut teachers {
                let taps = teacher.taps(&input, &loaded.ids, 0, &[])?;
                let output = taps.get::<2>(OUTPUT).map_err(kd_train::metrics::MetricError::from)?;
                let share = softmax(output, 1);
                sum = Some(sum.map_or(share.clone(), |sum| sum + share));
            }
            reference.extend(sum);
        }
        self.reference = (!teachers.is_empty()).then_some(reference);
        Ok(())
    }

    /// Measures a network that was not trained here, as a row.
    ///
    /// # Errors
    /// [`StudyError`].
    pub fn add<N: Network<Input = Tensor<4>>>(
        &mut self,
        name: &str,
        network: &N,
        bytes: u64,
    ) -> Result<(), StudyError> {
        self.add_result(name, network, bytes, None)
    }

    /// As [`add`](Self::add), for what was made of a network of this seed.
    ///
    /// # Errors
    /// [`StudyError`].
    pub fn add_seed<N: Network<Input = Tensor<4>>>(
        &mut self,
        name: &str,
        network: &N,
        bytes: u64,
        seed: u64,
    ) -> Result<(), StudyError> {
        self.add_result(name, network, bytes, Some(seed))
    }

    /// Adds a section to the report: a chart and its numbers.
    pub fn add_sweep(&mut self, sweep: Sweep) {
        self.results.sweeps.push(sweep);
    }

    /// Adds a paragraph to the report.
    pub fn add_note(&mut self, note: impl Into<String>) {
        self.results.notes.push(note.into());
    }

    fn add_result<N: Network<Input = Tensor<4>>>(
        &mut self,
        name: &str,
        network: &N,
        bytes: u64,
        seed: Option<u64>,
    ) -> Result<(), StudyError> {
        let test = self.data.test()?;
        let best = measure(network, &test, self.reference.as_deref(), &self.settings.device)?;
        let latency = Latency::of(network, &test, &self.settings.device)?;
        let candidate = Candidate::new(name, parameter_count(network), network.macs(), bytes);
        let result = SeedResult { seed, folder: None, best_epoch: None, last: best.clone(), best, latency };
        self.results.add(candidate, result);
        Ok(())
    }

    /// Adds a network's attention maps on sample images to the report: `taps` name feature maps `[batch, channel, h, w]`.
    ///
    /// # Errors
    /// [`StudyError`] for a tap that is not there or is no feature map.
    pub fn show_attention<N: Network<Input = Tensor<4>>>(
        &mut self,
        name: &str,
        network: &N,
        taps: &[String],
    ) -> Result<(), StudyError> {
        let test = self.data.test()?;
        if self.results.attention.is_empty() {
            self.results.attention = attention::samples(&test);
        }
        attention::add(&mut self.results.attention, name, network, taps, &test, &self.settings.device)
    }

    /// Loads a network of the zoo, measures it as a row, and returns it as a teacher.
    ///
    /// `weights` is a file that [`kd_train::weights::load`] reads, or a run's folder.
    ///
    /// # Errors
    /// [`StudyError`]; weights that do not fit are listed by name and shape.
    pub fn load(
        &mut self,
        name: &str,
        model: &ModelSpec,
        weights: &Path,
    ) -> Result<NetworkTeacher<Compiled<Zoo>>, StudyError> {
        let file = if weights.is_dir() { weights.join("student.bpk") } else { weights.to_path_buf() };
        let bytes = std::fs::metadata(&file).map_err(StudyError::io(&file))?.len();
        let task = self.task();
        let network = model.init(task.input, task.classes, task.device)?;
        let network = task.compile(load(network, &Source::new(&file))?);
        self.add(name, &network, bytes)?;
        Ok(NetworkTeacher::new(name, network, &self.settings.device))
    }

    /// What the study's networks are made for.
    pub fn task(&self) -> Task<'_> {
        let StudySettings { ref device, engine, recompute, .. } = self.settings;
        Task { input: self.data.input(), classes: self.data.classes().len(), device, engine, recompute }
    }

    /// Seeds the device as before a run of this seed makes its network.
    pub fn seed_weights(&self, seed: u64) {
        self.settings.device.seed(mix(&[seed, WEIGHTS]));
    }

    /// Trains a network with one seed, whatever the plan's.
    ///
    /// # Errors
    /// [`StudyError`].
    pub fn train_seed<N: Network<Input = Tensor<4>>>(
        &mut self,
        plan: &Plan<'_, N>,
        seed: u64,
    ) -> Result<Trained<N>, StudyError> {
        let device = &self.settings.device;
        self.seed_weights(seed);
        let network = (plan.network)(&self.task())?;
        force_init(&network);

        let relative = PathBuf::from(format!("{}-seed-{seed}", slug(&plan.name)));
        let folder = self.settings.folder.join(&relative);
        let mut settings = kd_train::RunSettings { seed, ..plan.settings.clone() };
        settings.optimizer.kernels &= self.settings.engine == Engine::Kernels;
        let mut run = Run::new(&folder, settings, (plan.objective)()?, device)
            .metrics(vec![Box::new(Accuracy::default()), Box::new(NegativeLogLikelihood::default())])
            .stop_flag(self.settings.stop.clone());
        run = match self.settings.display {
            Display::Silent => run,
            Display::Bar => run.progress(Shown::default()),
            #[cfg(feature = "tui")]
            Display::Charts => run.progress(kd_train::Tui::new(self.settings.stop.clone())),
        };
        let setting = Setting { data: &self.data, seed, folder: &self.settings.folder, device };
        for change in &plan.customise {
            run = change(run, &setting)?;
        }
        tracing::info!("{}, seed {seed}: {} parameters", plan.name, parameter_count(&network));
        let outcome =
            run.fit(network, &self.data.train(seed)?, &self.data.validation()?, self.settings.start);
        let outcome = outcome
            .map_err(|source| StudyError::Run { name: plan.name.clone(), source: Box::new(source) })?;
        self.measure_trained(&plan.name, seed, &outcome, &folder, relative)?;
        Ok(Trained { name: plan.name.clone(), outcome, folder, seed })
    }

    fn measure_trained<N: Network<Input = Tensor<4>>>(
        &mut self,
        name: &str,
        seed: u64,
        outcome: &Outcome<N>,
        folder: &Path,
        relative: PathBuf,
    ) -> Result<(), StudyError> {
        let (test, device) = (self.data.test()?, &self.settings.device);
        let reference = self.reference.as_deref();
        let best = measure(&outcome.best, &test, reference, device)?;
        let last = match outcome.records.len() == outcome.best_epoch + 1 {
            true => best.clone(),
            false => measure(&outcome.last, &test, reference, device)?,
        };
        let latency = Latency::of(&outcome.best, &test, device)?;
        let file = folder.join("student.safetensors");
        let bytes = std::fs::metadata(&file).map_err(StudyError::io(&file))?.len();
        let candidate = Candidate::new(name, parameter_count(&outcome.best), outcome.best.macs(), bytes);
        tracing::info!(
            "{name}, seed {seed}: test accuracy {:.2} %, {} errors",
            100.0 * best.accuracy,
            best.errors
        );
        let best_epoch = Some(outcome.best_epoch);
        let result = SeedResult { seed: Some(seed), folder: Some(relative), best_epoch, best, last, latency };
        self.results.add(candidate, result);
        Ok(())
    }

    /// Writes `results.json` and `report.html` and returns the results.
    ///
    /// # Errors
    /// [`StudyError::Io`].
    pub fn finish(self) -> Result<Results, StudyError> {
        self.results.write(&self.settings.folder)?;
        Ok(self.results)
    }
}
