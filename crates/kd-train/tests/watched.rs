//! What a run notices: teachers that move, adapters nobody trains; and the data and losses that need its help.
#![allow(clippy::unwrap_used)]

mod common;

use std::cell::Cell;

use burn::tensor::{Device, Tensor};
use common::{Net, hard, loader, net, settings};
use kd_core::losses::{CrdSettings, GradientAttentionSettings, SoftTargetsSettings};
use kd_core::{Objective, Probe, Step, Taps, Term, TermError, TermParams, Wants};
use kd_train::teacher::{NetworkTeacher, Teacher, TeacherError};
use kd_train::{Outcome, Run, RunError, Start};

fn fit(run: Run<Net>) -> Result<Outcome<Net>, RunError> {
    run.fit(net(8, 2, &Device::flex()), &loader(64, true), &loader(32, false), Start::New)
}

fn teacher() -> NetworkTeacher<Net> {
    let device = Device::flex();
    NetworkTeacher::new("teacher", net(16, 1, &device), &device)
}

/// A teacher whose weights seem to change with every look at them.
struct Restless {
    inner: NetworkTeacher<Net>,
    looks: Cell<usize>,
}

impl Teacher<Tensor<4>> for Restless {
    fn taps(
        &mut self,
        input: &Tensor<4>,
        ids: &[usize],
        view: u64,
        wanted: &[String],
    ) -> Result<Taps, TeacherError> {
        self.inner.taps(input, ids, view, wanted)
    }
    fn differentiable(&self, input: Tensor<4>, wanted: &[String]) -> Result<Taps, TeacherError> {
        self.inner.differentiable(input, wanted)
    }
    fn fingerprint(&self) -> Result<String, TeacherError> {
        self.looks.set(self.looks.get() + 1);
        Ok(self.looks.get().to_string())
    }
    fn parameters(&self) -> usize {
        0
    }
    fn name(&self) -> &str {
        "restless"
    }
}

#[test]
fn a_teacher_that_moves_stops_the_run() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    let soft = SoftTargetsSettings::default().build().unwrap();
    let run = Run::new(folder.path(), settings(), Objective::new().with("soft", soft, 1.0), &Device::flex());
    let error = fit(run.teacher(Restless { inner: teacher(), looks: Cell::new(0) })).unwrap_err();
    assert!(
        matches!(&error, RunError::TeacherMoved { teacher, epoch: 0 } if teacher == "restless"),
        "{error}"
    );
}

/// Makes a parameter and forgets it.
#[derive(Debug)]
struct Forgetful;

impl Term for Forgetful {
    fn wants(&self) -> Wants {
        Wants::student_output()
    }
    fn init(&self, probe: &Probe, params: &mut TermParams<'_>) -> Result<(), TermError> {
        params.insert("forgotten", Tensor::<1>::ones([3], &probe.device))
    }
    fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError> {
        Ok(step.student_rows(-1)?.square().mean_dim(1).squeeze_dim::<1>(1))
    }
}

#[test]
fn an_adapter_that_gets_no_gradient_is_an_error_that_names_it() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    let objective = Objective::new().with("hard", hard(), 1.0).with("careless", Forgetful, 1.0);
    let error = fit(Run::new(folder.path(), settings(), objective, &Device::flex())).unwrap_err();
    assert!(
        matches!(&error, RunError::AdapterWithoutGradient { path } if path == "careless.forgotten"),
        "{error}"
    );
}

#[test]
fn a_missing_tap_is_an_error_before_the_first_step_that_lists_the_taps() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    let hint =
        kd_core::losses::by_name("fitnets", "student = ['hiden']\nteacher = ['hidden']".parse().unwrap());
    let objective = Objective::new().with_boxed("hint", hint.unwrap(), 1.0, kd_core::Reduction::Mean);
    let run = Run::new(folder.path(), settings(), objective, &Device::flex()).teacher(teacher());
    let error = fit(run).unwrap_err().to_string();
    assert!(error.contains("`hiden`") && error.contains("hidden"), "{error}");
    assert!(!folder.path().join("metrics.jsonl").exists());
}

#[test]
fn losses_on_input_gradients_run_the_models_again_and_teach() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    let attention = GradientAttentionSettings::default().build().unwrap();
    let objective = Objective::new().with("attention", attention, 1.0).with("hard", hard(), 1.0);
    let outcome =
        fit(Run::new(folder.path(), settings(), objective, &Device::flex()).teacher(teacher())).unwrap();
    for record in &outcome.records {
        assert!(
            record.gradient_norms["attention"] > 0.0 && record.terms["attention"].is_finite(),
            "{record:?}"
        );
    }
}

#[test]
fn a_memory_bank_is_filled_by_the_run_and_not_by_its_diagnostics() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    let contrast = CrdSettings {
        student: vec!["hidden".into()],
        teacher: vec!["hidden".into()],
        dimension: 4,
        negatives: 8,
        ..Default::default()
    };
    let objective =
        Objective::new().with("contrast", contrast.build().unwrap(), 0.8).with("hard", hard(), 1.0);
    let outcome =
        fit(Run::new(folder.path(), settings(), objective, &Device::flex()).teacher(teacher())).unwrap();
    let first = outcome.records.first().unwrap().terms["contrast"];
    let last = outcome.records.last().unwrap().terms["contrast"];
    assert!(last < first, "{first} to {last}");
}

#[test]
fn mixup_trains_on_probabilities_and_is_evaluated_on_labels() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    let run =
        Run::new(folder.path(), settings(), Objective::new().with("hard", hard(), 1.0), &Device::flex());
    let student = net(8, 2, &Device::flex());
    let outcome = run.fit(student, &common::mixed(64), &loader(32, false), Start::New).unwrap();
    assert!(outcome.best_value > 0.6, "{}", outcome.best_value);
}
