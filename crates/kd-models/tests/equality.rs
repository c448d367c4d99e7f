//! Every model of the zoo and its graph are the same, bit for bit: outputs, gradients, running statistics.
#![allow(clippy::unwrap_used, clippy::panic)]

// The comparison is kd-graph's own.
#[path = "../../kd-graph/tests/equality/model.rs"]
#[allow(dead_code)]
mod model;

use burn::tensor::{Device, Tensor};
use kd_core::{Network, Taps};
use kd_models::{InputShape, MODELS, ModelSpec, Zoo};

fn check(name: &str) {
    let spec: ModelSpec = name.parse().unwrap();
    let small =
        matches!(spec.architecture(), kd_models::Architecture::Mlp(_) | kd_models::Architecture::LeNet5(_));
    let shape = if small { InputShape::MNIST } else { InputShape::CIFAR };
    let device = Device::flex();
    device.seed(1);
    let zoo = spec.init(shape, 10, &device).unwrap();
    let input = |batch, seed, device: &Device| {
        model::random([batch, shape.channels, shape.height, shape.width], seed, device)
    };
    model::same_model(&zoo, input, |zoo: &Zoo, x: Tensor<4>| zoo.forward(x, &mut Taps::none()));
}

#[test]
fn every_model_of_the_table_is_its_graph() {
    for info in MODELS {
        check(info.example);
    }
}

#[test]
fn the_deepest_residual_network_is_its_graph() {
    check("resnet110");
}
