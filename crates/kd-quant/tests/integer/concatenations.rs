//! Concatenations of codes against plain arithmetic, and the scales that their inputs share.

use burn::tensor::{Device, Tensor, TensorData};
use kd_graph::{Activation, Conv, Graph, NodeId, Op, Role, Value};
use kd_quant::Grid;
use kd_quant::integer::{Format, IntegerNetwork, LinearCodes, rescale};
use kd_quant::plan::{PlanSettings, QuantPlan, Quantizer, initialise, sites};

use crate::nets::{format, numbers, placed};
use crate::reference::{check, code, codes, input, network, number, run, spread};

const SHAPE: [usize; 4] = [2, 3, 4, 5];

/// The inputs `a` and `b`, of these sizes, one behind the other.
fn graph(axis: usize, shapes: [[usize; 4]; 2]) -> Graph {
    let mut graph = Graph::new();
    let parts = [input(&mut graph, "a", shapes[0]), input(&mut graph, "b", shapes[1])];
    let cat = graph.add("cat", Op::Cat { axis }, &parts).unwrap();
    graph.set_outputs(&[cat]).unwrap();
    graph
}

/// Two tensors one behind the other along an axis, element by element.
fn joined(axis: usize, shapes: [[usize; 4]; 2], parts: [&[i32]; 2]) -> Vec<i32> {
    let mut shape = shapes[0];
    shape[axis] += shapes[1][axis];
    let element = |i: usize| {
        let mut at = [0; 4];
        let mut rest = i;
        for axis in (0..4).rev() {
            at[axis] = rest % shape[axis];
            rest /= shape[axis];
        }
        let part = usize::from(at[axis] >= shapes[0][axis]);
        at[axis] -= part * shapes[0][axis];
        parts[part][(0..4).fold(0, |index, axis| index * shapes[part][axis] + at[axis])]
    };
    (0..shape.iter().product()).map(element).collect()
}

fn twice(axis: usize) -> [[usize; 4]; 2] {
    let mut other = SHAPE;
    other[axis] += 2;
    [SHAPE, other]
}

#[test]
fn codes_of_one_scale_lie_one_behind_the_other_unchanged() {
    let of = format(Grid::unsigned(8).unwrap(), 0.037, 93);
    for axis in 1..4 {
        let shapes = twice(axis);
        let network = network(&placed(&graph(axis, shapes), &[], &[("a", of), ("b", of)]));
        assert_eq!(network.float_nodes(), []);
        let (a, b) = (spread(shapes[0], of, 1), spread(shapes[1], of, 2));
        let wanted = joined(axis, shapes, [&codes(&a, of), &codes(&b, of)]);
        check(&run(&network, &[(&a, shapes[0]), (&b, shapes[1])]), &wanted, of, &format!("axis {axis}"));
    }
}

#[test]
fn codes_of_different_scales_are_brought_to_the_results_by_way_of_numbers() {
    let unsigned = Grid::unsigned(8).unwrap();
    let (a, b) = (format(unsigned, 0.5, 3), format(Grid::signed(8).unwrap(), 0.037, -7));
    let y = format(unsigned, 0.25, 40);
    let shapes = twice(1);
    let network = network(&placed(&graph(1, shapes), &[], &[("a", a), ("b", b), ("cat", y)]));
    let [float] = network.float_nodes() else { panic!("{:?}", network.float_nodes()) };
    assert_eq!((float.name.as_str(), float.reason.as_str()), ("cat", "its inputs have different scales"));
    let (xa, xb) = (spread(shapes[0], a, 1), spread(shapes[1], b, 2));
    let moved = |x: &[f32], from: Format| -> Vec<i32> {
        let before = codes(x, from);
        let after: Vec<i32> = before.iter().map(|&q| code(number(q, from), y)).collect();
        assert_eq!(rescale(&before, from.codes, y.codes, y.grid), after);
        after
    };
    let wanted = joined(1, shapes, [&moved(&xa, a), &moved(&xb, b)]);
    check(&run(&network, &[(&xa, shapes[0]), (&xb, shapes[1])]), &wanted, y, "rescaled");
}

/// A 1x1 convolution, whose weights are about `size`.
fn conv(graph: &mut Graph, name: &str, x: NodeId, [out, inputs]: [usize; 2], size: f32) -> NodeId {
    let weight: Vec<f32> = (0..out * inputs).map(|i| size * (i as f32 * 2.3 + 1.0).sin()).collect();
    let weight = TensorData::new(weight, [out, inputs, 1, 1]);
    let weight = graph.parameter(&format!("{name}.weight"), Role::Weight, weight).unwrap();
    let conv = Conv { stride: vec![1, 1], padding: vec![(0, 0), (0, 0)], dilation: vec![1, 1], groups: 1 };
    graph.add(name, Op::Conv(conv), &[x, weight]).unwrap()
}

