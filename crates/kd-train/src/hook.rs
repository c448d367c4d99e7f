//! Where pruning, quantisation and a user's own ideas enter a run.

use burn::module::Module;
use burn::optim::ModuleOptimizer;
use kd_core::Time;

use crate::learner::{Gradients, Learner};

/// Called by a [`Run`](crate::Run) at fixed points of its loop. Every method has a default that does nothing.
///
/// A hook's own state goes into the checkpoint by [`save`](Hook::save) and comes back by [`restore`](Hook::restore), so that a resumed run
/// continues bit for bit.
///
/// ```
/// use burn::{module::Module, tensor::Tensor};
/// use kd_core::Time;
/// use kd_train::{Hook, HookError, Learner, TensorMap, map_weights};
///
/// /// Keeps every weight in [-1, 1].
/// struct Clip;
///
/// impl TensorMap for Clip {
///     fn map<const D: usize>(&mut self, _path: &str, tensor: Tensor<D>) -> Tensor<D> {
///         tensor.clamp(-1.0, 1.0)
///     }
/// }
///
/// impl<N: Module> Hook<N> for Clip {
///     fn name(&self) -> &str {
///         "clip-weights"
///     }
///     fn after_step(&mut self, _time: Time, learner: Learner<N>) -> Result<Learner<N>, HookError> {
///         Ok(Learner { student: map_weights(learner.student, self), ..learner })
///     }
/// }
/// ```
pub trait Hook<N: Module>: Send {
    /// A name, unique in its run: the key of its state in checkpoints.
    fn name(&self) -> &str;

    /// After the backward pass, before clipping and the optimizer: may change gradients by path.
    ///
    /// # Errors
    /// Stops the run.
    fn before_step(
        &mut self,
        time: Time,
        learner: &Learner<N>,
        gradients: &mut Gradients<'_, Learner<N>>,
    ) -> Result<(), HookError> {
        let _ = (time, learner, gradients);
        Ok(())
    }

    /// After the optimizer: may change weights by path.
    ///
    /// # Errors
    /// Stops the run.
    fn after_step(&mut self, time: Time, learner: Learner<N>) -> Result<Learner<N>, HookError> {
        let _ = time;
        Ok(learner)
    }

    /// At the end of an epoch, before validation: may replace the model and the optimizer's state.
    ///
    /// # Errors
    /// Stops the run.
    fn end_epoch(&mut self, time: Time, state: LearnerState<N>) -> Result<LearnerState<N>, HookError> {
        let _ = time;
        Ok(state)
    }

    /// The hook's state, for a checkpoint.
    ///
    /// # Errors
    /// Stops the run.
    fn save(&self) -> Result<serde_json::Value, HookError> {
        Ok(serde_json::Value::Null)
    }

    /// Takes back what [`save`](Hook::save) gave.
    ///
    /// # Errors
    /// When the state is not this hook's.
    fn restore(&mut self, state: serde_json::Value) -> Result<(), HookError> {
        let _ = state;
        Ok(())
    }
}

/// Everything that learns, for hooks that replace it.
pub struct LearnerState<N: Module> {
    /// Student and adapters.
    pub learner: Learner<N>,
    /// The optimizer with its moments.
    pub optimizer: ModuleOptimizer,
}

/// What went wrong in a hook, in its own words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct HookError(pub String);
