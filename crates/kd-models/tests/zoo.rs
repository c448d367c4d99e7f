//! What holds for every model of the zoo.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Tensor};
use kd_core::{Network, Taps, Value};
use kd_models::{InputShape, ModelSpec, ResNetConfig, Zoo, parameter_count};

const MNIST: InputShape = InputShape::MNIST;
const CIFAR: InputShape = InputShape::CIFAR;

/// Small members of each family, to run.
const RUN: [(&str, InputShape); 8] = [
    ("mlp:12,8;dropout=0.2,0.5", MNIST),
    ("linear", MNIST),
    ("lenet5-tenth", MNIST),
    ("mlp-bn:12,8", MNIST),
    ("resnet8", InputShape::new(3, 8, 8)),
    ("wrn10-1", InputShape::new(3, 8, 8)),
    ("vgg8", InputShape::new(3, 8, 8)),
    ("mobilenetv2", InputShape::new(3, 8, 8)),
];

fn model(name: &str, shape: InputShape, classes: usize, device: &Device) -> Zoo {
    name.parse::<ModelSpec>().unwrap().init(shape, classes, device).unwrap()
}

fn images(batch: usize, shape: InputShape, device: &Device) -> Tensor<4> {
    let shape = [batch, shape.channels, shape.height, shape.width];
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

#[test]
fn parameters_are_as_many_as_in_the_papers_and_public_code() {
    let device = Device::flex();
    // Sources: LeNets by hand; He et al. (0.27, 0.46, 0.85, 1.7 M) with the exact numbers of public option-A code; public CIFAR-100 code for
    // wide residual networks and VGG; public CIFAR-10 code for MobileNetV2.
    let expected = [
        ("mlp:1200,1200", MNIST, 10, 2_395_210),
        ("mlp:800,800", MNIST, 10, 1_276_810),
        ("mlp-bn:500,300", MNIST, 10, 547_410),
        ("lenet300-100", MNIST, 10, 266_610),
        ("lenet5", MNIST, 10, 431_080),
        ("resnet20", CIFAR, 10, 269_722),
        ("resnet32", CIFAR, 10, 464_154),
        ("resnet56", CIFAR, 10, 853_018),
        ("resnet110", CIFAR, 10, 1_727_962),
        ("wrn16-2", CIFAR, 100, 703_284),
        ("wrn40-2", CIFAR, 100, 2_255_156),
        ("vgg8", CIFAR, 100, 3_965_028),
        ("vgg13", CIFAR, 100, 9_462_180),
        ("mobilenetv2", CIFAR, 10, 2_296_922),
    ];
    for (name, shape, classes, parameters) in expected {
        assert_eq!(parameter_count(&model(name, shape, classes, &device)), parameters, "{name}");
    }
}

#[test]
fn logits_have_a_row_per_image_and_a_column_per_class() {
    let device = Device::flex();
    for (name, shape) in RUN {
        let model = model(name, shape, 5, &device);
        for batch in [1, 7] {
            let logits = model.forward(images(batch, shape, &device), &mut Taps::none());
            assert_eq!(logits.dims(), [batch, 5], "{name}");
        }
    }
}

/// `name: shape` of every tap, batch left out.
fn taps(name: &str, shape: InputShape) -> String {
    let device = Device::flex();
    let taps = model(name, shape, 10, &device).run(images(2, shape, &device), Taps::all());
    let line = |(name, value): (&str, &Value)| format!("{name} {:?}", &value.shape()[1..]);
    taps.iter().map(line).collect::<Vec<_>>().join("; ")
}

#[test]
fn every_stage_has_a_tap_of_the_documented_shape() {
    assert_eq!(
        taps("mlp:12,8", MNIST),
        "features [8]; hidden1 [12]; hidden1.preact [12]; hidden2 [8]; hidden2.preact [8]; output [10]"
    );
    assert_eq!(
        taps("lenet5", MNIST),
        "features [500]; features.preact [500]; output [10]; stage1 [20, 12, 12]; stage1.preact [20, 12, 12]; \
         stage2 [50, 4, 4]; stage2.preact [50, 4, 4]"
    );
    assert_eq!(
        taps("resnet8", CIFAR),
        "features [64]; output [10]; stage1 [16, 32, 32]; stage1.preact [16, 32, 32]; stage2 [32, 16, 16]; \
         stage2.preact [32, 16, 16]; stage3 [64, 8, 8]; stage3.preact [64, 8, 8]; stem [16, 32, 32]"
    );
    assert_eq!(
        taps("wrn10-2", CIFAR),
        "features [128]; output [10]; stage1 [32, 32, 32]; stage1.preact [32, 32, 32]; stage2 [64, 16, 16]; \
         stage2.preact [64, 16, 16]; stage3 [128, 8, 8]; stage3.preact [128, 8, 8]; stem [16, 32, 32]"
    );
    assert_eq!(
        taps("vgg8", CIFAR),
        "features [512]; output [10]; stage1 [64, 32, 32]; stage1.preact [64, 32, 32]; stage2 [128, 16, 16]; \
         stage2.preact [128, 16, 16]; stage3 [256, 8, 8]; stage3.preact [256, 8, 8]; stage4 [512, 4, 4]; \
         stage4.preact [512, 4, 4]; stage5 [512, 4, 4]; stage5.preact [512, 4, 4]"
    );
    assert_eq!(
        taps("mobilenetv2", CIFAR),
        "features [1280]; output [10]; stage1 [16, 32, 32]; stage2 [24, 32, 32]; stage3 [32, 16, 16]; \
         stage4 [64, 8, 8]; stage5 [96, 8, 8]; stage6 [160, 4, 4]; stage7 [320, 4, 4]; stem [32, 32, 32]"
    );
}

#[test]
fn a_tap_is_the_relu_of_its_pre_activation() {
    let device = Device::flex();
    for (name, shape) in [("lenet5-tenth", MNIST), ("resnet8", CIFAR), ("vgg8", CIFAR)] {
        let taps = model(name, shape, 10, &device).run(images(1, shape, &device), Taps::all());
        let preact = taps.get::<4>("stage2.preact").unwrap();
        let difference = (preact.clone().clamp_min(0.0) - taps.get::<4>("stage2").unwrap()).abs().max();
        assert_eq!(difference.into_scalar::<f32>(), 0.0, "{name}");
        assert!(preact.min().into_scalar::<f32>() < 0.0, "{name}");
    }
}

/// Path and numbers of every float parameter and buffer.
#[derive(Default)]
struct Numbers {
    path: Vec<String>,
    all: BTreeMap<String, Vec<f32>>,
}

impl ModuleVisitor for Numbers {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.all.insert(self.path.join("."), param.val().into_data().try_to_vec().unwrap());
    }
}

