//! One optimizer step, and what an epoch's first batch tells about the terms.

use std::marker::PhantomData;
use std::time::Instant;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor};
use kd_core::{Batch, Network, ObjectiveError, Replay, Taps, TermError, Value, Wants};
use kd_data::{Loaded, mix};

use crate::batch::HostBatch;
use crate::checkpoint::Exact;
use crate::error::RunError;
use crate::fit::{Fit, Purpose};
use crate::learner::Gradients;
use crate::teacher::Teacher;
use crate::twin::twin;

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
struct Ready<I> {
    input: I,
    target: Value,
    ids: Vec<usize>,
    teachers: Vec<Taps>,
    /// Seed of the step's random draws.
    seed: u64,
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
        let parts = loaded.len().max(1);
        let rates = self.schedule.step();
        let mut accumulator = GradientsAccumulator::new();
        let mut loss = 0.0;
        let mut samples = 0;
        for (part, loaded) in loaded.into_iter().enumerate() {
            let ready = self.ready::<B>(loaded, view, part, clock)?;
            samples += ready.ids.len();
            if part == 0 && self.state.step_in_epoch == 0 {
                let mut seconds = 0.0;
                timed(&mut seconds, || self.diagnose::<B>(&ready))?;
                clock.diagnostics += seconds;
            }
            let (value, grads) = self.backward::<B>(&ready, parts)?;
            loss += value / parts as f64;
            accumulator.accumulate(&self.learner, grads);
        }
        let mut grads = accumulator.grads();
        if self.state.step == 0 {
            self.check_adapters(&grads)?;
        }
        let mut gradients = Gradients::new(&self.learner, &mut grads);
        for hook in &mut self.run.hooks {
            let done = hook.before_step(time, &self.learner, &mut gradients);
            done.map_err(|source| RunError::Hook { hook: hook.name().to_owned(), source })?;
        }
        if let Some(max) = self.run.settings.optimizer.clip_norm {
            gradients.clip(max);
        }
        self.state.sums.learning_rate = Exact(rates.base());
        self.learner = self.optimizer.step(rates, self.learner, grads);
        for hook in &mut self.run.hooks {
            let changed = hook.after_step(time, self.learner);
            self.learner =
                changed.map_err(|source| RunError::Hook { hook: hook.name().to_owned(), source })?;
        }
        self.state.step += 1;
        self.state.step_in_epoch += 1;
        clock.samples += samples;
        self.run.progress.step(samples, loss);
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
        if !self.run.teachers.is_empty() && self.wants.needs_teacher {
            let (input, _) = loaded.batch.to_device(&inner);
            for teacher in &mut self.run.teachers {
                let taps = timed(&mut clock.teacher, || {
                    teacher.taps(&input, &loaded.ids, view, &self.wants.teacher)
                })?;
                teachers.push(taps.autodiff());
            }
        }
        let (input, target) = loaded.batch.to_device(&self.run.device);
        let parts = [self.run.settings.seed, Purpose::Step as u64, self.state.step as u64, part as u64];
        Ok(Ready { input, target, ids: loaded.ids, teachers, seed: mix(&parts) })
    }

    /// The loss of one batch and the gradients of its share in the step.
    fn backward<B>(
        &mut self,
        ready: &Ready<N::Input>,
        parts: usize,
    ) -> Result<(f64, GradientsParams), RunError>
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
        let share = if parts == 1 { losses.total } else { losses.total.div_scalar(parts as f64) };
        Ok((loss, GradientsParams::from_grads(share.backward(), &self.learner)))
    }

    /// The norm of every weighted term's gradient, on a copy; errors for terms that teach nothing.
    fn diagnose<B>(&mut self, ready: &Ready<N::Input>) -> Result<(), RunError>
    where
        B: HostBatch<Input = N::Input>,
    {
        let time = self.time();
        let names: Vec<String> = self.run.objective.names().iter().map(|&name| name.to_owned()).collect();
        let mut unweighted = Vec::with_capacity(names.len());
        for (index, term) in names.iter().enumerate() {
            // A copy: batch norm moves its statistics and memory banks their rows on every forward pass.
            let mut learner = self.learner.valid().train();
            let replay: Option<Replayed<'_, N, B>> =
                replayed(&self.run.teachers, &self.wants, &self.run.device, &learner.student, ready);
            self.run.device.seed(ready.seed);
            let taps = learner.student.run(ready.input.clone(), Taps::only(&self.wants.student));
            let batch = batch(ready, &taps, time, replay.as_ref().map(|replay| replay as &dyn Replay));
            let value = self.run.objective.forward_term(index, &batch, &mut learner.adapters)?;
            let number = f64::from(value.value.clone().into_scalar::<f32>());
            let term = || term.clone();
            if !number.is_finite() {
                return Err(ObjectiveError::NotFinite { term: term(), value: number.to_string() }.into());
            }
            if number == 0.0 && self.state.step == 0 {
                return Err(ObjectiveError::Zero { term: term() }.into());
            }
            if !value.value.is_tracked() {
                return Err(ObjectiveError::Detached { term: term() }.into());
            }
            let mut grads = GradientsParams::from_grads(value.value.backward(), &learner);
            if grads.is_empty() {
                return Err(ObjectiveError::Detached { term: term() }.into());
            }
            unweighted.push(Gradients::new(&learner, &mut grads).norm());
        }
        let weights = |objective: &kd_core::Objective| -> Vec<f64> {
            objective.terms().iter().map(|term| term.weight(time)).collect()
        };
        self.run.objective.set_scales(&vec![1.0; names.len()]);
        if self.run.objective.normalize() == kd_core::Normalize::Gradient {
            let weighted: Vec<_> = unweighted
                .iter()
                .zip(weights(&self.run.objective))
                .map(|(norm, weight)| norm * weight.abs())
                .collect();
            self.run.objective.balance(&weighted);
        }
        for ((name, norm), weight) in names.into_iter().zip(unweighted).zip(weights(&self.run.objective)) {
            self.state.sums.gradient_norms.insert(name, Exact(norm * weight.abs()));
        }
        Ok(())
    }

    /// Every learnable part of a loss must get a gradient, or the optimizer would never see it.
    fn check_adapters(&self, grads: &GradientsParams) -> Result<(), RunError> {
        let mut visitor = WithoutGradient { grads, path: Vec::new(), found: None };
        self.learner.adapters.visit(&mut visitor);
        match visitor.found {
            Some(path) => Err(RunError::AdapterWithoutGradient { path }),
            None => Ok(()),
        }
    }
}

