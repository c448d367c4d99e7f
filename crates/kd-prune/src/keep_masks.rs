//! Keeps pruned weights at zero during a run.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Bool, Tensor, TensorData};
use kd_core::Time;
use kd_graph::Value;
use kd_train::{Gradients, Hook, HookError, Learner, TensorMap, map_weights};

use crate::{Masks, PruneError};

/// What stands before the student's paths among a learner's.
pub(crate) const STUDENT: &str = "student.";

/// A hook that sets pruned weights to exactly zero after every step, whatever momentum, Adam's moments or weight decay did to them, and takes
/// their gradients away, so that clipping and moments do not see them. It works on any network, traced or not; the masks are saved with the
/// run. What the first forward pass sees is up to the caller: [`apply`](Self::apply).
///
/// ```
/// use kd_prune::{KeepMasks, Mask, Masks};
///
/// let masks = Masks::from([("fc1.weight".to_owned(), Mask::new([2], vec![true, false])?)]);
/// let hook = KeepMasks::new(masks);
/// assert_eq!(hook.masks().len(), 1);
/// # Ok::<(), kd_prune::PruneError>(())
/// ```
#[derive(Clone, Debug)]
pub struct KeepMasks {
    masks: Masks,
    /// What is pruned, on the device of the weights, by path.
    pruned: BTreeMap<String, Value>,
}

impl KeepMasks {
    /// For masks by the paths of the student's weights.
    pub fn new(masks: Masks) -> Self {
        Self { masks, pruned: BTreeMap::new() }
    }

    /// The masks.
    pub fn masks(&self) -> &Masks {
        &self.masks
    }

    /// Other masks from the next step on.
    pub fn set_masks(&mut self, masks: Masks) {
        *self = Self::new(masks);
    }

    /// A network with zeros in place of what is pruned.
    ///
    /// # Errors
    /// [`PruneError::Missing`] for a mask whose weight the network doesn't have, [`PruneError::Shape`] for one of another shape.
    pub fn apply<M: Module>(&mut self, module: M) -> Result<M, PruneError> {
        self.zero(module, "")
    }

    /// Takes the gradients of pruned weights away; `prefix` stands before the paths of the masks.
    pub(crate) fn mask_gradients<M: Module>(
        &mut self,
        gradients: &mut Gradients<'_, M>,
        prefix: &'static str,
    ) -> Result<(), PruneError> {
        let mut zero = Zero { hook: self, prefix, seen: Vec::new(), wrong: None };
        gradients.map(&mut zero);
        zero.wrong.map_or(Ok(()), Err)
    }

    fn zero<M: Module>(&mut self, module: M, prefix: &'static str) -> Result<M, PruneError> {
        let mut zero = Zero { hook: self, prefix, seen: Vec::new(), wrong: None };
        let module = map_weights(module, &mut zero);
        let (seen, wrong) = (zero.seen, zero.wrong);
        if let Some(error) = wrong {
            return Err(error);
        }
        let unseen = self.masks.keys().find(|path| !seen.contains(path));
        unseen.map_or(Ok(module), |path| {
            Err(PruneError::Missing { what: "weight", parameter: path.clone(), known: seen.clone() })
        })
    }
}

struct Zero<'a> {
    hook: &'a mut KeepMasks,
    prefix: &'static str,
    seen: Vec<String>,
    wrong: Option<PruneError>,
}

impl TensorMap for Zero<'_> {
    fn map<const D: usize>(&mut self, path: &str, tensor: Tensor<D>) -> Tensor<D> {
        let Some(path) = path.strip_prefix(self.prefix) else { return tensor };
        let Some(mask) = self.hook.masks.get(path) else { return tensor };
        self.seen.push(path.to_owned());
        if tensor.dims().as_slice() != mask.shape() {
            let reason = format!("does not fit the weight `{path}` of shape {:?}", tensor.dims());
            let (what, shape) = ("a mask".to_owned(), mask.shape().to_vec());
            self.wrong.get_or_insert(PruneError::Shape { what, shape, reason });
            return tensor;
        }
        let cached = self.hook.pruned.get(path).filter(|value| value.device() == tensor.device());
        let pruned = match cached.and_then(|value| value.bool::<D>().ok()) {
            Some(pruned) => pruned,
            None => {
                let pruned: Vec<bool> = mask.keep().iter().map(|keep| !keep).collect();
                let data = TensorData::new(pruned, mask.shape());
                let pruned = Tensor::<D, Bool>::from_data(data, &tensor.device());
                self.hook.pruned.insert(path.to_owned(), Value::from(pruned.clone()));
                pruned
            }
        };
        // Filled, not multiplied: zero times an infinite weight is not zero.
        tensor.mask_fill(pruned, 0.0)
    }
}

