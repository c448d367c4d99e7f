//! Prints the README's table: every model with its parameters and multiply-accumulates.
//!
//! Run: `cargo run --release -p kd-models --example table`. Expected: a Markdown table whose LeNet-5 row says 431,080 and 2,293,000.
#![allow(clippy::print_stdout)]

use burn::tensor::Device;
use kd_core::Network;
use kd_models::{InputShape, ModelError, ModelSpec, parameter_count};

fn main() -> Result<(), ModelError> {
    let device = Device::flex();
    let mnist = [
        "linear",
        "mlp:800,800",
        "mlp:1200,1200",
        "mlp-bn:500,300",
        "lenet300-100",
        "lenet5",
        "lenet5-half",
        "lenet5-tenth",
    ];
    let cifar = [
        "resnet8",
        "resnet20",
        "resnet32",
        "resnet56",
        "resnet110",
        "wrn16-1",
        "wrn16-2",
        "wrn40-1",
        "wrn40-2",
        "vgg8",
        "vgg11",
        "vgg13",
        "vgg16",
        "vgg19",
        "mobilenetv2",
    ];
    println!("| model | images | parameters | multiply-accumulates |\n|---|---|---:|---:|");
    let mnist = mnist.map(|name| (name, InputShape::MNIST));
    for (name, shape) in mnist.into_iter().chain(cifar.map(|name| (name, InputShape::CIFAR))) {
        let model = name.parse::<ModelSpec>()?.init(shape, 10, &device)?;
        let (parameters, macs) = (parameter_count(&model) as u64, model.macs().unwrap_or_default());
        println!("| `{name}` | {shape} | {} | {} |", grouped(parameters), grouped(macs));
    }
    Ok(())
}

/// Thousands separated by commas.
fn grouped(number: u64) -> String {
    if number < 1000 {
        number.to_string()
    } else {
        format!("{},{:03}", grouped(number / 1000), number % 1000)
    }
}
