//! Single operations: recorded with their attributes, and of the type that burn gives them.

use burn::module::Module;
use burn::nn::conv::{
    Conv1dConfig, Conv2dConfig, Conv3dConfig, ConvTranspose1dConfig, ConvTranspose2dConfig,
    ConvTranspose3dConfig,
};
use burn::nn::pool::{
    AdaptiveAvgPool1dConfig, AdaptiveAvgPool2dConfig, AvgPool1dConfig, AvgPool2dConfig, MaxPool1dConfig,
    MaxPool2dConfig,
};
use burn::nn::{BatchNormConfig, EmbeddingConfig, PaddingConfig1d, PaddingConfig2d, PaddingConfig3d};
use burn::tensor::module::{attention, interpolate};
use burn::tensor::ops::{InterpolateMode, InterpolateOptions, PadMode};
use burn::tensor::{Bool, IndexingUpdateOp, Int, Tensor, activation, s};
use kd_graph::{Graph, Op, Tensors, TraceError, trace};

use crate::{device, ops};

/// Traces, checks the types of all results against the graph's own inference, and returns the words of the operations.
fn words<M: Module, I: Tensors, O: Tensors>(
    model: &M,
    sample: I,
    forward: impl Fn(&M, I) -> O,
) -> Vec<String> {
    let graph = trace(model, sample, forward).unwrap();
    graph.validate().unwrap();
    ops(&graph).iter().map(Op::word).collect()
}

fn bare<O: Tensors>(forward: impl Fn(Tensor<4>) -> O) -> Vec<String> {
    let nothing = Tensor::<1>::zeros([1], &device());
    words(&nothing, Tensor::<4>::zeros([1, 6, 4, 8], &device()), |_, x| forward(x))
}

fn bare_int<O: Tensors>(forward: impl Fn(Tensor<2, Int>) -> O) -> Vec<String> {
    let nothing = Tensor::<1>::zeros([1], &device());
    words(&nothing, Tensor::<2, Int>::zeros([1, 6], &device()), |_, x| forward(x))
}

#[test]
fn convolutions_of_one_two_and_three_axes_with_groups_and_dilation() {
    let device = device();
    let conv = Conv1dConfig::new(4, 6, 3)
        .with_groups(2)
        .with_dilation(2)
        .with_padding(PaddingConfig1d::Same)
        .init(&device);
    assert_eq!(words(&conv, Tensor::<3>::zeros([1, 4, 9], &device), |c, x| c.forward(x)), ["conv1d"]);
    let conv = Conv2dConfig::new([4, 8], [3, 5])
        .with_groups(4)
        .with_dilation([2, 1])
        .with_stride([1, 2])
        .with_padding(PaddingConfig2d::Explicit(1, 2, 1, 2))
        .with_bias(false)
        .init(&device);
    assert_eq!(words(&conv, Tensor::<4>::zeros([1, 4, 9, 9], &device), |c, x| c.forward(x)), ["conv2d"]);
    let conv =
        Conv3dConfig::new([2, 4], [3, 3, 3]).with_padding(PaddingConfig3d::Explicit(1, 1, 1)).init(&device);
    assert_eq!(words(&conv, Tensor::<5>::zeros([1, 2, 5, 5, 5], &device), |c, x| c.forward(x)), ["conv3d"]);
    let conv = ConvTranspose1dConfig::new([4, 6], 3).with_stride(2).with_padding_out(1).init(&device);
    assert_eq!(
        words(&conv, Tensor::<3>::zeros([1, 4, 5], &device), |c, x| c.forward(x)),
        ["conv_transpose1d"]
    );
    let conv = ConvTranspose2dConfig::new([4, 6], [3, 3]).with_groups(2).with_stride([2, 2]).init(&device);
    assert_eq!(
        words(&conv, Tensor::<4>::zeros([1, 4, 5, 5], &device), |c, x| c.forward(x)),
        ["conv_transpose2d"]
    );
    let conv = ConvTranspose3dConfig::new([2, 2], [2, 2, 2]).init(&device);
    assert_eq!(
        words(&conv, Tensor::<5>::zeros([1, 2, 3, 3, 3], &device), |c, x| c.forward(x)),
        ["conv_transpose3d"]
    );
}

