//! Dynamic network surgery.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use burn::tensor::{Device, Tensor};
use kd_core::{Time, Traced};
use kd_graph::GraphModule;
use kd_prune::{
    Mask, Masks, Subject, Surgery, SurgerySettings, UpdateProbability, fold_masks,
    insert_straight_through_masks, masks_of,
};
use kd_train::{Gradients, Hook, HookError, Learner};

use crate::common::{self, Network, graph, network, optimizers, resumes_bit_for_bit, weights};

fn masks() -> Masks {
    Subject::new(&graph(), &Device::flex()).dense().unwrap()
}

fn student() -> Network {
    let mut graph = graph();
    insert_straight_through_masks(&mut graph, &masks()).unwrap();
    network(graph)
}

fn hook() -> Surgery {
    let settings = SurgerySettings::new([("hidden.weight", 0.5), ("output.weight", 0.0)]);
    let probability = UpdateProbability { gamma: 0.05, power: 1.0, stop: 20 };
    Surgery::new(SurgerySettings { probability, seed: 2, ..settings }).unwrap()
}

/// Notes masks and weights after every step.
#[derive(Clone)]
struct Watched {
    hook: Surgery,
    seen: Arc<Mutex<Vec<(Masks, kd_prune::Arrays)>>>,
}

fn masks_in(network: &Network) -> Masks {
    let names: Masks = masks().into_iter().map(|(path, mask)| (format!("{path}_mask"), mask)).collect();
    let read = |(path, array): (String, kd_prune::Array)| {
        assert!(array.values().iter().all(|value| *value == 0.0 || *value == 1.0), "{path} is no mask");
        (path.trim_end_matches("_mask").to_owned(), Mask::of_nonzeros(&array))
    };
    weights(network, &names).into_iter().map(read).collect()
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
        let learner = self.hook.after_step(time, learner)?;
        let network = &learner.student;
        self.seen.lock().unwrap().push((masks_in(network), weights(network, &masks())));
        Ok(learner)
    }
}

#[test]
fn masks_follow_the_weights_pruned_weights_go_on_learning_and_some_come_back_until_updates_stop() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    let watched = Watched { hook: hook(), seen: Arc::default() };
    let outcome = common::fit(folder.path(), &optimizers()[0], student(), watched.clone(), None).unwrap();
    let seen = watched.seen.lock().unwrap();
    let (mut spliced, mut learned) = (0, 0);
    for pair in seen.windows(2) {
        let [(before, old), (after, new)] = pair else { panic!("two steps") };
        for (path, after) in after {
            for (at, keep) in after.keep().iter().enumerate() {
                let was = before[path].keep()[at];
                spliced += usize::from(*keep && !was);
                learned += usize::from(!was && old[path].values()[at] != new[path].values()[at]);
            }
        }
    }
    assert!(spliced > 0 && learned > 0, "{spliced} came back, {learned} moved while pruned");
    let last: BTreeSet<usize> = seen[20..].iter().map(|(masks, _)| masks["hidden.weight"].kept()).collect();
    assert_eq!(last.len(), 1, "updates went on");

    // What is left is sparse, and computes what the masked network computes.
    let mut folded = outcome.last.module().to_graph().unwrap();
    let masks = masks_of(&folded).unwrap();
    assert!(masks["hidden.weight"].sparsity() > 0.5, "{}", masks["hidden.weight"].sparsity());
    fold_masks(&mut folded).unwrap();
    let x = Tensor::<4>::ones([2, 1, 28, 28], &Device::flex());
    let plain: Network = Traced::from(GraphModule::new(folded, &Device::flex()).unwrap());
    for (path, weight) in weights(&plain, &masks) {
        assert!(
            weight.values().iter().zip(masks[&path].keep()).all(|(weight, keep)| *keep || *weight == 0.0)
        );
    }
    let logits = |network: &Network| -> Vec<f32> {
        network.module().forward::<4, 2>(x.clone()).unwrap().into_data().try_to_vec().unwrap()
    };
    for (a, b) in logits(&outcome.last).iter().zip(logits(&plain)) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
}

#[test]
fn a_resumed_surgery_is_the_same_bit_for_bit() {
    let _serial = common::serial();
    resumes_bit_for_bit(&optimizers()[0], student, hook);
}

#[test]
fn the_network_is_dense_until_surgery_begins_and_a_run_stopped_before_and_after_is_the_same() {
    let _serial = common::serial();
    let later = || {
        let settings = SurgerySettings::new([("hidden.weight", 0.5), ("output.weight", 0.0)]);
        let probability = UpdateProbability { gamma: 0.0, power: 1.0, stop: 20 };
        Surgery::new(SurgerySettings { begin: 9, probability, ..settings }).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let watched = Watched { hook: later(), seen: Arc::default() };
    common::fit(folder.path(), &optimizers()[0], student(), watched.clone(), None).unwrap();
    for (step, (masks, _)) in watched.seen.lock().unwrap().iter().enumerate() {
        let dense = masks.values().all(|mask| mask.sparsity() == 0.0);
        assert_eq!(dense, step < 9, "step {step}");
    }
    resumes_bit_for_bit(&optimizers()[0], student, later);
}

#[test]
fn a_weight_without_mask_and_settings_out_of_range_are_refused() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    let error = common::fit(folder.path(), &optimizers()[0], network(graph()), hook(), None).unwrap_err();
    assert!(format!("{error:?}").contains("hidden.weight_mask"), "{error:?}");
    assert!(Surgery::new(SurgerySettings::new([("a", f64::NAN)])).unwrap_err().to_string().contains("`c.a`"));
    assert!(Surgery::new(SurgerySettings::new([("", 0.0); 0])).is_err());
}
