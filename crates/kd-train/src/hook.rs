//! Where pruning, quantisation and a user's own ideas enter a run.

use burn::module::Module;
use burn::optim::ModuleOptimizer;
use kd_core::Time;

use crate::error::RunError;
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

    /// After the optimizer: may change weights by path. Parameters keep their identities, as [`map_weights`](crate::map_weights) does.
    ///
    /// # Errors
    /// Stops the run.
    fn after_step(&mut self, time: Time, learner: Learner<N>) -> Result<Learner<N>, HookError> {
        let _ = time;
        Ok(learner)
    }

    /// After every hook's [`after_step`](Hook::after_step): as that one, with the optimizer, whose moments
    /// [`map_moments`](crate::map_moments) changes by path. Shapes and identities stay.
    ///
    /// # Errors
    /// Stops the run.
    fn end_step(&mut self, time: Time, state: LearnerState<N>) -> Result<LearnerState<N>, HookError> {
        let _ = time;
        Ok(state)
    }

    /// At the end of an epoch, before validation: may replace the model and the optimizer's state.
    ///
    /// The optimizer finds a parameter's moments by the parameter's identity: one whose shape changes needs a new identity, or moments
    /// of the new shape. A hook that changes shapes also implements [`rebuild`](Hook::rebuild). The device is seeded for the epoch
    /// before the first hook, so that random draws are the same in a resumed run.
    ///
    /// # Errors
    /// Stops the run.
    fn end_epoch(&mut self, time: Time, state: LearnerState<N>) -> Result<LearnerState<N>, HookError> {
        let _ = time;
        Ok(state)
    }

    /// The hook's state, for a checkpoint. Floats come back bit for bit as [`Exact`](crate::checkpoint::Exact) only.
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

    /// When a run is resumed, after [`restore`](Hook::restore): gives a fresh learner the shape that this hook had given it by the time of
    /// the checkpoint, whose weights are then loaded into it.
    ///
    /// # Errors
    /// Stops the run.
    fn rebuild(&mut self, learner: Learner<N>) -> Result<Learner<N>, HookError> {
        Ok(learner)
    }
}

/// Everything that learns, for hooks that replace it.
pub struct LearnerState<N: Module> {
    /// Student and adapters.
    pub learner: Learner<N>,
    /// The optimizer with its moments.
    pub optimizer: ModuleOptimizer,
    /// Set by a hook after whose change earlier epochs no longer count, as when a student was made sparse: the best epoch is then chosen
    /// from this one on. A change of shapes does so by itself.
    pub restart_best: bool,
}

/// What went wrong in a hook, in its own words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct HookError(pub String);

/// Says which hook it was.
pub(crate) fn failed<N: Module>(hook: &dyn Hook<N>) -> impl FnOnce(HookError) -> RunError {
    let hook = hook.name().to_owned();
    |source| RunError::Hook { hook, source }
}
