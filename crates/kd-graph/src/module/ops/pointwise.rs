//! Functions of every element by itself.

use burn::backend::ops::{BoolTensorOps, FloatTensorOps, IntTensorOps};
use burn::backend::{Dispatch, DispatchTensor, Scalar as Literal};
use burn::tensor::{DType, FloatDType, IntDType};

use super::super::Value;
use super::super::run::Context;
use super::{Args, Reason};
use crate::{Binary, Kind, Scalar, Unary};

fn undefined(op: impl std::fmt::Debug, kind: Kind) -> Reason {
    format!("{op:?} is not defined for {kind}")
}

pub(super) fn unary(op: Unary, mut args: Args, context: &Context) -> Result<Value, Reason> {
    let bools = context.settings.bool_dtype;
    Ok(match args.any()? {
        Value::Float(x) => match op {
            Unary::IsNan => Value::Bool(Dispatch::float_is_nan(x, bools)),
            Unary::IsInf => Value::Bool(Dispatch::float_is_inf(x, bools)),
            _ => Value::Float(float_unary(op, x)?),
        },
        Value::Int(x) => Value::Int(match op {
            Unary::Neg => Dispatch::int_neg(x),
            Unary::Abs => Dispatch::int_abs(x),
            Unary::Sign => Dispatch::int_sign(x),
            Unary::Not => Dispatch::bitwise_not(x),
            _ => return Err(undefined(op, Kind::Int)),
        }),
        Value::Bool(x) => match op {
            Unary::Not => Value::Bool(Dispatch::bool_not(x)),
            _ => return Err(undefined(op, Kind::Bool)),
        },
    })
}

fn float_unary(op: Unary, x: DispatchTensor) -> Result<DispatchTensor, Reason> {
    Ok(match op {
        Unary::Neg => Dispatch::float_neg(x),
        Unary::Abs => Dispatch::float_abs(x),
        Unary::Sign => Dispatch::float_sign(x),
        Unary::Exp => Dispatch::float_exp(x),
        Unary::Log => Dispatch::float_log(x),
        Unary::Log1p => Dispatch::float_log1p(x),
        Unary::Sqrt => Dispatch::float_sqrt(x),
        Unary::Recip => Dispatch::float_recip(x),
        Unary::Erf => Dispatch::float_erf(x),
        Unary::Sin => Dispatch::float_sin(x),
        Unary::Cos => Dispatch::float_cos(x),
        Unary::Tan => Dispatch::float_tan(x),
        Unary::Sinh => Dispatch::float_sinh(x),
        Unary::Cosh => Dispatch::float_cosh(x),
        Unary::Asin => Dispatch::float_asin(x),
        Unary::Acos => Dispatch::float_acos(x),
        Unary::Atan => Dispatch::float_atan(x),
        Unary::Asinh => Dispatch::float_asinh(x),
        Unary::Acosh => Dispatch::float_acosh(x),
        Unary::Atanh => Dispatch::float_atanh(x),
        Unary::Round => Dispatch::float_round(x),
        Unary::Floor => Dispatch::float_floor(x),
        Unary::Ceil => Dispatch::float_ceil(x),
        Unary::Trunc => Dispatch::float_trunc(x),
        Unary::Not | Unary::IsNan | Unary::IsInf => return Err(undefined(op, Kind::Float)),
    })
}

