//! The loop of a run: epochs, checkpoints, the best student.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Instant;

use burn::lr_scheduler::LrSchedulerRecord;
use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::store::{ModuleRecord, RecordError};
use burn::tensor::Bytes;
use kd_core::{Network, Probe, Taps, Time, Wants};
use kd_data::{Dataset, Loader, mix};

use crate::batch::HostBatch;
use crate::checkpoint::{Best, Checkpoint, Checkpoints, Exact, State, Sums};
use crate::error::RunError;
use crate::evaluate::evaluate;
use crate::hook::LearnerState;
use crate::learner::Learner;
use crate::log::{self, EpochRecord, TimingRecord};
use crate::record::{self, identify};
use crate::run::{Outcome, Run, Start};
use crate::step::Clock;
use crate::weights;

const MODEL: &str = "model.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
const SCHEDULE: &str = "schedule.bpk";
const BEST: &str = "best.bpk";
const METRICS: &str = "metrics.jsonl";
const TIMING: &str = "timing.jsonl";
/// Checkpoints that stay: the newest and one to fall back on.
const KEEP: usize = 2;

/// What a seed is for; mixed with the run's seed.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    Adapters = 1,
    Step = 2,
}

/// A run in progress.
pub(crate) struct Fit<'a, N: Network> {
    pub(crate) run: &'a mut Run<N>,
    pub(crate) learner: Learner<N>,
    pub(crate) optimizer: ModuleOptimizer,
    pub(crate) schedule: ModuleLrScheduler,
    pub(crate) state: State,
    pub(crate) wants: Wants,
    pub(crate) last_checkpoint: Option<PathBuf>,
    checkpoints: Checkpoints,
    steps_per_epoch: usize,
    teachers: Vec<String>,
}

impl<'a, N: Network> Fit<'a, N> {
    /// Checks everything that can be checked before the first step, and takes up a checkpoint if there is one to take up.
    pub(crate) fn new<T>(
        run: &'a mut Run<N>,
        student: N,
        train: &Loader<T>,
        start: Start,
    ) -> Result<Self, RunError>
    where
        T: Dataset,
        T::Batch: HostBatch<Input = N::Input>,
    {
        let inner = run.device.clone().without_autodiff();
        let student = student.valid().to_device(&inner);
        let wants = run.objective.wants();
        inner.seed(mix(&[run.settings.seed, Purpose::Adapters as u64]));
        let probe = probe(run, &student, train, &wants)?;
        let adapters = run.objective.init(&probe)?;
        let steps_per_epoch = train.batches().div_ceil(run.settings.optimizer.accumulate);
        let teachers = run.teachers.iter().map(|teacher| teacher.fingerprint()).collect::<Result<_, _>>()?;
        let key = run.key(student.num_params() + adapters.num_params(), train.batches());
        let mut fit = Self {
            learner: identify(Learner { student, adapters }.train()),
            optimizer: run.settings.optimizer.optimizer()?,
            schedule: run.settings.optimizer.scheduler(run.settings.epochs, steps_per_epoch)?,
            state: State { settings: key, scales: exact(&run.objective.scales()), ..State::default() },
            wants,
            last_checkpoint: None,
            checkpoints: Checkpoints::new(run.folder.join("checkpoints"), KEEP),
            steps_per_epoch,
            teachers,
            run,
        };
        fit.begin(start)?;
        Ok(fit)
    }

    fn begin(&mut self, start: Start) -> Result<(), RunError> {
        let folder = self.run.folder.clone();
        let failed = |source| log::LogError::Io { path: folder.clone(), source };
        fs::create_dir_all(&folder).map_err(failed)?;
        let holds_a_run = folder.join("checkpoints").exists() || folder.join(METRICS).exists();
        match start {
            Start::New if holds_a_run => return Err(RunError::Exists { folder }),
            Start::New => {}
            Start::Overwrite => {
                for name in [METRICS, TIMING, BEST] {
                    remove(&folder.join(name)).map_err(failed)?;
                }
                if folder.join("checkpoints").exists() {
                    fs::remove_dir_all(folder.join("checkpoints")).map_err(failed)?;
                }
            }
            Start::Resume => {
                if let Some(checkpoint) = self.checkpoints.latest()? {
                    self.restore(checkpoint)?;
                }
            }
        }
        let epoch = self.state.epoch;
        log::retain(&folder.join(METRICS), |record: &EpochRecord| record.epoch < epoch)?;
        log::retain(&folder.join(TIMING), |record: &TimingRecord| record.epoch < epoch)?;
        Ok(())
    }

