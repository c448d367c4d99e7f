#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use burn::tensor::TensorData;

use crate::*;

fn parameter<const N: usize>(graph: &mut Graph, name: &str, shape: [usize; N]) -> NodeId {
    graph.parameter(name, Role::Weight, TensorData::zeros::<f32, _>(shape)).unwrap()
}

fn conv(groups: usize) -> Op {
    let [stride, dilation] = [vec![1; 2], vec![1; 2]];
    Op::Conv(Conv { stride, padding: vec![(0, 0); 2], dilation, groups })
}

fn pool() -> Op {
    let [kernel, stride, padding, dilation] = [2, 2, 0, 1].map(|size| vec![size; 2]);
    Op::Pool(Pool { kind: PoolKind::Max, kernel, stride, padding, dilation, ceil: false })
}

/// LeNet-5 in Caffe's form: 20 and 50 maps, 500 hidden units.
fn lenet() -> Graph {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::float(Shape::batched([1, 28, 28]))).unwrap();
    let layer = |graph: &mut Graph, name: &str, op: Op, x, shape: &[usize], out: usize| {
        let weight = TensorData::zeros::<f32, _>(shape.to_vec());
        let weight = graph.parameter(&format!("{name}.weight"), Role::Weight, weight).unwrap();
        let bias = parameter(graph, &format!("{name}.bias"), [out]);
        graph.add(name, op, &[x, weight, bias]).unwrap()
    };
    let conv1 = layer(&mut graph, "conv1", conv(1), x, &[20, 1, 5, 5], 20);
    let pool1 = graph.add("pool1", pool(), &[conv1]).unwrap();
    let conv2 = layer(&mut graph, "conv2", conv(1), pool1, &[50, 20, 5, 5], 50);
    let pool2 = graph.add("pool2", pool(), &[conv2]).unwrap();
    let flat = graph.add("flat", Op::Reshape { shape: Shape::batched([800]) }, &[pool2]).unwrap();
    let fc1 = layer(&mut graph, "fc1", Op::Linear, flat, &[800, 500], 500);
    let relu = graph.add("relu", Op::Activation(Activation::Relu), &[fc1]).unwrap();
    let fc2 = layer(&mut graph, "fc2", Op::Linear, relu, &[500, 10], 10);
    graph.set_outputs(&[fc2]).unwrap();
    graph
}

#[test]
fn lenet_costs_what_a_count_by_hand_says() {
    let cost = lenet().cost(1).unwrap();
    let conv1 = 20 * 24 * 24 * 25;
    let conv2 = 50 * 8 * 8 * 20 * 25;
    assert_eq!(cost.macs, conv1 + conv2 + 800 * 500 + 500 * 10);
    assert_eq!(cost.parameters, 431_080);
    assert_eq!(cost.weight_bytes, 4 * 431_080);
    let biases = 20 * 24 * 24 + 50 * 8 * 8 + 500 + 10;
    let pools = 4 * (20 * 12 * 12 + 50 * 4 * 4);
    assert_eq!(cost.flops, 2 * cost.macs + biases + pools + 500);
    // The image, which the caller holds, the first maps and what pooling makes of them.
    assert_eq!((cost.peak_activation_bytes, cost.peak_at.as_str()), (4 * (784 + 11_520 + 2_880), "pool1"));
    let conv1 = &cost.nodes[0];
    assert_eq!(conv1.bytes_moved(), 4 * (784 + 20 * 25 + 20 + 11_520));
    assert_eq!(conv1.parameters, 520);
}

#[test]
fn a_batch_multiplies_arithmetic_and_activations_but_not_weights() {
    let [one, many] = [1, 64].map(|batch| lenet().cost(batch).unwrap());
    assert_eq!(many.macs, 64 * one.macs);
    assert_eq!(many.peak_activation_bytes, 64 * one.peak_activation_bytes);
    assert_eq!(many.weight_bytes, one.weight_bytes);
    assert!(many.intensity() > one.intensity());
}

#[test]
fn grouped_and_transposed_convolution_matmul_and_attention_count_their_products() {
    let mut graph = Graph::new();
    let image = graph.input("image", TensorType::float(Shape::batched([8, 6, 6]))).unwrap();
    let depthwise = parameter(&mut graph, "depthwise.weight", [8, 1, 3, 3]);
    let depthwise = graph.add("depthwise", conv(8), &[image, depthwise]).unwrap();
    let up = parameter(&mut graph, "up.weight", [8, 4, 2, 2]);
    let transposed = ConvTranspose {
        stride: vec![2; 2],
        padding: vec![0; 2],
        padding_out: vec![0; 2],
        dilation: vec![1; 2],
        groups: 1,
    };
    let up = graph.add("up", Op::ConvTranspose(transposed), &[depthwise, up]).unwrap();
    let q = graph.input("q", TensorType::float(Shape::batched([2, 5, 16]))).unwrap();
    let v = graph.input("v", TensorType::float(Shape::batched([2, 5, 7]))).unwrap();
    let attention = Attention { scale: None, softcap: None, causal: false, masked: false, biased: false };
    let attention = graph.add("attention", Op::Attention(attention), &[q, q, v]).unwrap();
    let matmul = graph.add("matmul", Op::Permute { axes: vec![0, 1, 3, 2] }, &[v]).unwrap();
    let product = graph.add("product", Op::Matmul, &[matmul, v]).unwrap();
    graph.set_outputs(&[up, attention, product]).unwrap();
    let cost = graph.cost(3).unwrap();
    let macs = |name: &str| cost.nodes.iter().find(|node| node.name == name).unwrap().macs;
    assert_eq!(macs("depthwise"), 3 * 8 * 4 * 4 * 9);
    assert_eq!(macs("up"), 3 * 8 * 4 * 4 * 4 * 4);
    assert_eq!(macs("attention"), 3 * 2 * 5 * 5 * (16 + 7));
    assert_eq!(macs("product"), 3 * 2 * 7 * 7 * 5);
}

