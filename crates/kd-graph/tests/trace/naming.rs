//! Names, ties and roles.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor};
use kd_graph::{Op, Role, trace};

use crate::{device, names, ops, read_by};

#[derive(Module, Debug)]
struct Block {
    conv1: Conv2d,
    bn1: BatchNorm,
    scale: Param<Tensor<1>>,
}

impl Block {
    fn new(device: &Device) -> Self {
        Self {
            conv1: Conv2dConfig::new([4, 4], [1, 1]).init(device),
            bn1: BatchNormConfig::new(4).init(device),
            scale: Param::from_tensor(Tensor::ones([1], device)),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = relu(self.bn1.forward(self.conv1.forward(x.clone())));
        relu(y * self.scale.val().reshape([1, 1, 1, 1]) + x)
    }
}

#[derive(Module, Debug)]
struct Tower {
    stem: Conv2d,
    blocks: Vec<Block>,
}

fn tower() -> Tower {
    let device = device();
    let stem = Conv2dConfig::new([3, 4], [1, 1]).init(&device);
    Tower { stem, blocks: vec![Block::new(&device), Block::new(&device)] }
}

impl Tower {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = relu(self.stem.forward(x));
        let x = self.blocks[0].forward(x);
        let x = self.blocks[1].forward(x);
        self.blocks[1].forward(x)
    }
}

fn image() -> Tensor<4> {
    Tensor::zeros([1, 3, 5, 5], &device())
}

#[test]
fn layers_are_called_as_their_module_and_the_rest_after_the_layer_before() {
    let graph = trace(&tower(), image(), |tower, x| tower.forward(x)).unwrap();
    let (first, others) = (names(&graph), |block: &str, names: &[&str]| -> Vec<String> {
        names.iter().map(|name| format!("blocks.{block}.{name}")).collect()
    });
    let body = ["conv1", "bn1", "relu", "reshape", "mul", "add", "relu_1"];
    let again = ["conv1@2", "bn1@2", "relu_2", "reshape_1", "mul_1", "add_1", "relu_3"];
    let wanted =
        [vec!["stem".into(), "relu".into()], others("0", &body), others("1", &body), others("1", &again)]
            .concat();
    assert_eq!(first, wanted);
    assert_eq!(read_by(&graph, "blocks.0.add"), ["blocks.0.mul", "relu"]);
    assert_eq!(
        read_by(&graph, "blocks.1.conv1@2"),
        ["blocks.1.relu_1", "blocks.1.conv1.weight", "blocks.1.conv1.bias"]
    );
}

#[test]
fn two_traces_are_equal() {
    let tower = tower();
    let [a, b] = [(); 2].map(|()| trace(&tower, image(), |tower, x| tower.forward(x)).unwrap());
    assert_eq!(a, b);
    let c =
        trace(&tower, Tensor::zeros([9, 3, 5, 5], &device()), |tower: &Tower, x| tower.forward(x)).unwrap();
    assert_eq!(a, c, "the sample's batch size does not show");
}

#[test]
fn weights_are_learned_and_statistics_and_frozen_parameters_are_not() {
    let tower = tower();
    let role = |graph: &kd_graph::Graph, name: &str| match graph.node(graph.find(name).unwrap()).unwrap().op()
    {
        Op::Parameter { role, .. } => *role,
        other => panic!("{other:?}"),
    };
    let graph = trace(&tower, image(), |tower, x| tower.forward(x)).unwrap();
    assert_eq!(role(&graph, "stem.weight"), Role::Weight);
    assert_eq!(role(&graph, "blocks.0.bn1.gamma"), Role::Weight);
    assert_eq!(role(&graph, "blocks.0.bn1.running_mean"), Role::Buffer);
    let frozen = Tower { stem: tower.stem.clone().no_grad(), ..tower };
    let graph = trace(&frozen, image(), |tower, x| tower.forward(x)).unwrap();
    assert_eq!(role(&graph, "stem.weight"), Role::Buffer);
    assert_eq!(role(&graph, "blocks.0.bn1.gamma"), Role::Weight);
}

