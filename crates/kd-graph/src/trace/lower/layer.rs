//! Layers that burn records as one operation.

use burn_ir::{
    Conv1dOptionsIr, Conv2dOptionsIr, Conv3dOptionsIr, ConvTranspose1dOptionsIr, ConvTranspose2dOptionsIr,
    ConvTranspose3dOptionsIr, InterpolateModeIr, ModuleOperationIr, TensorIr,
};

use super::{one, scalar};
use crate::trace::draft::Lowered;
use crate::{Attention, BatchNorm, Conv, ConvTranspose, InterpolateMode, Op, Pool, PoolKind};

pub(super) fn lower(operation: &ModuleOperationIr) -> Option<Vec<Lowered>> {
    use ModuleOperationIr as M;
    match operation {
        M::Linear(op) => one(Op::Linear, with(&op.x, &op.weight, &op.bias), &op.out),
        M::Conv1d(op) => one(conv1d(&op.options), with(&op.x, &op.weight, &op.bias), &op.out),
        M::Conv2d(op) => one(conv2d(&op.options), with(&op.x, &op.weight, &op.bias), &op.out),
        M::Conv3d(op) => one(conv3d(&op.options), with(&op.x, &op.weight, &op.bias), &op.out),
        M::ConvTranspose1d(op) => one(transpose1d(&op.options), with(&op.x, &op.weight, &op.bias), &op.out),
        M::ConvTranspose2d(op) => one(transpose2d(&op.options), with(&op.x, &op.weight, &op.bias), &op.out),
        M::ConvTranspose3d(op) => one(transpose3d(&op.options), with(&op.x, &op.weight, &op.bias), &op.out),
        M::Embedding(op) => one(Op::Embedding, [&op.weights, &op.indices], &op.out),
        M::BatchNorm(op) => {
            let norm = BatchNorm { epsilon: scalar(op.epsilon).as_f64(), momentum: None };
            one(Op::BatchNorm(norm), [&op.x, &op.gamma, &op.beta, &op.mean, &op.variance], &op.out)
        }
        M::LayerNorm(op) => {
            let epsilon = scalar(op.epsilon).as_f64();
            one(Op::LayerNorm { epsilon }, with(&op.input, &op.gamma, &op.beta), &op.out)
        }
        M::Attention(op) => {
            let attention = Attention {
                scale: op.options.scale.map(|scale| scalar(scale).as_f64()),
                softcap: op.options.softcap.map(|softcap| scalar(softcap).as_f64()),
                causal: op.options.is_causal,
                masked: op.mask.is_some(),
                biased: op.attn_bias.is_some(),
            };
            let inputs = [&op.query, &op.key, &op.value].into_iter().chain(&op.mask).chain(&op.attn_bias);
            one(Op::Attention(attention), inputs, &op.out)
        }
        M::MaxPool1d(op) => {
            let pool = Pool {
                kind: PoolKind::Max,
                kernel: vec![op.kernel_size],
                stride: vec![op.stride],
                padding: vec![op.padding],
                dilation: vec![op.dilation],
                ceil: op.ceil_mode,
            };
            one(Op::Pool(pool), [&op.x], &op.out)
        }
        M::MaxPool2d(op) => {
            let pool = Pool {
                kind: PoolKind::Max,
                kernel: op.kernel_size.to_vec(),
                stride: op.stride.to_vec(),
                padding: op.padding.to_vec(),
                dilation: op.dilation.to_vec(),
                ceil: op.ceil_mode,
            };
            one(Op::Pool(pool), [&op.x], &op.out)
        }
        M::AvgPool1d(op) => {
            let pool = Pool {
                kind: PoolKind::Average { count_padding: op.count_include_pad },
                kernel: vec![op.kernel_size],
                stride: vec![op.stride],
                padding: vec![op.padding],
                dilation: vec![1],
                ceil: op.ceil_mode,
            };
            one(Op::Pool(pool), [&op.x], &op.out)
        }
        M::AvgPool2d(op) => {
            let pool = Pool {
                kind: PoolKind::Average { count_padding: op.count_include_pad },
                kernel: op.kernel_size.to_vec(),
                stride: op.stride.to_vec(),
                padding: op.padding.to_vec(),
                dilation: vec![1, 1],
                ceil: op.ceil_mode,
            };
            one(Op::Pool(pool), [&op.x], &op.out)
        }
        M::AdaptiveAvgPool1d(op) => adaptive(&[op.output_size], &op.x, &op.out),
        M::AdaptiveAvgPool2d(op) => adaptive(&op.output_size, &op.x, &op.out),
        M::AdaptiveAvgPool3d(op) => adaptive(&op.output_size, &op.x, &op.out),
        M::Interpolate(op) => {
            let mode = match op.options.mode {
                InterpolateModeIr::Nearest => InterpolateMode::Nearest,
                InterpolateModeIr::NearestExact => InterpolateMode::NearestExact,
                InterpolateModeIr::Bilinear => InterpolateMode::Bilinear,
                InterpolateModeIr::Bicubic => InterpolateMode::Bicubic,
                InterpolateModeIr::Lanczos3 => InterpolateMode::Lanczos3,
            };
            let align_corners = op.options.align_corners;
            one(Op::Interpolate { size: op.output_size, mode, align_corners }, [&op.x], &op.out)
        }
        _ => None,
    }
}

fn with<'a>(
    x: &'a TensorIr,
    weight: &'a TensorIr,
    bias: &'a Option<TensorIr>,
) -> impl Iterator<Item = &'a TensorIr> {
    [x, weight].into_iter().chain(bias)
}

fn adaptive(size: &[usize], x: &TensorIr, out: &TensorIr) -> Option<Vec<Lowered>> {
    one(Op::AdaptiveAvgPool { size: size.to_vec() }, [x], out)
}

/// The only one whose recorded padding is the same at both ends.
fn conv3d(options: &Conv3dOptionsIr) -> Op {
    Op::Conv(Conv {
        stride: options.stride.to_vec(),
        padding: options.padding.iter().map(|&size| (size, size)).collect(),
        dilation: options.dilation.to_vec(),
        groups: options.groups,
    })
}

macro_rules! options {
    ($(fn $name:ident($options:ty) -> $op:ident { $($list:ident),* })*) => {$(
        fn $name(options: &$options) -> Op {
            Op::$op($op { $($list: options.$list.to_vec(),)* groups: options.groups })
        }
    )*};
}

options! {
    fn conv1d(Conv1dOptionsIr) -> Conv { stride, padding, dilation }
    fn conv2d(Conv2dOptionsIr) -> Conv { stride, padding, dilation }
    fn transpose1d(ConvTranspose1dOptionsIr) -> ConvTranspose { stride, padding, padding_out, dilation }
    fn transpose2d(ConvTranspose2dOptionsIr) -> ConvTranspose { stride, padding, padding_out, dilation }
    fn transpose3d(ConvTranspose3dOptionsIr) -> ConvTranspose { stride, padding, padding_out, dilation }
}