#[test]
fn pooling() {
    let device = device();
    let (line, image) = (Tensor::<3>::zeros([1, 2, 9], &device), Tensor::<4>::zeros([1, 2, 9, 9], &device));
    let pool = MaxPool1dConfig::new(3).with_stride(2).init();
    assert_eq!(words(&pool, line.clone(), |p, x| p.forward(x)), ["max_pool1d"]);
    let pool = AvgPool1dConfig::new(3).with_stride(2).init();
    assert_eq!(words(&pool, line.clone(), |p, x| p.forward(x)), ["avg_pool1d"]);
    let pool = MaxPool2dConfig::new([3, 2]).with_strides([2, 2]).with_ceil_mode(true).init();
    assert_eq!(words(&pool, image.clone(), |p, x| p.forward(x)), ["max_pool2d"]);
    let pool = AvgPool2dConfig::new([3, 3]).with_strides([2, 2]).with_count_include_pad(false).init();
    assert_eq!(words(&pool, image.clone(), |p, x| p.forward(x)), ["avg_pool2d"]);
    let pool = AdaptiveAvgPool1dConfig::new(4).init();
    assert_eq!(words(&pool, line, |p, x| p.forward(x)), ["adaptive_avg_pool1d"]);
    let pool = AdaptiveAvgPool2dConfig::new([4, 1]).init();
    assert_eq!(words(&pool, image, |p, x| p.forward(x)), ["adaptive_avg_pool2d"]);
}

#[test]
fn tables_and_batch_normalisation() {
    let device = device();
    let table = EmbeddingConfig::new(10, 4).init(&device);
    assert_eq!(words(&table, Tensor::<2, Int>::zeros([1, 5], &device), |t, x| t.forward(x)), ["embedding"]);
    let norm = BatchNormConfig::new(4).with_momentum(0.03).init(&device);
    for graph in [
        trace(&norm, Tensor::<2>::zeros([1, 4], &device), |n, x| n.forward(x)).unwrap(),
        trace(&norm, Tensor::<4>::zeros([1, 4, 3, 3], &device), |n, x| n.forward(x)).unwrap(),
    ] {
        graph.validate().unwrap();
        let Op::BatchNorm(norm) = ops(&graph)[0].clone() else { panic!("{graph:?}") };
        assert_eq!((norm.epsilon, norm.momentum), (1e-5, Some(0.03)));
    }
}

#[test]
fn arithmetic_with_tensors_and_literals() {
    assert_eq!(bare(|x| x.clone() + x), ["add"]);
    assert_eq!(bare(|x| x.clone() - x), ["sub"]);
    assert_eq!(bare(|x| x.clone() * x), ["mul"]);
    assert_eq!(bare(|x| x.clone() / x), ["div"]);
    assert_eq!(bare(|x| x.clone() % x), ["rem"]);
    assert_eq!(bare(|x| x.clone().powf(x)), ["pow"]);
    assert_eq!(bare(|x| ((((x + 1.0) - 2.0) * 3.0) / 4.0) % 5.0), ["add", "sub", "mul", "div", "rem"]);
    assert_eq!(bare(|x| x.powf_scalar(1.5)), ["pow"]);
    assert_eq!(bare(|x| x.clamp_min(0.5).clamp_max(1.5).clamp(0.6, 1.4)), ["max", "min", "clamp"]);
    assert_eq!(
        bare(|x| x.neg().abs().sign().exp().log().log1p().sqrt().recip().erf()),
        ["neg", "abs", "sign", "exp", "log", "log1p", "sqrt", "recip", "erf"]
    );
    assert_eq!(
        bare(|x| x.sin().cos().tan().sinh().cosh().round().floor().ceil().trunc()),
        ["sin", "cos", "tan", "sinh", "cosh", "round", "floor", "ceil", "trunc"]
    );
    assert_eq!(
        bare(|x| x.asin().acos().atan().asinh().acosh().atanh()),
        ["asin", "acos", "atan", "asinh", "acosh", "atanh"]
    );
    assert_eq!(bare(|x| x.clone().atan2(x)), ["atan2"]);
}

