//! SET, RigL, SNFS, DSR.

use std::sync::{Arc, Mutex};

use burn::tensor::Device;
use kd_core::Time;
use kd_prune::{
    Allocation, DropFraction, DsrThreshold, ErdosRenyi, Masks, Pruner, Random, SparseRule, SparseTraining,
    SparseTrainingSettings, Subject,
};
use kd_train::{Gradients, Hook, HookError, Learner, LearnerState, map_moments};

use crate::common::{self, Network, STEPS, graph, network, optimizers, resumes_bit_for_bit, weights};

const EVERY: usize = 3;
const END: usize = STEPS - 4;

fn rules() -> [SparseRule; 4] {
    let dsr = DsrThreshold { threshold: 0.01, target: 200, tolerance: 0.1 };
    [SparseRule::Set, SparseRule::Rigl, SparseRule::Snfs { momentum: 0.9 }, SparseRule::Dsr(dsr)]
}

fn hook(rule: SparseRule) -> SparseTraining {
    let graph = graph();
    let subject = Subject::new(&graph, &Device::flex());
    let random = Pruner::new(Random { seed: 1 }).allocation(Allocation::ErdosRenyi(ErdosRenyi::default()));
    let masks = random.masks(&subject, &subject.dense().unwrap(), 0.9).unwrap();
    let drop = DropFraction { initial: 0.3, end: END, ..Default::default() };
    SparseTraining::new(SparseTrainingSettings { rule, drop, every: EVERY, seed: 5 }, masks).unwrap()
}

fn student() -> Network {
    hook(SparseRule::Set).apply(network(graph())).unwrap()
}

/// Checks at every step what sparse training promises, and notes the connections.
#[derive(Clone)]
struct Watched {
    hook: SparseTraining,
    rule: SparseRule,
    seen: Arc<Mutex<Vec<(usize, Masks)>>>,
}

fn kept(masks: &Masks) -> usize {
    masks.values().map(kd_prune::Mask::kept).sum()
}

impl Hook<Network> for Watched {
    fn name(&self) -> &str {
        Hook::<Network>::name(&self.hook)
    }
    fn before_step(
        &mut self,
        time: Time,
        learner: &Learner<Network>,
        gradients: &mut Gradients<'_, Learner<Network>>,
    ) -> Result<(), HookError> {
        self.hook.before_step(time, learner, gradients)
    }
    fn after_step(&mut self, time: Time, learner: Learner<Network>) -> Result<Learner<Network>, HookError> {
        self.hook.after_step(time, learner)
    }
    fn end_step(
        &mut self,
        time: Time,
        state: LearnerState<Network>,
    ) -> Result<LearnerState<Network>, HookError> {
        let before = self.hook.masks().clone();
        let LearnerState { learner, optimizer, restart_best } = self.hook.end_step(time, state)?;
        let after = self.hook.masks();
        assert_eq!(kept(&before), kept(after), "the number of connections changed at step {}", time.step);
        if matches!(self.rule, SparseRule::Set | SparseRule::Rigl) {
            assert!(before.iter().all(|(path, mask)| mask.kept() == after[path].kept()));
        }
        for (path, weight) in weights(&learner.student, after) {
            for (at, weight) in weight.values().iter().enumerate() {
                // A pruned weight is zero, and so is a new one.
                let stays = after[&path].keep()[at] && before[&path].keep()[at];
                assert!(stays || *weight == 0.0, "{path}[{at}] is {weight} at step {}", time.step);
            }
        }
        let optimizer = map_moments(&learner.student, optimizer, |path, moments| {
            let Some(mask) = after.get(path) else { return };
            for (at, moment) in moments.iter().enumerate() {
                let stays = mask.keep()[at] && before[path].keep()[at];
                assert!(stays || *moment == 0.0, "{path}[{at}] remembers {moment} at step {}", time.step);
            }
        });
        let optimizer = optimizer.map_err(|error| HookError(error.to_string()))?;
        if before != *after {
            self.seen.lock().unwrap().push((time.step, after.clone()));
        }
        Ok(LearnerState { learner, optimizer, restart_best })
    }
    fn save(&self) -> Result<serde_json::Value, HookError> {
        Hook::<Network>::save(&self.hook)
    }
    fn restore(&mut self, state: serde_json::Value) -> Result<(), HookError> {
        Hook::<Network>::restore(&mut self.hook, state)
    }
}

#[test]
fn connections_move_on_schedule_their_number_stays_and_what_is_not_connected_is_zero_and_forgotten() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    for (index, rule) in rules().into_iter().enumerate() {
        for (kind, optimizer) in optimizers().iter().enumerate() {
            let watched = Watched { hook: hook(rule), rule, seen: Arc::default() };
            let run = folder.path().join(format!("{index}-{kind}"));
            common::fit(&run, optimizer, student(), watched.clone(), None).unwrap();
            let steps: Vec<usize> = watched.seen.lock().unwrap().iter().map(|(step, _)| *step).collect();
            let due: Vec<usize> = (EVERY..END).step_by(EVERY).collect();
            assert_eq!(steps, due, "{rule:?}");
        }
    }
}

#[test]
fn a_resumed_sparse_training_is_the_same_bit_for_bit() {
    let _serial = common::serial();
    for rule in rules() {
        resumes_bit_for_bit(&optimizers()[0], student, || hook(rule));
    }
    resumes_bit_for_bit(&optimizers()[1], student, || hook(SparseRule::Rigl));
}

#[test]
fn a_student_with_weights_where_nothing_is_connected_is_refused() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    let error = common::fit(folder.path(), &optimizers()[0], network(graph()), hook(SparseRule::Set), None);
    let error = format!("{:?}", error.unwrap_err());
    assert!(error.contains("give the run what `apply` returns"), "{error}");
}

#[test]
fn settings_are_read_from_a_file_and_refused_by_name() {
    let text = r#"{ "rule": { "snfs": { "momentum": 0.9 } }, "every": 50, "drop": { "end": 700 } }"#;
    let settings: SparseTrainingSettings = serde_json::from_str(text).unwrap();
    assert_eq!((settings.rule, settings.drop.end), (SparseRule::Snfs { momentum: 0.9 }, 700));
    let error = SparseTrainingSettings { every: 0, ..settings }.validate().unwrap_err().to_string();
    assert_eq!(error, "`every` is 0; allowed is 1 or more");
    assert!(SparseTraining::new(settings, Masks::new()).is_err());
}
