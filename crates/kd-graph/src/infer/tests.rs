#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use burn::tensor::TensorData;

use super::*;
use crate::*;

fn dims(dims: &[Dim]) -> TensorType {
    TensorType::float(dims.iter().copied().collect())
}

fn b<const N: usize>(sizes: [usize; N]) -> TensorType {
    TensorType::float(Shape::batched(sizes))
}

fn fixed<const N: usize>(sizes: [usize; N]) -> TensorType {
    TensorType::float(Shape::fixed(sizes))
}

fn conv2d(stride: usize, padding: usize, groups: usize) -> Op {
    let [stride, dilation] = [vec![stride; 2], vec![1; 2]];
    Op::Conv(Conv { stride, padding: vec![(padding, padding); 2], dilation, groups })
}

fn pool(kind: PoolKind, kernel: usize, stride: usize, padding: usize, ceil: bool) -> Op {
    let [kernel, stride, padding] = [vec![kernel], vec![stride], vec![padding]];
    Op::Pool(Pool { kind, kernel, stride, padding, dilation: vec![1], ceil })
}

fn range(start: Dim, end: Dim, step: isize) -> Range {
    Range { start, end, step }
}

use Dim::{Batch, Fixed};

/// Operations with the types of their inputs, and the type of the result as it is printed.
#[test]
fn results_have_the_types_that_burn_gives_them() {
    let tokens = TensorType::int(Shape::batched([7]));
    let heads = b([4, 5, 8]);
    let transposed = Op::ConvTranspose(ConvTranspose {
        stride: vec![2],
        padding: vec![1],
        padding_out: vec![1],
        dilation: vec![1],
        groups: 2,
    });
    let attention =
        Op::Attention(Attention { scale: None, softcap: None, causal: true, masked: true, biased: false });
    let mask = TensorType::bool([Batch(1), Fixed(1), Fixed(5), Fixed(5)].into_iter().collect());
    let all = |size| Range::all(size);
    let cases: Vec<(Op, Vec<TensorType>, &str)> = vec![
        (conv2d(1, 1, 1), vec![b([3, 32, 32]), fixed([16, 3, 3, 3]), fixed([16])], "[B, 16, 32, 32]"),
        (conv2d(2, 1, 1), vec![b([3, 31, 32]), fixed([16, 3, 3, 3])], "[B, 16, 16, 16]"),
        (conv2d(1, 0, 6), vec![b([6, 5, 5]), fixed([12, 1, 5, 5])], "[B, 12, 1, 1]"),
        (transposed, vec![b([4, 5]), fixed([4, 3, 3]), fixed([6])], "[B, 6, 10]"),
        (Op::Linear, vec![b([7, 4]), fixed([4, 2]), fixed([2])], "[B, 7, 2]"),
        (Op::Matmul, vec![b([2, 3, 4]), fixed([1, 2, 4, 5])], "[B, 2, 3, 5]"),
        (Op::Embedding, vec![fixed([100, 16]), tokens.clone()], "[B, 7, 16]"),
        (attention, vec![heads.clone(), heads.clone(), b([4, 5, 6]), mask], "[B, 4, 5, 6]"),
        (Op::LayerNorm { epsilon: 1e-5 }, vec![b([7, 4]), fixed([4])], "[B, 7, 4]"),
        (Op::GroupNorm { groups: 2, epsilon: 1e-5 }, vec![b([4, 3])], "[B, 4, 3]"),
        (Op::Activation(Activation::Prelu), vec![b([4, 3]), fixed([4])], "[B, 4, 3]"),
        (Op::Unary(Unary::IsNan), vec![b([4])], "bool [B, 4]"),
        (Op::Binary(Binary::Add), vec![b([4, 1]), fixed([1, 1, 3])], "[B, 4, 3]"),
        (Op::Binary(Binary::Greater), vec![b([4]), b([4])], "bool [B, 4]"),
        (Op::Literal { op: Binary::Pow, value: Scalar::Int(2) }, vec![b([4])], "[B, 4]"),
        (Op::Where, vec![b([4]), TensorType::bool(Shape::batched([1])), fixed([1, 4])], "[B, 4]"),
        (Op::Cast { kind: Kind::Float, precision: None }, vec![tokens.clone()], "[B, 7]"),
        (Op::Reshape { shape: [Batch(4), Fixed(3)].into_iter().collect() }, vec![b([2, 2, 3])], "[4B, 3]"),
        (Op::Permute { axes: vec![0, 2, 1] }, vec![b([3, 4])], "[B, 4, 3]"),
        (Op::Expand { shape: Shape::batched([3, 4]) }, vec![fixed([1, 4])], "[B, 3, 4]"),
        (Op::Repeat { axis: 0, times: Batch(1) }, vec![fixed([1, 4])], "[B, 4]"),
        (Op::Cat { axis: 1 }, vec![b([3, 4]), b([5, 4])], "[B, 8, 4]"),
        (Op::Cat { axis: 0 }, vec![b([4]), dims(&[Batch(2), Fixed(4)])], "[3B, 4]"),
        (Op::Slice { ranges: vec![all(Batch(1)), range(Fixed(1), Fixed(6), 2)] }, vec![b([6])], "[B, 3]"),
        (Op::Slice { ranges: vec![range(Fixed(0), Fixed(1), 1), all(Fixed(6))] }, vec![b([6])], "[1, 6]"),
        (Op::Slice { ranges: vec![range(Batch(1), Batch(2), -1)] }, vec![dims(&[Batch(2)])], "[B]"),
        (Op::Select { axis: 1 }, vec![b([6, 2]), TensorType::int(Shape::fixed([3]))], "[B, 3, 2]"),
        (Op::Gather { axis: 1 }, vec![b([9]), tokens.clone()], "[B, 7]"),
        (Op::Pad { padding: vec![(0, 0), (1, 2)], mode: PadMode::Edge }, vec![b([4])], "[B, 7]"),
        (pool(PoolKind::Max, 3, 2, 1, false), vec![b([4, 8])], "[B, 4, 4]"),
        (pool(PoolKind::Max, 3, 2, 1, true), vec![b([4, 8])], "[B, 4, 5]"),
        // The third window would start in the border behind the end.
        (pool(PoolKind::Max, 2, 2, 1, true), vec![b([4, 3])], "[B, 4, 2]"),
        (Op::AdaptiveAvgPool { size: vec![1, 1] }, vec![b([4, 8, 8])], "[B, 4, 1, 1]"),
        (Op::Reduce { kind: Reduction::Mean, axes: Some(vec![0, 2]) }, vec![b([4, 8])], "[1, 4, 1]"),
        (Op::Reduce { kind: Reduction::Sum, axes: None }, vec![b([4, 8])], "[1]"),
        (Op::Reduce { kind: Reduction::ArgMax, axes: Some(vec![1]) }, vec![b([4])], "int [B, 1]"),
        (Op::Full { shape: Shape::batched([2]), value: Scalar::Bool(true) }, vec![], "bool [B, 2]"),
    ];
    for (op, inputs, wanted) in cases {
        assert_eq!(infer(&op, &inputs).map(|output| output.to_string()).as_deref(), Ok(wanted), "{op:?}");
    }
}

