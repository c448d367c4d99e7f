//! Moves an optimizer's state along when channels are removed in the middle of training.

use std::collections::{BTreeMap, HashMap};

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::ModuleOptimizer;
use burn::tensor::{Bytes, DType, Tensor};
use burn_pack::{Reader, Writer};
use kd_graph::GraphModule;

use crate::{PruneError, PrunePlan};

impl PrunePlan {
    /// The smaller network with the optimizer that has trained the larger one so far: momentum and moments are cut like the weights they
    /// belong to, scalars such as Adam's time are kept, so that training goes on as if the removed channels had never been there.
    ///
    /// The network keeps its device and its engine's default; a network on an autodiff device is ready for training.
    ///
    /// # Errors
    /// As [`apply`](Self::apply), and [`PruneError::Optimizer`] for a state that can't be read.
    pub fn apply_in_training(
        &self,
        module: &GraphModule,
        optimizer: ModuleOptimizer,
    ) -> Result<(GraphModule, ModuleOptimizer), PruneError> {
        // Running statistics are up to date only outside of training.
        let smaller = self.apply(&module.valid().to_graph()?)?;
        let smaller = GraphModule::new(smaller, module.device())?;
        let (old, new) = (Identities::of(module), Identities::of(&smaller));
        let mut moved = HashMap::new();
        for (path, (id, shape)) in old.by_path {
            if let Some((new, _)) = new.by_path.get(&path) {
                moved.insert(id, Moved { path, id: *new, shape });
            }
        }
        let bytes = self.cut(optimizer.into_bytes().map_err(unreadable)?, &moved)?;
        let optimizer = optimizer.from_bytes(Bytes::from_bytes_vec(bytes)).map_err(unreadable)?;
        Ok((smaller, optimizer))
    }

    /// The entries of an optimizer's record, named `identity.field`, cut and under the new identities.
    fn cut(&self, bytes: Bytes, moved: &HashMap<u64, Moved>) -> Result<Vec<u8>, PruneError> {
        let reader = Reader::from_bytes(bytes).map_err(unreadable)?;
        let (scalars, metadata) = (reader.scalars().clone(), reader.metadata().clone());
        let find = |name: &str| {
            let (id, field) = name.split_at(name.find('.').unwrap_or(name.len()));
            let moved = moved.get(&id.parse().ok()?)?;
            Some((moved, format!("{}{field}", moved.id)))
        };
        let mut tensors = Vec::new();
        for tensor in reader.into_tensors().map_err(unreadable)? {
            let (name, dtype, shape, _, bytes) = tensor.into_parts().map_err(unreadable)?;
            let Some((moved, name)) = find(&name) else { continue };
            let mut part = Part { dtype, shape: shape.to_vec(), bytes: bytes.to_vec() };
            // What has another shape than the weight belongs to the weight as a whole.
            if part.shape == moved.shape {
                for axis in 0..moved.shape.len() {
                    if let Some(kept) = self.kept(&moved.path, axis) {
                        part.keep(axis, kept);
                    }
                }
            }
            let bytes = Bytes::from_bytes_vec(part.bytes);
            tensors.push(burn_pack::Tensor::new(name, dtype, part.shape, Some(moved.id), bytes));
        }
        let mut writer = Writer::new(tensors);
        for (key, value) in scalars.iter().filter_map(|(key, value)| Some((find(key)?.1, value))) {
            writer = writer.with_scalar(&key, *value);
        }
        for (key, value) in metadata.iter().filter_map(|(key, value)| Some((find(key)?.1, value))) {
            writer = writer.with_metadata(&key, value);
        }
        Ok(writer.into_bytes().map_err(unreadable)?.to_vec())
    }
}

fn unreadable(error: impl std::fmt::Display) -> PruneError {
    PruneError::Optimizer(error.to_string())
}

/// A parameter that got another identity.
struct Moved {
    path: String,
    id: u64,
    /// Before it was cut.
    shape: Vec<usize>,
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

/// Identity and shape of every float parameter by path.
#[derive(Default)]
struct Identities {
    path: Vec<String>,
    by_path: BTreeMap<String, (u64, Vec<usize>)>,
}

impl Identities {
    fn of(module: &GraphModule) -> Self {
        let mut identities = Self::default();
        module.visit(&mut identities);
        identities
    }
}

impl ModuleVisitor for Identities {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.by_path.insert(self.path.join("."), (param.id.val(), param.val().dims().to_vec()));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::optim::{AdamConfig, GradientsParams, SgdConfig, momentum::MomentumConfig};
    use burn::tensor::{Device, TensorData};
    use kd_graph::{Graph, Op, Role, Shape, TensorType};

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
        let optimizers: [fn() -> ModuleOptimizer; 2] = [
            || SgdConfig::new().with_momentum(Some(MomentumConfig::new())).init(),
            || AdamConfig::new().init(),
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
            let (mut module, mut first) = plan.apply_in_training(&module, first).unwrap();
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
}
