//! Small graphs whose codes can be worked out by hand.

use burn::tensor::{Device, Tensor, TensorData};
use kd_graph::{Activation, Graph, NodeId, Op, Role, Shape, TensorType};
use kd_quant::Grid;
use kd_quant::integer::IntegerNetwork;
use kd_quant::plan::QuantPlan;

use crate::nets::{format, numbers, placed, point};

/// A plan for these weights of 8 bits and these activations, their scales set as given, zero being the code of zero.
fn applied(graph: &Graph, weights: &[(&str, f32)], activations: &[(&str, Grid, f32)]) -> Graph {
    let weights: Vec<_> =
        weights.iter().map(|(path, scale)| (*path, format(Grid::signed(8).unwrap(), *scale, 0))).collect();
    let activations: Vec<_> =
        activations.iter().map(|(name, grid, scale)| (*name, format(*grid, *scale, 0))).collect();
    placed(graph, &weights, &activations)
}

fn linear(graph: &mut Graph, name: &str, x: NodeId, weight: [[f32; 2]; 2]) -> NodeId {
    let weight = graph.parameter(&format!("{name}.weight"), Role::Weight, TensorData::from(weight)).unwrap();
    graph.add(name, Op::Linear, &[x, weight]).unwrap()
}

#[test]
fn a_linear_layer_rounds_once() {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::float(Shape::batched([2]))).unwrap();
    let a = linear(&mut graph, "a", x, [[0.5, -1.0], [0.25, 0.75]]);
    let relu = graph.add("relu", Op::Activation(Activation::Relu), &[a]).unwrap();
    graph.set_outputs(&[relu]).unwrap();
    let (signed, unsigned) = (Grid::signed(8).unwrap(), Grid::unsigned(2).unwrap());
    let graph = applied(&graph, &[("a.weight", 0.25)], &[("x", signed, 0.5), ("relu", unsigned, 0.75)]);
    let network = IntegerNetwork::<Tensor<2>>::new(&graph, &Device::flex()).unwrap();
    assert_eq!(network.float_nodes(), []);
    // Codes of x: (2, 3), (-4, 20), (0, 1); of the weight: (2, -4), (1, 3). Accumulators (7, 1), (12, 76), (1, 3), times 0.125/0.75: 1.17, 0.17,
    // 2, 12.7 (saturates at 3), 0.17, 0.5 (to even).
    let x = Tensor::<2>::from_data([[1.0, 1.6], [-2.0, 10.0], [0.1, 0.4]], &Device::flex());
    let y = numbers(&network.run(vec![x.into()]).unwrap());
    assert_eq!(y, [0.75, 0.0, 1.5, 2.25, 0.0, 0.0]);
}

#[test]
fn sums_of_different_scales_meet_in_float() {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::float(Shape::batched([2]))).unwrap();
    let a = linear(&mut graph, "a", x, [[1.0, 0.0], [0.0, 1.0]]);
    let b = linear(&mut graph, "b", x, [[0.0, 1.0], [1.0, 0.0]]);
    let sum = graph.add("sum", Op::Binary(kd_graph::Binary::Add), &[a, b]).unwrap();
    graph.set_outputs(&[sum]).unwrap();
    let grid = Grid::signed(8).unwrap();
    let activations = [("x", grid, 1.0), ("a", grid, 0.5), ("b", grid, 2.0), ("sum", grid, 1.0)];
    let graph = applied(&graph, &[("a.weight", 1.0), ("b.weight", 1.0)], &activations);
    let network = IntegerNetwork::<Tensor<2>>::new(&graph, &Device::flex()).unwrap();
    assert_eq!(network.float_nodes(), []);
    // a = (3, 5); b = (5, 3) on multiples of 2, halves to even: (4, 4).
    let x = Tensor::<2>::from_data([[3.0, 5.0]], &Device::flex());
    assert_eq!(numbers(&network.run(vec![x.into()]).unwrap()), [7.0, 9.0]);
}

#[test]
fn what_it_cannot_take_is_refused_in_words() {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::float(Shape::batched([2]))).unwrap();
    let a = linear(&mut graph, "a", x, [[1.0, 0.0], [0.0, 1.0]]);
    graph.set_outputs(&[a]).unwrap();
    let quantised = applied(&graph, &[("a.weight", 1.0)], &[("x", Grid::signed(8).unwrap(), 1.0)]);
    let network = IntegerNetwork::<Tensor<2>>::new(&quantised, &Device::flex()).unwrap();
    assert!(network.run(Vec::new()).unwrap_err().to_string().contains("takes 1 inputs (x), not 0"));
    let wide = Tensor::<2>::zeros([1, 3], &Device::flex());
    let error = network.run(vec![wide.into()]).unwrap_err().to_string();
    assert!(error.contains("[B, 2]") && error.contains("[1, 3]"), "{error}");
    assert!(network.agreement([]).unwrap_err().to_string().contains("is empty"));

    let mut plan = QuantPlan::default();
    plan.network.insert("a.weight".into(), vec![2, 2]);
    plan.activations.insert("x".into(), point(Grid::signed(8).unwrap()));
    let error = IntegerNetwork::<Tensor<2>>::new(&plan.apply(&graph).unwrap(), &Device::flex()).unwrap_err();
    assert!(error.to_string().contains("`x.scale` is not initialised"), "{error}");
}

#[test]
fn places_of_one_scale_are_observed_together() {
    // Two summands of one scale, the second a hundred times larger: the average over batches has to know it from the first batch on.
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::float(Shape::batched([2]))).unwrap();
    let a = linear(&mut graph, "a", x, [[1.0, 0.0], [0.0, 1.0]]);
    let b = linear(&mut graph, "b", x, [[100.0, 0.0], [0.0, 100.0]]);
    let sum = graph.add("sum", Op::Binary(kd_graph::Binary::Add), &[a, b]).unwrap();
    graph.set_outputs(&[sum]).unwrap();
    let plan = QuantPlan::new(&graph, &kd_quant::plan::PlanSettings::int8().unwrap()).unwrap();
    let mut quantised = plan.apply(&graph).unwrap();
    let device = Device::flex();
    let batch = Tensor::<2>::from_data([[1.0, 2.0], [-1.0, 0.5]], &device);
    kd_quant::plan::initialise(&mut quantised, &device, [vec![batch.clone().into()]]).unwrap();
    let network = IntegerNetwork::<Tensor<2>>::new(&quantised, &device).unwrap();
    let y = numbers(&network.run(vec![batch.into()]).unwrap());
    for (y, wanted) in y.iter().zip([101.0, 202.0, -101.0, 50.5]) {
        assert!((y - wanted).abs() < 3.0, "{y} {wanted}");
    }
}
