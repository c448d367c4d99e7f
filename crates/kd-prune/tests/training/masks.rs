//! Masks that stay, masks on a schedule, masks chosen before training, and tickets.

use std::sync::{Arc, Mutex};

use burn::nn::loss::CrossEntropyLossConfig;
use burn::tensor::{Device, Int, Tensor};
use kd_core::Time;
use kd_graph::Value;
use kd_prune::{
    Allocation, AtInitialisation, GradualPruning, KeepMasks, MaskSearch, Masks, PruneError, Schedule,
    Snapshot, SnipTraining, Subject, rewound, two_of_four,
};
use kd_train::{Gradients, Hook, HookError, HostBatch, Learner, LearnerState};

use crate::common::{
    self, EPOCH, Network, STEPS, graph, loader, network, optimizers, resumes_bit_for_bit, weights,
};

/// Fails at any step whose weights are not zero where masks prune.
struct Watched<H> {
    hook: H,
    masks: fn(&H) -> &Masks,
    seen: Arc<Mutex<Vec<f64>>>,
}

impl<H: Hook<Network>> Hook<Network> for Watched<H> {
    fn name(&self) -> &str {
        self.hook.name()
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
        let learner = self.hook.after_step(time, learner)?;
        let masks = (self.masks)(&self.hook);
        for (path, weight) in weights(&learner.student, masks) {
            assert_eq!(masks[&path].apply(&weight).unwrap(), weight, "{path} at step {}", time.step);
        }
        self.seen.lock().unwrap().push(masks.get("hidden.weight").map_or(0.0, kd_prune::Mask::sparsity));
        Ok(learner)
    }
    fn end_step(
        &mut self,
        time: Time,
        state: LearnerState<Network>,
    ) -> Result<LearnerState<Network>, HookError> {
        self.hook.end_step(time, state)
    }
}

fn gradual(schedule: Schedule) -> GradualPruning {
    let paths = ["hidden.weight", "output.weight"];
    GradualPruning::new(schedule, Allocation::Global, paths).unwrap()
}

#[test]
fn magnitude_pruning_with_retraining_keeps_pruned_weights_at_zero_at_every_step() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    for (kind, optimizer) in optimizers().iter().enumerate() {
        let hook = gradual(Schedule::Iterative { target: 0.9, rounds: 3, every: EPOCH / 2 });
        let seen = Arc::<Mutex<Vec<f64>>>::default();
        let watched = Watched { hook, masks: |hook: &GradualPruning| hook.masks(), seen: seen.clone() };
        common::fit(&folder.path().join(kind.to_string()), optimizer, network(graph()), watched, None)
            .unwrap();
        let seen = seen.lock().unwrap();
        assert!(seen.is_sorted() && seen[STEPS - 1] > 0.85, "{seen:?}");
    }
}

#[test]
fn the_best_epoch_is_never_one_of_a_denser_student() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    let hook = gradual(Schedule::OneShot { target: 0.98, at: STEPS - 2 });
    let outcome = common::fit(folder.path(), &optimizers()[0], network(graph()), hook, None).unwrap();
    assert_eq!(outcome.best_epoch, STEPS / EPOCH - 1);
    resumes_bit_for_bit(
        &optimizers()[0],
        || network(graph()),
        || gradual(Schedule::OneShot { target: 0.98, at: EPOCH + 1 }),
    );
}

#[test]
fn networks_pruned_before_training_learn_with_what_is_left() {
    let _serial = common::serial();
    let (graph, device) = (graph(), Device::flex());
    let batch = loader(true).epoch(0, 0).next().unwrap().unwrap().batch;
    let (x, labels) = batch.to_device(&device);
    let labels: Tensor<1, Int> = labels.int().unwrap();
    let subject = Subject::new(&graph, &device).with_loss(vec![Value::from(x)], move |outputs| {
        let logits = outputs[0].float::<2>()?;
        let loss = CrossEntropyLossConfig::new().init(&logits.device());
        Ok(loss.forward(logits, labels.clone().autodiff()))
    });
    let methods = [
        AtInitialisation::Snip,
        AtInitialisation::Grasp,
        AtInitialisation::Synflow { rounds: 20 },
        AtInitialisation::Magnitude,
        AtInitialisation::Random { seed: 1 },
    ];
    let folder = tempfile::tempdir().unwrap();
    for method in methods {
        let masks = method.masks(&subject, 0.9).unwrap();
        let kept: usize = masks.values().map(kd_prune::Mask::kept).sum();
        let all: usize = masks.values().map(|mask| mask.keep().len()).sum();
        assert!((kept as f64 / all as f64 - 0.1).abs() < 1e-3, "{method:?} kept {kept} of {all}");
        let mut hook = KeepMasks::new(masks);
        let student = hook.apply(network(graph.clone())).unwrap();
        let watched = Watched { hook, masks: |hook: &KeepMasks| hook.masks(), seen: Arc::default() };
        let run = folder.path().join(format!("{method:?}"));
        let outcome = common::fit(&run, &optimizers()[1], student, watched, None).unwrap();
        let losses: Vec<f64> = outcome.records.iter().map(|record| record.loss).collect();
        assert!(losses[2] < losses[1] && losses[1] < losses[0], "{method:?}: {losses:?}");
    }
    let blind = Subject::new(&graph, &device);
    assert!(matches!(AtInitialisation::Snip.masks(&blind, 0.5), Err(PruneError::NoLoss { .. })));
}

