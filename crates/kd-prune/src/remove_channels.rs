//! Physical removal in the middle of a run.

use std::collections::BTreeSet;

use burn::tensor::Device;
use kd_core::{OnGraph, Time};
use kd_train::checkpoint::Exact;
use kd_train::{Hook, HookError, Learner, LearnerState};
use serde::{Deserialize, Serialize};

use crate::{ChannelPruner, PruneError, PrunePlan, Stopwatch};

/// A hook that removes channels at the end of some epochs, from network and optimizer, after which the run goes on with what is left: pruning in
/// several passes with training between them, as network slimming and DepGraph do.
///
/// The network runs as a graph: a [`Traced`](kd_core::Traced) or [`Compiled`](kd_core::Compiled) one. The plans are saved with the run, so that a
/// resumed one has the same shapes.
///
/// ```
/// use burn::tensor::Device;
/// use kd_prune::{Budget, ChannelPruner, RemoveChannels};
///
/// // After the third and the sixth epoch, each time by the same factor: half of the arithmetic is left in the end.
/// let pruner = ChannelPruner::new(Budget::Macs(0.5.into()));
/// let hook = RemoveChannels::new(pruner, [2, 5], &Device::flex())?;
/// # Ok::<(), kd_prune::PruneError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RemoveChannels {
    pruner: ChannelPruner,
    epochs: BTreeSet<usize>,
    stopwatch: Stopwatch,
    done: Done,
}

/// What has happened so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Done {
    /// The quantity of the budget before the first pass.
    before: Option<Exact>,
    plans: Vec<PrunePlan>,
}

impl RemoveChannels {
    /// Prunes at the end of these epochs, counted from 0. Milliseconds, if they are the budget, are measured on `device`.
    ///
    /// # Errors
    /// [`PruneError::Setting`] for a budget out of range, or without any epoch.
    pub fn new(
        pruner: ChannelPruner,
        epochs: impl IntoIterator<Item = usize>,
        device: &Device,
    ) -> Result<Self, PruneError> {
        pruner.budget.validate()?;
        let epochs: BTreeSet<usize> = epochs.into_iter().collect();
        if epochs.is_empty() {
            return Err(PruneError::setting("epochs", "empty", "at least one epoch to prune after"));
        }
        Ok(Self { pruner, epochs, stopwatch: Stopwatch::new(device), done: Done::default() })
    }

    /// The plans so far, each for what the one before left.
    pub fn plans(&self) -> &[PrunePlan] {
        &self.done.plans
    }

    fn prune<N: OnGraph>(&mut self, state: LearnerState<N>) -> Result<LearnerState<N>, PruneError> {
        let LearnerState { learner, optimizer, restart_best } = state;
        let module = learner.student.module().ok_or(PruneError::NoGraph)?;
        let graph = burn::module::Module::valid(module).to_graph()?;
        let before = match self.done.before {
            Some(before) => before.0,
            None => self.pruner.budget.of(&graph, &self.stopwatch)?,
        };
        let pass = self.done.plans.len() + 1;
        let plan = self.pruner.pass(&graph, before, pass, self.epochs.len(), &self.stopwatch)?;
        let (student, optimizer) = plan.apply_in_training(learner.student, optimizer)?;
        self.done.before = Some(Exact(before));
        self.done.plans.push(plan);
        Ok(LearnerState { learner: Learner { student, ..learner }, optimizer, restart_best })
    }
}

impl<N: OnGraph> Hook<N> for RemoveChannels {
    fn name(&self) -> &str {
        "remove-channels"
    }

    fn end_epoch(&mut self, time: Time, state: LearnerState<N>) -> Result<LearnerState<N>, HookError> {
        if !self.epochs.contains(&time.epoch) {
            return Ok(state);
        }
        self.prune(state).map_err(|error| HookError(error.to_string()))
    }

    fn save(&self) -> Result<serde_json::Value, HookError> {
        serde_json::to_value(&self.done).map_err(|error| HookError(error.to_string()))
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<(), HookError> {
        self.done = serde_json::from_value(state).map_err(|error| HookError(error.to_string()))?;
        Ok(())
    }

    fn rebuild(&mut self, learner: Learner<N>) -> Result<Learner<N>, HookError> {
        let Learner { mut student, adapters } = learner;
        for plan in &self.done.plans {
            student = plan.apply_to(student).map_err(|error| HookError(error.to_string()))?;
        }
        Ok(Learner { student, adapters })
    }
}
