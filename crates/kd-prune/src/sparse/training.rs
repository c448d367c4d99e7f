//! Sparse training in a run.

use burn::module::Module;
use kd_core::Time;
use kd_train::checkpoint::Exact;
use kd_train::{Gradients, Hook, HookError, Learner, LearnerState, map_moments};
use serde::{Deserialize, Serialize};

use super::{DropFraction, SparseRule, SparseView};
use crate::keep_masks::STUDENT;
use crate::visit::{Collect, weights_of};
use crate::{Arrays, KeepMasks, Mask, Masks, PruneError};

/// Settings of [`SparseTraining`].
///
/// | key | default | range |
/// |---|---|---|
/// | `rule` | `rigl` | `set`, `rigl`, `snfs` with `momentum`, `dsr` with `threshold`, `target`, `tolerance` |
/// | `drop.initial` | 0.3 | share of connections that the first update replaces, above 0 and below 1 |
/// | `drop.end` | 10,000 | the step from which connections stay; three quarters of the run in RigL |
/// | `drop.anneal` | `cosine` | how the share falls, see [`Anneal`](crate::Anneal) |
/// | `every` | 100 | steps between updates, 1 or more |
/// | `seed` | 0 | of random growth |
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct SparseTrainingSettings {
    /// Which connections go and which come.
    pub rule: SparseRule,
    /// Which share is replaced.
    pub drop: DropFraction,
    /// Steps between updates.
    pub every: usize,
    /// Of random growth.
    pub seed: u64,
}

impl Default for SparseTrainingSettings {
    fn default() -> Self {
        Self { rule: SparseRule::Rigl, drop: DropFraction::default(), every: 100, seed: 0 }
    }
}

impl SparseTrainingSettings {
    /// Refuses settings out of range.
    ///
    /// # Errors
    /// [`PruneError::Setting`].
    pub fn validate(self) -> Result<Self, PruneError> {
        if self.every == 0 {
            return Err(PruneError::setting("every", self.every, "1 or more"));
        }
        Ok(Self { rule: self.rule.validate()?, drop: self.drop.validate()?, ..self })
    }

    /// Whether connections change after a step.
    fn is_due(&self, step: usize) -> bool {
        step > 0 && step.is_multiple_of(self.every) && step < self.drop.end
    }
}

/// A hook that trains a sparse network whose connections move: SET, RigL, SNFS and DSR, by [`SparseRule`].
///
/// The network has zeros wherever there is no connection, at every step; the gradient there is dense in the backward pass, for growth to look at,
/// and is taken away before the optimizer sees it. A new connection starts at zero with fresh moments. Any network will do, traced or not.
///
/// The run must begin with zeros too: with what [`apply`](Self::apply) returns. Initial masks are usually at random in the densities of
/// [`ErdosRenyi`](crate::ErdosRenyi): a [`Pruner`](crate::Pruner) of [`Random`](crate::Random) scores.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::tensor::Device;
/// use kd_prune::{Mask, Masks, SparseTraining, SparseTrainingSettings};
///
/// let layer = LinearConfig::new(2, 2).init(&Device::flex());
/// let masks = Masks::from([("weight".to_owned(), Mask::new([2, 2], vec![true, false, false, true])?)]);
/// let mut hook = SparseTraining::new(SparseTrainingSettings::default(), masks)?;
/// let layer = hook.apply(layer)?;
/// assert_eq!(layer.weight.val().into_data().try_to_vec::<f32>().unwrap()[1..3], [0.0, 0.0]);
/// # Ok::<(), kd_prune::PruneError>(())
/// ```
#[derive(Clone, Debug)]
pub struct SparseTraining {
    settings: SparseTrainingSettings,
    keep: KeepMasks,
    /// What growth looks at: the gradient of this step, or the smoothed one.
    gradients: Arrays,
}

/// What a checkpoint holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    masks: Masks,
    gradients: Arrays,
    /// DSR's, which moves.
    threshold: Option<Exact>,
}

impl SparseTraining {
    /// Starts with these connections, by the paths of the student's weights.
    ///
    /// # Errors
    /// [`PruneError::Setting`] for settings out of range, or without any mask.
    pub fn new(settings: SparseTrainingSettings, masks: Masks) -> Result<Self, PruneError> {
        if masks.is_empty() {
            return Err(PruneError::setting("masks", "empty", "at least one weight"));
        }
        let settings = settings.validate()?;
        Ok(Self { settings, keep: KeepMasks::new(masks), gradients: Arrays::new() })
    }

    /// The connections as they are.
    pub fn masks(&self) -> &Masks {
        self.keep.masks()
    }

    /// A network with zeros wherever there is no connection.
    ///
    /// # Errors
    /// As [`KeepMasks::apply`].
    pub fn apply<M: Module>(&mut self, module: M) -> Result<M, PruneError> {
        self.keep.apply(module)
    }

