//! The seven networks of the golden groups, written with burn and traced, have the same groups as their symbolic traces.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)] // the golden program reads the rest
#[path = "../golden/case.rs"]
mod case;
#[path = "../golden/compare.rs"]
mod compare;
mod library;
mod models;
#[allow(dead_code)]
#[path = "../golden/steps.rs"]
mod steps;

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use kd_graph::trace;

use models::{densenet, mobilenet, resnet, split, vgg, vit};

fn check<M: Module>(name: &str, make: fn(&Device) -> M, forward: fn(&M, Tensor<4>) -> Tensor<2>) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/data/prune_groups.json");
    let cases = case::read(&file).unwrap();
    let case = cases.iter().find(|case| case.name == name).unwrap();
    let device = Device::flex();
    let sizes: [usize; 4] = case.input("x").unwrap().try_into().unwrap();
    let graph = trace(&make(&device), Tensor::<4>::zeros(sizes, &device), forward).unwrap();
    let layers = case.modules().unwrap().into_iter().map(|module| (module.name, module.kind)).collect();
    let network = compare::Network { graph, layers };
    compare::groups(case, &network).unwrap_or_else(|why| panic!("{why}\n{}", network.graph.dependencies()));
}

#[test]
fn resnet20_has_the_reference_groups() {
    check("resnet20_groups", |device| resnet::ResNet::new(3, 8, device), resnet::ResNet::forward);
}

#[test]
fn resnet56_has_the_reference_groups() {
    check("resnet56_groups", |device| resnet::ResNet::new(9, 4, device), resnet::ResNet::forward);
}

#[test]
fn vgg11_has_the_reference_groups() {
    check("vgg11_bn_groups", vgg::Vgg::new, vgg::Vgg::forward);
}

#[test]
fn densenet_has_the_reference_groups() {
    check("densenet_groups", densenet::DenseNet::new, densenet::DenseNet::forward);
}

#[test]
fn mobilenet_has_the_reference_groups() {
    check("mobilenetv2_groups", mobilenet::MobileNet::new, mobilenet::MobileNet::forward);
}

#[test]
fn a_split_network_has_the_reference_groups() {
    check("splitnet_groups", split::SplitNet::new, split::SplitNet::forward);
}

#[test]
fn a_vision_transformer_has_the_reference_groups() {
    check("vit_groups", vit::Vit::new, vit::Vit::forward);
}
