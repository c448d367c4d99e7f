//! On the device that `KD_DEVICE` names (`flex` without it), a graph gives what the traced model gives there: outputs, the gradients of all
//! parameters and running statistics, in evaluation and in training, at batch sizes 1 and 7.
//!
//! With burn's operations on flex the two are equal bit for bit; with our kernels, or on another device, a tensor may be off by 1e-4 of its largest
//! element. `.ci/backends` runs this on ndarray and wgpu.
#![allow(clippy::unwrap_used, clippy::panic)]

// The comparison is kd-graph's own.
#[path = "../crates/kd-graph/tests/equality/model.rs"]
#[allow(dead_code)]
mod model;

use burn::module::Module;
use burn::nn::transformer::{TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput};
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use kd::DeviceName;
use kd::core::{Network, Taps};
use kd::graph::{Activation, Engine, GraphModule, NodeId, Op, Tensors, Value, trace};
use kd::models::{InputShape, ModelSpec, Zoo};
use model::{ByPath, noise, random};

/// How far a tensor may be off, as a share of its largest element.
const TOLERANCE: f64 = 1e-4;

/// Two computations may place an input of a rectifier on different sides of zero if it is nearer to zero than this share of the largest. Their
/// gradients then differ by far more than rounding, so such batches are not compared.
const EDGE: f64 = 2e-6;

/// Batches tried until one has no input on an edge.
const TRIES: u64 = 40;

fn floats(data: &TensorData) -> impl Iterator<Item = f64> + '_ {
    data.iter::<f64>()
}

fn largest(data: &TensorData) -> f64 {
    floats(data).map(f64::abs).fold(0.0, f64::max)
}

/// What counts as equal.
#[derive(Clone, Copy, PartialEq)]
enum Rule {
    Exact,
    Near,
}

impl Rule {
    fn same(self, found: &TensorData, expected: &TensorData, what: &str) {
        self.same_by(largest(expected), found, expected, what);
    }

    fn same_by(self, scale: f64, found: &TensorData, expected: &TensorData, what: &str) {
        if self == Rule::Exact {
            return model::assert_same(found, expected, what);
        }
        assert_eq!(found.shape(), expected.shape(), "{what}");
        let gaps = floats(found).zip(floats(expected)).map(|(a, b)| (a - b).abs());
        let gap = gaps.fold(0.0, |a, b| if b.is_nan() { f64::INFINITY } else { f64::max(a, b) });
        assert!(gap <= TOLERANCE * scale, "{what}: off by {gap:e}, the largest is {scale:e}");
    }

    /// `floor`: a tensor that is zero but for rounding, as the gradient of a bias in front of a batch norm, is measured against this share of the
    /// largest of all.
    fn all_same(self, floor: f64, found: &ByPath, expected: &ByPath, what: &str) {
        assert!(found.keys().eq(expected.keys()), "{what}: {:?}, not {:?}", found.keys(), expected.keys());
        let floor = floor * expected.values().map(largest).fold(0.0, f64::max);
        for (path, expected) in expected {
            self.same_by(largest(expected).max(floor), &found[path], expected, &format!("{what} of {path}"));
        }
    }
}

/// Whether every input of a rectifier in training is clearly on one side of zero. Leaves the module's running statistics alone.
fn clear_of_edges(module: &GraphModule, input: Vec<Value>) -> bool {
    let rectifiers =
        module.graph().nodes().filter(|(_, node)| *node.op() == Op::Activation(Activation::Relu));
    let edges: Vec<NodeId> = rectifiers.map(|(_, node)| node.inputs()[0]).collect();
    let (_, values) = module.valid().train().run_tapped(input, &edges).unwrap();
    values.iter().all(|value| {
        let data = value.data().unwrap();
        let edge = EDGE * largest(&data);
        floats(&data).all(|x| x.abs() > edge)
    })
}

