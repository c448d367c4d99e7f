//! Inputs, outputs and options.

use burn::nn::LinearConfig;
use burn::tensor::{Bool, Int, Tensor, s};
use kd_graph::ir::{NumericOperationIr, OperationIr};
use kd_graph::{CustomOp, Dim, Kind, Op, Scalar, TraceError, Tracer, trace};

use crate::{computing, device, names, ops, read_by};

fn types(graph: &kd_graph::Graph, ids: &[kd_graph::NodeId]) -> Vec<String> {
    ids.iter().map(|&id| graph.node(id).unwrap().output().to_string()).collect()
}

#[test]
fn several_inputs_and_outputs_of_every_kind_in_order() {
    let model = LinearConfig::new(4, 2).init(&device());
    let sample = (
        Tensor::<2>::zeros([1, 4], &device()),
        vec![Tensor::<1, Int>::zeros([1], &device()), Tensor::<1, Int>::zeros([1], &device())],
        Some(Tensor::<2, Bool>::empty([1, 2], &device())),
    );
    let graph = Tracer::new()
        .input_names(["pixels", "class"])
        .trace(&model, sample, |m, (x, classes, mask)| {
            let y = m.forward(x).mask_fill(mask.unwrap(), 0.0);
            [
                y.clone().sum_dim(1).squeeze_dim::<1>(1),
                (classes[0].clone() + classes[1].clone()).float(),
                y.sum_dim(1).squeeze_dim(1),
            ]
        })
        .unwrap();
    graph.validate().unwrap();
    let inputs: Vec<_> = graph.inputs().iter().map(|&id| graph.node(id).unwrap().name()).collect();
    assert_eq!(inputs, ["pixels", "class", "input", "input_1"]);
    assert_eq!(types(&graph, graph.inputs()), ["[B, 4]", "int [B]", "int [B]", "bool [B, 2]"]);
    assert_eq!(types(&graph, graph.outputs()), ["[B]", "[B]", "[B]"]);
}

#[test]
fn an_output_may_be_an_input_a_parameter_or_named_twice() {
    let model = LinearConfig::new(4, 2).init(&device());
    let graph = trace(&model, Tensor::<2>::zeros([1, 4], &device()), |m, x| {
        let y = m.forward(x.clone());
        (x, y.clone(), y, m.weight.val())
    })
    .unwrap();
    graph.validate().unwrap();
    let outputs: Vec<_> = graph.outputs().iter().map(|&id| graph.node(id).unwrap().name()).collect();
    assert_eq!(outputs, ["input", "linear", "linear", "weight"]);
}

#[test]
fn an_input_that_is_not_used_stays_an_input() {
    let nothing = Tensor::<1>::zeros([1], &device());
    let x = || Tensor::<2>::zeros([1, 4], &device());
    let graph = trace(&nothing, (x(), x()), |_, (_, b)| b + 1.0).unwrap();
    assert_eq!(graph.inputs().len(), 2);
    assert_eq!(read_by(&graph, "add"), ["input_1"]);
}

#[test]
fn the_batch_may_be_another_axis_or_none() {
    let nothing = Tensor::<1>::zeros([1], &device());
    let sample = (Tensor::<3>::zeros([7, 1, 4], &device()), Tensor::<2>::zeros([4, 4], &device()));
    let graph = Tracer::new()
        .batch_axis(0, 1)
        .batch_axis(1, None)
        .trace(&nothing, sample, |_, (x, shared)| {
            x.matmul(shared.unsqueeze()).swap_dims(0, 1).reshape([-1, 4])
        })
        .unwrap();
    graph.validate().unwrap();
    assert_eq!(types(&graph, graph.inputs()), ["[7, B, 4]", "[4, 4]"]);
    assert_eq!(types(&graph, graph.outputs()), ["[7B, 4]"]);
}

#[test]
fn a_slice_of_the_whole_batch_is_symbolic_and_one_of_its_start_is_not() {
    let nothing = Tensor::<1>::zeros([1], &device());
    let x = Tensor::<2>::zeros([1, 4], &device());
    let graph =
        trace(&nothing, x, |_, x| (x.clone().slice([0..x.dims()[0], 1..3]), x.slice(s![0..2, ..]))).unwrap();
    let ranges: Vec<_> = ops(&graph)
        .into_iter()
        .map(|op| match op {
            Op::Slice { ranges } => (ranges[0].start, ranges[0].end),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ranges, [(Dim::Fixed(0), Dim::Batch(1)), (Dim::Fixed(0), Dim::Fixed(2))]);
}

#[test]
fn constants_are_kept_with_their_values() {
    let nothing = Tensor::<1>::zeros([1], &device());
    let graph = trace(&nothing, Tensor::<2>::zeros([1, 3], &device()), |_, x| {
        let device = x.device();
        x + Tensor::<1>::from_floats([1.0, 2.0, 3.0], &device).unsqueeze()
    })
    .unwrap();
    let constant = graph.find("constant").unwrap();
    assert_eq!(graph.value(constant).unwrap().iter::<f32>().collect::<Vec<_>>(), [1.0, 2.0, 3.0]);
    assert_eq!(names(&graph), ["reshape", "add"]);
}

#[derive(Debug)]
struct CumulativeSum;

impl CustomOp for CumulativeSum {
    fn name(&self) -> &str {
        "cumulative_sum"
    }

    fn read(&self, operation: &OperationIr) -> Option<Vec<Scalar>> {
        match operation {
            OperationIr::NumericFloat(_, NumericOperationIr::CumSum(op)) => {
                Some(vec![Scalar::Int(op.axis as i64)])
            }
            _ => None,
        }
    }
}

#[test]
fn a_registered_operation_is_a_custom_node() {
    let nothing = Tensor::<1>::zeros([1], &device());
    let x = Tensor::<2>::zeros([1, 3], &device());
    let graph = Tracer::new().custom(CumulativeSum).trace(&nothing, x, |_, x| x.cumsum(1) + 1.0).unwrap();
    let wanted = Op::Custom { name: "cumulative_sum".into(), attributes: vec![Scalar::Int(1)] };
    assert_eq!(ops(&graph)[0], wanted);
    assert_eq!(names(&graph), ["cumulative_sum", "add"]);
    assert_eq!(computing(&graph)[0].1.output().kind, Kind::Float);
}

#[test]
fn options_that_speak_of_no_tensor_are_refused() {
    let nothing = Tensor::<1>::zeros([1], &device());
    let x = || Tensor::<2>::zeros([1, 3], &device());
    let refused = |tracer: Tracer, x: Tensor<2>| -> String {
        let error = tracer.trace(&nothing, x, |_, x| x + 1.0).unwrap_err();
        assert!(matches!(error, TraceError::Sample { .. }), "{error:?}");
        error.to_string()
    };
    assert!(refused(Tracer::new().batch_axis(1, 0), x()).contains("none of number 1"));
    assert!(refused(Tracer::new().batch_axis(0, 2), x()).contains("no axis 2"));
    assert!(refused(Tracer::new(), Tensor::zeros([0, 3], &device())).contains("no example"));
}