/// The same, rectified.
fn layer(graph: &mut Graph, name: &str, x: NodeId, sizes: [usize; 2], size: f32) -> NodeId {
    let y = conv(graph, &format!("{name}.conv"), x, sizes, size);
    graph.add(name, Op::Activation(Activation::Relu), &[y]).unwrap()
}

/// A dense block: every layer reads all results before it. What the second layer adds is fifty times larger.
fn dense() -> Graph {
    let mut graph = Graph::new();
    let x = input(&mut graph, "x", SHAPE);
    let stem = layer(&mut graph, "stem", x, [4, 3], 0.5);
    let one = layer(&mut graph, "one", stem, [2, 4], 0.5);
    let first = graph.add("first", Op::Cat { axis: 1 }, &[stem, one]).unwrap();
    let two = layer(&mut graph, "two", first, [2, 6], 25.0);
    let second = graph.add("second", Op::Cat { axis: 1 }, &[first, two]).unwrap();
    let end = conv(&mut graph, "end", second, [3, 8], 0.5);
    graph.set_outputs(&[second, stem, one, first, two, end]).unwrap();
    graph
}

fn images() -> Vec<Value> {
    let x = format(Grid::signed(8).unwrap(), 0.01, 0);
    vec![Tensor::<4>::from_data(TensorData::new(spread(SHAPE, x, 5), SHAPE), &Device::flex()).into()]
}

#[test]
fn what_is_concatenated_shares_one_scale_and_stays_in_codes() {
    let float = dense();
    for settings in [PlanSettings::int8().unwrap(), PlanSettings::lsq(4).unwrap()] {
        let plan = QuantPlan::new(&float, &settings).unwrap();
        let group = |name: &str| plan.activations[name].group.clone();
        assert!(group("stem").is_some() && group("stem") == group("one"), "{plan}");
        // The first concatenation is itself concatenated: it has its own scale there, with the layer beside it.
        assert!(group("first").is_some() && group("first") == group("two"), "{plan}");
        assert_ne!(group("stem"), group("first"), "{plan}");
        let mut graph = plan.apply(&float).unwrap();
        initialise(&mut graph, &Device::flex(), [images()]).unwrap();
        let format = |name: &str| {
            let node = graph.find(&format!("{name}.quantised")).unwrap();
            let site = sites(&graph).unwrap().into_iter().find(|site| site.node == node).unwrap();
            let value = |index: usize| {
                let &id = site.parameters.get(index)?;
                graph.value(id).unwrap().iter::<f32>().next()
            };
            let grid = match &site.quantizer {
                Quantizer::Uniform(uniform) => uniform.grid,
                Quantizer::Lsq(lsq) => lsq.grid,
                other => panic!("{other}"),
            };
            let codes =
                LinearCodes { scale: value(0).unwrap(), zero_point: value(1).unwrap_or_default() as i32 };
            Format { codes, grid }
        };
        assert_eq!(format("stem"), format("one"));
        assert_eq!(format("first"), format("two"));
        assert_ne!(format("stem"), format("two"), "the larger results are in the second group alone");

        let network = IntegerNetwork::<Tensor<4>>::new(&graph, &Device::flex()).unwrap();
        assert_eq!(network.float_nodes(), []);
        let results = network.run(images()).unwrap();
        let shape = |i: usize| -> [usize; 4] { results[i].shape().try_into().unwrap() };
        let in_codes = |i: usize, name: &str| codes(&numbers(&results[i..]), format(name));
        let (stem, one) = (in_codes(1, "stem"), in_codes(2, "one"));
        let moved = |codes: &[i32], from: Format, to: Format| -> Vec<i32> {
            codes.iter().map(|&q| code(number(q, from), to)).collect()
        };
        // First and then second: side by side in the group's scale, then in the scale of the concatenation's own reader.
        let side = joined(1, [shape(1), shape(2)], [&stem, &one]);
        let first = moved(&side, format("stem"), format("first"));
        assert_eq!(in_codes(3, "first"), first, "{}", settings.weights);
        let side = joined(1, [shape(3), shape(4)], [&first, &in_codes(4, "two")]);
        let second = moved(&side, format("two"), format("second"));
        check(&numbers(&results), &second, format("second"), settings.weights.method());
        let agreement = network.agreement([images()]).unwrap();
        assert!(agreement.steps().greatest <= 1, "{agreement}");
    }
}