pub(super) fn binary(op: Binary, mut args: Args, context: &Context) -> Result<Value, Reason> {
    let bools = context.settings.bool_dtype;
    match (args.any()?, args.any()?) {
        (Value::Float(a), Value::Float(b)) => float_binary(op, a, b, context),
        (Value::Float(a), Value::Int(b)) if op == Binary::Pow => Ok(Value::Float(Dispatch::float_powi(a, b))),
        (Value::Int(a), Value::Int(b)) => Ok(match op {
            Binary::Add => Value::Int(Dispatch::int_add(a, b)),
            Binary::Sub => Value::Int(Dispatch::int_sub(a, b)),
            Binary::Mul => Value::Int(Dispatch::int_mul(a, b)),
            Binary::Div => Value::Int(Dispatch::int_div(a, b)),
            Binary::Rem => Value::Int(Dispatch::int_remainder(a, b)),
            Binary::Pow => Value::Int(Dispatch::int_powi(a, b)),
            Binary::Min => {
                let smaller = Dispatch::int_lower(b.clone(), a.clone(), bools);
                Value::Int(Dispatch::int_mask_where(a, smaller, b))
            }
            Binary::Max => {
                let smaller = Dispatch::int_lower(a.clone(), b.clone(), bools);
                Value::Int(Dispatch::int_mask_where(a, smaller, b))
            }
            Binary::And => Value::Int(Dispatch::bitwise_and(a, b)),
            Binary::Or => Value::Int(Dispatch::bitwise_or(a, b)),
            Binary::Xor => Value::Int(Dispatch::bitwise_xor(a, b)),
            Binary::Equal => Value::Bool(Dispatch::int_equal(a, b, bools)),
            Binary::NotEqual => Value::Bool(Dispatch::int_not_equal(a, b, bools)),
            Binary::Greater => Value::Bool(Dispatch::int_greater(a, b, bools)),
            Binary::GreaterEqual => Value::Bool(Dispatch::int_greater_equal(a, b, bools)),
            Binary::Lower => Value::Bool(Dispatch::int_lower(a, b, bools)),
            Binary::LowerEqual => Value::Bool(Dispatch::int_lower_equal(a, b, bools)),
            Binary::Atan2 => return Err(undefined(op, Kind::Int)),
        }),
        (Value::Bool(a), Value::Bool(b)) => Ok(Value::Bool(match op {
            Binary::And => Dispatch::bool_and(a, b),
            Binary::Or => Dispatch::bool_or(a, b),
            Binary::Xor => Dispatch::bool_xor(a, b),
            Binary::Equal => Dispatch::bool_equal(a, b),
            Binary::NotEqual => Dispatch::bool_not_equal(a, b),
            _ => return Err(undefined(op, Kind::Bool)),
        })),
        (a, b) => Err(format!("{op:?} is not defined for {} and {}", a.kind(), b.kind())),
    }
}

fn float_binary(
    op: Binary,
    a: DispatchTensor,
    b: DispatchTensor,
    context: &Context,
) -> Result<Value, Reason> {
    let bools = context.settings.bool_dtype;
    Ok(match op {
        Binary::Add => Value::Float(Dispatch::float_add(a, b)),
        Binary::Sub => Value::Float(Dispatch::float_sub(a, b)),
        Binary::Mul => Value::Float(Dispatch::float_mul(a, b)),
        Binary::Div => Value::Float(Dispatch::float_div(a, b)),
        Binary::Rem => Value::Float(Dispatch::float_remainder(a, b)),
        Binary::Pow => Value::Float(Dispatch::float_powf(a, b)),
        Binary::Atan2 => Value::Float(Dispatch::float_atan2(a, b)),
        // burn has no such primitive either: its pairwise functions choose by comparison.
        Binary::Min => {
            let smaller = Dispatch::float_lower(b.clone(), a.clone(), bools);
            Value::Float(Dispatch::float_mask_where(a, smaller, b))
        }
        Binary::Max => {
            let smaller = Dispatch::float_lower(a.clone(), b.clone(), bools);
            Value::Float(Dispatch::float_mask_where(a, smaller, b))
        }
        Binary::Equal => Value::Bool(Dispatch::float_equal(a, b, bools)),
        Binary::NotEqual => Value::Bool(Dispatch::float_not_equal(a, b, bools)),
        Binary::Greater => Value::Bool(Dispatch::float_greater(a, b, bools)),
        Binary::GreaterEqual => Value::Bool(Dispatch::float_greater_equal(a, b, bools)),
        Binary::Lower => Value::Bool(Dispatch::float_lower(a, b, bools)),
        Binary::LowerEqual => Value::Bool(Dispatch::float_lower_equal(a, b, bools)),
        Binary::And | Binary::Or | Binary::Xor => return Err(undefined(op, Kind::Float)),
    })
}

/// A literal as burn takes it beside elements of a kind.
fn literal_of(value: Scalar, kind: Kind) -> Literal {
    match (kind, value) {
        (Kind::Float, value) => value.as_f64().into(),
        (Kind::Int, Scalar::Int(value)) => value.into(),
        (Kind::Int, value) => (value.as_f64() as i64).into(),
        (Kind::Bool, value) => (value.as_f64() != 0.0).into(),
    }
}