    /// Takes up what growth will look at.
    fn observe<N: Module>(
        &mut self,
        time: Time,
        gradients: &mut Gradients<'_, Learner<N>>,
    ) -> Result<(), PruneError> {
        let smooth = match self.settings.rule {
            SparseRule::Snfs { momentum } => Some(momentum as f32),
            rule if rule.wants_gradient() && self.settings.is_due(time.step) => None,
            _ => return Ok(()),
        };
        let masks = self.keep.masks();
        let mut collect = Collect::new(STUDENT, |path| masks.contains_key(path));
        gradients.map(&mut collect);
        let mut seen = collect.found?;
        if let Some(momentum) = smooth {
            for (path, new) in &mut seen {
                if let Some(old) = self.gradients.get(path) {
                    *new = old.zip(new, |old, new| momentum * old + (1.0 - momentum) * new)?;
                }
            }
        }
        self.gradients = seen;
        Ok(())
    }

    /// Moves connections. What was connected before and still is keeps its moments, everything else forgets them.
    fn update<N: Module>(
        &mut self,
        time: Time,
        state: LearnerState<N>,
    ) -> Result<LearnerState<N>, PruneError> {
        let LearnerState { learner: Learner { student, adapters }, optimizer, restart_best } = state;
        let weights = weights_of(&student, self.keep.masks().keys())?;
        let view = SparseView {
            weights: &weights,
            masks: self.keep.masks(),
            gradients: &self.gradients,
            share: self.settings.drop.at(time.step),
            seed: kd_data::mix(&[self.settings.seed, time.step as u64]),
        };
        let next = self.settings.rule.update(&view)?;
        let stays = |path: &str, at: usize| {
            let kept = |masks: &Masks| masks.get(path).is_none_or(|mask| mask.keep().get(at) == Some(&true));
            kept(&next) && kept(self.keep.masks())
        };
        let optimizer = map_moments(&student, optimizer, |path, moments| {
            for (at, moment) in moments.iter_mut().enumerate() {
                if !stays(path, at) {
                    *moment = 0.0;
                }
            }
        });
        let optimizer = optimizer.map_err(|error| PruneError::Optimizer(error.to_string()))?;
        tracing::debug!(step = time.step, moved = moved(self.keep.masks(), &next), "connections moved");
        self.keep.set_masks(next);
        let student = self.keep.apply(student)?;
        Ok(LearnerState { learner: Learner { student, adapters }, optimizer, restart_best })
    }
}

/// How many connections are new.
fn moved(before: &Masks, after: &Masks) -> usize {
    let new = |old: &Mask, new: &Mask| {
        old.keep().iter().zip(new.keep()).filter(|(old, new)| **new && !**old).count()
    };
    after.iter().filter_map(|(path, after)| Some(new(before.get(path)?, after))).sum()
}

/// Stops a run that begins with weights where there is no connection.
fn zero_at_first<M: Module>(module: &M, masks: &Masks) -> Result<(), PruneError> {
    for (path, weight) in weights_of(module, masks.keys())? {
        let Some(mask) = masks.get(&path) else { continue };
        if mask.apply(&weight)? != weight {
            let allowed = "zero where its mask prunes: give the run what `apply` returns";
            return Err(PruneError::setting(&path, "not zero where its mask prunes", allowed));
        }
    }
    Ok(())
}

fn failed(error: PruneError) -> HookError {
    HookError(error.to_string())
}

impl<N: Module> Hook<N> for SparseTraining {
    fn name(&self) -> &str {
        "sparse-training"
    }

    fn before_step(
        &mut self,
        time: Time,
        learner: &Learner<N>,
        gradients: &mut Gradients<'_, Learner<N>>,
    ) -> Result<(), HookError> {
        if time.step == 0 {
            zero_at_first(&learner.student, self.keep.masks()).map_err(failed)?;
        }
        self.observe(time, gradients).map_err(failed)?;
        Hook::<N>::before_step(&mut self.keep, time, learner, gradients)
    }

    fn after_step(&mut self, time: Time, learner: Learner<N>) -> Result<Learner<N>, HookError> {
        Hook::<N>::after_step(&mut self.keep, time, learner)
    }

    fn end_step(&mut self, time: Time, state: LearnerState<N>) -> Result<LearnerState<N>, HookError> {
        if !self.settings.is_due(time.step) {
            return Ok(state);
        }
        let state = self.update(time, state).map_err(failed)?;
        if self.settings.rule.wants_gradient() {
            self.gradients.clear();
        }
        Ok(state)
    }

    fn save(&self) -> Result<serde_json::Value, HookError> {
        let masks = self.keep.masks().clone();
        let threshold = match self.settings.rule {
            SparseRule::Dsr(dsr) => Some(Exact(dsr.threshold)),
            _ => None,
        };
        let saved = Saved { masks, gradients: self.gradients.clone(), threshold };
        serde_json::to_value(saved).map_err(|error| HookError(error.to_string()))
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<(), HookError> {
        let saved: Saved = serde_json::from_value(state).map_err(|error| HookError(error.to_string()))?;
        self.keep.set_masks(saved.masks);
        self.gradients = saved.gradients;
        if let (SparseRule::Dsr(dsr), Some(Exact(threshold))) = (&mut self.settings.rule, saved.threshold) {
            dsr.threshold = threshold;
        }
        Ok(())
    }
}
