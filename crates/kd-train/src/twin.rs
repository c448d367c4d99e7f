//! A second module on the same parameters.

use std::any::Any;
use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;

use crate::learner::is_statistic;

/// A module whose parameters are `module`'s own leaves, so that its gradients are `module`'s, but with running statistics of its own.
///
/// `clone` shares the statistics and `valid().train()` makes other leaves; losses that run a student twice in a step need neither.
pub(crate) fn twin<M: Module>(module: &M) -> M {
    let mut leaves = Leaves { by_id: HashMap::new(), path: Vec::new() };
    module.visit(&mut leaves);
    module.valid().train().map(&mut leaves)
}

struct Leaves {
    by_id: HashMap<ParamId, Box<dyn Any>>,
    path: Vec<String>,
}

impl ModuleVisitor for Leaves {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !is_statistic(&self.path.join(".")) {
            self.by_id.insert(param.id, Box::new(param.val()));
        }
    }
}

impl ModuleMapper for Leaves {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, copy, mapper) = param.consume();
        let leaf = self.by_id.get(&id).and_then(|leaf| leaf.downcast_ref::<Tensor<D>>()).cloned();
        Param::from_mapped_value(id, leaf.unwrap_or(copy), mapper)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::nn::{BatchNorm, BatchNormConfig};
    use burn::optim::GradientsParams;
    use burn::tensor::Device;

    fn mean(norm: &BatchNorm) -> Vec<f32> {
        norm.valid().running_mean.value().into_data().try_to_vec::<f32>().unwrap()
    }

    #[test]
    fn gradients_are_the_originals_and_statistics_are_not() {
        let device = Device::flex().autodiff();
        let norm: BatchNorm = BatchNormConfig::new(2).init(&device);
        let copy = twin(&norm);
        let input = Tensor::<1>::from_floats([1.0, 2.0, 3.0, 5.0], &device).reshape([2, 2]);
        let grads = GradientsParams::from_grads(copy.forward(input).square().sum().backward(), &norm);
        assert!(grads.get::<1>(norm.gamma.id).is_some());
        assert_eq!(mean(&norm), [0.0, 0.0]);
        assert_ne!(mean(&copy), [0.0, 0.0]);
    }
}
