//! The graphs of the zoo cost what papers, counts by hand and the models themselves say.
#![allow(clippy::unwrap_used)]

use burn::tensor::{Device, Tensor};
use kd_core::{Network, Taps};
use kd_graph::{Cost, Graph, trace};
use kd_models::{InputShape, MODELS, ModelSpec, Zoo, parameter_count};

fn model(name: &str, image: InputShape, classes: usize) -> Zoo {
    name.parse::<ModelSpec>().unwrap().init(image, classes, &Device::flex()).unwrap()
}

fn graph(model: &Zoo, image: InputShape) -> Graph {
    let sample = Tensor::<4>::zeros([1, image.channels, image.height, image.width], &Device::flex());
    trace(model, sample, |model, x| model.forward(x, &mut Taps::none())).unwrap()
}

fn cost(name: &str, image: InputShape, classes: usize) -> Cost {
    graph(&model(name, image, classes), image).cost(1).unwrap()
}

#[test]
fn every_model_agrees_with_its_graph_on_parameters_and_macs() {
    for row in MODELS {
        let image = if row.name.starts_with("lenet") { InputShape::MNIST } else { InputShape::CIFAR };
        let model = model(row.example, image, 10);
        let cost = graph(&model, image).cost(1).unwrap();
        assert_eq!(Some(cost.macs), model.macs(), "{}", row.example);
        assert_eq!(cost.parameters, parameter_count(&model) as u64, "{}", row.example);
        assert!(cost.uncounted.is_empty());
    }
}

/// A 3x3 convolution, stride 1, over a map of `size` by `size`.
fn conv(size: u64, from: u64, to: u64) -> u64 {
    size * size * from * to * 9
}

#[test]
fn resnet20_is_counted_by_hand() {
    let cost = cost("resnet20", InputShape::CIFAR, 10);
    let stages = 6 * conv(32, 16, 16)
        + conv(16, 16, 32)
        + 5 * conv(16, 32, 32)
        + conv(8, 32, 64)
        + 5 * conv(8, 64, 64);
    assert_eq!(cost.macs, conv(32, 3, 16) + stages + 640);
    assert_eq!(cost.macs, 40_551_040);
    assert_eq!(cost.parameters, 269_722);
    // Mean and variance of every batch normalisation.
    let channels = 16 + 6 * (16 + 32 + 64);
    assert_eq!(cost.buffers, 2 * channels);
    assert_eq!(cost.weight_bytes, 4 * (269_722 + 2 * channels));
    // In the first stage: the image, the block's input, and a map and its successor of the branch.
    assert_eq!(cost.peak_activation_bytes, 4 * (3 + 3 * 16) * 32 * 32);
}

#[test]
fn wrn16_1_is_counted_by_hand() {
    let cost = cost("wrn16-1", InputShape::CIFAR, 10);
    // Two blocks of two convolutions a stage; a 1x1 convolution where the width changes.
    let stages = 4 * conv(32, 16, 16)
        + conv(16, 16, 32)
        + 3 * conv(16, 32, 32)
        + 16 * 16 * 16 * 32
        + conv(8, 32, 64)
        + 3 * conv(8, 64, 64)
        + 8 * 8 * 32 * 64;
    assert_eq!(cost.macs, conv(32, 3, 16) + stages + 640);
}

#[test]
fn mobilenetv2_is_counted_by_hand() {
    let cost = cost("mobilenetv2", InputShape::CIFAR, 10);
    // Expansion, channels, blocks, stride: the paper's table, with the strides, and the 1x1 shortcuts, of public CIFAR-10 code.
    let stages = [
        (1, 16, 1, 1),
        (6, 24, 2, 1),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ];
    let (mut size, mut from) = (32_u64, 32_u64);
    let mut macs = conv(32, 3, 32);
    for (expansion, to, blocks, stride) in stages {
        for block in 0..blocks {
            let wide = from * expansion;
            let stride = if block == 0 { stride } else { 1 };
            let out = size / stride;
            if stride == 1 && from != to {
                macs += size * size * from * to;
            }
            macs += size * size * from * wide + out * out * 9 * wide + out * out * wide * to;
            (size, from) = (out, to);
        }
    }
    macs += size * size * 320 * 1280 + 1280 * 10;
    assert_eq!(cost.macs, macs);
}
