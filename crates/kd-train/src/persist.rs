//! What a run keeps on disk: how it begins in its folder, checkpoints, the way back to one, and what it leaves.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use burn::lr_scheduler::LrSchedulerRecord;
use burn::module::{Module, ModuleVisitor, Param};
use burn::store::{ModuleRecord, RecordError};
use burn::tensor::{Bytes, Tensor};
use kd_core::Network;

use crate::checkpoint::{Best, Checkpoint, Exact};
use crate::error::RunError;
use crate::fit::Fit;
use crate::hook::failed;
use crate::log::{self, EpochRecord, LogError, TimingRecord};
use crate::record::{self, identify};
use crate::run::{Outcome, Start};
use crate::weights;

pub(crate) const CHECKPOINTS: &str = "checkpoints";
pub(crate) const METRICS: &str = "metrics.jsonl";
pub(crate) const TIMING: &str = "timing.jsonl";
const SAFETENSORS: &str = "student.safetensors";
const MODEL: &str = "model.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
const SCHEDULE: &str = "schedule.bpk";
const BEST: &str = "best.bpk";
const LOCK: &str = "lock";

impl<N: Network> Fit<'_, N> {
    /// Takes up a checkpoint if there is one to take up, and clears away what is not this run's.
    pub(crate) fn begin(&mut self, start: Start) -> Result<(), RunError> {
        let folder = self.run.folder.clone();
        let io = |source| LogError::Io { path: folder.clone(), source };
        fs::create_dir_all(&folder).map_err(io)?;
        self.lock = Some(lock(&folder)?);
        let holds = |name: &str| folder.join(name).exists();
        match start {
            Start::New if [CHECKPOINTS, METRICS, weights::STUDENT].into_iter().any(holds) => {
                return Err(RunError::Exists { folder });
            }
            Start::New => {}
            Start::Overwrite => {
                // In this order a kill in between leaves the old run as a whole, or none, and never its student beside the new one's logs.
                for name in [weights::STUDENT, SAFETENSORS] {
                    remove(&folder.join(name)).map_err(io)?;
                }
                self.checkpoints.remove()?;
            }
            Start::Resume => match self.checkpoints.latest()? {
                Some(checkpoint) => self.restore(checkpoint)?,
                None if holds(weights::STUDENT) => return Err(RunError::Finished { folder }),
                None => {}
            },
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
        let wrong = |source| record_error("checkpoint", source);
        let bytes = |name: &str| Ok::<_, RunError>(Bytes::from_bytes_vec(checkpoint.file(name)?));
        let mut learner = self.learner.valid();
        for hook in &mut self.run.hooks {
            let state = checkpoint.state.hooks.get(hook.name()).cloned().unwrap_or_default();
            hook.restore(state).map_err(failed(hook.as_ref()))?;
            learner = hook.rebuild(learner).map_err(failed(hook.as_ref()))?;
        }
        let inner = self.run.device.clone().without_autodiff();
        let model = ModuleRecord::from_bytes(bytes(MODEL)?).map_err(wrong)?;
        let learner = learner.valid().to_device(&inner).try_load_record(model).map_err(wrong)?;
        self.learner = identify(learner.train());
        self.optimizer = self.optimizer.clone().from_bytes(bytes(OPTIMIZER)?).map_err(wrong)?;
        let schedule = LrSchedulerRecord::from_bytes(bytes(SCHEDULE)?).map_err(wrong)?;
        self.schedule = self.schedule.clone().load_record(schedule);
        let scales: Vec<f64> = checkpoint.state.scales.iter().map(|scale| scale.0).collect();
        self.run.objective.set_scales(&scales);
        self.best = checkpoint.state.best.map(|_| checkpoint.file(BEST)).transpose()?;
        self.checkpoints.set_aside_after(&checkpoint.path)?;
        tracing::info!("resuming {} at step {}", checkpoint.path.display(), checkpoint.state.step);
        self.last_checkpoint = Some(checkpoint.path);
        self.state = checkpoint.state;
        Ok(())
    }

    /// Keeps the student if its first validation metric is the best so far.
    pub(crate) fn choose_best(
        &mut self,
        student: &N,
        values: &BTreeMap<String, f64>,
    ) -> Result<(), RunError> {
        let Some(metric) = self.run.metrics.first() else { return Ok(()) };
        let value = values.get(metric.name()).copied().unwrap_or(f64::NAN);
        let better = self.state.best.is_none_or(|best| {
            let best = best.value.0;
            best.is_nan() || if metric.higher_is_better() { value > best } else { value < best }
        });
        if better {
            self.state.best = Some(Best { epoch: self.state.epoch, value: Exact(value) });
            let bytes = record::module_bytes(student.clone()).map_err(|error| record_error(BEST, error))?;
            self.best = Some(bytes);
        }
        Ok(())
    }

    /// Writes a checkpoint; its folder.
    pub(crate) fn save(&mut self) -> Result<PathBuf, RunError> {
        let wrong = |source| record_error("checkpoint", source);
        // `valid` first takes in the batch-norm update of the latest step, which a record of the training form would miss.
        let learner = self.learner.valid();
        let mut check = NotFinite::default();
        learner.visit(&mut check);
        if let Some(path) = check.found {
            let checkpoint = self.last_checkpoint.clone();
            return Err(RunError::WeightNotFinite { step: self.state.step, path, checkpoint });
        }
        let model = record::module_bytes(learner).map_err(wrong)?;
        let optimizer = record::optimizer_bytes(&self.optimizer).map_err(wrong)?;
        let schedule = self.schedule.to_record().into_bytes().map_err(wrong)?;
        self.state.scales = self.run.objective.scales().into_iter().map(Exact).collect();
        for hook in &self.run.hooks {
            let saved = hook.save().map_err(failed(hook.as_ref()))?;
            self.state.hooks.insert(hook.name().to_owned(), saved);
        }
        let mut contents = vec![(MODEL, &model[..]), (OPTIMIZER, &optimizer), (SCHEDULE, &schedule)];
        contents.extend(self.best.as_deref().map(|best| (BEST, best)));
        let path = self.checkpoints.save(self.state.clone(), &contents)?;
        self.last_checkpoint = Some(path.clone());
        Ok(path)
    }

    /// Gathers what the run leaves, and writes the student of the best epoch.
    pub(crate) fn finish(self) -> Result<Outcome<N>, RunError> {
        let folder = &self.run.folder;
        let last = self.learner.student.valid();
        let best = match self.best {
            Some(bytes) => {
                let record = ModuleRecord::from_bytes(Bytes::from_bytes_vec(bytes));
                let best = record.and_then(|record| last.valid().try_load_record(record));
                best.map_err(|source| record_error(BEST, source))?
            }
            None => last.valid(),
        };
        weights::save(&best, &folder.join(weights::STUDENT))?;
        weights::save(&best, &folder.join(SAFETENSORS))?;
        let records = log::read(&folder.join(METRICS))?;
        let chosen = self.state.best.unwrap_or(Best { epoch: 0, value: Exact(f64::NAN) });
        Ok(Outcome { best, last, best_epoch: chosen.epoch, best_value: chosen.value.0, records })
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(crate) fn record_error(what: &str, source: RecordError) -> RunError {
    RunError::Record { what: what.to_owned(), source }
}

/// Finds the first tensor with a number that is none: a checkpoint of it would be no good one to go back to.
#[derive(Default)]
struct NotFinite {
    path: Vec<String>,
    found: Option<String>,
}

impl ModuleVisitor for NotFinite {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.found.is_none() && !param.val().into_data().iter::<f32>().all(f32::is_finite) {
            self.found = Some(self.path.join("."));
        }
    }
}

/// Keeps a second process out of the folder; the system lets go when this one ends, however it ends.
fn lock(folder: &Path) -> Result<File, RunError> {
    let path = folder.join(LOCK);
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|source| LogError::Io { path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(RunError::Busy { folder: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(LogError::Io { path, source }.into()),
    }
}