impl<N: Module> Hook<N> for KeepMasks {
    fn name(&self) -> &str {
        "keep-masks"
    }

    fn before_step(
        &mut self,
        _time: Time,
        _learner: &Learner<N>,
        gradients: &mut Gradients<'_, Learner<N>>,
    ) -> Result<(), HookError> {
        self.mask_gradients(gradients, STUDENT).map_err(|error| HookError(error.to_string()))
    }

    fn after_step(&mut self, _time: Time, learner: Learner<N>) -> Result<Learner<N>, HookError> {
        let Learner { student, adapters } = learner;
        let student = self.zero(student, "").map_err(|error| HookError(error.to_string()))?;
        Ok(Learner { student, adapters })
    }

    fn save(&self) -> Result<serde_json::Value, HookError> {
        serde_json::to_value(&self.masks).map_err(|error| HookError(error.to_string()))
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<(), HookError> {
        let masks = serde_json::from_value(state).map_err(|error| HookError(error.to_string()))?;
        self.set_masks(masks);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Mask;
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::{
        AdamConfig, AdamWConfig, GradientsParams, ModuleOptimizer, SgdConfig, decay::WeightDecayConfig,
        momentum::MomentumConfig,
    };
    use burn::tensor::Device;

    fn masks() -> Masks {
        let keep = (0..12).map(|i| i % 3 != 0).collect();
        Masks::from([("weight".to_owned(), Mask::new([4, 3], keep).unwrap())])
    }

    fn trained(mut optimizer: ModuleOptimizer, hook: Option<KeepMasks>) -> Vec<Vec<f32>> {
        let device = Device::flex().autodiff();
        let mut layer = LinearConfig::new(4, 3).init(&device);
        let mut hook = hook;
        let mut weights = Vec::new();
        for step in 0..8 {
            let x = Tensor::<2>::ones([2, 4], &device) * (step as f64 - 2.5);
            let loss = layer.forward(x).square().sum();
            let grads = GradientsParams::from_grads(loss.backward(), &layer);
            layer = optimizer.step(0.05, layer, grads);
            if let Some(hook) = &mut hook {
                let learner = Learner { student: layer, adapters: kd_core::Params::default() };
                layer = Hook::<Linear>::after_step(hook, Time::default(), learner).unwrap().student;
            }
            assert!(layer.weight.is_require_grad());
            weights.push(layer.weight.val().inner().into_data().try_to_vec().unwrap());
        }
        weights
    }

    #[test]
    fn a_pruned_weight_is_exactly_zero_at_every_step_under_momentum_adam_and_decay() {
        let optimizers: [fn() -> ModuleOptimizer; 3] = [
            || {
                SgdConfig::new()
                    .with_momentum(Some(MomentumConfig::new()))
                    .with_weight_decay(Some(WeightDecayConfig::new(0.1)))
                    .init()
            },
            || AdamConfig::new().init(),
            || AdamWConfig::new().with_weight_decay(0.1).init(),
        ];
        let mask = &masks()["weight"];
        for optimizer in optimizers {
            for weights in trained(optimizer(), Some(KeepMasks::new(masks()))) {
                for (weight, keep) in weights.iter().zip(mask.keep()) {
                    assert_eq!(*keep, *weight != 0.0, "{weights:?}");
                }
            }
            // Without the hook none stays at zero: the optimizers do move pruned weights.
            let moved = trained(optimizer(), None);
            assert!(moved.iter().flatten().all(|weight| *weight != 0.0));
        }
    }

    #[test]
    fn a_mask_without_weight_and_one_of_another_shape_are_refused() {
        let layer = LinearConfig::new(4, 3).init(&Device::flex());
        let other = Masks::from([("wieght".to_owned(), Mask::dense(&[4, 3]))]);
        let error = KeepMasks::new(other).apply(layer.clone()).unwrap_err().to_string();
        assert!(error.contains("`wieght`"), "{error}");
        let other = Masks::from([("weight".to_owned(), Mask::dense(&[3, 4]))]);
        assert!(KeepMasks::new(other).apply(layer).is_err());
    }

    #[test]
    fn masks_survive_a_checkpoint() {
        let hook = KeepMasks::new(masks());
        let mut resumed = KeepMasks::new(Masks::new());
        Hook::<Linear>::restore(&mut resumed, Hook::<Linear>::save(&hook).unwrap()).unwrap();
        assert_eq!(resumed.masks(), hook.masks());
    }
}
