//! The point that a network is rewound to.

use std::sync::{Arc, Mutex, PoisonError};

use burn::module::Module;
use kd_core::Time;
use kd_graph::Graph;
use kd_train::{Hook, HookError, Learner};

use crate::subject::with_values;
use crate::visit::{Collect, Weights};
use crate::{Arrays, PruneError};

/// A hook that remembers all float parameters and running statistics after a number of steps. Clones share what they remember: give one to the run
/// and ask the other afterwards. It is part of checkpoints.
///
/// ```
/// use kd_prune::Snapshot;
///
/// let snapshot = Snapshot::after(500);
/// // run.hook(snapshot.clone()) ... fit ... snapshot.rewind(&graph)
/// # let graph = kd_graph::Graph::new();
/// assert!(snapshot.rewind(&graph).is_err(), "nothing has been trained yet");
/// ```
#[derive(Clone, Debug)]
pub struct Snapshot {
    steps: usize,
    weights: Arc<Mutex<Option<Arrays>>>,
}

impl Snapshot {
    /// Remembers the weights after so many steps, 1 or more. (After none they are those that the run was given.)
    pub fn after(steps: usize) -> Self {
        Self { steps, weights: Arc::default() }
    }

    /// The network with the weights of that point.
    ///
    /// # Errors
    /// [`PruneError::Setting`] when no run has come that far; [`PruneError::Graph`] when the network is another one.
    pub fn rewind(&self, network: &Graph) -> Result<Graph, PruneError> {
        let weights = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        let few = || PruneError::setting("steps", self.steps, "1 or more, and no more than the run has made");
        with_values(network, weights.as_ref().ok_or_else(few)?)
    }
}

impl<N: Module> Hook<N> for Snapshot {
    fn name(&self) -> &str {
        "snapshot"
    }

    fn after_step(&mut self, time: Time, learner: Learner<N>) -> Result<Learner<N>, HookError> {
        if time.step + 1 == self.steps {
            let mut all = Collect::new("", |_: &str| true);
            // Running statistics are up to date only outside of training.
            learner.student.valid().visit(&mut Weights::new(&mut all));
            let weights = all.found.map_err(|error| HookError(error.to_string()))?;
            *self.weights.lock().unwrap_or_else(PoisonError::into_inner) = Some(weights);
        }
        Ok(learner)
    }

    fn save(&self) -> Result<serde_json::Value, HookError> {
        let weights = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        serde_json::to_value(&*weights).map_err(|error| HookError(error.to_string()))
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<(), HookError> {
        let weights = serde_json::from_value(state).map_err(|error| HookError(error.to_string()))?;
        *self.weights.lock().unwrap_or_else(PoisonError::into_inner) = weights;
        Ok(())
    }
}
