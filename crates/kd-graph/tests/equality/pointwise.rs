//! Functions of every element.

use crate::model::burns;
use burn::tensor::{Bool, FloatDType, Int, IntDType, Tensor};
use kd_graph::{Binary, Kind, Op, Scalar, Unary, Value};

use crate::support::{Arg::*, B, same};

#[test]
fn every_function_of_one_float() {
    type Native = fn(Tensor<2>) -> Tensor<2>;
    let cases: Vec<(Unary, Native)> = vec![
        (Unary::Neg, |x| x.neg()),
        (Unary::Abs, |x| x.abs()),
        (Unary::Sign, |x| x.sign()),
        (Unary::Exp, |x| x.exp()),
        (Unary::Log, |x| x.log()),
        (Unary::Log1p, |x| x.log1p()),
        (Unary::Sqrt, |x| x.sqrt()),
        (Unary::Recip, |x| x.recip()),
        (Unary::Erf, |x| x.erf()),
        (Unary::Sin, |x| x.sin()),
        (Unary::Cos, |x| x.cos()),
        (Unary::Tan, |x| x.tan()),
        (Unary::Sinh, |x| x.sinh()),
        (Unary::Cosh, |x| x.cosh()),
        (Unary::Asin, |x| x.asin()),
        (Unary::Acos, |x| x.acos()),
        (Unary::Atan, |x| x.atan()),
        (Unary::Asinh, |x| x.asinh()),
        (Unary::Acosh, |x| x.acosh()),
        (Unary::Atanh, |x| x.atanh()),
        (Unary::Round, |x| x.round()),
        (Unary::Floor, |x| x.floor()),
        (Unary::Ceil, |x| x.ceil()),
        (Unary::Trunc, |x| x.trunc()),
    ];
    for (op, native) in cases {
        same(Op::Unary(op), &[Positive(vec![B, 5])], |v| native(v[0].float().unwrap()).into());
    }
    same(Op::Unary(Unary::IsNan), &[Input(vec![B, 5])], |v| v[0].float::<2>().unwrap().is_nan().into());
    same(Op::Unary(Unary::IsInf), &[Input(vec![B, 5])], |v| v[0].float::<2>().unwrap().is_inf().into());
}

#[test]
fn functions_of_one_integer_or_truth_value() {
    let int = || [Ints(vec![B, 5], 9)];
    same(Op::Unary(Unary::Neg), &int(), |v| v[0].int::<2>().unwrap().neg().into());
    same(Op::Unary(Unary::Abs), &int(), |v| v[0].int::<2>().unwrap().abs().into());
    same(Op::Unary(Unary::Sign), &int(), |v| v[0].int::<2>().unwrap().sign().into());
    same(Op::Unary(Unary::Not), &int(), |v| v[0].int::<2>().unwrap().bitwise_not().into());
    same(Op::Unary(Unary::Not), &[Bools(vec![B, 5])], |v| v[0].bool::<2>().unwrap().bool_not().into());
}

#[test]
fn every_function_of_two_floats_broadcasts() {
    type Native = fn(Tensor<3>, Tensor<3>) -> Value;
    let cases: Vec<(Binary, Native)> = vec![
        (Binary::Add, |a, b| (a + b).into()),
        (Binary::Sub, |a, b| (a - b).into()),
        (Binary::Mul, |a, b| (a * b).into()),
        (Binary::Div, |a, b| (a / b).into()),
        (Binary::Rem, |a, b| a.remainder(b).into()),
        (Binary::Pow, |a, b| a.powf(b).into()),
        (Binary::Min, |a, b| a.min_pair(b).into()),
        (Binary::Max, |a, b| a.max_pair(b).into()),
        (Binary::Atan2, |a, b| a.atan2(b).into()),
        (Binary::Equal, |a, b| a.equal(b).into()),
        (Binary::NotEqual, |a, b| a.not_equal(b).into()),
        (Binary::Greater, |a, b| a.greater(b).into()),
        (Binary::GreaterEqual, |a, b| a.greater_equal(b).into()),
        (Binary::Lower, |a, b| a.lower(b).into()),
        (Binary::LowerEqual, |a, b| a.lower_equal(b).into()),
    ];
    for (op, native) in cases {
        let wide = [Positive(vec![B, 3, 4]), Positive(vec![B, 3, 4])];
        same(Op::Binary(op), &wide, |v| native(v[0].float().unwrap(), v[1].float().unwrap()));
        if matches!(op, Binary::Min | Binary::Max | Binary::Rem | Binary::Atan2) {
            continue; // burn does not broadcast these
        }
        let narrow = [Positive(vec![B, 3, 4]), Positive(vec![1, 3, 1])];
        same(Op::Binary(op), &narrow, |v| native(v[0].float().unwrap(), v[1].float().unwrap()));
    }
}

