//! Hooks that replace model and optimizer, and hooks with a state of their own: a resumed run is the same as one that was never stopped.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use common::{Net, hard, loader, net, settings};
use kd_core::{Objective, Time};
use kd_train::checkpoint::Exact;
use kd_train::{
    Gradients, Hook, HookError, Learner, LearnerState, Outcome, Run, RunError, Start, TensorMap, map_weights,
};
use serde_json::Value;

/// Stops the run after `after` steps, if any.
fn fit(
    folder: &Path,
    hook: impl Hook<Net> + 'static,
    after: Option<usize>,
    start: Start,
) -> Result<Outcome<Net>, RunError> {
    let stop = Arc::new(AtomicBool::new(false));
    let objective = Objective::new().with("hard", hard(), 1.0);
    let run = Run::new(folder, settings(), objective, &Device::flex()).hook(hook);
    let run = run.hook(StopAfter { after, stop: stop.clone() }).stop_flag(stop);
    run.fit(net(8, 2, &Device::flex()), &loader(64, true), &loader(32, false), start)
}

struct StopAfter {
    after: Option<usize>,
    stop: Arc<AtomicBool>,
}

impl Hook<Net> for StopAfter {
    fn name(&self) -> &str {
        "stop-after"
    }
    fn after_step(&mut self, time: Time, learner: Learner<Net>) -> Result<Learner<Net>, HookError> {
        self.stop.store(self.after.is_some_and(|after| time.step + 1 >= after), Ordering::SeqCst);
        Ok(learner)
    }
}

/// Runs once without a stop and once with many, and compares what is left. Eight steps are an epoch.
fn resumes_bit_for_bit<H: Hook<Net> + 'static>(hook: impl Fn() -> H) -> Outcome<Net> {
    let folder = tempfile::tempdir().unwrap();
    let (whole, broken) = (folder.path().join("run"), folder.path().join("again/run"));
    let outcome = fit(&whole, hook(), None, Start::New).unwrap();
    for steps in [3, 8, 11, 16, 21] {
        let error = fit(&broken, hook(), Some(steps), Start::Resume).unwrap_err();
        assert!(matches!(error, RunError::Interrupted { step, .. } if step == steps), "{error}");
    }
    fit(&broken, hook(), None, Start::Resume).unwrap();
    common::same(&whole, &broken);
    outcome
}

/// Swaps in a smaller student and a fresh optimizer at the end of the second epoch.
#[derive(Default)]
struct Shrink {
    done: bool,
}

const SMALL: usize = 5;

impl Hook<Net> for Shrink {
    fn name(&self) -> &str {
        "shrink"
    }
    fn end_epoch(&mut self, time: Time, state: LearnerState<Net>) -> Result<LearnerState<Net>, HookError> {
        if time.epoch != 1 {
            return Ok(state);
        }
        self.done = true;
        // As it comes: on the plain device, in no particular form, its weights drawn after the run has seeded the device.
        let student = net(SMALL, 4, &Device::flex());
        let optimizer = settings().optimizer.optimizer().map_err(|error| HookError(error.to_string()))?;
        let learner = Learner { student, ..state.learner };
        Ok(LearnerState { learner, optimizer, ..state })
    }
    fn save(&self) -> Result<Value, HookError> {
        Ok(self.done.into())
    }
    fn restore(&mut self, state: Value) -> Result<(), HookError> {
        self.done = state.as_bool().ok_or_else(|| HookError(format!("no state of shrink: {state}")))?;
        Ok(())
    }
    fn rebuild(&mut self, learner: Learner<Net>) -> Result<Learner<Net>, HookError> {
        let student = if self.done { net(SMALL, 0, &Device::flex()) } else { learner.student };
        Ok(Learner { student, ..learner })
    }
}

