//! Windows and images of other sizes.

use burn::tensor::module::{
    adaptive_avg_pool1d, adaptive_avg_pool2d, avg_pool1d, avg_pool2d, interpolate, max_pool1d, max_pool2d,
};
use burn::tensor::ops::{AvgPoolOptions, InterpolateMode as Burn, InterpolateOptions, MaxPoolOptions};
use kd_graph::{InterpolateMode, Op, Pool, PoolKind};

use crate::support::{Arg::*, B, same};

fn pool(kind: PoolKind, axes: usize, dilation: usize, ceil: bool) -> Op {
    Op::Pool(Pool {
        kind,
        kernel: vec![3; axes],
        stride: vec![2; axes],
        padding: vec![1; axes],
        dilation: vec![dilation; axes],
        ceil,
    })
}

#[test]
fn max_pooling_over_one_and_two_axes() {
    for ceil in [false, true] {
        same(pool(PoolKind::Max, 1, 1, ceil), &[Input(vec![B, 2, 9])], |v| {
            let options = MaxPoolOptions {
                stride: [2],
                padding: [(1, 1)],
                dilation: [1],
                ceil_mode: ceil,
                ..MaxPoolOptions::new([3])
            };
            max_pool1d(v[0].float().unwrap(), options).into()
        });
        same(pool(PoolKind::Max, 2, 2, ceil), &[Input(vec![B, 2, 9, 8])], |v| {
            let options = MaxPoolOptions {
                stride: [2; 2],
                padding: [(1, 1); 2],
                dilation: [2; 2],
                ceil_mode: ceil,
                ..MaxPoolOptions::new([3; 2])
            };
            max_pool2d(v[0].float().unwrap(), options).into()
        });
    }
}

#[test]
fn average_pooling_over_one_and_two_axes() {
    for (count, ceil) in [(true, false), (false, false), (false, true)] {
        let kind = PoolKind::Average { count_padding: count };
        same(pool(kind, 1, 1, ceil), &[Input(vec![B, 2, 9])], |v| {
            let options = AvgPoolOptions {
                stride: [2],
                padding: [(1, 1)],
                count_include_pad: count,
                ceil_mode: ceil,
                ..AvgPoolOptions::new([3])
            };
            avg_pool1d(v[0].float().unwrap(), options).into()
        });
        same(pool(kind, 2, 1, ceil), &[Input(vec![B, 2, 9, 8])], |v| {
            let options = AvgPoolOptions {
                stride: [2; 2],
                padding: [(1, 1); 2],
                count_include_pad: count,
                ceil_mode: ceil,
                ..AvgPoolOptions::new([3; 2])
            };
            avg_pool2d(v[0].float().unwrap(), options).into()
        });
    }
}

#[test]
fn adaptive_pooling() {
    same(Op::AdaptiveAvgPool { size: vec![3] }, &[Input(vec![B, 2, 8])], |v| {
        adaptive_avg_pool1d(v[0].float().unwrap(), 3).into()
    });
    same(Op::AdaptiveAvgPool { size: vec![1, 1] }, &[Input(vec![B, 2, 8, 7])], |v| {
        adaptive_avg_pool2d(v[0].float().unwrap(), [1, 1]).into()
    });
}

#[test]
fn interpolation_that_burn_can_differentiate_and_that_it_cannot() {
    for (mode, burn) in [
        (InterpolateMode::Nearest, Burn::Nearest),
        (InterpolateMode::Bilinear, Burn::Bilinear),
        (InterpolateMode::Bicubic, Burn::Bicubic),
    ] {
        for align_corners in [false, true] {
            let op = Op::Interpolate { size: [7, 5], mode, align_corners };
            let native = |v: &[kd_graph::Value]| {
                let options = InterpolateOptions::new(burn.clone())
                    .with_align_corners(align_corners)
                    .with_output_size([7, 5]);
                interpolate(v[0].float().unwrap(), options).into()
            };
            if mode == InterpolateMode::Nearest {
                same(op, &[Input(vec![B, 2, 4, 3])], native);
            } else {
                crate::support::same_without_gradient(op, &[Input(vec![B, 2, 4, 3])], native);
            }
        }
    }
}