#[test]
fn two_of_four_is_two_of_four_after_training_too() {
    let _serial = common::serial();
    let graph = graph();
    let subject = Subject::new(&graph, &Device::flex());
    let folder = tempfile::tempdir().unwrap();
    for search in [MaskSearch::Inputs, MaskSearch::Transposable] {
        let masks = two_of_four(&subject, search).unwrap();
        // Ten outputs are no multiple of four, twelve inputs are.
        assert_eq!(masks["output.weight"].sparsity(), 0.5);
        let mut hook = KeepMasks::new(masks.clone());
        let student = hook.apply(network(graph.clone())).unwrap();
        let run = folder.path().join(format!("{search:?}"));
        let outcome = common::fit(&run, &optimizers()[0], student, hook, None).unwrap();
        for weight in weights(&outcome.last, &masks).values() {
            let outputs = weight.shape()[1];
            for start in (0..weight.len()).filter(|flat| flat / outputs % 4 == 0) {
                let zeros = (0..4).filter(|place| weight.values()[start + place * outputs] == 0.0).count();
                assert!(zeros >= 2);
            }
        }
    }
}

#[test]
fn a_snapshot_is_what_a_run_of_so_many_steps_ends_with_also_after_a_resume() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    let masks = Subject::new(&graph(), &Device::flex()).dense().unwrap();
    let rewind = |snapshot: &Snapshot| {
        let graph = snapshot.rewind(&graph()).unwrap();
        weights(&network(rewound(&graph, &masks).unwrap()), &masks)
    };
    let snapshot = Snapshot::after(2);
    common::fit(&folder.path().join("a"), &optimizers()[0], network(graph()), snapshot.clone(), None)
        .unwrap();
    assert_ne!(rewind(&snapshot), weights(&network(graph()), &masks));

    let broken = folder.path().join("b");
    common::fit(&broken, &optimizers()[0], network(graph()), Snapshot::after(2), Some(5)).unwrap_err();
    let resumed = Snapshot::after(2);
    common::fit(&broken, &optimizers()[0], network(graph()), resumed.clone(), None).unwrap();
    assert_eq!(rewind(&resumed), rewind(&snapshot));
    assert!(Snapshot::after(2).rewind(&graph()).is_err());
}

#[test]
fn snip_by_the_first_batch_of_a_run_chooses_what_snip_chooses_and_resumes() {
    let _serial = common::serial();
    let (graph, device) = (graph(), Device::flex());
    let batch = loader(true).epoch(0, 0).next().unwrap().unwrap().batch;
    let (x, labels) = batch.to_device(&device);
    let labels: Tensor<1, Int> = labels.int().unwrap();
    let subject = Subject::new(&graph, &device).with_loss(vec![Value::from(x)], move |outputs| {
        let logits = outputs[0].float::<2>()?;
        let loss = CrossEntropyLossConfig::new().init(&logits.device());
        Ok(loss.forward(logits, labels.clone().autodiff()))
    });
    let expected = AtInitialisation::Snip.masks(&subject, 0.9).unwrap();
    let hook = || SnipTraining::new(0.9, ["hidden.weight", "output.weight"]).unwrap();
    let outcome = resumes_bit_for_bit(&optimizers()[0], || network(graph.clone()), hook);
    let (mut same, mut all) = (0, 0);
    for (path, weight) in weights(&outcome.last, &expected) {
        for (weight, keep) in weight.values().iter().zip(expected[&path].keep()) {
            same += usize::from((*weight != 0.0) == *keep);
            all += 1;
        }
    }
    // Scores that are equal but for rounding may change places.
    assert!(same + 8 >= all, "{same} of {all}");
    assert!(SnipTraining::new(1.0, ["a"]).is_err() && SnipTraining::new(0.5, [""; 0]).is_err());
}
