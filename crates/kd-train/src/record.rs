//! Records whose bytes depend on nothing but their content.
//!
//! burn gives every parameter a random identity and keeps optimizer state in a hash map, so that two equal runs write different bytes. Here an
//! identity is a hash of the parameter's path, and entries are sorted by name: equal content gives equal files, which a resumed run can be held to.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::ModuleOptimizer;
use burn::store::RecordError;
use burn::tensor::{Bool, Bytes, DType, Int, Tensor};
use burn_pack::{Reader, Writer};
use sha2::{Digest, Sha256};

use crate::learner::is_statistic;

/// Gives every parameter the identity that its path stands for. Running statistics keep theirs: burn does not let it be set.
pub(crate) fn identify<M: Module>(module: M) -> M {
    module.map(&mut Identify { path: Vec::new() })
}

/// As [`identify`], and moves the optimizer's state along: a parameter's moments follow it, those of parameters that are gone are dropped.
pub(crate) fn reidentify<M: Module>(
    module: M,
    optimizer: ModuleOptimizer,
) -> Result<(M, ModuleOptimizer), RecordError> {
    let mut identities = Identities::default();
    module.visit(&mut identities);
    let ids = identities.found;
    let module = identify(module);
    if ids.iter().all(|(old, new)| old == new) {
        return Ok((module, optimizer));
    }
    let renamed = |name: &str| {
        let (id, rest) = name.split_at(name.find('.').unwrap_or(name.len()));
        ids.get(&id.parse().ok()?).map(|new| format!("{new}{rest}"))
    };
    let bytes = rewrite(optimizer.into_bytes()?, renamed, |_, old| ids.get(&old?).copied(), |_| ())?;
    Ok((module, optimizer.from_bytes(Bytes::from_bytes_vec(bytes))?))
}

/// The module's record as burnpack, in the order of its paths.
pub(crate) fn module_bytes<M: Module>(module: M) -> Result<Vec<u8>, RecordError> {
    let same = |name: &str| Some(name.to_owned());
    rewrite(module.into_record().into_bytes()?, same, |name, _| Some(identity(name)), |_| ())
}

/// The optimizer's state as burnpack, in the order of its entries.
pub(crate) fn optimizer_bytes(optimizer: &ModuleOptimizer) -> Result<Vec<u8>, RecordError> {
    rewrite(optimizer.into_bytes()?, |name| Some(name.to_owned()), |_, id| id, |_| ())
}

/// An entry's tensor.
pub(crate) struct Content<'a> {
    /// The parameter that it belongs to.
    pub(crate) id: Option<u64>,
    pub(crate) dtype: DType,
    pub(crate) shape: &'a [usize],
    pub(crate) bytes: &'a mut [u8],
}

/// The optimizer with other numbers in its tensors.
pub(crate) fn with_contents(
    optimizer: ModuleOptimizer,
    change: impl FnMut(Content<'_>),
) -> Result<ModuleOptimizer, RecordError> {
    let bytes = rewrite(optimizer.into_bytes()?, |name| Some(name.to_owned()), |_, id| id, change)?;
    optimizer.from_bytes(Bytes::from_bytes_vec(bytes))
}

/// The same entries sorted by name, renamed by `name`, or left out where that gives none, with the identities that `id` gives and what
/// `change` makes of their bytes.
fn rewrite(
    bytes: Bytes,
    name: impl Fn(&str) -> Option<String>,
    id: impl Fn(&str, Option<u64>) -> Option<u64>,
    mut change: impl FnMut(Content<'_>),
) -> Result<Vec<u8>, RecordError> {
    let reader = Reader::from_bytes(bytes)?;
    let (scalars, metadata) = (reader.scalars().clone(), reader.metadata().clone());
    let mut parts = Vec::new();
    for tensor in reader.into_tensors()? {
        let (old, dtype, shape, old_id, mut bytes) = tensor.into_parts()?;
        change(Content { id: old_id, dtype, shape: &shape, bytes: &mut bytes });
        parts.extend(name(&old).map(|name| (name, dtype, shape, old_id, bytes)));
    }
    parts.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    let tensors = parts.into_iter().map(|(name, dtype, shape, old, bytes)| {
        let id = id(&name, old);
        burn_pack::Tensor::new(name, dtype, shape, id, bytes)
    });
    let mut writer = Writer::new(tensors.collect());
    for (key, value) in scalars.iter().filter_map(|(key, value)| Some((name(key)?, value))) {
        writer = writer.with_scalar(&key, *value);
    }
    for (key, value) in metadata.iter().filter_map(|(key, value)| Some((name(key)?, value))) {
        writer = writer.with_metadata(&key, value);
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

/// The identity that every parameter has, and the one that its path stands for.
#[derive(Default)]
struct Identities {
    path: Vec<String>,
    found: HashMap<u64, u64>,
}

impl ModuleVisitor for Identities {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.join(".");
        if !is_statistic(&path) {
            self.found.insert(param.id.val(), identity(&path));
        }
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
        trained_from(identify(LinearConfig::new(3, 3).init(&Device::flex().autodiff())))
    }

    fn trained_from(layer: Linear) -> (Linear, ModuleOptimizer) {
        let device = Device::flex().autodiff();
        let weight = Tensor::<2>::ones([3, 3], &device);
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

    #[test]
    fn moments_follow_a_parameter_to_its_new_identity_and_those_of_parameters_that_are_gone_are_dropped() {
        let device = Device::flex().autodiff();
        let ((layer, optimizer), (expected, expected_optimizer)) =
            (trained_from(LinearConfig::new(3, 3).init(&device)), trained());
        assert_ne!(layer.weight.id, expected.weight.id);
        let (layer, optimizer) = reidentify(layer, optimizer).unwrap();
        assert_eq!(layer.weight.id, expected.weight.id);
        assert_eq!(optimizer_bytes(&optimizer).unwrap(), optimizer_bytes(&expected_optimizer).unwrap());

        let other: Linear = LinearConfig::new(2, 2).init(&device);
        let (_, optimizer) =
            reidentify(other, AdamConfig::new().init().load_record(optimizer.to_record())).unwrap();
        assert!(optimizer.to_record().is_empty());
    }
}
