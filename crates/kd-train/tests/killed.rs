//! What a run finds in its folder after it was killed at a bad moment, and what it refuses to mix up.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use common::{Net, hard, loader, net, settings};
use kd_core::losses::SoftTargetsSettings;
use kd_core::{Normalize, Objective, Step, Taps, Term, TermError, Time, Value, Wants};
use kd_train::metrics::{Metric, MetricError};
use kd_train::teacher::NetworkTeacher;
use kd_train::{Hook, HookError, Learner, Outcome, Run, RunError, Start, TensorMap, map_weights};

/// Ends the run after a step without a checkpoint: on the disk that is a kill.
struct KillAfter(usize);

impl Hook<Net> for KillAfter {
    fn name(&self) -> &str {
        "kill"
    }
    fn after_step(&mut self, time: Time, learner: Learner<Net>) -> Result<Learner<Net>, HookError> {
        if time.step + 1 == self.0 { Err(HookError("killed".into())) } else { Ok(learner) }
    }
}

/// Three epochs of eight steps, a checkpoint at every fifth step and at the end of every epoch.
fn fit(folder: &Path, killed_after: usize, start: Start) -> Result<Outcome<Net>, RunError> {
    let device = Device::flex();
    let soft = SoftTargetsSettings { temperature: 3.0, ..Default::default() }.build().unwrap();
    let objective = Objective::new().with("soft", soft, 0.9).with("hard", hard(), 0.1);
    let run = Run::new(folder, settings(), objective.normalized(Normalize::Gradient), &device)
        .teacher(NetworkTeacher::new("teacher", net(16, 1, &device), &device))
        .hook(KillAfter(killed_after));
    run.fit(net(8, 2, &device), &loader(64, true), &loader(32, false), start)
}

const NEVER: usize = usize::MAX;

#[test]
fn killed_after_any_step_it_resumes_bit_for_bit() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    let (whole, broken) = (folder.path().join("run"), folder.path().join("again/run"));
    fit(&whole, NEVER, Start::New).unwrap();
    // Before the first checkpoint, just before and after one, at an epoch's last step, in the last epoch.
    for step in [2, 5, 6, 8, 9, 16, 22, 24] {
        assert!(matches!(fit(&broken, step, Start::Resume), Err(RunError::Hook { .. })));
    }
    fit(&broken, NEVER, Start::Resume).unwrap();
    common::same(&whole, &broken);
}

#[test]
fn killed_between_a_metrics_line_and_its_checkpoint_it_resumes_bit_for_bit() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    let (whole, broken) = (folder.path().join("run"), folder.path().join("again/run"));
    fit(&whole, NEVER, Start::New).unwrap();
    fit(&broken, 17, Start::New).unwrap_err();
    assert_eq!(common::checkpoints(&broken), ["step-00000015", "step-00000016"]);
    fs::remove_dir_all(broken.join("checkpoints/step-00000016")).unwrap();
    let unfinished = broken.join("checkpoints/.unfinished-1");
    fs::create_dir(&unfinished).unwrap();
    fs::write(unfinished.join("model.bpk"), "half").unwrap();
    assert_eq!(fs::read_to_string(broken.join("metrics.jsonl")).unwrap().lines().count(), 2);
    let mut metrics = OpenOptions::new().append(true).open(broken.join("metrics.jsonl")).unwrap();
    metrics.write_all(b"{\"epoch\":2,\"st").unwrap();
    fit(&broken, NEVER, Start::Resume).unwrap();
    common::same(&whole, &broken);
    assert!(!unfinished.exists());
}

#[test]
fn the_checkpoint_before_a_corrupt_one_is_used_and_leads_to_the_same_bytes() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    let (whole, broken) = (folder.path().join("run"), folder.path().join("again/run"));
    fit(&whole, NEVER, Start::New).unwrap();
    for file in ["model.bpk", "best.bpk"] {
        fit(&broken, 17, Start::Overwrite).unwrap_err();
        fs::write(broken.join("checkpoints/step-00000016").join(file), "half").unwrap();
        fit(&broken, NEVER, Start::Resume).unwrap();
        common::same(&whole, &broken);
        assert!(broken.join("checkpoints/unreadable-step-00000016").exists());
    }
}

