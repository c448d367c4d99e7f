#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use burn::tensor::TensorData;

use crate::*;

fn names(graph: &Graph) -> Vec<&str> {
    graph.nodes().map(|(_, node)| node.name()).collect()
}

fn floats(graph: &Graph, name: &str) -> Vec<f32> {
    graph.value(graph.find(name).unwrap()).unwrap().try_to_vec().unwrap()
}

fn vector(graph: &mut Graph, name: &str, values: &[f32]) -> NodeId {
    graph.parameter(name, Role::Weight, TensorData::new(values.to_vec(), [values.len()])).unwrap()
}

/// Adds a batch normalisation with `gamma / sqrt(variance + epsilon) = [2, 3]`, `mean = [1, 2]`, `beta = [10, 20]`.
fn batch_norm(graph: &mut Graph, x: NodeId) -> NodeId {
    let gamma = vector(graph, "bn.gamma", &[4.0, 9.0]);
    let beta = vector(graph, "bn.beta", &[10.0, 20.0]);
    let mean = vector(graph, "bn.running_mean", &[1.0, 2.0]);
    let variance = vector(graph, "bn.running_var", &[3.5, 8.5]);
    let norm = BatchNorm { epsilon: 0.5, momentum: Some(0.1) };
    graph.add("bn", Op::BatchNorm(norm), &[x, gamma, beta, mean, variance]).unwrap()
}

fn conv(groups: usize) -> Op {
    let [stride, dilation] = [vec![1], vec![1]];
    Op::Conv(Conv { stride, padding: vec![(0, 0)], dilation, groups })
}

/// A layer with this weight and bias, then the batch normalisation.
fn folded(op: Op, weight: &[f32], shape: &[usize], bias: Option<&[f32]>) -> Graph {
    let mut graph = Graph::new();
    let sizes: &[usize] = if shape.len() == 2 { &[2] } else { &[2, 5] };
    let x = graph.input("x", TensorType::float(Shape::batched(sizes.iter().copied()))).unwrap();
    let value = TensorData::new(weight.to_vec(), shape.to_vec());
    let mut inputs = vec![x, graph.parameter("conv.weight", Role::Weight, value).unwrap()];
    inputs.extend(bias.map(|bias| vector(&mut graph, "conv.bias", bias)));
    let layer = graph.add("conv", op, &inputs).unwrap();
    let norm = batch_norm(&mut graph, layer);
    let relu = graph.add("relu", Op::Activation(Activation::Relu), &[norm]).unwrap();
    graph.set_outputs(&[relu]).unwrap();
    let rewritten = graph.fold_batch_norm().unwrap();
    assert_eq!(rewritten, Rewritten { removed: vec!["bn".into()], kept: vec![] });
    assert_eq!(names(&graph), ["x", "conv.weight", "conv.bias", "conv", "relu"]);
    graph
}

#[test]
fn a_normalisation_becomes_part_of_a_convolution() {
    let graph = folded(conv(1), &[1.0, 2.0, 3.0, 4.0], &[2, 2, 1], Some(&[5.0, 7.0]));
    assert_eq!(floats(&graph, "conv.weight"), [2.0, 4.0, 9.0, 12.0]);
    assert_eq!(floats(&graph, "conv.bias"), [2.0 * 4.0 + 10.0, 3.0 * 5.0 + 20.0]);
}

#[test]
fn a_layer_without_bias_gets_one() {
    let graph = folded(Op::Linear, &[1.0, 2.0, 3.0, 4.0], &[2, 2], None);
    assert_eq!(floats(&graph, "conv.weight"), [2.0, 6.0, 6.0, 12.0]);
    assert_eq!(floats(&graph, "conv.bias"), [8.0, 14.0]);
}

#[test]
fn channels_of_a_grouped_transposed_convolution_follow_its_groups() {
    let transposed = |groups| {
        let one = vec![1];
        let [stride, dilation] = [one.clone(), one];
        Op::ConvTranspose(ConvTranspose { stride, padding: vec![0], padding_out: vec![0], dilation, groups })
    };
    let graph = folded(transposed(1), &[1.0, 2.0, 3.0, 4.0], &[2, 2, 1], None);
    assert_eq!(floats(&graph, "conv.weight"), [2.0, 6.0, 6.0, 12.0]);
    let graph = folded(transposed(2), &[1.0, 2.0, 3.0, 4.0], &[2, 1, 2], None);
    assert_eq!(floats(&graph, "conv.weight"), [2.0, 4.0, 9.0, 12.0]);
}

