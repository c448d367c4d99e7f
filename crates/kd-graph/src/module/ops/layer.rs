//! Layers: convolution, matrix products, embedding, attention.

use burn::backend::ops::{ActivationOps, BoolTensorOps, FloatTensorOps, IntTensorOps, ModuleOps};
use burn::backend::{Dispatch, TensorMetadata};
use burn::tensor::ops::{AttentionModuleOptions, ConvOptions, ConvTransposeOptions};

use super::super::Value;
use super::{Args, Reason};
use crate::{Attention, Conv, ConvTranspose, LayeredAttention};

/// A list of attributes with one entry for every axis.
pub(super) fn array<T: Copy, const N: usize>(list: &[T], what: &str) -> Result<[T; N], Reason> {
    list.try_into().map_err(|_| format!("{what} has {} entries instead of {N}", list.len()))
}

fn conv_options<const N: usize>(conv: &Conv) -> Result<ConvOptions<N>, Reason> {
    Ok(ConvOptions::new_with_padding(
        array(&conv.stride, "stride")?,
        array(&conv.padding, "padding")?,
        array(&conv.dilation, "dilation")?,
        conv.groups,
    ))
}

pub(super) fn conv(conv: &Conv, mut args: Args) -> Result<Value, Reason> {
    let (x, weight, bias) = (args.float()?, args.float()?, args.optional_float()?);
    Ok(Value::Float(match conv.axes() {
        1 => Dispatch::conv1d(x, weight, bias, conv_options(conv)?),
        2 => Dispatch::conv2d(x, weight, bias, conv_options(conv)?),
        3 if conv.padding.iter().any(|(before, after)| before != after) => {
            return Err(
                "burn pads a convolution over three axes evenly only; put a pad node before it".into()
            );
        }
        3 => Dispatch::conv3d(x, weight, bias, conv_options(conv)?),
        axes => return Err(format!("burn has no convolution over {axes} axes")),
    }))
}

fn transpose_options<const N: usize>(conv: &ConvTranspose) -> Result<ConvTransposeOptions<N>, Reason> {
    Ok(ConvTransposeOptions::new(
        array(&conv.stride, "stride")?,
        array(&conv.padding, "padding")?,
        array(&conv.padding_out, "output padding")?,
        array(&conv.dilation, "dilation")?,
        conv.groups,
    ))
}

pub(super) fn conv_transpose(conv: &ConvTranspose, mut args: Args) -> Result<Value, Reason> {
    let (x, weight, bias) = (args.float()?, args.float()?, args.optional_float()?);
    Ok(Value::Float(match conv.stride.len() {
        1 => Dispatch::conv_transpose1d(x, weight, bias, transpose_options(conv)?),
        2 => Dispatch::conv_transpose2d(x, weight, bias, transpose_options(conv)?),
        3 => Dispatch::conv_transpose3d(x, weight, bias, transpose_options(conv)?),
        axes => return Err(format!("burn has no transposed convolution over {axes} axes")),
    }))
}

/// burn lifts a vector to a matrix of one row and back.
pub(super) fn linear(mut args: Args) -> Result<Value, Reason> {
    let (x, weight, bias) = (args.float()?, args.float()?, args.optional_float()?);
    let shape = x.shape();
    if shape.len() != 1 {
        return Ok(Value::Float(Dispatch::linear(x, weight, bias)));
    }
    let features: usize = weight.shape().iter().skip(1).copied().product();
    let row = Dispatch::float_reshape(x, [1, shape.num_elements()].into());
    let result = Dispatch::linear(row, weight, bias);
    Ok(Value::Float(Dispatch::float_reshape(result, [features].into())))
}

pub(super) fn matmul(mut args: Args) -> Result<Value, Reason> {
    match (args.any()?, args.any()?) {
        (Value::Float(a), Value::Float(b)) => Ok(Value::Float(Dispatch::float_matmul(a, b))),
        (Value::Int(a), Value::Int(b)) => Ok(Value::Int(Dispatch::int_matmul(a, b))),
        (a, b) => Err(format!("there is no matrix product of {} and {}", a.kind(), b.kind())),
    }
}

pub(super) fn embedding(mut args: Args) -> Result<Value, Reason> {
    let (weight, indices) = (args.float()?, args.int()?);
    Ok(Value::Float(Dispatch::embedding(weight, indices)))
}

pub(super) fn attention(attention: &Attention, mut args: Args) -> Result<Value, Reason> {
    let (query, key, value) = (args.float()?, args.float()?, args.float()?);
    let mask = attention.masked.then(|| args.bool()).transpose()?;
    let bias = attention.biased.then(|| args.float()).transpose()?;
    let options = AttentionModuleOptions {
        scale: attention.scale,
        softcap: attention.softcap,
        is_causal: attention.causal,
    };
    Ok(Value::Float(Dispatch::attention(query, key, value, mask, bias, options)))
}

pub(super) fn layered_attention(attention: &LayeredAttention, mut args: Args) -> Result<Value, Reason> {
    let (query, key, value) = (args.float()?, args.float()?, args.float()?);
    let products = Dispatch::float_matmul(query, Dispatch::float_permute(key, &[0, 1, 3, 2]));
    let mut scores = Dispatch::float_div_scalar(products, attention.divisor.into());
    for _ in 0..attention.masks {
        // The mask of the padding is the same for every query; a fill does not broadcast.
        let mask = Dispatch::bool_expand(args.bool()?, scores.shape());
        scores = Dispatch::float_mask_fill(scores, mask, attention.fill.into());
    }
    Ok(Value::Float(Dispatch::float_matmul(Dispatch::softmax(scores, 3), value)))
}
