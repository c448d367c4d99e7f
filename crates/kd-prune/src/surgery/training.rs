//! Dynamic network surgery in a run.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::Tensor;
use kd_core::Time;
use kd_train::checkpoint::Exact;
use kd_train::{Gradients, Hook, HookError, Learner, LearnerState, TensorMap, map_weights};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Moments, Thresholds, UpdateProbability};
use crate::masked::SUFFIX;
use crate::visit::weights_of;
use crate::{Array, Mask, PruneError};

/// Settings of [`Surgery`].
///
/// | key | default | range |
/// |---|---|---|
/// | `c` | required | for every weight by its path, how many standard deviations above the mean magnitude the thresholds lie |
/// | `begin` | 0 | the step at which thresholds are set; before it the network is dense |
/// | `probability.gamma` | 1e-4 | 0 or more: how fast updates become rare |
/// | `probability.power` | 1 | 0 or more |
/// | `probability.stop` | 10,000 | the first step without updates, counted from `begin` |
/// | `seed` | 0 | of the draws |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SurgerySettings {
    /// For every weight, where its thresholds lie.
    pub c: BTreeMap<String, f64>,
    /// The step at which thresholds are set; before it the network is dense.
    #[serde(default)]
    pub begin: usize,
    /// How likely a layer's mask is updated at a step, counted from `begin`.
    #[serde(default = "probability")]
    pub probability: UpdateProbability,
    /// Of the draws.
    #[serde(default)]
    pub seed: u64,
}

fn probability() -> UpdateProbability {
    UpdateProbability { gamma: 1e-4, power: 1.0, stop: 10_000 }
}

impl SurgerySettings {
    /// These thresholds, everything else at its default.
    pub fn new<P: Into<String>>(c: impl IntoIterator<Item = (P, f64)>) -> Self {
        let c = c.into_iter().map(|(path, c)| (path.into(), c)).collect();
        Self { c, begin: 0, probability: probability(), seed: 0 }
    }

    /// Refuses settings out of range.
    ///
    /// # Errors
    /// [`PruneError::Setting`].
    pub fn validate(self) -> Result<Self, PruneError> {
        if self.c.is_empty() {
            return Err(PruneError::setting("c", "empty", "at least one weight"));
        }
        if let Some((path, c)) = self.c.iter().find(|(_, c)| !c.is_finite()) {
            return Err(PruneError::setting(&format!("c.{path}"), c, "a finite number"));
        }
        let UpdateProbability { gamma, power, .. } = self.probability;
        for (key, value) in [("probability.gamma", gamma), ("probability.power", power)] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(PruneError::setting(key, value, "0 or more"));
            }
        }
        Ok(self)
    }
}

/// A hook for dynamic network surgery: the forward pass sees masked weights, the gradient goes to all of them, and masks follow the weights, so
/// that what was pruned by mistake is spliced back.
///
/// The network is a graph with masks from [`insert_straight_through_masks`](crate::insert_straight_through_masks), usually a trained one with
/// dense masks; [`fold_masks`](crate::fold_masks) makes the result sparse. Masks are buffers of the network, `path_mask`, and so part of every
/// checkpoint. Thresholds are set once, by mean and deviation of the magnitudes before step `begin`: $0.9$ and $1.1$ times
/// $\max(\mu + c \sigma, 0)$. Biases are left alone, other than in the authors' code.
///
/// Guo et al., *Dynamic Network Surgery for Efficient DNNs* (2016).
///
/// ```
/// use kd_prune::{Surgery, SurgerySettings};
///
/// let settings = SurgerySettings::new([("hidden.0.weight", 2.5), ("output.weight", 1.5)]);
/// let hook = Surgery::new(settings)?;
/// # Ok::<(), kd_prune::PruneError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Surgery {
    settings: SurgerySettings,
    /// By the path of the weight; empty before the first step of surgery.
    thresholds: BTreeMap<String, Thresholds>,
    /// Whether this step has changed a mask.
    changed: bool,
}

impl Surgery {
    /// A hook with these settings.
    ///
    /// # Errors
    /// [`PruneError::Setting`] for settings out of range.
    pub fn new(settings: SurgerySettings) -> Result<Self, PruneError> {
        Ok(Self { settings: settings.validate()?, thresholds: BTreeMap::new(), changed: false })
    }

