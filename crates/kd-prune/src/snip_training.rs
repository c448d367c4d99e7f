//! SNIP in a run: masks from the first batch.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::Module;
use kd_core::Time;
use kd_train::{Gradients, Hook, HookError, Learner};

use crate::keep_masks::STUDENT;
use crate::visit::{Collect, weights_of};
use crate::{Allocation, KeepMasks, LayerScores, LayerShape, Limits, Mask, Masks, PruneError};

/// A hook that prunes before training by the gradient of the run's own first batch, whatever its objective is, and keeps the masks: SNIP without a
/// [`Subject`](crate::Subject), for any network, traced or not.
///
/// The gradient of the first step, taken at the initial weights, gives every weight the score $|w \cdot \partial L/\partial w|$; one ranking over all
/// layers says which stay, at least one in each. The first step already moves those alone.
///
/// Lee et al., *SNIP: Single-shot Network Pruning based on Connection Sensitivity* (2019).
///
/// ```
/// use kd_prune::SnipTraining;
///
/// let hook = SnipTraining::new(0.95, ["hidden.0.weight", "hidden.1.weight", "output.weight"])?;
/// assert!(hook.masks().is_empty(), "there are none before the first step");
/// # Ok::<(), kd_prune::PruneError>(())
/// ```
#[derive(Clone, Debug)]
pub struct SnipTraining {
    sparsity: f64,
    parameters: BTreeSet<String>,
    keep: KeepMasks,
}

impl SnipTraining {
    /// Prunes this share, above 0 and below 1, of the weights of these paths.
    ///
    /// # Errors
    /// [`PruneError::Setting`] for a share out of range, or without any weight.
    pub fn new<N: Into<String>>(
        sparsity: f64,
        parameters: impl IntoIterator<Item = N>,
    ) -> Result<Self, PruneError> {
        let parameters: BTreeSet<String> = parameters.into_iter().map(Into::into).collect();
        if !(sparsity > 0.0 && sparsity < 1.0) {
            return Err(PruneError::setting("sparsity", sparsity, "above 0 and below 1"));
        }
        if parameters.is_empty() {
            return Err(PruneError::setting("parameters", "empty", "at least one weight"));
        }
        Ok(Self { sparsity, parameters, keep: KeepMasks::new(Masks::new()) })
    }

    /// The masks; none before the first step.
    pub fn masks(&self) -> &Masks {
        self.keep.masks()
    }

    fn choose<N: Module>(
        &self,
        student: &N,
        gradients: &mut Gradients<'_, Learner<N>>,
    ) -> Result<Masks, PruneError> {
        let weights = weights_of(student, &self.parameters)?;
        let mut collect = Collect::new(STUDENT, |path| self.parameters.contains(path));
        gradients.map(&mut collect);
        let gradients = collect.found?;
        let mut layers = BTreeMap::new();
        for (path, weight) in &weights {
            let missing = || PruneError::Missing {
                what: "gradient",
                parameter: path.clone(),
                known: gradients.keys().cloned().collect(),
            };
            let gradient = gradients.get(path).ok_or_else(missing)?;
            let scores = weight.zip(gradient, |w, g| (w * g).abs())?.values().to_vec();
            // A global ranking does not look at shapes.
            let shape = LayerShape { sizes: weight.shape().to_vec(), inputs: 1, outputs: 1 };
            layers.insert(path.clone(), LayerScores { scores, shape });
        }
        let keep = Allocation::Global.keep(&layers, self.sparsity, &Limits::default())?;
        let mask = |(path, keep): (String, Vec<bool>)| {
            let shape = weights.get(&path).map_or(&[][..], |weight| weight.shape());
            Ok((path, Mask::new(shape, keep)?))
        };
        keep.into_iter().map(mask).collect()
    }
}

impl<N: Module> Hook<N> for SnipTraining {
    fn name(&self) -> &str {
        "snip"
    }

    fn before_step(
        &mut self,
        time: Time,
        learner: &Learner<N>,
        gradients: &mut Gradients<'_, Learner<N>>,
    ) -> Result<(), HookError> {
        if self.keep.masks().is_empty() {
            let masks = self.choose(&learner.student, gradients);
            self.keep.set_masks(masks.map_err(|error| HookError(error.to_string()))?);
        }
        Hook::<N>::before_step(&mut self.keep, time, learner, gradients)
    }

    fn after_step(&mut self, time: Time, learner: Learner<N>) -> Result<Learner<N>, HookError> {
        Hook::<N>::after_step(&mut self.keep, time, learner)
    }

    fn save(&self) -> Result<serde_json::Value, HookError> {
        Hook::<N>::save(&self.keep)
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<(), HookError> {
        Hook::<N>::restore(&mut self.keep, state)
    }
}
