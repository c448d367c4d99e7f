//! A run from its settings to its files: it learns, resumes bit for bit, and stops when it should.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use common::{Net, hard, loader, net, settings};
use kd_core::losses::{FitNetsSettings, SoftTargetsSettings};
use kd_core::{Normalize, Objective, Step, Term, TermError, Time, Wants};
use kd_train::teacher::NetworkTeacher;
use kd_train::{Gradients, Hook, HookError, Learner, Outcome, Run, RunError, Start, TensorMap};

fn objective() -> Objective {
    let soft = SoftTargetsSettings { temperature: 3.0, ..Default::default() }.build().unwrap();
    let hint = FitNetsSettings { student: vec!["hidden".into()], teacher: vec!["hidden".into()] };
    Objective::new().with("soft", soft, 0.9).with("hard", hard(), 0.1).with(
        "hint",
        hint.build().unwrap(),
        0.5,
    )
}

fn run(folder: &Path) -> Run<Net> {
    let device = Device::flex();
    let teacher = NetworkTeacher::new("teacher", net(16, 1, &device), &device);
    Run::new(folder, settings(), objective(), &device).teacher(teacher)
}

fn fit(run: Run<Net>, start: Start) -> Result<Outcome<Net>, RunError> {
    run.fit(net(8, 2, &Device::flex()), &loader(64, true), &loader(32, false), start)
}

/// Stops the run after a number of steps, as a kill would, but in this process.
struct StopAfter {
    steps: usize,
    stop: Arc<AtomicBool>,
}

impl Hook<Net> for StopAfter {
    fn name(&self) -> &str {
        "observer"
    }
    fn after_step(&mut self, time: Time, learner: Learner<Net>) -> Result<Learner<Net>, HookError> {
        self.stop.store(time.step + 1 >= self.steps, Ordering::SeqCst);
        Ok(learner)
    }
}

fn stopped_after(folder: &Path, steps: usize, start: Start) -> Result<Outcome<Net>, RunError> {
    let stop = Arc::new(AtomicBool::new(false));
    fit(run(folder).hook(StopAfter { steps, stop: stop.clone() }).stop_flag(stop), start)
}

#[test]
fn a_run_stopped_inside_an_epoch_resumes_bit_for_bit() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    let (whole, broken) = (folder.path().join("run"), folder.path().join("again/run"));
    stopped_after(&whole, usize::MAX, Start::New).unwrap();
    // Eight steps an epoch: twice inside one, once at an end.
    for steps in [3, 8, 13] {
        let start = if steps == 3 { Start::New } else { Start::Resume };
        let error = stopped_after(&broken, steps, start).unwrap_err();
        assert!(matches!(error, RunError::Interrupted { step, .. } if step == steps), "{error}");
    }
    stopped_after(&broken, usize::MAX, Start::Resume).unwrap();
    common::same(&whole, &broken);
}

#[test]
fn distilling_lowers_the_loss_and_leaves_a_student_that_burn_alone_loads() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    let outcome = fit(run(folder.path()), Start::New).unwrap();
    let losses: Vec<_> = outcome.records.iter().map(|record| record.loss).collect();
    assert!(losses.last().unwrap() < &losses[0], "{losses:?}");
    assert_eq!(outcome.records.len(), settings().epochs);
    let fresh = net(8, 9, &Device::flex()).try_load_file(folder.path().join("student.bpk")).unwrap();
    let input = Tensor::<4>::ones([1, 1, 4, 4], &Device::flex());
    let forward = |net: &Net| net.logits(input.clone()).into_data();
    assert_eq!(forward(&fresh.valid()), forward(&outcome.best));
}

#[test]
fn a_folder_with_a_run_is_not_overwritten_unasked_and_other_settings_do_not_resume_it() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    stopped_after(folder.path(), 2, Start::New).unwrap_err();
    assert!(matches!(fit(run(folder.path()), Start::New), Err(RunError::Exists { .. })));
    let mut other = run(folder.path());
    other = other.hook(StopAfter { steps: 1, stop: Arc::default() }).hook(Halve);
    assert!(matches!(fit(other, Start::Resume), Err(RunError::Changed { .. })));
    assert!(fit(run(folder.path()), Start::Overwrite).is_ok());
}

/// Halves every gradient, then counts the steps.
struct Halve;