#[test]
fn a_skip_connection_keeps_its_source_alive_and_a_view_takes_nothing() {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::float(Shape::batched([4]))).unwrap();
    let relu = Op::Activation(Activation::Relu);
    let mut chain = vec![x];
    for name in ["a", "b", "c"] {
        chain.push(graph.add(name, relu.clone(), &[*chain.last().unwrap()]).unwrap());
    }
    let view = graph.add("view", Op::Reshape { shape: Shape::batched([2, 2]) }, &[chain[3]]).unwrap();
    let back = graph.add("back", Op::Reshape { shape: Shape::batched([4]) }, &[view]).unwrap();
    let sum = graph.add("sum", Op::Binary(Binary::Add), &[back, chain[1]]).unwrap();
    graph.set_outputs(&[sum]).unwrap();
    let cost = graph.cost(1).unwrap();
    let alive: Vec<_> = cost.nodes.iter().map(|node| node.alive_bytes / 16).collect();
    // a: x a. b: x a b. c: x a b c. Views: x a c. sum: x a c sum.
    assert_eq!(alive, [2, 3, 4, 3, 3, 4]);
}

#[test]
fn shared_parameters_count_once_and_buffers_apart() {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::float(Shape::batched([4]))).unwrap();
    let weight = parameter(&mut graph, "weight", [4, 4]);
    let table = graph.parameter("table", Role::Buffer, TensorData::zeros::<f32, _>([1, 4])).unwrap();
    let one = graph.add("one", Op::Linear, &[x, weight]).unwrap();
    let two = graph.add("two", Op::Linear, &[one, weight]).unwrap();
    let sum = graph.add("sum", Op::Binary(Binary::Add), &[two, table]).unwrap();
    graph.set_outputs(&[sum]).unwrap();
    let cost = graph.cost(1).unwrap();
    assert_eq!((cost.parameters, cost.buffers, cost.weight_bytes), (16, 4, 80));
    assert_eq!(cost.nodes.iter().map(|node| node.parameters).collect::<Vec<_>>(), [16, 0, 0]);
}

#[test]
fn the_bottleneck_follows_from_machine_and_batch() {
    let machine = |flops, bandwidth, memory| Machine { flops, bandwidth, memory };
    let graph = lenet();
    let [one, many] = [1, 256].map(|batch| graph.cost(batch).unwrap());
    let bottleneck = |cost: &Cost, machine| cost.roofline(machine).bottleneck;
    // 400 k weights are read once a pass: for one image they are most of the traffic.
    assert_eq!(bottleneck(&one, machine(1e12, 1e9, None)), Bottleneck::Size);
    assert_eq!(bottleneck(&many, machine(1e13, 1e9, None)), Bottleneck::MemoryTraffic);
    assert_eq!(bottleneck(&many, machine(1e9, 1e12, None)), Bottleneck::Compute);
    assert_eq!(bottleneck(&many, machine(1e9, 1e12, Some(1 << 20))), Bottleneck::ActivationMemory);
    assert_eq!(bottleneck(&one, machine(1e9, 1e12, Some(1 << 20))), Bottleneck::Size);
    let roofline = one.roofline(machine(1e30, 1e9, None));
    assert!((roofline.seconds() - one.bytes_moved as f64 / 1e9).abs() < 1e-12);
    assert!(roofline.to_string().ends_with("bottleneck: size"), "{roofline}");
}

#[test]
fn nodes_that_beat_the_roofline_are_counted() {
    let graph = lenet();
    let cost = graph.cost(1).unwrap();
    let machine = Machine { flops: 1e9, bandwidth: 1e9, memory: None };
    assert_eq!(cost.roofline(machine).faster_nodes, 0);
    let [first, second] = [cost.nodes[0].id, cost.nodes[1].id];
    let times = [(first, std::time::Duration::from_nanos(1)), (second, std::time::Duration::from_secs(1))];
    let roofline = cost.with_times(&times.into()).roofline(machine);
    assert_eq!(roofline.faster_nodes, 1);
    assert!(roofline.to_string().contains("faster than that: 1 nodes"), "{roofline}");
}

#[test]
fn every_node_that_computes_is_timed_and_the_times_are_entered() {
    let graph = lenet();
    let times =
        GraphModule::new(graph.clone(), &burn::tensor::Device::flex()).unwrap().time_nodes(2, 3).unwrap();
    let cost = graph.cost(2).unwrap();
    assert_eq!(cost.milliseconds(), None);
    let cost = cost.with_times(&times);
    assert_eq!(times.len(), cost.nodes.len());
    assert!(cost.milliseconds().unwrap() > 0.0);
}

#[test]
fn a_device_can_be_measured() {
    let machine = Machine::probe(&burn::tensor::Device::flex()).unwrap();
    assert!(machine.flops.is_finite() && machine.flops > 0.0 && machine.bandwidth.is_finite());
    assert!(machine.ridge() > 0.0);
}
