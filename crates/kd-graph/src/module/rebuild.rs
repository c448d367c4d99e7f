//! The same module around another graph.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Bool, Int, Tensor};

use super::plan::Work;
use super::{GraphModule, Kernels, ModuleError};
use crate::{Graph, Op};

impl GraphModule {
    /// This module around an edit of its graph, in the middle of training: it stays on its device, with its engine and its kernels, and a parameter
    /// whose path is still there keeps its identity and whether it learns.
    ///
    /// An optimizer finds a parameter's state by that identity: where the edit changed a shape, the state has to be changed too.
    ///
    /// ```
    /// # use burn::module::Module;
    /// # use burn::tensor::{Device, TensorData};
    /// # use kd_graph::{Graph, GraphModule, Op, Role, Shape, TensorType};
    /// # let mut graph = Graph::new();
    /// # let x = graph.input("x", TensorType::float(Shape::batched([4])))?;
    /// # let weight = graph.parameter("fc.weight", Role::Weight, TensorData::zeros::<f32, _>([4, 2]))?;
    /// # let fc = graph.add("fc", Op::Linear, &[x, weight])?;
    /// # graph.set_outputs(&[fc])?;
    /// let module = GraphModule::new(graph, &Device::flex().autodiff())?.freeze();
    /// let graph = module.valid().to_graph()?;
    /// let again = module.rebuilt(graph)?;
    /// assert!(again.device().is_autodiff());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`GraphModule::new`].
    pub fn rebuilt(&self, graph: Graph) -> Result<Self, ModuleError> {
        let mut identities = Identities::default();
        self.visit(&mut identities);
        let rebuilt = Self::with_kernels(graph, &self.device, &self.kernels())?;
        let rebuilt = rebuilt.with_engine(self.engine).with_recompute(self.recompute);
        let mut rebuilt = rebuilt.map(&mut Reidentify { known: identities.found, path: Vec::new() });
        for (flag, path) in rebuilt.flags.iter_mut().zip(rebuilt.flag_paths.iter()) {
            let known = self.flag_paths.iter().position(|known| known.segments == path.segments);
            if let Some(known) = known.and_then(|index| self.flags.get(index)) {
                *flag = known.clone();
            }
        }
        Ok(rebuilt)
    }

    /// The operations of the user that the module was given and uses.
    fn kernels(&self) -> Kernels {
        let custom = |step: &super::plan::Step| match (&step.work, self.graph.node(step.node).ok()?.op()) {
            (Work::Custom { kernel, .. }, Op::Custom { name, .. }) => Some((name.clone(), kernel.clone())),
            _ => None,
        };
        self.plan.steps.iter().filter_map(custom).collect()
    }
}

/// Identity of every parameter by path, and whether it learns.
#[derive(Default)]
struct Identities {
    path: Vec<String>,
    found: BTreeMap<String, (ParamId, bool)>,
}

impl ModuleVisitor for Identities {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // Outside of training only `train` knows what learned there.
        let learns = match param.val().is_autodiff() {
            true => param.is_require_grad(),
            false => Module::train(param.clone()).is_require_grad(),
        };
        self.found.insert(self.path.join("."), (param.id, learns));
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.found.insert(self.path.join("."), (param.id, false));
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        self.found.insert(self.path.join("."), (param.id, false));
    }
}

struct Reidentify {
    known: BTreeMap<String, (ParamId, bool)>,
    path: Vec<String>,
}

impl Reidentify {
    fn known(&self) -> Option<(ParamId, bool)> {
        self.known.get(&self.path.join(".")).copied()
    }
}

impl ModuleMapper for Reidentify {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some((id, learns)) = self.known() else { return param };
        let (_, tensor, mapper) = param.consume();
        Param::from_mapped_value(id, tensor, mapper).set_require_grad(learns)
    }

    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        let Some((id, _)) = self.known() else { return param };
        let (_, tensor, mapper) = param.consume();
        Param::from_mapped_value(id, tensor, mapper)
    }

    fn map_bool<const D: usize>(&mut self, param: Param<Tensor<D, Bool>>) -> Param<Tensor<D, Bool>> {
        let Some((id, _)) = self.known() else { return param };
        let (_, tensor, mapper) = param.consume();
        Param::from_mapped_value(id, tensor, mapper)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::tensor::{Device, TensorData};

    use crate::{Engine, Role, Shape, TensorType};

    #[test]
    fn a_module_around_an_edited_graph_keeps_engine_identities_and_what_is_frozen() {
        let mut graph = Graph::new();
        let x = graph.input("x", TensorType::float(Shape::batched([4]))).unwrap();
        let ones = |shape: [usize; 2]| TensorData::ones::<f32, _>(shape);
        let weight = graph.parameter("a.weight", Role::Weight, ones([4, 2])).unwrap();
        let fc = graph.add("a", Op::Linear, &[x, weight]).unwrap();
        graph.set_outputs(&[fc]).unwrap();
        let ids = |module: &GraphModule| {
            let mut identities = Identities::default();
            module.visit(&mut identities);
            identities.found
        };
        for frozen in [false, true] {
            let device = Device::flex().autodiff();
            let module = GraphModule::new(graph.clone(), &device).unwrap().with_engine(Engine::Burn);
            let module = if frozen { module.freeze() } else { module };
            let mut edited = module.valid().to_graph().unwrap();
            let second = edited.parameter("b.weight", Role::Weight, ones([2, 3])).unwrap();
            let output = edited.add("b", Op::Linear, &[fc, second]).unwrap();
            edited.set_outputs(&[output]).unwrap();
            let outside = module.valid().rebuilt(edited.clone()).unwrap().train();
            assert_eq!(ids(&outside)["a.weight"], ids(&module)["a.weight"]);
            let rebuilt = module.rebuilt(edited).unwrap();
            let (before, after) = (ids(&module), ids(&rebuilt));
            assert_eq!(before["a.weight"], after["a.weight"]);
            assert_eq!(after["a.weight"].1, !frozen);
            assert!(after["b.weight"].1);
            assert_eq!(rebuilt.engine(), Engine::Burn);
        }
    }
}