#[test]
fn functions_of_two_integers_or_truth_values() {
    type Native = fn(Tensor<2, Int>, Tensor<2, Int>) -> Value;
    let cases: Vec<(Binary, Native)> = vec![
        (Binary::Add, |a, b| (a + b).into()),
        (Binary::Sub, |a, b| (a - b).into()),
        (Binary::Mul, |a, b| (a * b).into()),
        (Binary::Min, |a, b| a.min_pair(b).into()),
        (Binary::Max, |a, b| a.max_pair(b).into()),
        (Binary::And, |a, b| a.bitwise_and(b).into()),
        (Binary::Or, |a, b| a.bitwise_or(b).into()),
        (Binary::Xor, |a, b| a.bitwise_xor(b).into()),
        (Binary::Equal, |a, b| a.equal(b).into()),
        (Binary::NotEqual, |a, b| a.not_equal(b).into()),
        (Binary::Greater, |a, b| a.greater(b).into()),
        (Binary::GreaterEqual, |a, b| a.greater_equal(b).into()),
        (Binary::Lower, |a, b| a.lower(b).into()),
        (Binary::LowerEqual, |a, b| a.lower_equal(b).into()),
    ];
    for (op, native) in cases {
        let args = [Ints(vec![B, 4], 7), Ints(vec![B, 4], 5)];
        same(Op::Binary(op), &args, |v| native(v[0].int().unwrap(), v[1].int().unwrap()));
    }
    type Logic = fn(Tensor<2, Bool>, Tensor<2, Bool>) -> Tensor<2, Bool>;
    let cases: Vec<(Binary, Logic)> = vec![
        (Binary::And, |a, b| a.bool_and(b)),
        (Binary::Or, |a, b| a.bool_or(b)),
        (Binary::Xor, |a, b| a.bool_xor(b)),
        (Binary::Equal, |a, b| a.equal(b)),
        (Binary::NotEqual, |a, b| a.not_equal(b)),
    ];
    for (op, native) in cases {
        let args = [Bools(vec![B, 4]), Bools(vec![B, 4])];
        same(Op::Binary(op), &args, |v| native(v[0].bool().unwrap(), v[1].bool().unwrap()).into());
    }
}

#[test]
fn literals_on_the_right() {
    type Native = fn(Tensor<2>) -> Value;
    let cases: Vec<(Binary, Scalar, Native)> = vec![
        (Binary::Add, Scalar::Float(1.5), |a| (a + 1.5).into()),
        (Binary::Sub, Scalar::Int(2), |a| (a - 2).into()),
        (Binary::Mul, Scalar::Float(0.044715), |a| (a * 0.044715).into()),
        (Binary::Div, Scalar::Float(3.0), |a| (a / 3.0).into()),
        (Binary::Rem, Scalar::Float(0.7), |a| a.remainder_scalar(0.7).into()),
        (Binary::Pow, Scalar::Float(1.7), |a| a.powf_scalar(1.7).into()),
        (Binary::Pow, Scalar::Float(3.0), |a| a.powf_scalar(3.0).into()),
        (Binary::Pow, Scalar::Int(2), |a| a.powi_scalar(2).into()),
        (Binary::Pow, Scalar::Int(5), |a| a.powi_scalar(5).into()),
        (Binary::Min, Scalar::Float(1.0), |a| a.clamp_max(1.0).into()),
        (Binary::Max, Scalar::Float(1.0), |a| a.clamp_min(1.0).into()),
        (Binary::Equal, Scalar::Float(1.0), |a| a.equal_elem(1.0).into()),
        (Binary::NotEqual, Scalar::Float(1.0), |a| a.not_equal_elem(1.0).into()),
        (Binary::Greater, Scalar::Float(1.0), |a| a.greater_elem(1.0).into()),
        (Binary::GreaterEqual, Scalar::Float(1.0), |a| a.greater_equal_elem(1.0).into()),
        (Binary::Lower, Scalar::Float(1.0), |a| a.lower_elem(1.0).into()),
        (Binary::LowerEqual, Scalar::Float(1.0), |a| a.lower_equal_elem(1.0).into()),
    ];
    for (op, value, native) in cases {
        same(Op::Literal { op, value }, &[Positive(vec![B, 6])], |v| native(v[0].float().unwrap()));
    }
    let int = |op, value| Op::Literal { op, value: Scalar::Int(value) };
    same(int(Binary::Add, 3), &[Ints(vec![B, 4], 9)], |v| (v[0].int::<2>().unwrap() + 3).into());
    same(int(Binary::Div, 2), &[Ints(vec![B, 4], 9)], |v| (v[0].int::<2>().unwrap() / 2).into());
    same(int(Binary::Greater, 4), &[Ints(vec![B, 4], 9)], |v| {
        v[0].int::<2>().unwrap().greater_elem(4).into()
    });
}

