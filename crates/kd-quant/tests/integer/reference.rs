//! The documented arithmetic on codes once more, element by element, sharing nothing with the library.

use std::fmt::Debug;

use burn::tensor::{Device, Tensor, TensorData};
use kd_graph::{Graph, Shape, TensorType, Value};
use kd_quant::integer::{Format, IntegerNetwork};

use crate::nets::numbers;

/// `saturate(round(x / s) + z)`, half to even.
pub fn code(x: f32, of: Format) -> i32 {
    saturate((x / of.codes.scale).round_ties_even() as i32 + of.codes.zero_point, of)
}

/// `(q - z) s`.
pub fn number(code: i32, of: Format) -> f32 {
    (code - of.codes.zero_point) as f32 * of.codes.scale
}

/// `saturate(round(a m) + z)`, half to even.
pub fn requantised(accumulator: i32, multiplier: f32, to: Format) -> i32 {
    saturate((accumulator as f32 * multiplier).round_ties_even() as i32 + to.codes.zero_point, to)
}

fn saturate(code: i32, of: Format) -> i32 {
    code.max(of.grid.min()).min(of.grid.max())
}

pub fn codes(x: &[f32], of: Format) -> Vec<i32> {
    x.iter().map(|&x| code(x, of)).collect()
}

/// A tensor's numbers: in quarters of a step over all codes and somewhat beyond, halves between codes among them, in an order without pattern.
pub fn spread(shape: [usize; 4], of: Format, seed: usize) -> Vec<f32> {
    let steps = (of.grid.max() - of.grid.min()) as usize + 20;
    let lowest = (of.grid.min() - of.codes.zero_point - 10) as f32;
    let quarter = |i: usize| ((i * 7919 + seed * 5003) % (4 * steps)) as f32 / 4.0;
    (0..shape.iter().product()).map(|i| (lowest + quarter(i)) * of.codes.scale).collect()
}

/// An input of a graph, batched.
pub fn input(graph: &mut Graph, name: &str, [_, rest @ ..]: [usize; 4]) -> kd_graph::NodeId {
    graph.input(name, TensorType::float(Shape::batched(rest))).unwrap()
}

pub fn network(graph: &Graph) -> IntegerNetwork<Vec<Tensor<4>>> {
    IntegerNetwork::new(graph, &Device::flex()).unwrap()
}

/// The first result for these inputs.
pub fn run<I>(network: &IntegerNetwork<I>, inputs: &[(&[f32], [usize; 4])]) -> Vec<f32> {
    let value = |(x, shape): &(&[f32], [usize; 4])| -> Value {
        Tensor::<4>::from_data(TensorData::new(x.to_vec(), *shape), &Device::flex()).into()
    };
    numbers(&network.run(inputs.iter().map(value).collect()).unwrap())
}

/// Every number is that of the wanted code, bit for bit.
pub fn check(got: &[f32], wanted: &[i32], of: Format, what: &str) {
    let wanted: Vec<f32> = wanted.iter().map(|&code| number(code, of)).collect();
    same(got, &wanted, what);
}

/// Equal, element by element.
pub fn same<T: PartialEq + Debug>(got: &[T], wanted: &[T], what: &str) {
    assert_eq!(got.len(), wanted.len(), "{what}");
    for (i, (got, wanted)) in got.iter().zip(wanted).enumerate() {
        assert_eq!(got, wanted, "{what}: element {i}");
    }
}
