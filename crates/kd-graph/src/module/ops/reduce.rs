//! Elements along some axes become one.

use burn::backend::ops::{BoolTensorOps, FloatTensorOps, IntTensorOps};
use burn::backend::{Dispatch, DispatchTensor};

use super::super::Value;
use super::super::run::Context;
use super::{Args, Reason};
use crate::{Kind, Reduction};

/// Along several axes burn reduces one after the other, in their order.
pub(super) fn run(
    kind: Reduction,
    axes: Option<&[usize]>,
    mut args: Args,
    context: &Context,
) -> Result<Value, Reason> {
    let x = args.any()?;
    match axes {
        None => all(kind, x, context),
        Some(axes) => axes.iter().try_fold(x, |x, &axis| along(kind, x, axis, context)),
    }
}

fn undefined(kind: Reduction, of: Kind) -> Reason {
    format!("{kind:?} is not defined for {of}")
}

fn along(kind: Reduction, x: Value, axis: usize, context: &Context) -> Result<Value, Reason> {
    let (bools, ints) = (context.settings.bool_dtype, context.settings.int_dtype);
    Ok(match x {
        Value::Float(x) => match kind {
            Reduction::ArgMax => Value::Int(Dispatch::float_argmax(x, axis, ints)),
            Reduction::ArgMin => Value::Int(Dispatch::float_argmin(x, axis, ints)),
            Reduction::Any => Value::Bool(Dispatch::float_any_dim(x, axis, bools)),
            Reduction::All => Value::Bool(Dispatch::float_all_dim(x, axis, bools)),
            _ => Value::Float(float_along(kind, x, axis)?),
        },
        Value::Int(x) => match kind {
            Reduction::Sum => Value::Int(Dispatch::int_sum_dim(x, axis)),
            Reduction::Mean => Value::Int(Dispatch::int_mean_dim(x, axis)),
            Reduction::Prod => Value::Int(Dispatch::int_prod_dim(x, axis)),
            Reduction::Max => Value::Int(Dispatch::int_max_dim(x, axis)),
            Reduction::Min => Value::Int(Dispatch::int_min_dim(x, axis)),
            Reduction::MaxAbs => Value::Int(Dispatch::int_max_abs_dim(x, axis)),
            Reduction::ArgMax => Value::Int(Dispatch::int_argmax(x, axis)),
            Reduction::ArgMin => Value::Int(Dispatch::int_argmin(x, axis)),
            Reduction::Any => Value::Bool(Dispatch::int_any_dim(x, axis, bools)),
            Reduction::All => Value::Bool(Dispatch::int_all_dim(x, axis, bools)),
        },
        Value::Bool(x) => match kind {
            Reduction::Any => Value::Bool(Dispatch::bool_any_dim(x, axis)),
            Reduction::All => Value::Bool(Dispatch::bool_all_dim(x, axis)),
            _ => return Err(undefined(kind, Kind::Bool)),
        },
    })
}

fn float_along(kind: Reduction, x: DispatchTensor, axis: usize) -> Result<DispatchTensor, Reason> {
    Ok(match kind {
        Reduction::Sum => Dispatch::float_sum_dim(x, axis),
        Reduction::Mean => Dispatch::float_mean_dim(x, axis),
        Reduction::Prod => Dispatch::float_prod_dim(x, axis),
        Reduction::Max => Dispatch::float_max_dim(x, axis),
        Reduction::Min => Dispatch::float_min_dim(x, axis),
        Reduction::MaxAbs => Dispatch::float_max_abs_dim(x, axis),
        _ => return Err(undefined(kind, Kind::Float)),
    })
}

fn all(kind: Reduction, x: Value, context: &Context) -> Result<Value, Reason> {
    let bools = context.settings.bool_dtype;
    Ok(match x {
        Value::Float(x) => match kind {
            Reduction::Sum => Value::Float(Dispatch::float_sum(x)),
            Reduction::Mean => Value::Float(Dispatch::float_mean(x)),
            Reduction::Prod => Value::Float(Dispatch::float_prod(x)),
            Reduction::Max => Value::Float(Dispatch::float_max(x)),
            Reduction::Min => Value::Float(Dispatch::float_min(x)),
            Reduction::MaxAbs => Value::Float(Dispatch::float_max_abs(x)),
            Reduction::Any => Value::Bool(Dispatch::float_any(x, bools)),
            Reduction::All => Value::Bool(Dispatch::float_all(x, bools)),
            Reduction::ArgMax | Reduction::ArgMin => {
                return Err("a place is looked for along one axis".into());
            }
        },
        Value::Int(x) => match kind {
            Reduction::Sum => Value::Int(Dispatch::int_sum(x)),
            Reduction::Mean => Value::Int(Dispatch::int_mean(x)),
            Reduction::Prod => Value::Int(Dispatch::int_prod(x)),
            Reduction::Max => Value::Int(Dispatch::int_max(x)),
            Reduction::Min => Value::Int(Dispatch::int_min(x)),
            Reduction::MaxAbs => Value::Int(Dispatch::int_max_abs(x)),
            Reduction::Any => Value::Bool(Dispatch::int_any(x, bools)),
            Reduction::All => Value::Bool(Dispatch::int_all(x, bools)),
            Reduction::ArgMax | Reduction::ArgMin => {
                return Err("a place is looked for along one axis".into());
            }
        },
        Value::Bool(x) => match kind {
            Reduction::Any => Value::Bool(Dispatch::bool_any(x)),
            Reduction::All => Value::Bool(Dispatch::bool_all(x)),
            _ => return Err(undefined(kind, Kind::Bool)),
        },
    })
}
