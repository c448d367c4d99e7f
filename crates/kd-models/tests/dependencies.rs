//! Channels of every model of the zoo: what goes together, and that removing is zeroing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use burn::tensor::{Device, Distribution, Tensor};
use kd_core::{Network, Taps};
use kd_graph::{Dependencies, Graph, GraphModule, Position, trace};
use kd_models::{InputShape, MODELS, ModelSpec};

fn traced(name: &str, shape: InputShape) -> Graph {
    let device = Device::flex();
    let model = name.parse::<ModelSpec>().unwrap().init(shape, 10, &device).unwrap();
    let sample = Tensor::<4>::zeros([1, shape.channels, shape.height, shape.width], &device);
    trace(&model, sample, |model, x| model.forward(x, &mut Taps::none())).unwrap()
}

fn shape(name: &str) -> InputShape {
    if ["linear", "mlp", "lenet"].iter().any(|family| name.starts_with(family)) {
        InputShape::MNIST
    } else {
        InputShape::CIFAR
    }
}

/// Every third position that may go.
fn thirds(dependencies: &Dependencies) -> BTreeSet<Position> {
    let groups = dependencies.groups().iter().filter(|group| group.len() > 1);
    let positions = groups.flat_map(|group| {
        (0..group.len()).step_by(3).filter(|i| group.fixed[*i].is_none()).map(|i| group.position(i))
    });
    positions.collect()
}

fn logits(graph: Graph, images: Tensor<4>) -> Vec<f32> {
    let module = GraphModule::new(graph, &Device::flex()).unwrap();
    module.forward::<4, 2>(images).unwrap().into_data().try_into_vec().unwrap()
}

#[test]
fn a_third_of_the_channels_of_every_model_can_be_removed_as_if_they_were_zero() {
    for name in MODELS.iter().map(|model| model.example) {
        let shape = shape(name);
        let graph = traced(name, shape);
        let dependencies = graph.dependencies();
        let positions = thirds(&dependencies);
        assert_eq!(positions.is_empty(), name == "linear", "{name}\n{dependencies}");
        let smaller = dependencies.remove(&graph, positions.iter().copied());
        let smaller = smaller.unwrap_or_else(|error| panic!("{name}: {error}\n{dependencies}"));
        let zeroed = dependencies.zero(&graph, positions.iter().copied()).unwrap();
        let sizes = [2, shape.channels, shape.height, shape.width];
        let images = Tensor::<4>::random(sizes, Distribution::Default, &Device::flex());
        let (a, b) = (logits(zeroed, images.clone()), logits(smaller, images));
        let largest = b.iter().fold(1e-6f32, |largest, value| largest.max(value.abs()));
        let difference = a.iter().zip(&b).fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs()));
        assert!(difference <= 1e-5 * largest, "{name}: {difference} of {largest}\n{dependencies}");
    }
}

#[test]
fn channels_that_a_shortcut_pads_are_in_the_group_of_the_wider_stage() {
    let graph = traced("resnet8", InputShape::CIFAR);
    let dependencies = graph.dependencies();
    let stem = dependencies.groups_of("conv1.weight", 0).unwrap();
    let [stream] = stem.as_slice() else { panic!("{} groups", stem.len()) };
    assert_eq!(stream.len(), 64, "{dependencies}");
    let member = |path| stream.members.iter().find(|member| member.parameter == path).unwrap();
    assert_eq!(member("conv1.weight").count(), 16);
    assert_eq!(member("layer2.0.conv2.weight").count(), 32);
    assert_eq!(member("layer3.0.conv2.weight").count(), 64);
}

#[test]
fn a_deep_network_has_a_group_in_every_block_and_one_for_the_stream() {
    let graph = traced("resnet110", InputShape::CIFAR);
    let dependencies = graph.dependencies();
    let prunable = dependencies.groups().iter().filter(|group| group.unprunable().is_none()).count();
    // 54 blocks.
    assert_eq!(prunable, 55, "{dependencies}");
}