fn numbers(module: &impl Module) -> BTreeMap<String, Vec<f32>> {
    let mut numbers = Numbers::default();
    module.visit(&mut numbers);
    numbers.all
}

#[test]
fn records_of_the_zoo_and_of_the_model_inside_are_interchangeable() {
    let device = Device::flex();
    let config = ResNetConfig { depth: 8 };
    let inner = config.init(CIFAR, 10, &device).unwrap();
    let zoo = model("resnet8", CIFAR, 10, &device);
    assert_ne!(numbers(&inner), numbers(&zoo));
    assert_eq!(numbers(&inner).keys().collect::<Vec<_>>(), numbers(&zoo).keys().collect::<Vec<_>>());

    let saved = numbers(&inner);
    let zoo = zoo.try_load_record(inner.into_record()).unwrap();
    assert_eq!(numbers(&zoo), saved);
    let inner = config.init(CIFAR, 10, &device).unwrap().try_load_record(zoo.into_record()).unwrap();
    assert_eq!(numbers(&inner), saved);
}

/// Paths of the learnable parameters that got no gradient, or one of zeros where that can't be.
struct Missing<'a> {
    path: Vec<String>,
    grads: &'a GradientsParams,
    found: usize,
    missing: Vec<String>,
}

impl ModuleVisitor for Missing<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.join(".");
        if path.contains("running_") {
            return;
        }
        let norm = self.grads.get::<D>(param.id).map(|grad| grad.square().sum().into_scalar::<f32>());
        match norm {
            Some(norm) if norm > 0.0 && norm.is_finite() => self.found += param.val().shape().num_elements(),
            _ => self.missing.push(path),
        }
    }
}

#[test]
fn the_gradient_reaches_every_parameter() {
    let device = Device::flex().autodiff();
    for (name, shape) in RUN {
        let model = model(name, shape, 5, &device);
        let loss = model.forward(images(4, shape, &device), &mut Taps::none()).square().mean();
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        let mut check = Missing { path: Vec::new(), grads: &grads, found: 0, missing: Vec::new() };
        model.visit(&mut check);
        assert_eq!(check.missing, Vec::<String>::new(), "{name}");
        assert_eq!(check.found, parameter_count(&model), "{name}");
    }
}

#[test]
fn running_statistics_move_in_training_and_stay_in_evaluation() {
    let device = Device::flex().autodiff();
    for (name, shape) in &RUN[3..] {
        let model = model(name, *shape, 5, &device);
        let statistics = |model: &Zoo| {
            let mut all = numbers(&model.valid());
            all.retain(|path, _| path.contains("running_"));
            all
        };
        let before = statistics(&model);
        model.forward(images(4, *shape, &device), &mut Taps::none());
        let trained = statistics(&model);
        assert!(
            !before.is_empty() && before.iter().all(|(path, numbers)| numbers != &trained[path]),
            "{name}"
        );
        let frozen = model.valid();
        frozen.forward(images(4, *shape, &device).inner(), &mut Taps::none());
        assert_eq!(statistics(&frozen), trained, "{name}");
    }
}

#[test]
fn the_zoo_prints_as_the_model_inside() {
    let Zoo::ResNet(inner) = model("resnet8", CIFAR, 10, &Device::flex()) else { panic!("not a ResNet") };
    let printed = inner.to_string();
    assert!(printed.starts_with("ResNet {"), "{printed}");
    assert_eq!(Zoo::from(inner).to_string(), printed);
}
