//! Every model of the zoo is a graph that can be read.
#![allow(clippy::unwrap_used, clippy::panic)]

use burn::tensor::{Device, Tensor};
use kd_core::{Network, Taps};
use kd_graph::{Graph, Op, trace};
use kd_models::{InputShape, MODELS, ModelSpec, Zoo, parameter_count};

fn model(name: &str) -> (Zoo, Tensor<4>) {
    let device = Device::flex();
    device.seed(1);
    let shape = InputShape::CIFAR;
    let model = name.parse::<ModelSpec>().unwrap().init(shape, 10, &device).unwrap();
    (model, Tensor::zeros([1, 3, 32, 32], &device))
}

fn graph(name: &str) -> Graph {
    let (model, images) = model(name);
    trace(&model, images, |model: &Zoo, images| model.forward(images, &mut Taps::none())).unwrap()
}

/// Names of everything but parameters and inputs.
fn names(graph: &Graph) -> Vec<&str> {
    graph.nodes().filter(|(_, node)| !node.op().is_leaf()).map(|(_, node)| node.name()).collect()
}

#[test]
fn every_model_is_traced_with_all_its_parameters_and_momenta() {
    for name in MODELS.iter().map(|model| model.example).chain(["mlp:20,20;dropout=0.2,0.5"]) {
        let (model, images) = model(name);
        let graph =
            trace(&model, images, |model: &Zoo, images| model.forward(images, &mut Taps::none())).unwrap();
        graph.validate().unwrap();
        let output = graph.node(graph.outputs()[0]).unwrap().output().to_string();
        assert_eq!(output, "[B, 10]", "{name}");
        let learned = graph.parameters().filter(|(_, node)| match node.op() {
            Op::Parameter { role, .. } => *role == kd_graph::Role::Weight,
            _ => false,
        });
        let learned: usize = learned.map(|(_, node)| node.output().shape.elements(1)).sum();
        assert_eq!(learned, parameter_count(&model), "{name}");
        for (_, node) in graph.nodes() {
            if let Op::BatchNorm(norm) = node.op() {
                assert_eq!(norm.momentum, Some(0.1), "{name}: {}", node.name());
            }
        }
        // All perceptrons have dropout layers, but only those with a rate drop anything.
        assert_eq!(!graph.unseen().is_empty(), name.contains("dropout"), "{name}");
        assert!(graph.unseen().iter().all(|unseen| unseen.kind == "Dropout"), "{name}");
    }
}

#[test]
fn lenet5_is_ten_nodes() {
    let graph = graph("lenet5");
    let wanted =
        ["conv1", "max_pool2d", "relu", "conv2", "max_pool2d_1", "relu_1", "reshape", "fc1", "relu_2", "fc2"];
    assert_eq!(names(&graph), wanted);
}

#[test]
fn resnet20_is_74_nodes_named_by_block() {
    let graph = graph("resnet20");
    let besides = graph.nodes().filter(|(_, node)| !matches!(node.op(), Op::Parameter { .. })).count();
    assert_eq!(besides, 74);
    let names = names(&graph);
    assert_eq!(names[..4], ["conv1", "bn1", "relu", "layer1.0.conv1"]);
    let block: Vec<_> = names.iter().filter(|name| name.starts_with("layer2.0.")).collect();
    let wanted =
        ["conv1", "bn1", "relu", "conv2", "bn2", "add", "relu_1"].map(|name| format!("layer2.0.{name}"));
    assert_eq!(block, wanted.iter().collect::<Vec<_>>());
    // What the shortcut does belongs to the layer before it.
    let add = graph.node(graph.find("layer2.0.add").unwrap()).unwrap();
    let read: Vec<_> = add.inputs().iter().map(|&id| graph.node(id).unwrap().name()).collect();
    assert_eq!(read, ["layer2.0.bn2", "layer1.2.pad"]);
    assert_eq!(names[names.len() - 3..], ["layer3.2.adaptive_avg_pool2d", "layer3.2.reshape", "linear"]);
}