#[derive(Module, Debug)]
struct Language {
    input: Embedding,
    hidden: Linear,
    twin: Linear,
    output: Param<Tensor<2>>,
}

#[test]
fn tied_tensors_are_one_node_with_aliases() {
    let device = device();
    let hidden = LinearConfig::new(4, 4).init(&device);
    let input = EmbeddingConfig::new(9, 4).init(&device);
    let model = Language { output: input.weight.clone(), twin: hidden.clone(), hidden, input };
    let sample = Tensor::<2, Int>::zeros([1, 5], &device);
    let graph = trace(&model, sample.clone(), |m, x| {
        let x = m.twin.forward(m.hidden.forward(m.input.forward(x)));
        x.matmul(m.output.val().transpose().unsqueeze())
    })
    .unwrap();
    graph.validate().unwrap();
    let parameters: Vec<_> = graph.parameters().map(|(_, node)| node.name()).collect();
    assert_eq!(parameters, ["input.weight", "hidden.weight", "hidden.bias"]);
    let Op::Parameter { aliases, .. } = graph.node(graph.find("input.weight").unwrap()).unwrap().op() else {
        panic!()
    };
    assert_eq!(aliases, &["output"]);
    assert_eq!(names(&graph), ["input", "hidden", "twin", "permute", "linear"]);
    assert_eq!(ops(&graph)[4], Op::Linear);
}

#[test]
fn clones_that_have_grown_apart_are_two_parameters() {
    let hidden = LinearConfig::new(4, 4).init(&device());
    let mut twin = hidden.clone();
    twin.weight = twin.weight.map(|weight| weight * 2.0);
    let graph = trace(&vec![hidden, twin], Tensor::<2>::zeros([1, 4], &device()), |m, x| {
        m[1].forward(m[0].forward(x))
    })
    .unwrap();
    let parameters: Vec<_> = graph.parameters().map(|(_, node)| node.name()).collect();
    assert_eq!(parameters, ["0.weight", "0.bias", "1.weight"]);
}

#[test]
fn parameters_that_the_pass_does_not_use_are_not_in_the_graph() {
    let layers = vec![LinearConfig::new(4, 4).init(&device()), LinearConfig::new(4, 4).init(&device())];
    let graph = trace(&layers, Tensor::<2>::zeros([1, 4], &device()), |m, x| m[1].forward(x)).unwrap();
    assert_eq!(graph.parameters().count(), 2);
    assert!(graph.find("0.weight").is_err());
}

/// Holds the weights of two products itself.
#[derive(Module, Debug)]
struct Crowded {
    up: Param<Tensor<2>>,
    down: Param<Tensor<2>>,
}

#[test]
fn a_module_with_several_weights_of_its_own_lends_its_path_as_scope() {
    let device = device();
    let model = vec![Crowded {
        up: Param::from_tensor(Tensor::ones([3, 6], &device)),
        down: Param::from_tensor(Tensor::ones([6, 3], &device)),
    }];
    let graph = trace(&model, Tensor::<2>::zeros([1, 3], &device), |m, x| {
        x.matmul(m[0].up.val()).matmul(m[0].down.val())
    })
    .unwrap();
    assert_eq!(names(&graph), ["0.linear", "0.linear_1"]);
}

/// A parameter called as an operation, in a module without name.
#[derive(Module, Debug)]
struct Clash {
    mul: Param<Tensor<1>>,
    input: Param<Tensor<1>>,
}

#[test]
fn parameters_keep_their_paths_when_another_name_would_be_the_same() {
    let ones = || Param::from_tensor(Tensor::ones([1], &device()));
    let model = Clash { mul: ones(), input: ones() };
    let graph =
        trace(&model, Tensor::<1>::zeros([4], &device()), |m, x| x * m.mul.val() + m.input.val()).unwrap();
    let all: Vec<_> = graph.nodes().map(|(_, node)| node.name()).collect();
    assert_eq!(all, ["input_1", "mul", "mul_1", "input", "add"]);
}