/// What a term needs to run the step's models again, if any term does and the input allows it.
fn replayed<'a, N: Network, B: HostBatch<Input = N::Input>>(
    teachers: &'a [Box<dyn Teacher<N::Input>>],
    wants: &'a Wants,
    device: &'a Device,
    student: &'a N,
    ready: &Ready<N::Input>,
) -> Option<Replayed<'a, N, B>> {
    let input = B::input_as_value(&ready.input).filter(|_| wants.replays)?;
    Some(Replayed { input, student, teachers, wants, device, seed: ready.seed, batch: PhantomData })
}

fn batch<'a, I>(
    ready: &'a Ready<I>,
    student: &'a Taps,
    time: kd_core::Time,
    replay: Option<&'a dyn Replay>,
) -> Batch<'a> {
    Batch { student, teachers: &ready.teachers, target: &ready.target, ids: &ready.ids, time, replay }
}

/// Runs the step's models again on other inputs.
struct Replayed<'a, N: Network, B> {
    input: Value,
    student: &'a N,
    teachers: &'a [Box<dyn Teacher<N::Input>>],
    wants: &'a Wants,
    device: &'a Device,
    seed: u64,
    batch: PhantomData<fn() -> B>,
}

impl<N: Network, B: HostBatch<Input = N::Input>> Replay for Replayed<'_, N, B> {
    fn input(&self) -> Value {
        self.input.clone()
    }

    fn student(&self, input: &Value) -> Result<Taps, TermError> {
        let input = B::input_from_value(input).ok_or(TermError::NoReplay)?;
        self.device.seed(self.seed);
        Ok(twin(self.student).run(input, Taps::only(&self.wants.student)))
    }

    fn teacher(&self, index: usize, input: &Value) -> Result<Taps, TermError> {
        let input = B::input_from_value(input).ok_or(TermError::NoReplay)?;
        let teacher = self.teachers.get(index).ok_or(TermError::NoTeacher)?;
        let taps = teacher.differentiable(input, &self.wants.teacher);
        taps.map_err(|error| TermError::Other(error.to_string()))
    }
}

struct WithoutGradient<'a> {
    grads: &'a GradientsParams,
    path: Vec<String>,
    found: Option<String>,
}

impl ModuleVisitor for WithoutGradient<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.val().is_require_grad() && self.grads.get::<D>(param.id).is_none() {
            self.found.get_or_insert(self.path.join("."));
        }
    }
}
