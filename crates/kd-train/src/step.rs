//! One optimizer step.

use std::time::Instant;

use burn::optim::{GradientsAccumulator, GradientsParams};
use kd_core::{Batch, Network, Replay, Taps, Time, Value};
use kd_data::{Loaded, mix};

use crate::batch::HostBatch;
use crate::checkpoint::Exact;
use crate::error::RunError;
use crate::fit::{Fit, Purpose};
use crate::hook::{LearnerState, failed};
use crate::learner::Gradients;
use crate::replay::{Replayed, replayed};

/// Where an epoch's time goes, in seconds.
#[derive(Default)]
pub(crate) struct Clock {
    pub(crate) loader: f64,
    pub(crate) teacher: f64,
    pub(crate) diagnostics: f64,
    pub(crate) samples: usize,
}

impl Clock {
    pub(crate) fn loader<T>(&mut self, work: impl FnOnce() -> T) -> T {
        timed(&mut self.loader, work)
    }
}

fn timed<T>(seconds: &mut f64, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = work();
    *seconds += started.elapsed().as_secs_f64();
    result
}

/// A batch on the device, with what the teachers say of it.
pub(crate) struct Ready<I> {
    pub(crate) input: I,
    target: Value,
    ids: Vec<usize>,
    teachers: Vec<Taps>,
    /// Seed of the step's random draws.
    pub(crate) seed: u64,
}

