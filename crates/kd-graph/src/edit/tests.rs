#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use burn::tensor::TensorData;

use crate::*;

/// `x -> fc1 -> relu -> fc2`, with `fc1`'s weight read twice.
fn graph() -> Graph {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::float(Shape::batched([4]))).unwrap();
    let weight = graph.parameter("fc1.weight", Role::Weight, TensorData::zeros::<f32, _>([4, 4])).unwrap();
    let fc1 = graph.add("fc1", Op::Linear, &[x, weight]).unwrap();
    let relu = graph.add("relu", Op::Activation(Activation::Relu), &[fc1]).unwrap();
    let fc2 = graph.add("fc2", Op::Linear, &[relu, weight]).unwrap();
    graph.set_outputs(&[fc2, relu]).unwrap();
    graph
}

fn tanh() -> Op {
    Op::Activation(Activation::Tanh)
}

fn names(graph: &Graph) -> Vec<&str> {
    graph.nodes().map(|(_, node)| node.name()).collect()
}

fn reads(graph: &Graph, name: &str) -> Vec<String> {
    let node = graph.node(graph.find(name).unwrap()).unwrap();
    node.inputs().iter().map(|&id| graph.node(id).unwrap().name().to_owned()).collect()
}

#[test]
fn a_node_put_behind_another_takes_over_its_readers_and_outputs() {
    let mut graph = graph();
    let relu = graph.find("relu").unwrap();
    let new = graph.edit(|edit| edit.insert_after(relu, "tanh", tanh(), &[relu])).unwrap();
    assert_eq!(names(&graph), ["x", "fc1.weight", "fc1", "relu", "tanh", "fc2"]);
    assert_eq!(reads(&graph, "fc2"), ["tanh", "fc1.weight"]);
    assert_eq!(graph.outputs()[1], new);
    assert_eq!(graph.node(new).unwrap().output().to_string(), "[B, 4]");
}

#[test]
fn a_node_between_a_parameter_and_one_reader_leaves_the_other_reader_alone() {
    let mut graph = graph();
    let [weight, fc2] = ["fc1.weight", "fc2"].map(|name| graph.find(name).unwrap());
    graph
        .edit(|edit| {
            let ones = TensorData::ones::<f32, _>([4, 4]);
            let mask = edit.add_parameter("fc2.mask", Role::Buffer, ones)?;
            edit.insert_between(weight, fc2, "fc2.masked", Op::Binary(Binary::Mul), &[weight, mask])
        })
        .unwrap();
    assert_eq!(reads(&graph, "fc1"), ["x", "fc1.weight"]);
    assert_eq!(reads(&graph, "fc2"), ["relu", "fc2.masked"]);
    assert_eq!(names(&graph)[4..], ["fc2.mask", "fc2.masked", "fc2"]);
}

#[test]
fn a_node_before_an_input_reads_what_was_read_there() {
    let mut graph = graph();
    let fc2 = graph.find("fc2").unwrap();
    graph.edit(|edit| edit.insert_before(fc2, 1, "bounded", tanh(), &[])).unwrap();
    assert_eq!(reads(&graph, "bounded"), ["fc1.weight"]);
    assert_eq!(reads(&graph, "fc2"), ["relu", "bounded"]);
}

#[test]
fn readers_of_a_removed_node_read_its_first_input() {
    let mut graph = graph();
    let relu = graph.find("relu").unwrap();
    graph.edit(|edit| edit.remove(relu)).unwrap();
    assert_eq!(reads(&graph, "fc2"), ["fc1", "fc1.weight"]);
    assert_eq!(graph.outputs()[1], graph.find("fc1").unwrap());
    assert_eq!(graph.node(relu).unwrap_err(), GraphError::UnknownNode { id: relu });
}