    fn measure<M: Module>(&mut self, module: &M) -> Result<(), PruneError> {
        for (path, weight) in weights_of(module, self.settings.c.keys())? {
            let c = self.settings.c.get(&path).copied().unwrap_or_default();
            let moments = Moments::of_nonzeros(weight.values());
            self.thresholds.insert(path, Thresholds::around(moments, c, true));
        }
        Ok(())
    }

    /// The weights whose masks are updated at a step.
    fn drawn(&self, step: usize) -> Vec<String> {
        let Some(since) = step.checked_sub(self.settings.begin) else { return Vec::new() };
        let likely = self.settings.probability.at(since);
        let mut random = ChaCha8Rng::seed_from_u64(kd_data::mix(&[self.settings.seed, step as u64]));
        self.settings.c.keys().filter(|_| random.random::<f64>() < likely).cloned().collect()
    }

    fn update<M: Module>(&mut self, module: M, paths: &[String]) -> Result<M, PruneError> {
        let masks: Vec<String> = paths.iter().map(|path| format!("{path}{SUFFIX}")).collect();
        let (weights, masks) = (weights_of(&module, paths)?, weights_of(&module, &masks)?);
        let mut next = BTreeMap::new();
        for (path, weight) in &weights {
            let name = format!("{path}{SUFFIX}");
            let (Some(thresholds), Some(mask)) = (self.thresholds.get(path), masks.get(&name)) else {
                continue;
            };
            let before = Mask::of_nonzeros(mask);
            let after = thresholds.update(weight, &before)?;
            if after != before {
                next.insert(name, after.to_array());
            }
        }
        self.changed = !next.is_empty();
        Ok(if self.changed { map_weights(module, &mut Put(next)) } else { module })
    }
}

/// Other tensors by path.
struct Put(BTreeMap<String, Array>);

impl TensorMap for Put {
    fn map<const D: usize>(&mut self, path: &str, tensor: Tensor<D>) -> Tensor<D> {
        match self.0.get(path) {
            Some(array) => Tensor::from_data(array.to_data(), &tensor.device()),
            None => tensor,
        }
    }
}

fn failed(error: PruneError) -> HookError {
    HookError(error.to_string())
}

impl<N: Module> Hook<N> for Surgery {
    fn name(&self) -> &str {
        "surgery"
    }

    fn before_step(
        &mut self,
        time: Time,
        learner: &Learner<N>,
        _gradients: &mut Gradients<'_, Learner<N>>,
    ) -> Result<(), HookError> {
        self.changed = false;
        let first = self.thresholds.is_empty() && time.step >= self.settings.begin;
        if first { self.measure(&learner.student).map_err(failed) } else { Ok(()) }
    }

    fn after_step(&mut self, time: Time, learner: Learner<N>) -> Result<Learner<N>, HookError> {
        let drawn = self.drawn(time.step);
        if drawn.is_empty() {
            return Ok(learner);
        }
        let Learner { student, adapters } = learner;
        let student = self.update(student, &drawn).map_err(failed)?;
        Ok(Learner { student, adapters })
    }

    fn end_step(&mut self, _time: Time, state: LearnerState<N>) -> Result<LearnerState<N>, HookError> {
        // A student with other masks is no candidate for the best one.
        Ok(LearnerState { restart_best: state.restart_best || self.changed, ..state })
    }

    fn save(&self) -> Result<serde_json::Value, HookError> {
        let exact = |t: &Thresholds| [Exact(f64::from(t.lower)), Exact(f64::from(t.upper))];
        let thresholds: BTreeMap<_, _> = self.thresholds.iter().map(|(path, t)| (path, exact(t))).collect();
        serde_json::to_value(thresholds).map_err(|error| HookError(error.to_string()))
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<(), HookError> {
        let saved: BTreeMap<String, [Exact; 2]> =
            serde_json::from_value(state).map_err(|error| HookError(error.to_string()))?;
        let thresholds = |[lower, upper]: [Exact; 2]| Thresholds {
            lower: lower.0 as f32,
            upper: upper.0 as f32,
            authors: true,
        };
        self.thresholds = saved.into_iter().map(|(path, pair)| (path, thresholds(pair))).collect();
        Ok(())
    }
}