impl<N: Network> Fit<'_, N> {
    /// One optimizer step over the batches in `loaded`.
    pub(crate) fn step<B>(
        mut self,
        loaded: Vec<Loaded<B>>,
        view: u64,
        clock: &mut Clock,
    ) -> Result<Self, RunError>
    where
        B: HostBatch<Input = N::Input>,
    {
        let time = self.time();
        let samples: usize = loaded.iter().map(|loaded| loaded.ids.len()).sum();
        let rates = self.schedule.step();
        let mut accumulator = GradientsAccumulator::new();
        let mut loss = 0.0;
        for (part, loaded) in loaded.into_iter().enumerate() {
            let ready = self.ready::<B>(loaded, view, part, clock)?;
            if part == 0 && self.state.step_in_epoch == 0 {
                let mut seconds = 0.0;
                timed(&mut seconds, || self.diagnose::<B>(&ready))?;
                clock.diagnostics += seconds;
            }
            // By samples, so that a smaller last batch counts for less: the step is that of one large batch.
            let share = ready.ids.len() as f64 / samples as f64;
            let (value, grads) = self.backward::<B>(&ready, share)?;
            loss += value * share;
            accumulator.accumulate(&self.learner, grads);
        }
        let mut grads = accumulator.grads();
        if self.state.step == 0 {
            self.check_adapters(&grads)?;
        }
        let mut gradients = Gradients::new(&self.learner, &mut grads);
        for hook in &mut self.run.hooks {
            let done = hook.before_step(time, &self.learner, &mut gradients);
            done.map_err(failed(hook.as_ref()))?;
        }
        if let Some(max) = self.run.settings.optimizer.clip_norm {
            let norm = gradients.clip(max);
            if !norm.is_finite() {
                let checkpoint = self.last_checkpoint.clone();
                return Err(RunError::GradientNotFinite { step: self.state.step, norm, checkpoint });
            }
        }
        self.state.sums.learning_rate = Exact(rates.base());
        self.learner = self.optimizer.step(rates, self.learner, grads);
        for hook in &mut self.run.hooks {
            let changed = hook.after_step(time, self.learner);
            self.learner = changed.map_err(failed(hook.as_ref()))?;
        }
        self = self.end_step_hooks(time)?;
        self.state.step += 1;
        self.state.step_in_epoch += 1;
        clock.samples += samples;
        self.run.progress.step(samples, loss);
        Ok(self)
    }

    /// Lets the hooks change weights and moments together.
    fn end_step_hooks(mut self, time: Time) -> Result<Self, RunError> {
        let mut state =
            LearnerState { learner: self.learner, optimizer: self.optimizer, restart_best: false };
        for hook in &mut self.run.hooks {
            state = hook.end_step(time, state).map_err(failed(hook.as_ref()))?;
        }
        (self.learner, self.optimizer) = (state.learner, state.optimizer);
        if state.restart_best {
            (self.state.best, self.best) = (None, None);
        }
        Ok(self)
    }

    fn ready<B>(
        &mut self,
        loaded: Loaded<B>,
        view: u64,
        part: usize,
        clock: &mut Clock,
    ) -> Result<Ready<N::Input>, RunError>
    where
        B: HostBatch<Input = N::Input>,
    {
        let inner = self.run.device.clone().without_autodiff();
        let mut teachers = Vec::with_capacity(self.run.teachers.len());
        let mut copied = None;
        if !self.run.teachers.is_empty() && self.wants.needs_teacher {
            let (input, target) = loaded.batch.to_device(&inner);
            for teacher in &mut self.run.teachers {
                let taps = timed(&mut clock.teacher, || {
                    teacher.taps(&input, &loaded.ids, view, &self.wants.teacher)
                })?;
                teachers.push(taps.autodiff());
            }
            // What the teachers saw serves the student too, where it can be brought onto the tape.
            let shared = B::input_as_value(&input).and_then(|value| B::input_from_value(&value.autodiff()));
            copied = shared.map(|input| (input, target.autodiff()));
        }
        let (input, target) = copied.unwrap_or_else(|| loaded.batch.to_device(&self.run.device));
        let parts = [self.run.settings.seed, Purpose::Step as u64, self.state.step as u64, part as u64];
        Ok(Ready { input, target, ids: loaded.ids, teachers, seed: mix(&parts) })
    }

    /// The loss of one batch and the gradients of its share in the step.
    fn backward<B>(&mut self, ready: &Ready<N::Input>, share: f64) -> Result<(f64, GradientsParams), RunError>
    where
        B: HostBatch<Input = N::Input>,
    {
        let time = self.time();
        let replay: Option<Replayed<'_, N, B>> =
            replayed(&self.run.teachers, &self.wants, &self.run.device, &self.learner.student, ready);
        self.run.device.seed(ready.seed);
        let taps = self.learner.student.run(ready.input.clone(), Taps::only(&self.wants.student));
        let batch = batch(ready, &taps, time, replay.as_ref().map(|replay| replay as &dyn Replay));
        let losses = self.run.objective.forward(&batch, &mut self.learner.adapters)?;
        let loss = f64::from(losses.total.clone().into_scalar::<f32>());
        let first = self.state.step_in_epoch == 0;
        let sums = &mut self.state.sums;
        let mut culprit = None;
        for term in &losses.terms {
            let value = f64::from(term.value.clone().into_scalar::<f32>());
            if !value.is_finite() {
                culprit.get_or_insert(term.name.clone());
            }
            sums.terms.entry(term.name.clone()).or_default().0 += value;
            if first {
                sums.weights.insert(term.name.clone(), Exact(term.weight));
            }
        }
        if !loss.is_finite() {
            let term = culprit.unwrap_or_else(|| "the weighted sum".to_owned());
            let checkpoint = self.last_checkpoint.clone();
            return Err(RunError::NotFinite { step: self.state.step, term, value: loss, checkpoint });
        }
        sums.loss.0 += loss;
        sums.batches += 1;
        let total = if share == 1.0 { losses.total } else { losses.total.mul_scalar(share) };
        Ok((loss, GradientsParams::from_grads(total.backward(), &self.learner)))
    }
}

pub(crate) fn batch<'a, I>(
    ready: &'a Ready<I>,
    student: &'a Taps,
    time: Time,
    replay: Option<&'a dyn Replay>,
) -> Batch<'a> {
    Batch { student, teachers: &ready.teachers, target: &ready.target, ids: &ready.ids, time, replay }
}