/// `conv -> bn`, harmed, must be left alone for the reason given.
#[test]
fn what_is_read_elsewhere_or_computed_is_left_alone() {
    type Harm = fn(&mut Graph, [NodeId; 3]);
    let harms: [(&str, Harm); 5] = [
        ("result of `conv` is read elsewhere", |graph, [_, conv, bn]| {
            graph.set_outputs(&[conv, bn]).unwrap()
        }),
        ("`conv.weight` is read elsewhere", |graph, [weight, _, bn]| {
            let conv2 = graph.add("conv2", conv(1), &[bn, weight]).unwrap();
            graph.set_outputs(&[conv2]).unwrap();
        }),
        ("`conv.weight` is read elsewhere", |graph, [weight, ..]| {
            let tied = Op::Parameter { role: Role::Weight, aliases: vec!["other".into()] };
            graph.edit(|edit| edit.set_op(weight, tied)).unwrap();
        }),
        ("`masked` is computed", |graph, [weight, conv, _]| {
            let mask = Op::Literal { op: Binary::Mul, value: Scalar::Float(0.5) };
            graph.edit(|edit| edit.insert_between(weight, conv, "masked", mask, &[weight])).unwrap();
        }),
        ("follows `relu`", |graph, [_, conv, _]| {
            let relu = Op::Activation(Activation::Relu);
            graph.edit(|edit| edit.insert_after(conv, "relu", relu, &[conv])).unwrap();
        }),
    ];
    for (wanted, harm) in harms {
        let mut graph = Graph::new();
        let x = graph.input("x", TensorType::float(Shape::batched([2, 5]))).unwrap();
        let value = TensorData::ones::<f32, _>([2, 2, 1]);
        let weight = graph.parameter("conv.weight", Role::Weight, value).unwrap();
        let layer = graph.add("conv", conv(1), &[x, weight]).unwrap();
        let norm = batch_norm(&mut graph, layer);
        graph.set_outputs(&[norm]).unwrap();
        harm(&mut graph, [weight, layer, norm]);
        let before = graph.clone();
        let rewritten = graph.fold_batch_norm().unwrap();
        let [(name, reason)] = rewritten.kept.as_slice() else { panic!("{wanted}: {rewritten:?}") };
        assert!(name == "bn" && reason.contains(wanted), "{wanted}: {reason}");
        assert_eq!(graph, before);
    }
}

#[test]
fn operations_that_change_nothing_are_removed() {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::float(Shape::batched([4]))).unwrap();
    let literal = |op, value| Op::Literal { op, value: Scalar::Float(value) };
    let all = vec![Range::all(Dim::Batch(1)), Range::all(Dim::Fixed(4))];
    let ops = [
        ("same", Op::Reshape { shape: Shape::batched([4]) }),
        ("all", Op::Slice { ranges: all }),
        ("still", Op::Permute { axes: vec![0, 1] }),
        ("by_one", literal(Binary::Mul, 1.0)),
        ("plus_nothing", literal(Binary::Add, 0.0)),
        ("no_drop", Op::Dropout { rate: 0.0 }),
        ("one", Op::Cat { axis: 1 }),
        ("folded", Op::Reshape { shape: Shape::batched([2, 2]) }),
        ("flat", Op::Reshape { shape: Shape::batched([4]) }),
        ("twice", literal(Binary::Mul, 2.0)),
        ("swapped", Op::Permute { axes: vec![1, 0] }),
        ("drop", Op::Dropout { rate: 0.5 }),
    ];
    let last = ops.into_iter().fold(x, |x, (name, op)| graph.add(name, op, &[x]).unwrap());
    graph.set_outputs(&[last]).unwrap();
    let rewritten = graph.remove_identities().unwrap();
    assert_eq!(names(&graph), ["x", "twice", "swapped", "drop"], "{rewritten}");
    assert_eq!(rewritten.removed.len(), 9);
    assert_eq!(graph.remove_dropout().unwrap().removed, ["drop"]);
    assert_eq!(names(&graph), ["x", "twice", "swapped"]);
}

#[test]
fn what_is_computed_twice_is_computed_once() {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::float(Shape::batched([4]))).unwrap();
    let y = graph.input("y", TensorType::float(Shape::batched([4]))).unwrap();
    let relu = Op::Activation(Activation::Relu);
    let [a, b] = ["a", "b"].map(|name| graph.add(name, relu.clone(), &[x]).unwrap());
    let sum = graph.add("sum", Op::Binary(Binary::Add), &[a, y]).unwrap();
    let again = graph.add("again", Op::Binary(Binary::Add), &[y, b]).unwrap();
    let minus = graph.add("minus", Op::Binary(Binary::Sub), &[a, y]).unwrap();
    let other = graph.add("other", Op::Binary(Binary::Sub), &[y, a]).unwrap();
    let [d, e] = ["d", "e"].map(|name| graph.add(name, Op::Dropout { rate: 0.5 }, &[x]).unwrap());
    graph.set_outputs(&[sum, again, minus, other, d, e]).unwrap();
    assert_eq!(graph.merge_common().unwrap().removed, ["b", "again"]);
    assert_eq!(graph.outputs(), [sum, sum, minus, other, d, e]);
    graph.validate().unwrap();
}

#[test]
fn what_no_output_needs_is_removed_but_inputs_stay() {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::float(Shape::batched([2]))).unwrap();
    graph.input("unused", TensorType::float(Shape::batched([2]))).unwrap();
    let weight = vector(&mut graph, "slope", &[0.5]);
    let live = graph.add("live", Op::Activation(Activation::Tanh), &[x]).unwrap();
    let dead = graph.add("dead", Op::Activation(Activation::Prelu), &[live, weight]).unwrap();
    graph.add("deader", Op::Activation(Activation::Tanh), &[dead]).unwrap();
    graph.set_outputs(&[live]).unwrap();
    assert_eq!(graph.remove_dead().unwrap().removed, ["slope", "dead", "deader"]);
    assert_eq!(names(&graph), ["x", "unused", "live"]);
    assert_eq!(graph.remove_dead().unwrap().removed, Vec::<String>::new());
}
