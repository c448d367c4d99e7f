//! Bad input is a clear error.

use burn::tensor::{Device, Int, Tensor, TensorData};
use kd_graph::{Activation, Graph, GraphModule, ModuleError, Op, Role, RunError, Shape, TensorType, Value};

fn graph() -> Graph {
    let mut graph = Graph::new();
    let x = graph.input("image", TensorType::float(Shape::batched([3]))).unwrap();
    let tokens = graph.input("tokens", TensorType::int(Shape::batched([2]))).unwrap();
    let table = graph.parameter("table", Role::Weight, TensorData::ones::<f32, _>([5, 3])).unwrap();
    let rows = graph.add("rows", Op::Embedding, &[table, tokens]).unwrap();
    let relu = graph.add("relu", Op::Activation(Activation::Relu), &[x]).unwrap();
    graph.set_outputs(&[relu, rows]).unwrap();
    graph
}

fn module() -> GraphModule {
    GraphModule::new(graph(), &Device::flex()).unwrap()
}

fn floats(shape: [usize; 2]) -> Value {
    Tensor::<2>::zeros(shape, &Device::flex()).into()
}

fn ints(shape: [usize; 2]) -> Value {
    Tensor::<2, Int>::zeros(shape, &Device::flex()).into()
}

fn error(inputs: Vec<Value>) -> String {
    module().run(inputs).unwrap_err().to_string()
}

#[test]
fn another_number_of_inputs() {
    assert_eq!(error(vec![floats([4, 3])]), "the graph takes 2 inputs (image, tokens), not 1");
}

#[test]
fn another_kind_rank_or_size() {
    let wanted = "input `image` is float [B, 3], but a ";
    assert_eq!(
        error(vec![ints([4, 3]), ints([4, 2])]),
        format!("{wanted}int tensor of shape [4, 3] was given")
    );
    assert_eq!(
        error(vec![floats([4, 2]), ints([4, 2])]),
        format!("{wanted}float tensor of shape [4, 2] was given")
    );
    let row = Tensor::<1>::zeros([3], &Device::flex());
    assert_eq!(error(vec![row.into(), ints([4, 2])]), format!("{wanted}float tensor of shape [3] was given"));
}

#[test]
fn batches_that_disagree() {
    let message = "input `tokens` has a batch of 5, but `image` one of 4";
    assert_eq!(error(vec![floats([4, 3]), ints([5, 2])]), message);
}

#[test]
fn an_unknown_tap_lists_the_nearest_names() {
    let error = module().graph().find("rela").unwrap_err().to_string();
    assert!(error.starts_with("no node is called `rela`; the nearest names are `relu`"), "{error}");
}

#[test]
fn a_node_of_another_graph_is_no_tap() {
    let mut other = graph();
    let foreign = other.input("more", TensorType::float(Shape::batched([3]))).unwrap();
    let error = module().run_tapped(vec![floats([4, 3]), ints([4, 2])], &[foreign]).unwrap_err();
    assert!(matches!(error, RunError::Graph(_)), "{error}");
}

#[test]
fn every_node_can_be_tapped() {
    let module = module();
    let taps: Vec<_> = module.graph().nodes().map(|(id, _)| id).collect();
    let (outputs, values) = module.run_tapped(vec![floats([4, 3]), ints([4, 2])], &taps).unwrap();
    assert_eq!(outputs.len(), 2);
    for (id, value) in taps.iter().zip(&values) {
        let ty = module.graph().node(*id).unwrap().output();
        assert_eq!((value.kind(), value.shape()), (ty.kind, ty.shape.at(4)));
    }
}

#[test]
fn a_result_of_another_rank_is_an_error() {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::float(Shape::batched([3]))).unwrap();
    graph.set_outputs(&[x]).unwrap();
    let module = GraphModule::new(graph, &Device::flex()).unwrap();
    let error = module.forward::<2, 4>(Tensor::zeros([1, 3], &Device::flex())).unwrap_err();
    assert!(matches!(error, RunError::Output { index: 0, .. }), "{error}");
}

#[test]
fn a_custom_operation_without_kernel_is_refused() {
    let mut graph = Graph::new();
    let ty = TensorType::float(Shape::batched([3]));
    let x = graph.input("x", ty.clone()).unwrap();
    let op = Op::Custom { name: "fancy".into(), attributes: Vec::new() };
    graph.add_typed("fancy", op, &[x], ty).unwrap();
    let error = GraphModule::new(graph, &Device::flex()).unwrap_err();
    assert!(matches!(error, ModuleError::Kernel { .. }), "{error}");
}

#[test]
fn a_learned_parameter_of_integers_is_refused() {
    let mut graph = Graph::new();
    graph.parameter("table", Role::Weight, TensorData::from([1i64, 2])).unwrap();
    let error = GraphModule::new(graph, &Device::flex()).unwrap_err();
    assert!(error.to_string().contains("its role must be a buffer"), "{error}");
}

#[test]
fn integer_and_truth_buffers_are_held_and_recorded() {
    use burn::module::Module;
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::float(Shape::batched([3]))).unwrap();
    let mask = graph.parameter("mask", Role::Buffer, TensorData::from([[true, false, true]])).unwrap();
    graph.parameter("order", Role::Buffer, TensorData::from([2i64, 1, 0])).unwrap();
    let op = Op::MaskFill { value: kd_graph::Scalar::Float(9.0) };
    let y = graph.add("fill", op, &[x, mask]).unwrap();
    graph.set_outputs(&[y]).unwrap();
    let device = Device::flex().autodiff();
    let module = GraphModule::new(graph, &device).unwrap();
    assert_eq!(module.clone().into_record().len(), 2);
    let y: Tensor<2> = module.valid().forward(Tensor::<2>::zeros([1, 3], &Device::flex())).unwrap();
    assert_eq!(y.into_data(), TensorData::from([[9.0f32, 0.0, 9.0]]));
}
