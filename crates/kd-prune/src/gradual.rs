//! Gradual magnitude pruning: masks that follow a schedule while the network trains.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::Module;
use kd_core::Time;
use kd_train::{Gradients, Hook, HookError, Learner, LearnerState};

use crate::visit::weights_of;
use crate::{
    Allocation, KeepMasks, LayerScores, LayerShape, Limits, Magnitude, Masks, PruneError, Schedule, Structure,
};

/// A hook that chooses masks by magnitude whenever its schedule is due, and keeps pruned weights at exactly zero in between. The network need
/// not be traced: weights are known by their path.
///
/// Zhu and Gupta, *To prune, or not to prune* (2017), with [`Schedule::Polynomial`]; Han et al. (2015) with [`Schedule::OneShot`].
#[derive(Clone, Debug)]
pub struct GradualPruning {
    schedule: Schedule,
    allocation: Allocation,
    structure: Structure,
    limits: Limits,
    parameters: BTreeSet<String>,
    keep: KeepMasks,
}

impl GradualPruning {
    /// Prunes the weights of these paths.
    ///
    /// # Errors
    /// [`PruneError::Setting`] for a schedule out of range, or without any weight.
    pub fn new<N: Into<String>>(
        schedule: Schedule,
        allocation: Allocation,
        parameters: impl IntoIterator<Item = N>,
    ) -> Result<Self, PruneError> {
        let parameters: BTreeSet<String> = parameters.into_iter().map(Into::into).collect();
        if parameters.is_empty() {
            return Err(PruneError::setting("parameters", "empty", "at least one weight"));
        }
        Ok(Self {
            schedule: schedule.validate()?,
            allocation,
            structure: Structure::Element,
            limits: Limits::default(),
            parameters,
            keep: KeepMasks::new(Masks::new()),
        })
    }

    /// What goes as one; single weights otherwise.
    #[must_use]
    pub fn structure(self, structure: Structure) -> Self {
        Self { structure, ..self }
    }

    /// The masks as they are.
    pub fn masks(&self) -> &Masks {
        self.keep.masks()
    }

    fn masks_at<N: Module>(&self, step: usize, student: &N) -> Result<Masks, PruneError> {
        let found = weights_of(student, &self.parameters)?;
        let (mut layers, mut units) = (BTreeMap::new(), BTreeMap::new());
        for (path, array) in found {
            let array = array.map(|weight| Magnitude::L1.of(weight));
            let of = self.structure.units(array.shape())?;
            // Which axis is which is not known of a weight alone; the rules that ask are symmetric in the two.
            let (inputs, outputs) =
                (array.shape().get(1).copied().unwrap_or(1), array.shape().first().copied().unwrap_or(1));
            let shape = LayerShape { sizes: array.shape().to_vec(), inputs, outputs };
            layers.insert(path.clone(), LayerScores { scores: of.pool(&array), shape });
            units.insert(path, of);
        }
        let keep = self.allocation.keep(&layers, self.schedule.sparsity(step), &self.limits)?;
        let mask = |(path, units): (String, crate::Units)| {
            let mask = units.mask(keep.get(&path).map_or(&[][..], Vec::as_slice))?;
            Ok((path, mask))
        };
        units.into_iter().map(mask).collect()
    }
}

impl<N: Module> Hook<N> for GradualPruning {
    fn name(&self) -> &str {
        "gradual-pruning"
    }

    fn before_step(
        &mut self,
        time: Time,
        learner: &Learner<N>,
        gradients: &mut Gradients<'_, Learner<N>>,
    ) -> Result<(), HookError> {
        Hook::<N>::before_step(&mut self.keep, time, learner, gradients)
    }

    fn after_step(&mut self, time: Time, learner: Learner<N>) -> Result<Learner<N>, HookError> {
        let failed = |error: PruneError| HookError(error.to_string());
        if self.schedule.is_due(time.step) {
            self.keep.set_masks(self.masks_at(time.step, &learner.student).map_err(failed)?);
        }
        Hook::<N>::after_step(&mut self.keep, time, learner)
    }

    fn end_step(&mut self, time: Time, state: LearnerState<N>) -> Result<LearnerState<N>, HookError> {
        // A denser student is no candidate for the best one.
        let restart_best = state.restart_best || self.schedule.is_due(time.step);
        Ok(LearnerState { restart_best, ..state })
    }

    fn save(&self) -> Result<serde_json::Value, HookError> {
        Hook::<N>::save(&self.keep)
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<(), HookError> {
        Hook::<N>::restore(&mut self.keep, state)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;
    use kd_core::Params;

    fn hook() -> GradualPruning {
        let schedule = Schedule::Iterative { target: 0.75, rounds: 2, every: 2 };
        GradualPruning::new(schedule, Allocation::Uniform, ["weight"]).unwrap()
    }

    fn step(hook: &mut GradualPruning, layer: Linear, step: usize) -> Linear {
        let learner = Learner { student: layer, adapters: Params::default() };
        let time = Time { epoch: 0, step, total_steps: 4 };
        Hook::<Linear>::after_step(hook, time, learner).unwrap().student
    }

    #[test]
    fn sparsity_follows_the_schedule_also_after_a_resume() {
        let mut hook = hook();
        let mut layer = LinearConfig::new(8, 8).init(&Device::flex());
        let zeros = |layer: &Linear| {
            let weights: Vec<f32> = layer.weight.val().into_data().try_to_vec().unwrap();
            weights.iter().filter(|weight| **weight == 0.0).count()
        };
        layer = step(&mut hook, layer, 0);
        assert_eq!(zeros(&layer), 32);
        layer = step(&mut hook, layer, 1);
        assert_eq!(zeros(&layer), 32);
        let mut resumed = self::hook();
        Hook::<Linear>::restore(&mut resumed, Hook::<Linear>::save(&hook).unwrap()).unwrap();
        layer = step(&mut resumed, layer, 2);
        assert_eq!(zeros(&layer), 48);
    }

    #[test]
    fn a_weight_that_is_not_there_stops_the_run() {
        let schedule = Schedule::OneShot { target: 0.5, at: 0 };
        let mut hook = GradualPruning::new(schedule, Allocation::Uniform, ["wieght"]).unwrap();
        let layer = LinearConfig::new(2, 2).init(&Device::flex());
        let learner = Learner { student: layer, adapters: Params::default() };
        let error = Hook::<Linear>::after_step(&mut hook, Time::default(), learner).unwrap_err();
        assert!(error.to_string().contains("`wieght`"));
        assert!(GradualPruning::new(schedule, Allocation::Uniform, [""; 0]).is_err());
    }
}