    fn restore(&mut self, checkpoint: Checkpoint) -> Result<(), RunError> {
        if checkpoint.state.settings != self.state.settings {
            return Err(RunError::Changed { folder: self.run.folder.clone() });
        }
        let failed = |source| record_error("checkpoint", source);
        let bytes = |name: &str| Ok::<_, RunError>(Bytes::from_bytes_vec(checkpoint.file(name)?));
        let model = ModuleRecord::from_bytes(bytes(MODEL)?).map_err(failed)?;
        self.learner = self.learner.valid().try_load_record(model).map_err(failed)?.train();
        self.optimizer = self.optimizer.clone().from_bytes(bytes(OPTIMIZER)?).map_err(failed)?;
        let schedule = LrSchedulerRecord::from_bytes(bytes(SCHEDULE)?).map_err(failed)?;
        self.schedule = self.schedule.clone().load_record(schedule);
        let scales: Vec<f64> = checkpoint.state.scales.iter().map(|scale| scale.0).collect();
        self.run.objective.set_scales(&scales);
        for hook in &mut self.run.hooks {
            let state = checkpoint.state.hooks.get(hook.name()).cloned().unwrap_or_default();
            let restored = hook.restore(state);
            restored.map_err(|source| RunError::Hook { hook: hook.name().to_owned(), source })?;
        }
        tracing::info!("resuming {} at step {}", checkpoint.path.display(), checkpoint.state.step);
        self.last_checkpoint = Some(checkpoint.path);
        self.state = checkpoint.state;
        Ok(())
    }

    /// Trains to the end and gathers what the run leaves.
    pub(crate) fn run<T, V>(
        mut self,
        train: &Loader<T>,
        validation: &Loader<V>,
    ) -> Result<Outcome<N>, RunError>
    where
        T: Dataset,
        T::Batch: HostBatch<Input = N::Input>,
        V: Dataset,
        V::Batch: HostBatch<Input = N::Input>,
    {
        while self.state.epoch < self.run.settings.epochs {
            self = self.epoch(train, validation)?;
        }
        let folder = self.run.folder.clone();
        let last = self.learner.student.valid();
        let bytes = fs::read(folder.join(BEST))
            .map_err(|source| log::LogError::Io { path: folder.join(BEST), source })?;
        let record = ModuleRecord::from_bytes(Bytes::from_bytes_vec(bytes));
        let best = record.and_then(|record| last.valid().try_load_record(record));
        let best = best.map_err(|source| record_error(BEST, source))?;
        weights::save(&best, &folder.join("student.bpk"))?;
        weights::save(&best, &folder.join("student.safetensors"))?;
        let records = log::read(&folder.join(METRICS))?;
        let chosen = self.state.best.unwrap_or(Best { epoch: 0, value: Exact(f64::NAN) });
        Ok(Outcome { best, last, best_epoch: chosen.epoch, best_value: chosen.value.0, records })
    }

    fn epoch<T, V>(mut self, train: &Loader<T>, validation: &Loader<V>) -> Result<Self, RunError>
    where
        T: Dataset,
        T::Batch: HostBatch<Input = N::Input>,
        V: Dataset,
        V::Batch: HostBatch<Input = N::Input>,
    {
        let (epoch, done) = (self.state.epoch, self.state.step_in_epoch);
        let name = self.run.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.run.progress.epoch(&name, epoch, self.run.settings.epochs, self.steps_per_epoch, done);
        let accumulate = self.run.settings.optimizer.accumulate;
        let mut batches = train.epoch(epoch as u64, done * accumulate);
        let view = train.pass(epoch as u64).view;
        let mut clock = Clock::default();
        let started = Instant::now();
        while self.state.step_in_epoch < self.steps_per_epoch {
            let loaded = clock.loader(|| batches.by_ref().take(accumulate).collect::<Result<Vec<_>, _>>())?;
            self = self.step(loaded, view, &mut clock)?;
            self.stop_or_save()?;
        }
        let seconds = started.elapsed().as_secs_f64() - clock.diagnostics;
        self.end_epoch(validation, &clock, seconds)
    }

    /// Where the run is.
    pub(crate) fn time(&self) -> Time {
        let total_steps = self.run.settings.epochs * self.steps_per_epoch;
        Time { epoch: self.state.epoch, step: self.state.step, total_steps }
    }

    fn stop_or_save(&mut self) -> Result<(), RunError> {
        let stop = self.run.stop.load(Ordering::SeqCst);
        let due =
            self.run.settings.checkpoint_steps.is_some_and(|every| self.state.step.is_multiple_of(every));
        let inside = self.state.step_in_epoch < self.steps_per_epoch;
        if stop || (due && inside) {
            let checkpoint = self.save()?;
            if stop {
                return Err(RunError::Interrupted { step: self.state.step, checkpoint });
            }
        }
        Ok(())
    }

