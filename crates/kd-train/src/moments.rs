//! What an optimizer remembers of single weights, by the path of their parameter.

use std::collections::HashMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::ModuleOptimizer;
use burn::store::RecordError;
use burn::tensor::{DType, Tensor};

use crate::record::with_contents;

/// Changes an optimizer's state in place: `map` gets the path of every parameter of `module` with each tensor in single precision that the
/// optimizer keeps for it in the parameter's own shape, in row-major order: the velocity of SGD, both moments of Adam. Counters stay.
///
/// It goes through the optimizer's record, which copies the whole state twice: for now and then, not for every step.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::optim::GradientsParams;
/// use burn::tensor::{Device, Tensor};
/// use kd_train::{OptimizerSettings, map_moments};
///
/// let device = Device::flex().autodiff();
/// let layer = LinearConfig::new(4, 2).init(&device);
/// let mut optimizer = OptimizerSettings::default().optimizer()?;
/// let loss = layer.forward(Tensor::<2>::ones([1, 4], &device)).sum();
/// let gradients = GradientsParams::from_grads(loss.backward(), &layer);
/// let layer = optimizer.step(0.1, layer, gradients);
///
/// let optimizer = map_moments(&layer, optimizer, |path, moments| {
///     if path == "weight" {
///         moments[0] = 0.0; // the first weight forgets where it was going
///     }
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// When burn can't write or read the optimizer's record.
pub fn map_moments<M: Module>(
    module: &M,
    optimizer: ModuleOptimizer,
    mut map: impl FnMut(&str, &mut [f32]),
) -> Result<ModuleOptimizer, RecordError> {
    let mut owners = Owners::default();
    module.visit(&mut owners);
    with_contents(optimizer, |content| {
        let Some((path, shape)) = content.id.and_then(|id| owners.by_id.get(&id)) else { return };
        if content.dtype != DType::F32 || shape != content.shape {
            return;
        }
        // Through a copy: nothing says how the record's bytes are aligned.
        let numbers = content.bytes.as_chunks::<4>().0.iter().copied();
        let mut numbers: Vec<f32> = numbers.map(f32::from_le_bytes).collect();
        map(path, &mut numbers);
        for (bytes, number) in content.bytes.as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
            *bytes = number.to_le_bytes();
        }
    })
}

/// Path and shape of every float parameter by its identity.
#[derive(Default)]
struct Owners {
    path: Vec<String>,
    by_id: HashMap<u64, (String, Vec<usize>)>,
}

impl ModuleVisitor for Owners {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.by_id.insert(param.id.val(), (self.path.join("."), param.val().dims().to_vec()));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::GradientsParams;
    use burn::tensor::Device;

    use crate::{OptimizerKind, OptimizerSettings};

    fn step(layer: Linear, optimizer: &mut ModuleOptimizer, scale: f64) -> Linear {
        let input = Tensor::<2>::ones([1, 3], &layer.weight.val().device()) * scale;
        let gradients = GradientsParams::from_grads(layer.forward(input).square().sum().backward(), &layer);
        optimizer.step(0.01, layer, gradients)
    }

    #[test]
    fn a_weight_whose_moments_are_reset_stays_where_it_is_without_gradient_and_the_others_move_on() {
        for kind in [OptimizerKind::Sgd, OptimizerKind::Adam, OptimizerKind::Adamw] {
            let device = Device::flex().autodiff();
            let mut optimizer = OptimizerSettings { kind, ..Default::default() }.optimizer().unwrap();
            let mut layer = LinearConfig::new(3, 2).init(&device);
            for scale in [1.0, -2.0] {
                layer = step(layer, &mut optimizer, scale);
            }
            let mut seen = Vec::new();
            let mut optimizer = map_moments(&layer, optimizer, |path, moments| {
                seen.push((path.to_owned(), moments.len()));
                if path == "weight" {
                    moments[..2].fill(0.0);
                }
            })
            .unwrap();
            seen.sort();
            seen.dedup();
            assert_eq!(seen, [("bias".to_owned(), 2), ("weight".to_owned(), 6)]);
            let before: Vec<f32> = layer.weight.val().inner().into_data().try_to_vec().unwrap();
            let layer = step(layer, &mut optimizer, 0.0);
            let after: Vec<f32> = layer.weight.val().inner().into_data().try_to_vec().unwrap();
            for (index, (before, after)) in before.iter().zip(&after).enumerate() {
                assert_eq!(before == after, index < 2, "{kind:?} {index}: {before} {after}");
            }
        }
    }
}