/// Operations that do not fit their inputs, and what the message must say.
#[test]
fn what_does_not_fit_is_refused_with_the_sizes_at_fault() {
    let int = TensorType::int(Shape::batched([4]));
    let cases: Vec<(Op, Vec<TensorType>, &str)> = vec![
        (conv2d(1, 1, 1), vec![b([3, 8, 8])], "2 or 3 inputs, not 1"),
        (
            conv2d(1, 1, 1),
            vec![b([4, 8, 8]), fixed([16, 3, 3, 3])],
            "4 channels in 1 groups do not fit a weight for 3",
        ),
        (conv2d(1, 0, 1), vec![b([3, 2, 2]), fixed([16, 3, 3, 3])], "a window of 3"),
        (conv2d(0, 0, 1), vec![b([3, 4, 4]), fixed([16, 3, 3, 3])], "stride 0"),
        (conv2d(1, 0, 0), vec![b([3, 4, 4]), fixed([16, 3, 3, 3])], "groups must be at least 1"),
        (
            conv2d(1, 0, 1),
            vec![b([3, 4, 4]), fixed([16, 3, 3, 3]), fixed([8])],
            "the bias must be [16], not [8]",
        ),
        (Op::Linear, vec![b([5]), fixed([4, 2])], "5 features do not fit a weight for 4"),
        (Op::Matmul, vec![b([3, 4]), b([5, 6])], "4 columns do not fit 5 rows"),
        (Op::Embedding, vec![fixed([9, 4]), b([7])], "the indices must be int"),
        (Op::GroupNorm { groups: 3, epsilon: 1e-5 }, vec![b([4, 3])], "4 channels do not divide into 3"),
        (Op::Binary(Binary::Add), vec![b([4]), fixed([3, 4])], "axis 0 is B in one and 3"),
        (Op::Binary(Binary::Add), vec![b([4]), int.clone()], "not defined for float and int"),
        (Op::Literal { op: Binary::Add, value: Scalar::Float(0.5) }, vec![int], "the literal 0.5"),
        (Op::Clamp { min: 1.0, max: f64::NAN }, vec![b([4])], "bounds 1 and NaN"),
        (
            Op::Reshape { shape: Shape::fixed([8]) },
            vec![b([4])],
            "[8] does not hold as many elements as [B, 4]",
        ),
        (Op::Permute { axes: vec![0, 0] }, vec![b([4])], "does not name every axis"),
        (Op::Repeat { axis: 0, times: Batch(1) }, vec![b([4])], "square of the batch"),
        (Op::Cat { axis: 0 }, vec![b([4]), fixed([1, 4])], "neither fixed nor a multiple"),
        (Op::Cat { axis: 1 }, vec![b([4, 2]), b([4, 3])], "differ beside axis 1"),
        (
            Op::Slice { ranges: vec![Range::all(Batch(1)), Range::all(Fixed(5))] },
            vec![b([4])],
            "leaves its size 4",
        ),
        (Op::Slice { ranges: vec![range(Fixed(1), Batch(1), 1)] }, vec![dims(&[Batch(1)])], "neither fixed"),
        (Op::Slice { ranges: vec![range(Fixed(3), Fixed(1), 1)] }, vec![fixed([4])], "ends before it starts"),
        (
            Op::Slice { ranges: vec![range(Fixed(0), Fixed(1), 0)] },
            vec![fixed([4])],
            "step along axis 0 is 0",
        ),
        (Op::Pad { padding: vec![(1, 0), (0, 0)], mode: PadMode::Edge }, vec![b([4])], "neither fixed nor"),
        (Op::Reduce { kind: Reduction::Sum, axes: Some(vec![2]) }, vec![b([4])], "no axis 2 of 2"),
        (Op::Reduce { kind: Reduction::ArgMax, axes: None }, vec![b([4])], "along one axis"),
        (Op::Parameter { role: Role::Weight, aliases: vec![] }, vec![], "Graph::parameter"),
    ];
    for (op, inputs, wanted) in cases {
        let message = infer(&op, &inputs).expect_err(&format!("{op:?}")).to_string();
        assert!(message.contains(wanted), "{op:?}: {message}");
    }
}

