//! Elements that move without being computed on.

use burn::backend::ops::{BoolTensorOps, FloatTensorOps, IntTensorOps};
use burn::backend::{Dispatch, DispatchTensor};
use burn::tensor::Slice;
use burn::tensor::ops::PadMode as BurnPadMode;

use super::super::Value;
use super::super::run::Context;
use super::{Args, Reason};
use crate::{Dim, PadMode, Range, Scalar, Shape};

/// Calls the primitive of the value's kind with the value first and then the arguments.
macro_rules! by_kind {
    ($value:expr, $float:ident $int:ident $bool:ident, $($arg:expr),*) => {
        match $value {
            Value::Float(x) => Value::Float(Dispatch::$float(x, $($arg),*)),
            Value::Int(x) => Value::Int(Dispatch::$int(x, $($arg),*)),
            Value::Bool(x) => Value::Bool(Dispatch::$bool(x, $($arg),*)),
        }
    };
}

pub(super) fn reshape(shape: &Shape, mut args: Args, context: &Context) -> Result<Value, Reason> {
    let shape = shape.at(context.batch).into();
    Ok(by_kind!(args.any()?, float_reshape int_reshape bool_reshape, shape))
}

pub(super) fn permute(axes: &[usize], mut args: Args) -> Result<Value, Reason> {
    Ok(by_kind!(args.any()?, float_permute int_permute bool_permute, axes))
}

pub(super) fn expand(shape: &Shape, mut args: Args, context: &Context) -> Result<Value, Reason> {
    let shape = shape.at(context.batch).into();
    Ok(by_kind!(args.any()?, float_expand int_expand bool_expand, shape))
}

pub(super) fn repeat(axis: usize, times: Dim, mut args: Args, context: &Context) -> Result<Value, Reason> {
    let times = times.at(context.batch);
    Ok(by_kind!(args.any()?, float_repeat_dim int_repeat_dim bool_repeat_dim, axis, times))
}

pub(super) fn flip(axes: &[usize], mut args: Args) -> Result<Value, Reason> {
    Ok(by_kind!(args.any()?, float_flip int_flip bool_flip, axes))
}

pub(super) fn cat(axis: usize, args: Args) -> Result<Value, Reason> {
    let values = args.rest();
    let first = values.first().map(Value::kind).ok_or("there is nothing to concatenate")?;
    let tensors: Vec<DispatchTensor> = values.into_iter().map(Value::into_primitive).collect();
    Ok(match first {
        crate::Kind::Float => Value::Float(Dispatch::float_cat(tensors, axis)),
        crate::Kind::Int => Value::Int(Dispatch::int_cat(tensors, axis)),
        crate::Kind::Bool => Value::Bool(Dispatch::bool_cat(tensors, axis)),
    })
}

fn slices(ranges: &[Range], context: &Context) -> Vec<Slice> {
    let at = |dim: Dim| dim.at(context.batch) as isize;
    ranges.iter().map(|range| Slice::new(at(range.start), Some(at(range.end)), range.step)).collect()
}

pub(super) fn slice(ranges: &[Range], mut args: Args, context: &Context) -> Result<Value, Reason> {
    let slices = slices(ranges, context);
    Ok(by_kind!(args.any()?, float_slice int_slice bool_slice, &slices))
}

pub(super) fn slice_assign(ranges: &[Range], mut args: Args, context: &Context) -> Result<Value, Reason> {
    let slices = slices(ranges, context);
    match (args.any()?, args.any()?) {
        (Value::Float(x), Value::Float(part)) => {
            Ok(Value::Float(Dispatch::float_slice_assign(x, &slices, part)))
        }
        (Value::Int(x), Value::Int(part)) => Ok(Value::Int(Dispatch::int_slice_assign(x, &slices, part))),
        (Value::Bool(x), Value::Bool(part)) => Ok(Value::Bool(Dispatch::bool_slice_assign(x, &slices, part))),
        (x, part) => Err(format!("a part of {} cannot be {}", x.kind(), part.kind())),
    }
}

pub(super) fn select(axis: usize, mut args: Args) -> Result<Value, Reason> {
    let (x, indices) = (args.any()?, args.int()?);
    Ok(by_kind!(x, float_select int_select bool_select, axis, indices))
}

pub(super) fn gather(axis: usize, mut args: Args) -> Result<Value, Reason> {
    let (x, indices) = (args.any()?, args.int()?);
    Ok(match x {
        Value::Float(x) => Value::Float(Dispatch::float_gather(axis, x, indices)),
        Value::Int(x) => Value::Int(Dispatch::int_gather(axis, x, indices)),
        Value::Bool(x) => Value::Bool(Dispatch::bool_gather(axis, x, indices)),
    })
}

pub(super) fn pad(padding: &[(usize, usize)], mode: PadMode, mut args: Args) -> Result<Value, Reason> {
    let mode = match mode {
        PadMode::Constant(value) => BurnPadMode::Constant(value.as_f64() as f32),
        PadMode::Reflect => BurnPadMode::Reflect,
        PadMode::Edge => BurnPadMode::Edge,
    };
    match args.any()? {
        Value::Float(x) => Ok(Value::Float(Dispatch::float_pad(x, padding, mode))),
        Value::Int(x) => Ok(Value::Int(Dispatch::int_pad(x, padding, mode))),
        Value::Bool(_) => Err("burn does not pad truth values".into()),
    }
}

pub(super) fn full(shape: &Shape, value: Scalar, context: &Context) -> Result<Value, Reason> {
    let shape = shape.at(context.batch).into();
    let (device, settings) = (&context.device, &context.settings);
    Ok(match value {
        Scalar::Float(value) => {
            Value::Float(Dispatch::float_full(shape, value.into(), device, settings.float_dtype))
        }
        Scalar::Int(value) => Value::Int(Dispatch::int_full(shape, value.into(), device, settings.int_dtype)),
        Scalar::Bool(true) => Value::Bool(Dispatch::bool_ones(shape, device, settings.bool_dtype)),
        Scalar::Bool(false) => Value::Bool(Dispatch::bool_zeros(shape, device, settings.bool_dtype)),
    })
}