pub(super) fn literal(op: Binary, value: Scalar, mut args: Args, context: &Context) -> Result<Value, Reason> {
    let bools = context.settings.bool_dtype;
    let a = args.any()?;
    let b = literal_of(value, a.kind());
    Ok(match a {
        Value::Float(a) => match op {
            Binary::Add => Value::Float(Dispatch::float_add_scalar(a, b)),
            Binary::Sub => Value::Float(Dispatch::float_sub_scalar(a, b)),
            Binary::Mul => Value::Float(Dispatch::float_mul_scalar(a, b)),
            Binary::Div => Value::Float(Dispatch::float_div_scalar(a, b)),
            Binary::Rem => Value::Float(Dispatch::float_remainder_scalar(a, b)),
            Binary::Pow => Value::Float(match value {
                Scalar::Int(power) => Dispatch::float_powi_scalar(a, power.into()),
                _ => Dispatch::float_powf_scalar(a, b),
            }),
            Binary::Min => Value::Float(Dispatch::float_clamp_max(a, b)),
            Binary::Max => Value::Float(Dispatch::float_clamp_min(a, b)),
            Binary::Equal => Value::Bool(Dispatch::float_equal_elem(a, b, bools)),
            Binary::NotEqual => Value::Bool(Dispatch::float_not_equal_elem(a, b, bools)),
            Binary::Greater => Value::Bool(Dispatch::float_greater_elem(a, b, bools)),
            Binary::GreaterEqual => Value::Bool(Dispatch::float_greater_equal_elem(a, b, bools)),
            Binary::Lower => Value::Bool(Dispatch::float_lower_elem(a, b, bools)),
            Binary::LowerEqual => Value::Bool(Dispatch::float_lower_equal_elem(a, b, bools)),
            Binary::Atan2 | Binary::And | Binary::Or | Binary::Xor => {
                return Err(format!("{op:?} is not defined for float and a literal"));
            }
        },
        Value::Int(a) => match op {
            Binary::Add => Value::Int(Dispatch::int_add_scalar(a, b)),
            Binary::Sub => Value::Int(Dispatch::int_sub_scalar(a, b)),
            Binary::Mul => Value::Int(Dispatch::int_mul_scalar(a, b)),
            Binary::Div => Value::Int(Dispatch::int_div_scalar(a, b)),
            Binary::Rem => Value::Int(Dispatch::int_remainder_scalar(a, b)),
            Binary::Pow => Value::Int(Dispatch::int_powi_scalar(a, b)),
            Binary::Min => Value::Int(Dispatch::int_clamp_max(a, b)),
            Binary::Max => Value::Int(Dispatch::int_clamp_min(a, b)),
            Binary::And => Value::Int(Dispatch::bitwise_and_scalar(a, b)),
            Binary::Or => Value::Int(Dispatch::bitwise_or_scalar(a, b)),
            Binary::Xor => Value::Int(Dispatch::bitwise_xor_scalar(a, b)),
            Binary::Equal => Value::Bool(Dispatch::int_equal_elem(a, b, bools)),
            Binary::NotEqual => Value::Bool(Dispatch::int_not_equal_elem(a, b, bools)),
            Binary::Greater => Value::Bool(Dispatch::int_greater_elem(a, b, bools)),
            Binary::GreaterEqual => Value::Bool(Dispatch::int_greater_equal_elem(a, b, bools)),
            Binary::Lower => Value::Bool(Dispatch::int_lower_elem(a, b, bools)),
            Binary::LowerEqual => Value::Bool(Dispatch::int_lower_equal_elem(a, b, bools)),
            Binary::Atan2 => return Err(undefined(op, Kind::Int)),
        },
        Value::Bool(a) => Value::Bool(match op {
            Binary::Equal => Dispatch::bool_equal_elem(a, b),
            Binary::NotEqual => Dispatch::bool_not_equal_elem(a, b),
            _ => return Err(format!("{op:?} is not defined for bool and a literal")),
        }),
    })
}

