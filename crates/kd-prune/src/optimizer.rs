//! Moves an optimizer's state along when channels are removed in the middle of training.

use std::collections::HashMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::ModuleOptimizer;
use burn::tensor::{Bytes, DType, Tensor};
use burn_pack::{Reader, Writer};
use kd_core::OnGraph;
use kd_graph::GraphModule;

use crate::{PruneError, PrunePlan};

impl PrunePlan {
    /// The smaller network, with the optimizer that has trained the larger one so far: momentum and moments are cut like the weights they belong to,
    /// scalars such as Adam's time are kept. Training goes on as if the removed channels had never been there.
    ///
    /// Parameters keep their identities; device, engine and what is frozen stay. The optimizer may hold the state of other modules too.
    ///
    /// # Errors
    /// As [`apply`](Self::apply); [`PruneError::NoGraph`] for a network that does not run as a graph; [`PruneError::Optimizer`] for a state
    /// that can't be read.
    pub fn apply_in_training<N: OnGraph>(
        &self,
        network: N,
        optimizer: ModuleOptimizer,
    ) -> Result<(N, ModuleOptimizer), PruneError> {
        let weights = Weights::of(network.module().ok_or(PruneError::NoGraph)?);
        let network = self.apply_to(network)?;
        let bytes = self.cut(optimizer.into_bytes().map_err(unreadable)?, &weights.found)?;
        let optimizer = optimizer.from_bytes(Bytes::from_bytes_vec(bytes)).map_err(unreadable)?;
        Ok((network, optimizer))
    }

    /// The smaller network, its parameters under their old identities.
    ///
    /// # Errors
    /// As [`apply_in_training`](Self::apply_in_training).
    pub fn apply_to<N: OnGraph>(&self, network: N) -> Result<N, PruneError> {
        let module = network.module().ok_or(PruneError::NoGraph)?;
        // Running statistics are up to date only outside of training.
        let smaller = module.rebuilt(self.apply(&module.valid().to_graph()?)?)?;
        Ok(network.with_module(smaller))
    }

    /// The entries of an optimizer's record, which are named `identity.field`, cut where they have the shape of their weight.
    fn cut(&self, bytes: Bytes, weights: &HashMap<u64, (String, Vec<usize>)>) -> Result<Vec<u8>, PruneError> {
        let reader = Reader::from_bytes(bytes).map_err(unreadable)?;
        let (scalars, metadata) = (reader.scalars().clone(), reader.metadata().clone());
        let weight = |name: &str| weights.get(&name.split('.').next()?.parse().ok()?);
        let mut tensors = Vec::new();
        for tensor in reader.into_tensors().map_err(unreadable)? {
            let (name, dtype, shape, id, bytes) = tensor.into_parts().map_err(unreadable)?;
            let mut part = Part { dtype, shape: shape.to_vec(), bytes: bytes.to_vec() };
            // What has another shape than the weight belongs to the weight as a whole.
            if let Some((path, _)) = weight(&name).filter(|(_, shape)| *shape == part.shape) {
                for axis in 0..part.shape.len() {
                    if let Some(kept) = self.kept(path, axis) {
                        part.keep(axis, kept);
                    }
                }
            }
            let bytes = Bytes::from_bytes_vec(part.bytes);
            tensors.push(burn_pack::Tensor::new(name, dtype, part.shape, id, bytes));
        }
        let mut writer = Writer::new(tensors);
        for (key, value) in &scalars {
            writer = writer.with_scalar(key, *value);
        }
        for (key, value) in &metadata {
            writer = writer.with_metadata(key, value);
        }
        Ok(writer.into_bytes().map_err(unreadable)?.to_vec())
    }
}

fn unreadable(error: impl std::fmt::Display) -> PruneError {
    PruneError::Optimizer(error.to_string())
}

/// A tensor's bytes.
struct Part {
    dtype: DType,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Part {
    fn keep(&mut self, axis: usize, kept: &[usize]) {
        let Some(&size) = self.shape.get(axis) else { return };
        let run = self.shape.iter().skip(axis + 1).product::<usize>() * self.dtype.size();
        let rows = self.bytes.chunks((size * run).max(1));
        let pick = |row: &[u8], index: usize| row.get(index * run..(index + 1) * run).map(<[u8]>::to_vec);
        let bytes = rows.flat_map(|row| kept.iter().filter_map(move |&index| pick(row, index)).flatten());
        self.bytes = bytes.collect();
        if let Some(slot) = self.shape.get_mut(axis) {
            *slot = kept.len();
        }
    }
}

/// Path and shape of every float parameter, by identity; of tied ones the first path.
#[derive(Default)]
struct Weights {
    path: Vec<String>,
    found: HashMap<u64, (String, Vec<usize>)>,
}

impl Weights {
    fn of(module: &GraphModule) -> Self {
        let mut weights = Self::default();
        module.visit(&mut weights);
        weights
    }
}

impl ModuleVisitor for Weights {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let weight = || (self.path.join("."), param.val().dims().to_vec());
        self.found.entry(param.id.val()).or_insert_with(weight);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::optim::{AdamConfig, GradientsParams, SgdConfig, momentum::MomentumConfig};
    use burn::tensor::{Device, TensorData};
    use kd_graph::{Graph, Op, Role, Shape, TensorType};
    use kd_train::OptimizerSettings;

