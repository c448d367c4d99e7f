//! Dropout in graphs, compared with burn's at the same seed. burn has one random generator for the whole process, so these are the only
//! tests of their binary and take turns.
#![allow(clippy::unwrap_used)]

use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::module::Module;
use burn::nn::attention::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use kd_graph::{Graph, GraphModule, Op, Shape, TensorType, compare_training};

static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Module, Debug)]
struct Net {
    hidden: Linear,
    norm: BatchNorm,
    drop: Dropout,
    last: Linear,
}

impl Net {
    fn new(device: &Device) -> Self {
        Self {
            hidden: LinearConfig::new(6, 8).init(device),
            norm: BatchNormConfig::new(8).init(device),
            drop: DropoutConfig::new(0.5).init(),
            last: LinearConfig::new(8, 3).init(device),
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.last.forward(self.drop.forward(self.norm.forward(self.hidden.forward(x))))
    }
}

fn rows(device: &Device) -> Tensor<2> {
    Tensor::<1, burn::tensor::Int>::arange(0..42, device).float().sin().reshape([7, 6])
}

#[test]
fn a_trace_without_its_dropout_is_reported_and_with_it_put_back_is_exact() {
    let _turn = turn();
    let device = Device::flex();
    let net = Net::new(&device);
    let mut graph = kd_graph::trace(&net, rows(&device), Net::forward).unwrap();
    let module = GraphModule::new(graph.clone(), &device).unwrap();
    let report = compare_training(&net, &module, rows(&device), Net::forward).unwrap();
    assert!(report.difference > 0.0 && report.difference.is_finite());
    let text = report.to_string();
    assert!(text.contains("differ") && text.contains("`drop` (Dropout)"), "{text}");

    graph.put_dropout_back("norm", 0.5).unwrap();
    let module = GraphModule::new(graph, &device).unwrap();
    let report = compare_training(&net, &module, rows(&device), Net::forward).unwrap();
    assert!(report.is_exact(), "{report}");
}

#[test]
fn dropout_drops_what_burns_drops_and_only_in_training() {
    let _turn = turn();
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::float(Shape::batched([6]))).unwrap();
    let drop = graph.add("drop", Op::Dropout { rate: 0.4 }, &[x]).unwrap();
    graph.set_outputs(&[drop]).unwrap();
    let device = Device::flex().autodiff();
    let module = GraphModule::new(graph, &device).unwrap();
    let run = |module: &GraphModule, x: Tensor<2>| module.forward::<2, 2>(x).unwrap().into_data();

    device.seed(5);
    let expected = DropoutConfig::new(0.4).init().forward(rows(&device)).into_data();
    device.seed(5);
    let found = run(&module, rows(&device));
    assert_eq!(found.as_bytes(), expected.as_bytes());
    assert!(found.iter::<f32>().skip(1).any(|x| x == 0.0));

    let plain = rows(&Device::flex());
    assert_eq!(run(&module.valid(), plain.clone()), plain.clone().into_data());
    assert_eq!(run(&module.freeze(), rows(&device)), plain.into_data());
}

#[test]
fn the_dropout_of_an_attention_goes_back_behind_its_softmax() {
    let _turn = turn();
    let device = Device::flex();
    let net = MultiHeadAttentionConfig::new(6, 2).with_dropout(0.3).init(&device);
    let forward = |net: &MultiHeadAttention, x: Tensor<3>| net.forward(MhaInput::self_attn(x)).context;
    let sample = || Tensor::<1, burn::tensor::Int>::arange(0..60, &device).float().sin().reshape([2, 5, 6]);
    let mut graph = kd_graph::trace(&net, sample(), forward).unwrap();
    let one = graph.nodes().filter(|(_, node)| node.op().word() == "attention").count();
    assert_eq!(one, 1);
    let whole = graph.clone();

    let dropout = graph.put_dropout_back("attention", 0.3).unwrap();
    assert_eq!(graph.node(dropout).unwrap().name(), "attention.dropout");
    let module = GraphModule::new(graph.clone(), &device).unwrap();
    let report = compare_training(&net, &module, sample(), forward).unwrap();
    assert!(report.is_exact(), "{report}");
    // Whole or in its parts, it computes the same.
    let run = |graph: &Graph| -> Tensor<3> {
        GraphModule::new(graph.clone(), &device).unwrap().forward(sample()).unwrap()
    };
    assert_eq!(run(&graph).into_data(), run(&whole).into_data());
    let error = graph.lower_attention("query").unwrap_err().to_string();
    assert!(error.contains("linear"), "{error}");
}