#[test]
fn comparison_masks_and_logic() {
    assert_eq!(bare(|x| x.clone().greater(x)), ["greater"]);
    assert_eq!(bare(|x| x.clone().greater_equal(x)), ["greater_equal"]);
    assert_eq!(bare(|x| x.clone().lower(x)), ["lower"]);
    assert_eq!(bare(|x| x.clone().lower_equal(x)), ["lower_equal"]);
    assert_eq!(bare(|x| x.clone().equal(x)), ["equal"]);
    assert_eq!(bare(|x| x.clone().not_equal(x)), ["not_equal"]);
    assert_eq!(bare(|x| x.greater_scalar(1.0)), ["greater"]);
    assert_eq!(
        bare(|x| x.clone().mask_where(x.clone().lower_scalar(0.0), x.exp())),
        ["lower", "exp", "where"]
    );
    assert_eq!(bare(|x| x.clone().mask_fill(x.lower_scalar(0.0), 0.0)), ["lower", "mask_fill"]);
    assert_eq!(
        bare(|x| {
            let (a, b) = (x.clone().greater_scalar(0.0), x.lower_scalar(1.0));
            (a.clone().bool_and(b.clone()), a.clone().bool_or(b.clone()), a.bool_not().bool_xor(b))
        }),
        ["greater", "lower", "and", "or", "not", "xor"]
    );
}

#[test]
fn shapes() {
    assert_eq!(bare(|x| x.flatten::<2>(1, 3)), ["reshape"]);
    assert_eq!(bare(|x| x.narrow(2, 0, 1).squeeze_dim::<3>(2)), ["slice", "reshape"]);
    assert_eq!(bare(|x| x.unsqueeze::<5>()), ["reshape"]);
    assert_eq!(bare(|x| x.permute([0, 2, 3, 1])), ["permute"]);
    assert_eq!(bare(|x| x.swap_dims(1, 3)), ["permute"]);
    assert_eq!(bare(|x| x.transpose()), ["permute"]);
    assert_eq!(bare(|x| x.narrow(1, 0, 1).expand([-1, 7, -1, -1])), ["slice", "expand"]);
    assert_eq!(bare(|x| x.repeat_dim(1, 3)), ["repeat"]);
    assert_eq!(bare(|x| x.flip([2, 3])), ["flip"]);
    assert_eq!(bare(|x| x.pad((1, 2, 0, 1), PadMode::Constant(0.5))), ["pad"]);
    assert_eq!(bare(|x| x.pad((1, 1, 1, 1), PadMode::Reflect)), ["pad"]);
    assert_eq!(bare(|x| x.pad((1, 1, 1, 1), PadMode::Edge)), ["pad"]);
}

#[test]
fn parts_of_tensors() {
    assert_eq!(bare(|x| Tensor::cat(vec![x.clone(), x], 1)), ["cat"]);
    assert_eq!(bare(|x| x.chunk(3, 1)), ["slice", "slice", "slice"]);
    assert_eq!(bare(|x| x.split(2, 1)), ["slice", "slice", "slice"]);
    assert_eq!(bare(|x| x.split_with_sizes(vec![1, 5], 1)), ["slice", "slice"]);
    assert_eq!(bare(|x| x.slice(s![.., 1..3, ..;2, -3..])), ["slice"]);
    assert_eq!(bare(|x| x.slice(s![.., .., .., ..;-1])), ["slice"]);
    assert_eq!(
        bare(|x| x.clone().slice_assign(s![.., 0..1, .., ..], x.slice(s![.., 1..2, .., ..]))),
        ["slice", "slice_assign"]
    );
    assert_eq!(
        bare(|x| {
            let indices = Tensor::from_ints([0, 2], &x.device());
            x.select(1, indices)
        }),
        ["select"]
    );
    assert_eq!(bare(|x| x.clone().gather(3, x.argmax(3))), ["arg_max", "gather"]);
}

