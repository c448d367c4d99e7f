//! The loop of a run: epochs, checkpoints, the best student.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Instant;

use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::module::Module;
use burn::optim::ModuleOptimizer;
use kd_core::{Network, Probe, Taps, Time, Wants};
use kd_data::{Dataset, Loader, mix};

use crate::batch::HostBatch;
use crate::checkpoint::{Checkpoints, Exact, State, Sums};
use crate::error::RunError;
use crate::evaluate::evaluate;
use crate::hook::{LearnerState, failed};
use crate::learner::{Learner, shapes};
use crate::log::{self, EpochRecord, TimingRecord};
use crate::persist::{CHECKPOINTS, METRICS, TIMING, record_error};
use crate::record::{identify, reidentify};
use crate::run::{Outcome, Run, Start};
use crate::step::Clock;

/// Checkpoints that stay: the newest and one to fall back on.
const KEEP: usize = 2;

/// What a seed is for; mixed with the run's seed.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    Adapters = 1,
    Step = 2,
    EndEpoch = 3,
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
    pub(crate) checkpoints: Checkpoints,
    /// Record of the student of the best epoch so far.
    pub(crate) best: Option<Vec<u8>>,
    /// Held as long as the run is in its folder.
    pub(crate) lock: Option<File>,
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
        let teachers =
            run.teachers.iter().map(|teacher| teacher.fingerprint()).collect::<Result<Vec<_>, _>>()?;
        let learner = identify(Learner { student, adapters }.train());
        let key = run.key(&shapes(&learner), &teachers, train);
        let mut fit = Self {
            learner,
            optimizer: run.settings.optimizer.optimizer()?,
            schedule: run.settings.optimizer.scheduler(run.settings.epochs, steps_per_epoch)?,
            state: State { settings: key, ..State::default() },
            wants,
            last_checkpoint: None,
            best: None,
            lock: None,
            checkpoints: Checkpoints::new(run.folder.join(CHECKPOINTS), KEEP),
            steps_per_epoch,
            teachers,
            run,
        };
        fit.begin(start)?;
        Ok(fit)
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
        self.finish()
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

    /// A checkpoint within an epoch. At its end there is one in any case, so that no step has two.
    fn stop_or_save(&mut self) -> Result<(), RunError> {
        if self.state.step_in_epoch == self.steps_per_epoch {
            return Ok(());
        }
        let stop = self.run.stop.load(Ordering::SeqCst);
        let due =
            self.run.settings.checkpoint_steps.is_some_and(|every| self.state.step.is_multiple_of(every));
        if stop || due {
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
        let epoch = self.state.epoch;
        self = self.end_epoch_hooks()?;
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
        let checkpoint = self.save()?;
        if self.run.stop.load(Ordering::SeqCst) {
            return Err(RunError::Interrupted { step: self.state.step, checkpoint });
        }
        Ok(self)
    }

    /// Lets the hooks change model and optimizer, and takes up what they give back.
    fn end_epoch_hooks(mut self) -> Result<Self, RunError> {
        if self.run.hooks.is_empty() {
            return Ok(self);
        }
        let time = self.time();
        // A run that was stopped just before has drawn other numbers than one that was not.
        let seed = mix(&[self.run.settings.seed, Purpose::EndEpoch as u64, time.epoch as u64]);
        self.run.device.seed(seed);
        let before = shapes(&self.learner);
        let mut state =
            LearnerState { learner: self.learner, optimizer: self.optimizer, restart_best: false };
        for hook in &mut self.run.hooks {
            state = hook.end_epoch(time, state).map_err(failed(hook.as_ref()))?;
        }
        let inner = self.run.device.clone().without_autodiff();
        let learner = state.learner.valid().to_device(&inner).train();
        let restart = state.restart_best || shapes(&learner) != before;
        (self.learner, self.optimizer) =
            reidentify(learner, state.optimizer).map_err(|error| record_error("optimizer", error))?;
        if restart {
            (self.state.best, self.best) = (None, None);
        }
        Ok(self)
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
