//! Records whose bytes depend on nothing but their content.
//!
//! burn gives every parameter a random identity and keeps optimizer state in a hash map, so that two equal runs write different bytes. Here an
//! identity is a hash of the parameter's path, and entries are sorted by name: equal content gives equal files, which a resumed run can be held to.

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::optim::ModuleOptimizer;
use burn::store::RecordError;
use burn::tensor::{Bool, Bytes, Int, Tensor};
use burn_pack::{Reader, Writer};
use sha2::{Digest, Sha256};

/// Gives every parameter the identity that its path stands for. Running statistics keep theirs: burn does not let it be set.
pub(crate) fn identify<M: Module>(module: M) -> M {
    module.map(&mut Identify { path: Vec::new() })
}

/// The module's record as burnpack, in the order of its paths.
pub(crate) fn module_bytes<M: Module>(module: M) -> Result<Vec<u8>, RecordError> {
    sorted(module.into_record().into_bytes()?, |name, _| Some(identity(name)))
}

/// The optimizer's state as burnpack, in the order of its entries.
pub(crate) fn optimizer_bytes(optimizer: &ModuleOptimizer) -> Result<Vec<u8>, RecordError> {
    sorted(optimizer.into_bytes()?, |_, id| id)
}

fn sorted(bytes: Bytes, id: impl Fn(&str, Option<u64>) -> Option<u64>) -> Result<Vec<u8>, RecordError> {
    let reader = Reader::from_bytes(bytes)?;
    let (scalars, metadata) = (reader.scalars().clone(), reader.metadata().clone());
    let mut parts = Vec::new();
    for tensor in reader.into_tensors()? {
        parts.push(tensor.into_parts()?);
    }
    parts.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    let tensors = parts.into_iter().map(|(name, dtype, shape, old, bytes)| {
        let id = id(&name, old);
        burn_pack::Tensor::new(name, dtype, shape, id, bytes)
    });
    let mut writer = Writer::new(tensors.collect());
    for (key, value) in &scalars {
        writer = writer.with_scalar(key, *value);
    }
    for (key, value) in &metadata {
        writer = writer.with_metadata(key, value);
    }
    Ok(writer.into_bytes()?.to_vec())
}

fn identity(path: &str) -> u64 {
    let digest = Sha256::digest(path.as_bytes());
    digest.iter().take(8).fold(0, |id, &byte| (id << 8) | u64::from(byte))
}

struct Identify {
    path: Vec<String>,
}

impl Identify {
    fn id(&self) -> ParamId {
        identity(&self.path.join(".")).into()
    }
}

impl ModuleMapper for Identify {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (_, tensor, mapper) = param.consume();
        Param::from_mapped_value(self.id(), tensor, mapper)
    }

    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        let (_, tensor, mapper) = param.consume();
        Param::from_mapped_value(self.id(), tensor, mapper)
    }

    fn map_bool<const D: usize>(&mut self, param: Param<Tensor<D, Bool>>) -> Param<Tensor<D, Bool>> {
        let (_, tensor, mapper) = param.consume();
        Param::from_mapped_value(self.id(), tensor, mapper)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::{AdamConfig, GradientsParams};
    use burn::tensor::Device;

    fn trained() -> (Linear, ModuleOptimizer) {
        let device = Device::flex().autodiff();
        let weight = Tensor::<2>::ones([3, 3], &device);
        let layer = identify(LinearConfig::new(3, 3).init(&device));
        let layer = Linear { weight: layer.weight.map(|_| weight.require_grad()), ..layer };
        let mut optimizer = AdamConfig::new().init();
        let loss = layer.forward(Tensor::<2>::ones([1, 3], &device)).sum();
        let bias = layer.bias.clone().map(|b| b.map(|b| b.inner().zeros_like().autodiff().require_grad()));
        let layer = Linear { bias, ..layer };
        let grads = GradientsParams::from_grads(loss.backward(), &layer);
        let layer = optimizer.step(0.1, layer, grads);
        (layer, optimizer)
    }

    #[test]
    fn equal_modules_and_optimizers_give_equal_bytes_that_load_again() {
        let ((layer, optimizer), (other, other_optimizer)) = (trained(), trained());
        assert_eq!(module_bytes(layer.valid()).unwrap(), module_bytes(other.valid()).unwrap());
        let bytes = optimizer_bytes(&optimizer).unwrap();
        assert_eq!(bytes, optimizer_bytes(&other_optimizer).unwrap());
        let loaded = AdamConfig::new().init().from_bytes(Bytes::from_bytes_vec(bytes.clone())).unwrap();
        assert_eq!(optimizer_bytes(&loaded).unwrap(), bytes);
    }
}