impl TensorMap for Halve {
    fn map<const D: usize>(&mut self, path: &str, tensor: Tensor<D>) -> Tensor<D> {
        assert!(path.starts_with("student.") || path.starts_with("adapters."), "{path}");
        tensor * 0.0
    }
}

impl Hook<Net> for Halve {
    fn name(&self) -> &str {
        "halve"
    }
    fn before_step(
        &mut self,
        _time: Time,
        _learner: &Learner<Net>,
        gradients: &mut Gradients<'_, Learner<Net>>,
    ) -> Result<(), HookError> {
        gradients.map(self);
        Ok(())
    }
}

#[test]
fn a_hook_before_the_step_changes_the_gradients() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    let before = net(8, 2, &Device::flex()).output.weight.val().into_data();
    let outcome = fit(run(folder.path()).hook(Halve), Start::New).unwrap();
    assert_eq!(outcome.last.output.weight.val().into_data(), before);
}

/// Turns to NaN at its third step.
#[derive(Debug)]
struct Poison;

impl Term for Poison {
    fn wants(&self) -> Wants {
        Wants::student_output()
    }
    fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError> {
        let value = step.student_rows(-1)?.square().mean_dim(1).squeeze_dim::<1>(1);
        Ok(if step.time.step == 2 { value * f32::NAN } else { value })
    }
}

#[test]
fn a_loss_that_is_not_a_number_stops_the_run_with_step_term_and_checkpoint() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    let objective = Objective::new().with("hard", hard(), 1.0).with("poison", Poison, 0.1);
    let mut settings = settings();
    settings.checkpoint_steps = Some(2);
    let run = Run::new(folder.path(), settings, objective, &Device::flex());
    let error = fit(run, Start::New).unwrap_err().to_string();
    assert!(
        error.contains("step 2") && error.contains("`poison`") && error.contains("step-00000002"),
        "{error}"
    );
}

/// The student's squared scores, cut off from the student or multiplied by nothing.
#[derive(Debug)]
enum Useless {
    Detached,
    Zero,
}

impl Term for Useless {
    fn wants(&self) -> Wants {
        Wants::student_output()
    }
    fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError> {
        let value = step.student_rows(-1)?.square().mean_dim(1).squeeze_dim::<1>(1);
        Ok(match self {
            Useless::Detached => value.detach(),
            Useless::Zero => value * 0.0,
        })
    }
}

#[test]
fn a_detached_or_zero_term_is_an_error_on_the_first_batch_that_names_it() {
    let _serial = common::serial();
    for (term, said) in [(Useless::Detached, "`nothing` is detached"), (Useless::Zero, "`nothing` is zero")] {
        let folder = tempfile::tempdir().unwrap();
        let objective = Objective::new().with("hard", hard(), 1.0).with("nothing", term, 1.0);
        let error =
            fit(Run::new(folder.path(), settings(), objective, &Device::flex()), Start::New).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[test]
fn gradient_balancing_gives_every_term_the_first_ones_norm() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let teacher = NetworkTeacher::new("teacher", net(16, 1, &device), &device);
    let objective = objective().normalized(Normalize::Gradient);
    let run = Run::new(folder.path(), settings(), objective, &device).teacher(teacher);
    let outcome = fit(run, Start::New).unwrap();
    for record in &outcome.records {
        let first = record.gradient_norms["soft"];
        assert!(record.gradient_norms.values().all(|norm| (norm / first - 1.0).abs() < 1e-6), "{record:?}");
    }
}

#[test]
fn accumulated_batches_equal_one_large_one_also_when_the_last_is_smaller() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    let weights = |name: &str, samples: usize, batch: usize, accumulate: usize| {
        let mut settings = settings();
        settings.epochs = 1;
        settings.optimizer.accumulate = accumulate;
        let device = Device::flex();
        let teacher = NetworkTeacher::new("teacher", common::plain(16, 1, &device), &device);
        let run = Run::new(folder.path().join(name), settings, objective(), &device).teacher(teacher);
        let train = common::loader_of(samples, batch);
        let outcome = run.fit(common::plain(8, 2, &device), &train, &loader(32, false), Start::New).unwrap();
        outcome.last.output.weight.val()
    };
    let close = |one: Tensor<2>, other| assert!(one.all_close(other, Some(1e-4), Some(1e-6)));
    close(weights("one", 64, 16, 1), weights("two", 64, 8, 2));
    close(weights("whole", 20, 20, 1), weights("ragged", 20, 8, 3));
}
