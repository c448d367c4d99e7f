//! Every model of the zoo on our kernels is nearly the model on burn's operations: outputs, gradients, running statistics.
//!
//! A rectifier makes the gradient jump where its input crosses zero, and an input that two computations place on different sides of zero, however
//! close, makes their gradients differ by much more than rounding. So gradients are compared on batches where every rectifier lets the same
//! elements through in both; where one does not, the next batch is taken.
#![allow(clippy::unwrap_used, clippy::panic)]

// The comparison is kd-graph's own.
#[path = "../../kd-graph/tests/equality/model.rs"]
#[allow(dead_code)]
mod model;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use kd_core::{Network, Taps};
use kd_graph::{Engine, GraphModule, NodeId, Op, Value};
use kd_models::{Architecture, InputShape, MODELS, ModelSpec, Zoo};

/// Batches tried until one has no element between the two sides of a rectifier.
const TRIES: u64 = 40;

fn floats(data: &TensorData) -> impl Iterator<Item = f64> + '_ {
    data.iter::<f64>()
}

fn largest(data: &TensorData) -> f64 {
    floats(data).map(f64::abs).fold(0.0, f64::max)
}

/// Fails when an element is further off than a share of the scale.
fn close(found: &TensorData, expected: &TensorData, allowed: f64, what: &str) {
    assert_eq!(found.shape(), expected.shape(), "{what}");
    let gap = floats(found).zip(floats(expected)).map(|(a, b)| (a - b).abs());
    let gap = gap.fold(0.0, |a, b| if b.is_nan() { f64::INFINITY } else { f64::max(a, b) });
    assert!(gap <= allowed, "{what}: off by {gap:e}, allowed {allowed:e}, largest {:e}", largest(expected));
}

struct Pair {
    burns: GraphModule,
    ours: GraphModule,
    rectifiers: Vec<NodeId>,
}

impl Pair {
    /// Results of both on the same batch, and whether all rectifiers let the same elements through.
    fn run(&self, x: impl Fn() -> Tensor<4>) -> ([Value; 2], bool) {
        let run = |module: &GraphModule| {
            let (mut outputs, taps) = module.run_tapped(Value::all(x()), &self.rectifiers).unwrap();
            (outputs.remove(0), taps)
        };
        let ((burns, theirs), (ours, mine)) = (run(&self.burns), run(&self.ours));
        let passes = |value: &Value| value.data().unwrap().iter::<f32>().map(|y| y > 0.0).collect::<Vec<_>>();
        let alike = theirs.iter().zip(&mine).all(|(a, b)| passes(a) == passes(b));
        ([burns, ours], alike)
    }
}

fn check(name: &str, tolerance: f64) {
    let spec: ModelSpec = name.parse().unwrap();
    let shape = match spec.architecture() {
        Architecture::Mlp(_) | Architecture::LeNet5(_) => InputShape::MNIST,
        Architecture::Vgg(_) => InputShape::CIFAR,
        // Small images: fewer elements that may lie on the edge of a rectifier.
        _ => InputShape::new(3, 16, 16),
    };
    let device = Device::flex();
    device.seed(1);
    let zoo = spec.init(shape, 10, &device).unwrap();
    let input = |batch, seed, device: &Device| {
        model::random([batch, shape.channels, shape.height, shape.width], seed, device)
    };
    let graph = kd_graph::trace(&zoo, input(1, 0, &device), |zoo: &Zoo, x| zoo.forward(x, &mut Taps::none()))
        .unwrap();
    let rectifiers = graph.nodes().filter(|(_, node)| matches!(node.op(), Op::Activation(_)));
    let rectifiers = rectifiers.map(|(id, _)| id).collect();
    let burns = GraphModule::new(graph.clone(), &device).unwrap().with_engine(Engine::Burn);
    let ours = GraphModule::new(graph, &device).unwrap();
    assert_eq!(ours.engine(), Engine::Kernels);

    let pair = Pair { burns, ours, rectifiers };
    for batch in [1, 7] {
        let ([burns, ours], _) = pair.run(|| input(batch, 1, &device));
        let (burns, ours) = (burns.data().unwrap(), ours.data().unwrap());
        close(&ours, &burns, tolerance * largest(&burns), &format!("{name}: evaluation at {batch}"));
    }

    let autodiff = device.autodiff();
    let pair = Pair { burns: pair.burns.train(), ours: pair.ours.train(), ..pair };
    let mut compared = false;
    for seed in 0..TRIES {
        let ([burns, ours], alike) = pair.run(|| input(7, seed, &autodiff));
        let (expected, found) = (burns.data().unwrap(), ours.data().unwrap());
        close(&found, &expected, tolerance * largest(&expected), &format!("{name}: training"));
        if !alike {
            continue;
        }
        let expected = model::gradients(&pair.burns, &model::loss(&burns).backward());
        let found = model::gradients(&pair.ours, &model::loss(&ours).backward());
        // A gradient that is zero but for rounding, as that of a bias in front of a batch norm, is measured against the others.
        let floor = 1e-2 * expected.values().map(largest).fold(0.0, f64::max);
        assert!(!expected.is_empty());
        for (path, expected) in &expected {
            let scale = largest(expected).max(floor);
            close(&found[path], expected, tolerance * scale, &format!("{name}: gradient of {path}"));
        }
        compared = true;
        break;
    }
    assert!(compared, "{name}: in {TRIES} batches a rectifier let different elements through");
    let (expected, found) = (model::floats(&pair.burns), model::floats(&pair.ours));
    // A mean that is zero but for rounding is measured against the other statistics.
    let floor = 1e-2 * expected.values().map(largest).fold(0.0, f64::max);
    for (path, expected) in &expected {
        let scale = largest(expected).max(floor);
        close(&found[path], expected, tolerance * scale, &format!("{name}: {path} after training"));
    }
}

#[test]
fn every_model_of_the_table_computes_on_kernels_what_it_computes_on_burn() {
    for info in MODELS {
        check(info.example, 1e-4);
    }
}

#[test]
fn the_deepest_residual_network_computes_on_kernels_what_it_computes_on_burn() {
    check("resnet110", 1e-3);
}