#[test]
fn a_finished_student_is_neither_overwritten_unasked_nor_left_beside_another_run() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    fit(&run, NEVER, Start::New).unwrap();
    let student = run.join("student.bpk");
    // Somebody made room.
    fs::remove_dir_all(run.join("checkpoints")).unwrap();
    fs::remove_file(run.join("metrics.jsonl")).unwrap();
    assert!(matches!(fit(&run, NEVER, Start::New), Err(RunError::Exists { .. })));
    assert!(matches!(fit(&run, NEVER, Start::Resume), Err(RunError::Finished { .. })));
    assert!(student.exists());
    fit(&run, 2, Start::Overwrite).unwrap_err();
    assert!(!student.exists() && !run.join("student.safetensors").exists());
}

/// Never a number.
struct Undefined;

impl Metric for Undefined {
    fn name(&self) -> &str {
        "undefined"
    }
    fn higher_is_better(&self) -> bool {
        true
    }
    fn update(&mut self, _outputs: &Taps, _target: &Value) -> Result<(), MetricError> {
        Ok(())
    }
    fn value(&self) -> f64 {
        f64::NAN
    }
    fn reset(&mut self) {}
}

fn alone(folder: &Path) -> Run<Net> {
    Run::new(folder, settings(), Objective::new().with("hard", hard(), 1.0), &Device::flex())
}

fn trained(run: Run<Net>, start: Start) -> Result<Outcome<Net>, RunError> {
    run.fit(net(8, 2, &Device::flex()), &loader(64, true), &loader(32, false), start)
}

#[test]
fn a_metric_that_is_not_a_number_is_recorded_resumed_and_chooses_the_first_epoch() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    let run = |step| alone(folder.path()).metrics(vec![Box::new(Undefined)]).hook(KillAfter(step));
    trained(run(10), Start::New).unwrap_err();
    let outcome = trained(run(NEVER), Start::Resume).unwrap();
    assert_eq!(outcome.records.len(), settings().epochs);
    assert!(outcome.records.iter().all(|record| record.validation["undefined"].is_nan()));
    assert!(outcome.best_value.is_nan());
}

/// Breaks the weights at its fifth step, the one that a checkpoint follows.
struct Break;

impl TensorMap for Break {
    fn map<const D: usize>(&mut self, path: &str, tensor: Tensor<D>) -> Tensor<D> {
        if path == "output.weight" { tensor * f32::NAN } else { tensor }
    }
}

impl Hook<Net> for Break {
    fn name(&self) -> &str {
        "break"
    }
    fn after_step(&mut self, time: Time, learner: Learner<Net>) -> Result<Learner<Net>, HookError> {
        let student = learner.student;
        let student = if time.step == 4 { map_weights(student, self) } else { student };
        Ok(Learner { student, ..learner })
    }
}

#[test]
fn weights_that_are_not_finite_never_get_into_a_checkpoint() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    let error = trained(alone(folder.path()).hook(Break), Start::New).unwrap_err();
    assert!(
        matches!(&error, RunError::WeightNotFinite { step: 5, path, checkpoint: None } if path == "student.output.weight"),
        "{error}"
    );
    assert!(!folder.path().join("checkpoints").exists());
}

/// Its value is 1, its gradient not a number: the root of zero.
#[derive(Debug)]
struct Root;

impl Term for Root {
    fn wants(&self) -> Wants {
        Wants::student_output()
    }
    fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError> {
        let zero = step.student_rows(-1)?.mul_scalar(0.0).square().sum_dim(1).squeeze_dim::<1>(1);
        Ok(zero.sqrt() + 1.0)
    }
}

#[test]
fn a_gradient_that_is_not_finite_is_an_error_that_names_the_term() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    let objective = Objective::new().with("hard", hard(), 1.0).with("root", Root, 1.0);
    let run = Run::new(folder.path(), settings(), objective, &Device::flex());
    let error = trained(run, Start::New).unwrap_err().to_string();
    assert!(error.contains("`root`") && error.contains("norm of its gradient is NaN"), "{error}");
}

#[test]
fn a_second_run_in_the_same_folder_is_refused() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    let lock =
        OpenOptions::new().write(true).create(true).truncate(false).open(folder.path().join("lock")).unwrap();
    lock.try_lock().unwrap();
    let run = || {
        let objective = Objective::new().with("hard", hard(), 1.0);
        let run = Run::new(folder.path(), settings(), objective, &Device::flex());
        run.fit(net(8, 2, &Device::flex()), &loader(64, true), &loader(32, false), Start::Resume)
    };
    assert!(matches!(run(), Err(RunError::Busy { .. })));
    drop(lock);
    assert!(run().is_ok());
}