    fn end_epoch<V>(mut self, validation: &Loader<V>, clock: &Clock, seconds: f64) -> Result<Self, RunError>
    where
        V: Dataset,
        V::Batch: HostBatch<Input = N::Input>,
    {
        let (epoch, time) = (self.state.epoch, self.time());
        let mut state = LearnerState { learner: self.learner, optimizer: self.optimizer };
        for hook in &mut self.run.hooks {
            let changed = hook.end_epoch(time, state);
            state = changed.map_err(|source| RunError::Hook { hook: hook.name().to_owned(), source })?;
        }
        (self.learner, self.optimizer) = (state.learner, state.optimizer);
        for (teacher, before) in self.run.teachers.iter().zip(&self.teachers) {
            if teacher.fingerprint()? != *before {
                return Err(RunError::TeacherMoved { teacher: teacher.name().to_owned(), epoch });
            }
        }
        let started = Instant::now();
        let student = self.learner.student.valid();
        let values = evaluate(&student, validation, &mut self.run.metrics, &self.run.device)?;
        let timing = TimingRecord {
            epoch,
            train: seconds,
            loader: clock.loader / seconds.max(f64::MIN_POSITIVE),
            teacher: clock.teacher / seconds.max(f64::MIN_POSITIVE),
            diagnostics: clock.diagnostics,
            validation: started.elapsed().as_secs_f64(),
            samples_per_second: clock.samples as f64 / seconds.max(f64::MIN_POSITIVE),
        };
        self.choose_best(&student, &values)?;
        let sums = std::mem::take(&mut self.state.sums);
        let record = epoch_record(epoch, self.state.step, &sums, values);
        self.run.progress.epoch_end(&record, &timing);
        log::append(&self.run.folder.join(METRICS), &record)?;
        log::append(&self.run.folder.join(TIMING), &timing)?;
        self.state.epoch += 1;
        self.state.step_in_epoch = 0;
        self.save()?;
        Ok(self)
    }

    fn choose_best(&mut self, student: &N, values: &BTreeMap<String, f64>) -> Result<(), RunError> {
        let Some(metric) = self.run.metrics.first() else { return Ok(()) };
        let value = values.get(metric.name()).copied().unwrap_or(f64::NAN);
        let better = self.state.best.is_none_or(|best| {
            let best = best.value.0;
            best.is_nan() || if metric.higher_is_better() { value > best } else { value < best }
        });
        if better {
            self.state.best = Some(Best { epoch: self.state.epoch, value: Exact(value) });
            let bytes = record::module_bytes(student.clone()).map_err(|e| record_error(BEST, e))?;
            let path = self.run.folder.join(BEST);
            crate::files::write(&path, &bytes).map_err(|source| log::LogError::Io { path, source })?;
        }
        Ok(())
    }

    fn save(&mut self) -> Result<PathBuf, RunError> {
        let failed = |source| record_error("checkpoint", source);
        // `valid` first takes in the batch-norm update of the latest step, which a record of the training form would miss.
        let model = record::module_bytes(self.learner.valid()).map_err(failed)?;
        let optimizer = record::optimizer_bytes(&self.optimizer).map_err(failed)?;
        let schedule = self.schedule.to_record().into_bytes().map_err(failed)?;
        self.state.scales = exact(&self.run.objective.scales());
        for hook in &self.run.hooks {
            let saved = hook.save();
            let saved = saved.map_err(|source| RunError::Hook { hook: hook.name().to_owned(), source })?;
            self.state.hooks.insert(hook.name().to_owned(), saved);
        }
        let contents = [(MODEL, &model[..]), (OPTIMIZER, &optimizer), (SCHEDULE, &schedule)];
        let path = self.checkpoints.save(self.state.clone(), &contents)?;
        self.last_checkpoint = Some(path.clone());
        Ok(path)
    }
}

/// One batch through student and teachers, in eval: shows taps and shapes.
fn probe<N, T>(run: &mut Run<N>, student: &N, train: &Loader<T>, wants: &Wants) -> Result<Probe, RunError>
where
    N: Network,
    T: Dataset,
    T::Batch: HostBatch<Input = N::Input>,
{
    let device = run.device.clone().without_autodiff();
    let loaded = train.epoch(0, 0).next().ok_or(RunError::NoData)??;
    let (input, target) = loaded.batch.to_device(&device);
    let view = train.pass(0).view;
    let mut teachers = Vec::with_capacity(run.teachers.len());
    for teacher in &mut run.teachers {
        teachers.push(teacher.taps(&input, &loaded.ids, view, &wants.teacher)?);
    }
    let student = student.run(input, Taps::only(&wants.student));
    Ok(Probe { student, teachers, target, samples: train.dataset().len(), device })
}

fn epoch_record(epoch: usize, step: usize, sums: &Sums, validation: BTreeMap<String, f64>) -> EpochRecord {
    let batches = sums.batches.max(1) as f64;
    let plain = |map: &BTreeMap<String, Exact>, by: f64| {
        map.iter().map(|(name, value)| (name.clone(), value.0 / by)).collect::<BTreeMap<_, _>>()
    };
    EpochRecord {
        epoch,
        step,
        learning_rate: sums.learning_rate.0,
        loss: sums.loss.0 / batches,
        terms: plain(&sums.terms, batches),
        weights: plain(&sums.weights, 1.0),
        gradient_norms: plain(&sums.gradient_norms, 1.0),
        validation,
    }
}

fn exact(values: &[f64]) -> Vec<Exact> {
    values.iter().map(|&value| Exact(value)).collect()
}

fn remove(path: &std::path::Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn record_error(what: &str, source: RecordError) -> RunError {
    RunError::Record { what: what.to_owned(), source }
}