pub(super) fn clamp(min: f64, max: f64, mut args: Args) -> Result<Value, Reason> {
    match args.any()? {
        Value::Float(x) => Ok(Value::Float(Dispatch::float_clamp(x, min.into(), max.into()))),
        Value::Int(x) => Ok(Value::Int(Dispatch::int_clamp(x, (min as i64).into(), (max as i64).into()))),
        Value::Bool(_) => Err(undefined("clamp", Kind::Bool)),
    }
}

pub(super) fn choose(mut args: Args) -> Result<Value, Reason> {
    let (a, mask, b) = (args.any()?, args.bool()?, args.any()?);
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => Ok(Value::Float(Dispatch::float_mask_where(a, mask, b))),
        (Value::Int(a), Value::Int(b)) => Ok(Value::Int(Dispatch::int_mask_where(a, mask, b))),
        (Value::Bool(a), Value::Bool(b)) => Ok(Value::Bool(Dispatch::bool_mask_where(a, mask, b))),
        (a, b) => Err(format!("there is no choice between {} and {}", a.kind(), b.kind())),
    }
}

pub(super) fn mask_fill(value: Scalar, mut args: Args) -> Result<Value, Reason> {
    let (x, mask) = (args.any()?, args.bool()?);
    let value = literal_of(value, x.kind());
    Ok(match x {
        Value::Float(x) => Value::Float(Dispatch::float_mask_fill(x, mask, value)),
        Value::Int(x) => Value::Int(Dispatch::int_mask_fill(x, mask, value)),
        Value::Bool(x) => Value::Bool(Dispatch::bool_mask_fill(x, mask, value)),
    })
}

pub(super) fn cast(
    kind: Kind,
    precision: Option<&str>,
    mut args: Args,
    context: &Context,
) -> Result<Value, Reason> {
    let x = args.any()?;
    let floats = || float_precision(precision, context);
    let ints = || int_precision(precision, context);
    Ok(match (x, kind) {
        (Value::Float(x), Kind::Float) => Value::Float(Dispatch::float_cast(x, floats()?)),
        (Value::Float(x), Kind::Int) => Value::Int(Dispatch::float_into_int(x, ints()?)),
        (Value::Int(x), Kind::Float) => Value::Float(Dispatch::int_into_float(x, floats()?)),
        (Value::Int(x), Kind::Int) => Value::Int(Dispatch::int_cast(x, ints()?)),
        (Value::Bool(x), Kind::Float) => Value::Float(Dispatch::bool_into_float(x, floats()?)),
        (Value::Bool(x), Kind::Int) => Value::Int(Dispatch::bool_into_int(x, ints()?)),
        (Value::Bool(x), Kind::Bool) => Value::Bool(x),
        // burn's tensors become truth values by comparison.
        (Value::Float(x), Kind::Bool) => {
            Value::Bool(Dispatch::float_not_equal_elem(x, 0f64.into(), context.settings.bool_dtype))
        }
        (Value::Int(x), Kind::Bool) => {
            Value::Bool(Dispatch::int_not_equal_elem(x, 0i64.into(), context.settings.bool_dtype))
        }
    })
}

/// burn's names of precisions.
pub(super) fn precision(name: &str) -> Option<DType> {
    Some(match name {
        "f64" => DType::F64,
        "f32" => DType::F32,
        "flex32" => DType::Flex32,
        "f16" => DType::F16,
        "bf16" => DType::BF16,
        "i64" => DType::I64,
        "i32" => DType::I32,
        "i16" => DType::I16,
        "i8" => DType::I8,
        "u64" => DType::U64,
        "u32" => DType::U32,
        "u16" => DType::U16,
        "u8" => DType::U8,
        _ => return None,
    })
}

fn float_precision(name: Option<&str>, context: &Context) -> Result<FloatDType, Reason> {
    let Some(name) = name else { return Ok(context.settings.float_dtype) };
    let dtype = precision(name).filter(DType::is_float);
    dtype.map(FloatDType::from).ok_or_else(|| format!("`{name}` is no precision of floats"))
}

fn int_precision(name: Option<&str>, context: &Context) -> Result<IntDType, Reason> {
    let Some(name) = name else { return Ok(context.settings.int_dtype) };
    let dtype = precision(name).filter(|dtype| !dtype.is_float());
    dtype.map(IntDType::from).ok_or_else(|| format!("`{name}` is no precision of integers"))
}