#[test]
fn clamps_choices_and_fills() {
    same(Op::Clamp { min: -0.5, max: 0.5 }, &[Input(vec![B, 6])], |v| {
        v[0].float::<2>().unwrap().clamp(-0.5, 0.5).into()
    });
    same(Op::Clamp { min: 2.0, max: 5.0 }, &[Ints(vec![B, 6], 9)], |v| {
        v[0].int::<2>().unwrap().clamp(2, 5).into()
    });
    same(Op::Where, &[Input(vec![B, 6]), Bools(vec![B, 6]), Input(vec![B, 6])], |v| {
        v[0].float::<2>().unwrap().mask_where(v[1].bool().unwrap(), v[2].float().unwrap()).into()
    });
    same(Op::MaskFill { value: Scalar::Float(-1e9) }, &[Input(vec![B, 6]), Bools(vec![B, 6])], |v| {
        v[0].float::<2>().unwrap().mask_fill(v[1].bool().unwrap(), -1e9).into()
    });
    same(Op::MaskFill { value: Scalar::Int(7) }, &[Ints(vec![B, 6], 9), Bools(vec![B, 6])], |v| {
        v[0].int::<2>().unwrap().mask_fill(v[1].bool().unwrap(), 7).into()
    });
}

#[test]
fn casts_between_all_kinds_and_precisions() {
    let cast = |kind, precision: Option<&str>| Op::Cast { kind, precision: precision.map(str::to_owned) };
    same(cast(Kind::Int, None), &[Input(vec![B, 4])], |v| v[0].float::<2>().unwrap().int().into());
    same(cast(Kind::Float, None), &[Ints(vec![B, 4], 9)], |v| v[0].int::<2>().unwrap().float().into());
    same(cast(Kind::Float, None), &[Bools(vec![B, 4])], |v| v[0].bool::<2>().unwrap().float().into());
    same(cast(Kind::Int, None), &[Bools(vec![B, 4])], |v| v[0].bool::<2>().unwrap().int().into());
    same(cast(Kind::Int, Some("i32")), &[Ints(vec![B, 4], 9)], |v| {
        v[0].int::<2>().unwrap().cast(IntDType::I32).into()
    });
    let there_and_back = kd_graph_of_two(cast(Kind::Float, Some("f16")), cast(Kind::Float, Some("f32")));
    let device = burn::tensor::Device::flex();
    let x = Tensor::<2>::from_data([[0.1, 1.0 / 3.0]], &device);
    let found: Tensor<2> = burns(there_and_back, &device).unwrap().forward(x.clone()).unwrap();
    let expected = x.cast(FloatDType::F16).cast(FloatDType::F32);
    assert_eq!(found.into_data(), expected.into_data());
}

fn kd_graph_of_two(first: Op, second: Op) -> kd_graph::Graph {
    use kd_graph::{Graph, Shape, TensorType};
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::float(Shape::batched([2]))).unwrap();
    let y = graph.add("first", first, &[x]).unwrap();
    let z = graph.add("second", second, &[y]).unwrap();
    graph.set_outputs(&[z]).unwrap();
    graph
}
