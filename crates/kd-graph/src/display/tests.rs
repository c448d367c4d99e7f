#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use burn::tensor::TensorData;

use crate::*;

/// A convolution whose result is added to what it read, under a name that markup must escape.
fn residual() -> Graph {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::float(Shape::batched([4, 8, 8]))).unwrap();
    let value = TensorData::zeros::<f32, _>([4, 2, 3, 3]);
    let weight = graph.parameter("conv.weight", Role::Weight, value).unwrap();
    let [stride, dilation] = [vec![1; 2], vec![1; 2]];
    let conv = Conv { stride, padding: vec![(1, 1); 2], dilation, groups: 2 };
    let conv = graph.add("conv", Op::Conv(conv), &[x, weight]).unwrap();
    let relu = graph.add("a<\"b\">&c", Op::Activation(Activation::Relu), &[conv]).unwrap();
    let add = graph.add("add", Op::Binary(Binary::Add), &[relu, x]).unwrap();
    graph.set_outputs(&[add]).unwrap();
    graph
}

#[test]
fn a_table_has_a_line_a_node_with_its_parameters() {
    let text = residual().to_string();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<_> = text.lines().map(words).collect();
    assert_eq!(lines[0], "node operation reads output parameters");
    assert_eq!(lines[3], "conv conv2d 3x3, padding 1, groups 2 x [B, 4, 8, 8] weight [4, 2, 3, 3]");
    assert_eq!(lines[5], "add add a<\"b\">&c, x [B, 4, 8, 8]");
    assert_eq!(lines[6], "outputs: add");
}

#[test]
fn dot_names_nodes_and_shapes() {
    let dot = residual().to_dot();
    assert!(dot.contains(r#"n3 [label="a<\"b\">&c\nrelu"];"#), "{dot}");
    assert!(dot.contains(r#"n0 -> n4 [label="[B, 4, 8, 8]"];"#), "{dot}");
    assert_eq!(dot.matches(" -> ").count(), 4);
}

#[test]
fn a_picture_is_xml_with_a_box_a_node_and_an_arrow_an_edge() {
    let svg = residual().to_svg();
    assert_eq!(svg.matches("class=\"box").count(), 4);
    assert_eq!(svg.matches("class=\"edge\"").count(), 4);
    assert!(svg.contains("a&lt;\"b\"&gt;&amp;c") && !svg.contains("a<"), "{svg}");
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    assert!(Graph::new().to_svg().ends_with("</svg>\n"));
}

#[test]
fn boxes_of_a_layer_do_not_overlap_and_edges_run_downwards() {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::float(Shape::batched([4]))).unwrap();
    let relu = Op::Activation(Activation::Relu);
    let branches: Vec<_> =
        (0..6).map(|i| graph.add(&format!("branch{i}"), relu.clone(), &[x]).unwrap()).collect();
    let cat = graph.add("cat", Op::Cat { axis: 1 }, &branches).unwrap();
    graph.set_outputs(&[cat]).unwrap();
    let picture = super::picture::Picture::new(&graph, |_| 100.0);
    let mut row: Vec<f64> =
        picture.boxes.iter().filter(|b| branches.contains(&b.0)).map(|b| b.1[0]).collect();
    row.sort_by(f64::total_cmp);
    assert!(row.windows(2).all(|pair| pair[1] - pair[0] >= 100.0), "{row:?}");
    assert!(picture.edges.iter().flat_map(|edge| edge.windows(2)).all(|pair| pair[0][1] <= pair[1][1]));
    let inside = |x: f64| (0.0..=picture.size[0]).contains(&x);
    assert!(picture.boxes.iter().all(|b| inside(b.1[0] - 50.0) && inside(b.1[0] + 50.0)));
}