#[test]
fn reductions() {
    assert_eq!(
        bare(|x| (x.clone().sum(), x.clone().mean(), x.clone().max(), x.clone().min(), x.prod())),
        ["sum", "mean", "max", "min", "prod"]
    );
    assert_eq!(bare(|x| x.sum_dim(3).mean_dim(2).max_dim(1)), ["sum", "mean", "max"]);
    assert_eq!(
        bare(|x| (x.clone().min_dim(1), x.clone().prod_dim(1), x.clone().argmax(1), x.argmin(1))),
        ["min", "prod", "arg_max", "arg_min"]
    );
    assert_eq!(bare(|x| x.max_dim_with_indices(3)), ["max", "arg_max"]);
    assert_eq!(bare(|x| x.max_dim_with_indices(3).0), ["max"]);
    assert_eq!(
        bare(|x| (x.clone().greater_scalar(0.0).any(), x.lower_scalar(0.0).all_dim(1))),
        ["greater", "any", "lower", "all"]
    );
    assert_eq!(
        bare(|x| activation::softmax(x.clone(), 3) + activation::log_softmax(x, 1)),
        ["softmax", "log_softmax", "add"]
    );
    assert_eq!(bare(|x| activation::softmin(x, 3)), ["neg", "softmax"]);
}

#[test]
fn kinds() {
    assert_eq!(bare(|x| x.int().float()), ["cast", "cast"]);
    assert_eq!(bare(|x| x.greater_scalar(0.0).float()), ["greater", "cast"]);
    assert_eq!(bare_int(|x| x.clone() + x * 2), ["mul", "add"]);
    assert_eq!(bare_int(|x| x.equal_scalar(0).int()), ["equal", "cast"]);
    assert_eq!(bare(|x| x.cast(burn::tensor::DType::F16)), ["cast"]);
}

#[test]
fn tensors_made_on_the_way() {
    let words = bare(|x| {
        let [batch, channels, ..] = x.dims();
        let device = x.device();
        let zeros = Tensor::<2>::zeros([batch, channels], &device) + Tensor::ones([1, channels], &device);
        let full = Tensor::<2>::full([batch, 1], 0.5, &device) + Tensor::<2>::empty([batch, 1], &device);
        zeros * full
    });
    assert_eq!(words, ["full", "full", "add", "full", "full", "add", "mul"]);
}

#[test]
fn attention_and_interpolation() {
    let mode = |mode: InterpolateMode| {
        move |x: Tensor<4>| interpolate(x, InterpolateOptions::new(mode.clone()).with_output_size([8, 4]))
    };
    assert_eq!(bare(mode(InterpolateMode::Nearest)), ["interpolate"]);
    assert_eq!(bare(mode(InterpolateMode::Bilinear)), ["interpolate"]);
    let nothing = Tensor::<1>::zeros([1], &device());
    let mask = Tensor::<4, Bool>::empty([1, 2, 5, 5], &device());
    let graph = trace(&nothing, (Tensor::<4>::zeros([1, 2, 5, 3], &device()), mask), |_, (x, mask)| {
        attention(x.clone(), x.clone(), x, Some(mask), None, Default::default())
    })
    .unwrap();
    graph.validate().unwrap();
    let Op::Attention(attention) = &ops(&graph)[0] else { panic!("{graph:?}") };
    assert!(attention.masked && !attention.biased && !attention.causal);
}

#[test]
fn an_operation_that_graphs_lack_is_named_with_its_module() {
    let unsupported = |forward: fn(Tensor<2>) -> Tensor<2>| -> Result<Graph, TraceError> {
        let linear = burn::nn::LinearConfig::new(4, 4).init(&device());
        trace(&vec![linear], Tensor::<2>::zeros([1, 4], &device()), |l, x| forward(l[0].forward(x)))
    };
    for (forward, name) in [
        ((|x| x.cumsum(1)) as fn(Tensor<2>) -> Tensor<2>, "CumSum"),
        (|x| x.sort(1), "Sort"),
        (|x| x.clone().scatter(1, x.clone().int(), x, IndexingUpdateOp::Add), "Scatter"),
        (|x| x.random_like(burn::tensor::Distribution::Default), "Random"),
    ] {
        let error = unsupported(forward).unwrap_err();
        assert_eq!(error, TraceError::Unsupported { op: name.into(), module: Some("0".into()) });
        assert!(error.to_string().contains("Tracer::custom"), "{error}");
    }
}