    /// Two linear layers of which hidden units 1 and 2 are never used: what reads them is zero, and so is what makes them.
    fn graph() -> Graph {
        let mut graph = Graph::new();
        let x = graph.input("x", TensorType::float(Shape::batched([2]))).unwrap();
        let first = TensorData::from([[0.5f32, 0.0, 0.0, -0.3], [0.2, 0.0, 0.0, 0.7]]);
        let second = TensorData::from([[0.4f32, -0.1], [0.0, 0.0], [0.0, 0.0], [0.6, 0.9]]);
        let first = graph.parameter("first", Role::Weight, first).unwrap();
        let second = graph.parameter("second", Role::Weight, second).unwrap();
        let hidden = graph.add("hidden", Op::Linear, &[x, first]).unwrap();
        let y = graph.add("y", Op::Linear, &[hidden, second]).unwrap();
        graph.set_outputs(&[y]).unwrap();
        graph
    }

    fn step(module: GraphModule, optimizer: &mut ModuleOptimizer) -> GraphModule {
        let x = Tensor::<2>::from_floats([[1.0, -2.0], [0.5, 0.25]], module.device());
        let y: Tensor<2> = module.forward(x).unwrap();
        let grads = GradientsParams::from_grads((y - 1.0).square().sum().backward(), &module);
        optimizer.step(0.01, module, grads)
    }

    fn weights(module: &GraphModule) -> Vec<f32> {
        let of = |path: &str| module.weight(path).unwrap().float::<2>().unwrap().inner().into_data();
        ["first", "second"].iter().flat_map(|path| of(path).try_to_vec::<f32>().unwrap()).collect()
    }

    #[test]
    fn training_goes_on_as_if_the_removed_channels_had_never_been_there() {
        let ours = || OptimizerSettings { weight_decay: 0.01, ..Default::default() }.optimizer().unwrap();
        let optimizers: [fn() -> ModuleOptimizer; 3] = [
            || SgdConfig::new().with_momentum(Some(MomentumConfig::new())).init(),
            || AdamConfig::new().init(),
            ours,
        ];
        for optimizer in optimizers {
            let graph = graph();
            let group = graph.dependencies().groups_of("first", 1).unwrap()[0].clone();
            let plan = PrunePlan::new(&graph, [group.position(1), group.position(2)]).unwrap();
            let device = Device::flex().autodiff();

            // Removed in the middle of training, and removed before it.
            let mut first = optimizer();
            let mut module = GraphModule::new(graph.clone(), &device).unwrap();
            for _ in 0..3 {
                module = step(module, &mut first);
            }
            let (mut module, mut first) = plan.apply_in_training(module, first).unwrap();
            let mut second = optimizer();
            let mut control = GraphModule::new(plan.apply(&graph).unwrap(), &device).unwrap();
            for _ in 0..3 {
                control = step(control, &mut second);
            }
            for _ in 0..3 {
                module = step(module, &mut first);
                control = step(control, &mut second);
                for (a, b) in weights(&module).iter().zip(weights(&control)) {
                    assert!((a - b).abs() < 1e-6, "{a} {b}");
                }
            }
            // A fresh optimizer goes another way: the state did matter.
            let fresh = step(control.clone(), &mut optimizer());
            let with_state = step(control, &mut second);
            assert!(weights(&fresh).iter().zip(weights(&with_state)).any(|(a, b)| (a - b).abs() > 1e-5));
        }
    }

    #[test]
    fn a_plan_for_another_network_leaves_network_and_optimizer_alone() {
        let graph = graph();
        let group = graph.dependencies().groups_of("first", 1).unwrap()[0].clone();
        let plan = PrunePlan::new(&graph, [group.position(1)]).unwrap();
        let smaller = GraphModule::new(plan.apply(&graph).unwrap(), &Device::flex().autodiff()).unwrap();
        let error = plan.apply_in_training(smaller, AdamConfig::new().init()).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("another architecture"), "{error}");
    }
}