#[test]
fn names_operations_and_tensors_are_changed_together() {
    let mut graph = graph();
    let [weight, relu] = ["fc1.weight", "relu"].map(|name| graph.find(name).unwrap());
    graph
        .edit(|edit| {
            edit.rename(relu, "act")?;
            edit.set_op(relu, tanh())?;
            edit.set_value(weight, TensorData::ones::<f32, _>([4, 4]))
        })
        .unwrap();
    assert_eq!(graph.node(graph.find("act").unwrap()).unwrap().op(), &tanh());
    assert_eq!(graph.value(weight).unwrap().as_slice::<f32>().unwrap()[0], 1.0);
    assert!(graph.find("relu").is_err());
}

#[test]
fn shapes_behind_a_changed_parameter_follow() {
    let mut graph = graph();
    let [relu, fc2] = ["relu", "fc2"].map(|name| graph.find(name).unwrap());
    graph
        .edit(|edit| {
            let wide = edit.add_parameter("wide", Role::Weight, TensorData::zeros::<f32, _>([4, 9]))?;
            edit.replace(fc2, Op::Linear, &[relu, wide])
        })
        .unwrap();
    assert_eq!(graph.node(fc2).unwrap().output().to_string(), "[B, 9]");
}

#[test]
fn a_refused_edit_leaves_the_graph_as_it_was() {
    type Change = fn(&mut Edit, [NodeId; 4]) -> Result<(), GraphError>;
    let changes: [(&str, Change); 11] = [
        ("own result", |edit, [_, fc1, relu, _]| edit.rewire(fc1, 0, relu)),
        ("no input 2 of 2", |edit, [_, fc1, relu, _]| edit.rewire(fc1, 2, relu)),
        ("do not fit a weight for 3", |edit, [weight, ..]| {
            edit.set_value(weight, TensorData::zeros::<f32, _>([3, 4]))
        }),
        ("holds no tensor", |edit, [_, fc1, ..]| edit.set_value(fc1, TensorData::zeros::<f32, _>([3, 4]))),
        ("still read by fc1", |edit, [weight, ..]| edit.remove(weight)),
        ("called `fc1` exists", |edit, [_, _, relu, _]| edit.rename(relu, "fc1")),
        ("does not become", |edit, [weight, ..]| edit.set_op(weight, Op::Linear)),
        ("linear takes 2 or 3 inputs, not 1", |edit, [_, _, relu, _]| edit.set_op(relu, Op::Linear)),
        ("not a matter of choice", |edit, [_, fc1, ..]| {
            edit.set_type(fc1, TensorType::float(Shape::batched([9])))
        }),
        ("does not read `fc1`", |edit, [_, fc1, relu, fc2]| {
            edit.insert_between(fc1, fc2, "new", Op::Activation(Activation::Tanh), &[fc1, relu]).map(drop)
        }),
        ("Edit::set_type", |edit, [_, _, relu, _]| {
            let op = Op::Custom { name: "sort".into(), attributes: vec![] };
            edit.insert_after(relu, "sort", op, &[relu]).map(drop)
        }),
    ];
    for (wanted, change) in changes {
        let mut graph = graph();
        let before = graph.clone();
        let nodes = ["fc1.weight", "fc1", "relu", "fc2"].map(|name| graph.find(name).unwrap());
        let message = graph
            .edit(|edit| {
                edit.rename(nodes[3], "renamed")?;
                change(edit, nodes)
            })
            .expect_err(wanted)
            .to_string();
        assert!(message.contains(wanted), "{wanted}: {message}");
        assert_eq!(graph, before, "{wanted}");
    }
}

#[test]
fn dropout_is_put_back_by_name() {
    let mut graph = graph();
    graph.put_dropout_back("relu", 0.5).unwrap();
    assert_eq!(reads(&graph, "fc2"), ["relu.dropout", "fc1.weight"]);
    assert!(graph.put_dropout_back("rely", 0.5).unwrap_err().to_string().contains("`relu`"));
    assert!(graph.put_dropout_back("fc1", 1.5).unwrap_err().to_string().contains("0..=1"));
}