/// `x -> fc -> relu`.
fn small() -> Graph {
    let mut graph = Graph::new();
    let x = graph.input("x", b([4])).unwrap();
    let weight = graph.parameter("fc.weight", Role::Weight, TensorData::zeros::<f32, _>([4, 2])).unwrap();
    let fc = graph.add("fc", Op::Linear, &[x, weight]).unwrap();
    let relu = graph.add("relu", Op::Activation(Activation::Relu), &[fc]).unwrap();
    graph.set_outputs(&[relu]).unwrap();
    graph
}

#[test]
fn a_graph_that_contradicts_itself_is_found_out() {
    small().validate().unwrap();
    type Harm = fn(&mut Graph, NodeId);
    let harms: [(&str, Harm); 9] = [
        ("comes later", |graph, _| graph.order.swap(2, 3)),
        ("twice", |graph, fc| graph.order.push(fc)),
        ("missing from the order", |graph, _| {
            graph.order.pop();
        }),
        ("tensor is missing", |graph, _| graph.values.clear()),
        ("called `fc` exists", |graph, _| graph.nodes.get_mut(&NodeId(3)).unwrap().name = "fc".into()),
        ("said to be [B, 3]", |graph, fc| graph.nodes.get_mut(&fc).unwrap().output = b([3])),
        ("do not fit", |graph, _| graph.nodes.get_mut(&NodeId(0)).unwrap().output = b([3])),
        ("among the graph's inputs", |graph, fc| graph.inputs.push(fc)),
        ("not in this graph", |graph, _| graph.outputs.push(NodeId(99))),
    ];
    for (wanted, harm) in harms {
        let mut graph = small();
        let fc = graph.find("fc").unwrap();
        harm(&mut graph, fc);
        let message = graph.validate().expect_err(wanted).to_string();
        assert!(message.contains(wanted), "{wanted}: {message}");
    }
}

#[test]
fn a_custom_operation_brings_its_type() {
    let mut graph = small();
    let relu = graph.find("relu").unwrap();
    let op = Op::Custom { name: "sort".into(), attributes: vec![] };
    assert!(graph.add("sort", op.clone(), &[relu]).is_err());
    graph.add_typed("sort", op, &[relu], b([2])).unwrap();
    graph.validate().unwrap();
    assert!(graph.add_typed("no", Op::Linear, &[relu], b([2])).is_err());
}