/// Compares a model, made on a device, with its graph. `input` makes a batch of a size, from a seed, on a device.
fn check<M: Module, I: Tensors>(
    init: impl Fn(&Device) -> M,
    input: impl Fn(usize, u64, &Device) -> I,
    forward: impl Fn(&M, I) -> Tensor<2>,
) {
    let name = std::env::var("KD_DEVICE").unwrap_or_else(|_| "flex".to_owned());
    let device = name.parse::<DeviceName>().unwrap().open();
    device.seed(1);
    let native = init(&device);
    let graph = trace(&native, input(1, 0, &device), &forward).unwrap();
    let on_flex = device == Device::flex();
    let engines = if on_flex { &[Engine::Burn, Engine::Kernels][..] } else { &[Engine::default()] };
    for &engine in engines {
        let rule = if on_flex && engine == Engine::Burn { Rule::Exact } else { Rule::Near };
        let module = GraphModule::new(graph.clone(), &device).unwrap().with_engine(engine);
        let data = |module: &GraphModule, x: I| module.run(Value::all(x)).unwrap()[0].data().unwrap();

        let (evaluated, elsewhere) = (native.valid(), native.valid().to_device(&Device::flex()));
        for batch in [1, 7] {
            let what = format!("{name}, {engine:?}: evaluation at {batch}");
            let found = data(&module, input(batch, 1, &device));
            rule.same(&found, &forward(&evaluated, input(batch, 1, &device)).into_data(), &what);
            let expected = forward(&elsewhere, input(batch, 1, &Device::flex())).into_data();
            rule.same(&found, &expected, &format!("{what}, against flex"));
        }

        let device = device.clone().autodiff();
        let (native, module) = (evaluated.train(), module.train());
        for batch in [1, 7] {
            let what = format!("{name}, {engine:?}: training at {batch}");
            let usable = |seed: &u64| {
                rule == Rule::Exact || clear_of_edges(&module, Value::all(input(batch, *seed, &device)))
            };
            let seed = (2..2 + TRIES).find(usable);
            let seed =
                seed.unwrap_or_else(|| panic!("{what}: {TRIES} batches have an input on a rectifier's edge"));
            let expected = Value::from(forward(&native, input(batch, seed, &device)));
            let found = module.run(Value::all(input(batch, seed, &device))).unwrap().remove(0);
            rule.same(&found.data().unwrap(), &expected.data().unwrap(), &what);
            let expected = model::gradients(&native, &model::loss(&expected).backward());
            assert!(!expected.is_empty());
            let found = model::gradients(&module, &model::loss(&found).backward());
            rule.all_same(1e-2, &found, &expected, &format!("{what}: gradient"));
        }
        let what = format!("{name}, {engine:?}: value after training");
        rule.all_same(0.0, &model::floats(&module), &model::floats(&native), &what);
    }
}

fn check_zoo(name: &str, shape: InputShape) {
    let spec: ModelSpec = name.parse().unwrap();
    check(
        |device| spec.init(shape, 10, device).unwrap(),
        |batch, seed, device| random([batch, shape.channels, shape.height, shape.width], seed, device),
        |zoo: &Zoo, x| zoo.forward(x, &mut Taps::none()),
    );
}

#[test]
fn a_perceptron() {
    check_zoo("mlp:32", InputShape::new(1, 12, 12));
}

#[test]
fn lenet5() {
    check_zoo("lenet5", InputShape::MNIST);
}

#[test]
fn resnet8_on_small_images() {
    check_zoo("resnet8", InputShape::new(3, 8, 8));
}

/// Reads integers; its layers are attention, layer norms and GELU.
#[derive(Module, Debug)]
struct Transformer {
    tokens: Embedding,
    encoder: TransformerEncoder,
    output: Linear,
}

#[test]
fn a_transformer() {
    const LENGTH: usize = 6;
    const WORDS: i64 = 23;
    check(
        |device| Transformer {
            tokens: EmbeddingConfig::new(WORDS as usize, 16).init(device),
            encoder: TransformerEncoderConfig::new(16, 32, 4, 2).with_dropout(0.0).init(device),
            output: LinearConfig::new(LENGTH * 16, 4).init(device),
        },
        |batch, seed, device| {
            let words = noise(seed).take(batch * LENGTH).map(|x| (x.abs() * 1e4) as i64 % WORDS);
            let words = TensorData::new(words.collect(), [batch, LENGTH]);
            Tensor::<2, Int>::from_data(words, device)
        },
        |model: &Transformer, words| {
            let encoded = model.encoder.forward(TransformerEncoderInput::new(model.tokens.forward(words)));
            model.output.forward(encoded.flatten(1, 2))
        },
    );
}
