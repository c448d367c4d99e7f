//! Sums of codes against plain arithmetic.

use burn::tensor::{Device, Tensor};
use kd_graph::{Activation, Binary, Graph, Op};
use kd_quant::Grid;
use kd_quant::integer::{Format, IntegerNetwork, IntegerSettings, Requantization, add};

use crate::nets::{format, placed};
use crate::reference::{check, code, codes, input, network, number, requantised, run, same, spread};

const SHAPE: [usize; 4] = [3, 5, 4, 7];

fn formats() -> (Grid, Grid) {
    (Grid::unsigned(8).unwrap(), Grid::signed(8).unwrap())
}

/// The sum of two inputs, rectified or not, in codes.
fn graph(a: Format, b: Format, y: Format, rectified: bool) -> Graph {
    let mut graph = Graph::new();
    let (x, z) = (input(&mut graph, "a", SHAPE), input(&mut graph, "b", SHAPE));
    let mut last = graph.add("sum", Op::Binary(Binary::Add), &[x, z]).unwrap();
    if rectified {
        last = graph.add("relu", Op::Activation(Activation::Relu), &[last]).unwrap();
    }
    graph.set_outputs(&[last]).unwrap();
    placed(&graph, &[], &[("a", a), ("b", b), (if rectified { "relu" } else { "sum" }, y)])
}

/// All codes of a sum, by this rule, from the network and from [`add`].
fn compare(a: Format, b: Format, y: Format, sum: impl Fn(i32, i32) -> i32) {
    let (x, z) = (spread(SHAPE, a, 1), spread(SHAPE, b, 2));
    let (qx, qz) = (codes(&x, a), codes(&z, b));
    let wanted: Vec<i32> = qx.iter().zip(&qz).map(|(&x, &z)| sum(x, z)).collect();
    let what = format!("{a:?} + {b:?} = {y:?}");
    same(&add((&qx, a.codes), (&qz, b.codes), y.codes, y.grid).unwrap(), &wanted, &what);
    for rectified in [false, true] {
        let least = if rectified { y.codes.zero_point } else { i32::MIN };
        let wanted: Vec<i32> = wanted.iter().map(|&code| code.max(least)).collect();
        let network = network(&graph(a, b, y, rectified));
        assert_eq!(network.float_nodes(), [], "{what}");
        check(&run(&network, &[(&x, SHAPE), (&z, SHAPE)]), &wanted, y, &what);
    }
}

#[test]
fn codes_of_one_scale_are_accumulated_and_requantised_once() {
    let (unsigned, signed) = formats();
    for (x, y) in [
        // Every other sum is a tie.
        (format(unsigned, 0.5, 7), format(unsigned, 1.0, 9)),
        // Again, which numbers in f32 would miss.
        (format(signed, 0.1, -3), format(signed, 0.2, 4)),
        // Saturates at both ends.
        (format(signed, 0.1, 0), format(signed, 0.013, 11)),
    ] {
        compare(x, x, y, |a, b| {
            let sum = (a - x.codes.zero_point) + (b - x.codes.zero_point);
            requantised(sum, x.codes.scale / y.codes.scale, y)
        });
    }
}

#[test]
fn codes_of_different_scales_meet_as_numbers() {
    let (unsigned, signed) = formats();
    for (a, b, y) in [
        (format(unsigned, 0.5, 7), format(signed, 0.25, -9), format(unsigned, 0.5, 3)),
        (format(unsigned, 0.037, 128), format(unsigned, 0.0713, 120), format(signed, 0.06, -2)),
        (format(signed, 0.1, 0), format(signed, 0.1, 5), format(signed, 0.013, 0)),
        // Next to ties, which products with an inverse would miss.
        (format(signed, 0.15, 0), format(unsigned, 0.3, 20), format(unsigned, 0.3, 100)),
    ] {
        compare(a, b, y, |p, q| code(number(p, a) + number(q, b), y));
    }
}

#[test]
fn in_fixed_point_sums_of_different_scales_stay_in_float() {
    let (unsigned, signed) = formats();
    // The result's scale is below one: as a multiplier of numbers its inverse would not fit.
    let (a, b, y) = (format(unsigned, 0.02, 7), format(signed, 0.03, 0), format(unsigned, 0.05, 3));
    let graph = graph(a, b, y, false);
    let settings =
        IntegerSettings { requantization: Requantization::FixedPoint, ..IntegerSettings::default() };
    let fixed = IntegerNetwork::<Tensor<4>>::with_settings(&graph, &Device::flex(), settings).unwrap();
    let (x, z) = (spread(SHAPE, a, 1), spread(SHAPE, b, 2));
    let inputs = [(&x[..], SHAPE), (&z[..], SHAPE)];
    assert_eq!(run(&fixed, &inputs), run(&network(&graph), &inputs));
}
