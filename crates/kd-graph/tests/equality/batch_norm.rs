//! Batch norm: training, evaluation, and what happens to the running statistics.

use burn::module::Module;
use burn::nn::{BatchNorm as Layer, BatchNormConfig};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, Tensor, TensorData};
use kd_graph::{BatchNorm, Graph, GraphModule, Op, Role, RunError, Shape, TensorType, Value};

use crate::model::{assert_all_same, assert_same, burns, gradients, loss, noise};
use crate::support::take;

const CHANNELS: usize = 3;
const MOMENTUM: f64 = 0.3;

/// burn's layer under the name of a field, as in a user's struct.
#[derive(Module, Debug)]
struct Model {
    norm: Layer,
}

fn model(device: &Device) -> Model {
    let mut norm = BatchNormConfig::new(CHANNELS).with_momentum(MOMENTUM).with_epsilon(1e-3).init(device);
    let vector = |seed| TensorData::new(take(&mut noise(seed), CHANNELS), [CHANNELS]);
    norm.gamma = burn::module::Param::from_data(vector(1), device);
    norm.beta = burn::module::Param::from_data(vector(2), device);
    Model { norm }
}

fn graph(momentum: Option<f64>) -> Graph {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::float(Shape::batched([CHANNELS, 4]))).unwrap();
    let vector = |seed| TensorData::new(take(&mut noise(seed), CHANNELS), [CHANNELS]);
    let inputs = [
        x,
        graph.parameter("norm.gamma", Role::Weight, vector(1)).unwrap(),
        graph.parameter("norm.beta", Role::Weight, vector(2)).unwrap(),
        graph.parameter("norm.running_mean", Role::Buffer, TensorData::zeros::<f32, _>([CHANNELS])).unwrap(),
        graph.parameter("norm.running_var", Role::Buffer, TensorData::ones::<f32, _>([CHANNELS])).unwrap(),
    ];
    let norm = graph.add("norm", Op::BatchNorm(BatchNorm { epsilon: 1e-3, momentum }), &inputs).unwrap();
    graph.set_outputs(&[norm]).unwrap();
    graph
}

fn batch(size: usize, seed: u64, device: &Device) -> Tensor<3> {
    let data = TensorData::new(take(&mut noise(seed), size * CHANNELS * 4), [size, CHANNELS, 4]);
    Tensor::from_data(data, device)
}

fn run(module: &GraphModule, x: &Tensor<3>) -> Tensor<3> {
    module.forward(x.clone()).unwrap()
}

fn assert_statistics(module: &GraphModule, model: &Model, what: &str) {
    let mean = model.norm.running_mean.value_sync().into_data();
    let variance = model.norm.running_var.value_sync().into_data();
    assert_same(&module.weight("norm.running_mean").unwrap().data().unwrap(), &mean, what);
    assert_same(&module.weight("norm.running_var").unwrap().data().unwrap(), &variance, what);
}

#[test]
fn training_and_evaluation_are_burns_step_by_step() {
    let device = Device::flex().autodiff();
    for size in [1, 7] {
        let (mut model, mut module) = (model(&device), burns(graph(Some(MOMENTUM)), &device).unwrap());
        let (mut native, mut ours) = (SgdConfig::new().init(), SgdConfig::new().init());
        for step in 0..4 {
            let x = batch(size, step, &device);
            let expected = Value::from(model.norm.forward(x.clone()));
            let found = Value::from(run(&module, &x));
            assert_same(&found.data().unwrap(), &expected.data().unwrap(), "training");
            assert_statistics(&module, &model, "running statistics");

            let (expected, found) = (loss(&expected).backward(), loss(&found).backward());
            assert_all_same(&gradients(&module, &found), &gradients(&model, &expected), "gradient");
            let expected = GradientsParams::from_grads(expected, &model);
            let found = GradientsParams::from_grads(found, &module);
            model = native.step(0.1, model, expected);
            module = ours.step(0.1, module, found);

            let x = x.inner();
            let expected = model.valid().norm.forward(x.clone()).into_data();
            assert_same(&run(&module.valid(), &x).into_data(), &expected, "evaluation");
        }
    }
}

#[test]
fn a_module_on_a_plain_device_evaluates_and_moves_nothing() {
    let device = Device::flex();
    let (model, module) = (model(&device), burns(graph(None), &device).unwrap());
    let x = batch(7, 1, &device);
    assert_same(&run(&module, &x).into_data(), &model.norm.forward(x).into_data(), "evaluation");
    assert_statistics(&module, &model, "untouched");
}

#[test]
fn a_frozen_module_evaluates_on_the_training_device_as_burns() {
    let device = Device::flex().autodiff();
    let model = model(&device).freeze();
    let module = burns(graph(Some(MOMENTUM)), &device).unwrap().freeze();
    let x = batch(7, 1, &device);
    assert_same(&run(&module, &x).into_data(), &model.norm.forward(x).into_data(), "frozen");
    assert_statistics(&module, &model, "untouched");
    let group = burn::module::ParamGroup::from_path("norm.training");
    let by_path = burns(graph(Some(MOMENTUM)), &device).unwrap().freeze_group(group);
    run(&by_path, &batch(7, 2, &device));
    assert_statistics(&by_path, &model, "frozen by path");
}

#[test]
fn clones_share_running_statistics_and_valid_copies_them_as_in_burn() {
    let device = Device::flex().autodiff();
    let module = burns(graph(Some(MOMENTUM)), &device).unwrap();
    let (clone, copy) = (module.clone(), module.valid().train());
    run(&module, &batch(7, 1, &device));
    let mean = |module: &GraphModule| module.weight("norm.running_mean").unwrap().data().unwrap();
    assert_eq!(mean(&clone), mean(&module));
    assert_ne!(mean(&copy), mean(&module));
    assert_eq!(mean(&copy), TensorData::zeros::<f32, _>([CHANNELS]));
}

#[test]
fn a_norm_without_momentum_cannot_be_trained_and_says_what_to_set() {
    let device = Device::flex().autodiff();
    let module = burns(graph(None), &device).unwrap();
    let x = batch(2, 1, &device);
    let error = module.run(vec![x.clone().into()]).unwrap_err();
    assert_eq!(error, RunError::Momentum { node: "norm".into() });
    assert!(error.to_string().contains("set `BatchNorm::momentum`"), "{error}");
    assert!(module.freeze().run(vec![x.into()]).is_ok());
}

#[test]
fn a_norm_whose_statistics_are_computed_evaluates_but_cannot_be_trained() {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::float(Shape::batched([CHANNELS, 4]))).unwrap();
    let ones = TensorData::ones::<f32, _>([CHANNELS]);
    let one = graph.parameter("ones", Role::Buffer, ones).unwrap();
    let two = graph.add("two", Op::Binary(kd_graph::Binary::Add), &[one, one]).unwrap();
    let op = Op::BatchNorm(BatchNorm { epsilon: 1e-3, momentum: Some(0.1) });
    let norm = graph.add("norm", op, &[x, one, one, one, two]).unwrap();
    graph.set_outputs(&[norm]).unwrap();
    let device = Device::flex();
    let module = burns(graph.clone(), &device).unwrap();
    assert!(module.run(vec![batch(2, 1, &device).into()]).is_ok());
    let device = device.autodiff();
    let module = burns(graph, &device).unwrap();
    let error = module.run(vec![batch(2, 1, &device).into()]).unwrap_err();
    assert_eq!(error, RunError::Statistics { node: "norm".into() });
}
