//! Traces a whole model and compares the graph with it. Shared with the tests of other crates.

use std::collections::BTreeMap;

use burn::backend::Dispatch;
use burn::backend::ops::FloatTensorOps;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use kd_graph::{Engine, Graph, GraphModule, Kind, ModuleError, Tensors, Value};

/// A module that runs on burn's own operations, to be compared bit for bit.
pub fn burns(graph: Graph, device: &Device) -> Result<GraphModule, ModuleError> {
    Ok(GraphModule::new(graph, device)?.with_engine(Engine::Burn))
}

/// Numbers in -2..2, the same for the same seed.
pub fn noise(seed: u64) -> impl Iterator<Item = f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x1234_5678_9ABC_DEF1);
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 40) as f32 / (1u64 << 24) as f32) * 4.0 - 2.0
    })
}

/// A tensor of such numbers.
pub fn random<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
    let values: Vec<f32> = noise(seed).take(shape.iter().product()).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// A float tensor's elements in one row.
pub fn flat(value: &Value) -> Tensor<1> {
    let Value::Float(tensor) = value.clone() else { panic!("not floats") };
    let size: usize = value.shape().iter().product();
    Tensor::from_dispatch(Dispatch::float_reshape(tensor, [size].into()))
}

/// A number that depends on every element, so that gradients do too.
pub fn loss(value: &Value) -> Tensor<1> {
    let row = flat(value);
    let weights = random(row.dims(), 99, &row.device().without_autodiff());
    (row * weights.autodiff()).sum()
}

/// Bytes, so that -0 and not-a-number count too.
pub fn assert_same(found: &TensorData, expected: &TensorData, what: &str) {
    assert_eq!(found.shape(), expected.shape(), "{what}: shapes");
    assert_eq!(found.dtype(), expected.dtype(), "{what}: precision");
    if found.as_bytes() == expected.as_bytes() {
        return;
    }
    let pairs = found.iter::<f64>().zip(expected.iter::<f64>());
    let gap = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    panic!("{what}: differs by {gap:e}: {found} instead of {expected}");
}

/// Gradients or values of all float parameters by path.
pub type ByPath = BTreeMap<String, TensorData>;

struct Floats<'a> {
    grads: Option<&'a Gradients>,
    path: Vec<String>,
    found: ByPath,
}

impl ModuleVisitor for Floats<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = match self.grads {
            Some(grads) => param.val().grad(grads),
            None => Some(param.val()),
        };
        if let Some(tensor) = tensor {
            self.found.insert(self.path.join("."), tensor.into_data());
        }
    }
}

/// Gradients of all float parameters that have one.
pub fn gradients<M: Module>(module: &M, grads: &Gradients) -> ByPath {
    let mut visitor = Floats { grads: Some(grads), path: Vec::new(), found: ByPath::new() };
    module.visit(&mut visitor);
    visitor.found
}

/// All floats of a module as they are after training: parameters and running statistics.
pub fn floats<M: Module>(module: &M) -> ByPath {
    let mut visitor = Floats { grads: None, path: Vec::new(), found: ByPath::new() };
    module.valid().visit(&mut visitor);
    visitor.found
}

pub fn assert_all_same(found: &ByPath, expected: &ByPath, what: &str) {
    let paths = |map: &ByPath| map.keys().cloned().collect::<Vec<_>>();
    assert_eq!(paths(found), paths(expected), "{what}");
    for (path, expected) in expected {
        assert_same(&found[path], expected, &format!("{what} of {path}"));
    }
}

/// The graph of a model gives the model's outputs, gradients and running statistics, evaluated and trained, at batch sizes 1 and 7.
/// `input` makes an input of a batch size, from a seed, on a device.
pub fn same_model<M: Module, I: Tensors, O: Tensors>(
    model: &M,
    input: impl Fn(usize, u64, &Device) -> I,
    forward: impl Fn(&M, I) -> O,
) {
    let device = Device::flex();
    let graph = kd_graph::trace(model, input(1, 0, &device), &forward).unwrap();
    let module = burns(graph, &device).unwrap();
    let evaluated = model.valid();
    for batch in [1, 7] {
        let expected = Value::all(forward(&evaluated, input(batch, 1, &device)));
        let found = module.run(Value::all(input(batch, 1, &device))).unwrap();
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert_same(&found.data().unwrap(), &expected.data().unwrap(), &format!("evaluation at {batch}"));
        }
    }

    let device = device.autodiff();
    let (model, module) = (evaluated.train(), module.train());
    for (batch, seed) in [(1, 2), (7, 3), (7, 4)] {
        let what = format!("training at {batch}");
        let expected = Value::all(forward(&model, input(batch, seed, &device)));
        let found = module.run(Value::all(input(batch, seed, &device))).unwrap();
        for (found, expected) in found.iter().zip(&expected) {
            assert_same(&found.data().unwrap(), &expected.data().unwrap(), &what);
        }
        let total = |values: &[Value]| {
            let floats = values.iter().filter(|value| value.kind() == Kind::Float);
            floats.map(loss).reduce(|a, b| a + b).unwrap().backward()
        };
        let expected = gradients(&model, &total(&expected));
        assert!(!expected.is_empty());
        assert_all_same(&gradients(&module, &total(&found)), &expected, &format!("{what}: gradient"));
    }
    assert_all_same(&floats(&module), &floats(&model), "running statistics and weights");
}