#[test]
fn a_hook_swaps_in_a_smaller_student_in_mid_run_which_trains_is_chosen_and_resumes() {
    let _serial = common::serial();
    let outcome = resumes_bit_for_bit(Shrink::default);
    for student in [&outcome.best, &outcome.last] {
        assert_eq!(student.output.weight.dims(), [SMALL * 4, 3]);
    }
    // Earlier epochs had another student: they are not candidates.
    assert!(outcome.best_epoch >= 1, "{}", outcome.best_epoch);
    let fresh = net(SMALL, 4, &Device::flex()).output.weight.val();
    assert!(!outcome.last.output.weight.val().all_close(fresh, None, None), "it did not train");
}

/// Gives every parameter a new identity at the end of an epoch, with weights of its own making, but keeps the optimizer.
struct Renew;

impl Hook<Net> for Renew {
    fn name(&self) -> &str {
        "renew"
    }
    fn end_epoch(&mut self, _time: Time, state: LearnerState<Net>) -> Result<LearnerState<Net>, HookError> {
        let record = state.learner.student.valid().into_record();
        let student = net(8, 9, &Device::flex()).try_load_record(record);
        let student = student.map_err(|error| HookError(error.to_string()))?;
        let noise = Tensor::random_like(&student.output.weight.val(), burn::tensor::Distribution::Default);
        let student = map_weights(student, &mut Add(noise));
        Ok(LearnerState { learner: Learner { student, ..state.learner }, restart_best: true, ..state })
    }
}

struct Add(Tensor<2>);

impl TensorMap for Add {
    fn map<const D: usize>(&mut self, path: &str, tensor: Tensor<D>) -> Tensor<D> {
        if path == "output.weight" { tensor + self.0.clone().unsqueeze::<D>() * 0.01 } else { tensor }
    }
}

#[test]
fn a_hook_that_draws_at_the_end_of_an_epoch_draws_the_same_in_a_resumed_run_and_restarts_the_choice() {
    let _serial = common::serial();
    let outcome = resumes_bit_for_bit(|| Renew);
    assert_eq!(outcome.best_epoch, settings().epochs - 1);
}

/// Keeps a running mean of gradient norms, and shrinks the weights by it at every third of its own steps.
#[derive(Default)]
struct Damp {
    steps: u64,
    mean: f64,
}

impl TensorMap for Damp {
    fn map<const D: usize>(&mut self, _path: &str, tensor: Tensor<D>) -> Tensor<D> {
        tensor * (1.0 - 0.01 * self.mean.min(1.0))
    }
}

impl Hook<Net> for Damp {
    fn name(&self) -> &str {
        "damp"
    }
    fn before_step(
        &mut self,
        _time: Time,
        _learner: &Learner<Net>,
        gradients: &mut Gradients<'_, Learner<Net>>,
    ) -> Result<(), HookError> {
        self.steps += 1;
        self.mean = 0.9 * self.mean + 0.1 * gradients.norm();
        Ok(())
    }
    fn after_step(&mut self, _time: Time, learner: Learner<Net>) -> Result<Learner<Net>, HookError> {
        if !self.steps.is_multiple_of(3) {
            return Ok(learner);
        }
        Ok(Learner { student: map_weights(learner.student, self), ..learner })
    }
    fn save(&self) -> Result<Value, HookError> {
        serde_json::to_value((self.steps, Exact(self.mean))).map_err(|error| HookError(error.to_string()))
    }
    fn restore(&mut self, state: Value) -> Result<(), HookError> {
        let state = serde_json::from_value::<(u64, Exact)>(state);
        let (steps, Exact(mean)) = state.map_err(|error| HookError(error.to_string()))?;
        (self.steps, self.mean) = (steps, mean);
        Ok(())
    }
}

#[test]
fn a_hooks_own_state_is_saved_and_restored() {
    let _serial = common::serial();
    resumes_bit_for_bit(Damp::default);
}

#[test]
fn two_hooks_of_one_name_are_refused() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    let run =
        Run::new(folder.path(), settings(), Objective::new().with("hard", hard(), 1.0), &Device::flex());
    let run = run.hook(Damp::default()).hook(Damp::default());
    let result = run.fit(net(8, 2, &Device::flex()), &loader(64, true), &loader(32, false), Start::New);
    assert!(result.unwrap_err().to_string().contains("`hooks` is damp"));
}
