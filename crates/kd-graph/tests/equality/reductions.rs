//! Elements along axes become one.

use burn::tensor::{Int, Tensor};
use kd_graph::{Op, Reduction, Value};

use crate::support::{Arg::*, B, same};

fn reduce(kind: Reduction, axes: Option<&[usize]>) -> Op {
    Op::Reduce { kind, axes: axes.map(<[usize]>::to_vec) }
}

#[test]
fn floats_along_one_axis() {
    type Native = fn(Tensor<3>) -> Value;
    let cases: Vec<(Reduction, Native)> = vec![
        (Reduction::Sum, |x| x.sum_dim(1).into()),
        (Reduction::Mean, |x| x.mean_dim(1).into()),
        (Reduction::Prod, |x| x.prod_dim(1).into()),
        (Reduction::Max, |x| x.max_dim(1).into()),
        (Reduction::Min, |x| x.min_dim(1).into()),
        (Reduction::MaxAbs, |x| x.max_abs_dim(1).into()),
        (Reduction::ArgMax, |x| x.argmax(1).into()),
        (Reduction::ArgMin, |x| x.argmin(1).into()),
        (Reduction::Any, |x| x.any_dim(1).into()),
        (Reduction::All, |x| x.all_dim(1).into()),
    ];
    for (kind, native) in cases {
        same(reduce(kind, Some(&[1])), &[Positive(vec![B, 5, 3])], |v| native(v[0].float().unwrap()));
    }
}

#[test]
fn floats_along_several_axes_and_all() {
    same(reduce(Reduction::Mean, Some(&[2, 3])), &[Input(vec![B, 2, 3, 4])], |v| {
        v[0].float::<4>().unwrap().mean_dims(&[2, 3]).into()
    });
    same(reduce(Reduction::Sum, Some(&[1, 2])), &[Input(vec![B, 2, 3, 4])], |v| {
        v[0].float::<4>().unwrap().sum_dims(&[1, 2]).into()
    });
    type Native = fn(Tensor<3>) -> Value;
    let cases: Vec<(Reduction, Native)> = vec![
        (Reduction::Sum, |x| x.sum().into()),
        (Reduction::Mean, |x| x.mean().into()),
        (Reduction::Prod, |x| x.prod().into()),
        (Reduction::Max, |x| x.max().into()),
        (Reduction::Min, |x| x.min().into()),
        (Reduction::MaxAbs, |x| x.max_abs().into()),
        (Reduction::Any, |x| x.any().into()),
        (Reduction::All, |x| x.all().into()),
    ];
    for (kind, native) in cases {
        same(reduce(kind, None), &[Positive(vec![B, 3, 2])], |v| native(v[0].float().unwrap()));
    }
}

#[test]
fn integers_and_truth_values() {
    type Native = fn(Tensor<2, Int>) -> Value;
    let cases: Vec<(Reduction, Native)> = vec![
        (Reduction::Sum, |x| x.sum_dim(1).into()),
        (Reduction::Prod, |x| x.prod_dim(1).into()),
        (Reduction::Max, |x| x.max_dim(1).into()),
        (Reduction::Min, |x| x.min_dim(1).into()),
        (Reduction::ArgMax, |x| x.argmax(1).into()),
        (Reduction::ArgMin, |x| x.argmin(1).into()),
        (Reduction::Any, |x| x.any_dim(1).into()),
        (Reduction::All, |x| x.all_dim(1).into()),
    ];
    for (kind, native) in cases {
        same(reduce(kind, Some(&[1])), &[Ints(vec![B, 5], 4)], |v| native(v[0].int().unwrap()));
    }
    same(reduce(Reduction::Any, Some(&[1])), &[Bools(vec![B, 5])], |v| {
        v[0].bool::<2>().unwrap().any_dim(1).into()
    });
    same(reduce(Reduction::All, None), &[Bools(vec![B, 5])], |v| v[0].bool::<2>().unwrap().all().into());
}
