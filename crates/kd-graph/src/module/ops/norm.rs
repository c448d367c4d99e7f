//! Normalisation without running statistics.

use burn::backend::ops::{FloatTensorOps, ModuleOps};
use burn::backend::{Dispatch, DispatchTensor, TensorMetadata};
use burn::tensor::{DType, FloatDType};

use super::super::Value;
use super::{Args, Reason};

pub(super) fn layer(epsilon: f64, mut args: Args) -> Result<Value, Reason> {
    let (x, gamma, beta) = (args.float()?, args.float()?, args.optional_float()?);
    Ok(Value::Float(Dispatch::layer_norm(x, gamma, beta, epsilon)))
}

/// The sequence of burn's group norm. Instance norm is one with as many groups as channels.
pub(super) fn group(groups: Option<usize>, epsilon: f64, mut args: Args) -> Result<Value, Reason> {
    let (x, gamma, beta) = (args.float()?, args.optional_float()?, args.optional_float()?);
    let shape = x.shape();
    let [batch, channels, rest @ ..] = shape.as_slice() else {
        return Err("a group norm takes at least two axes".into());
    };
    let groups = groups.unwrap_or(*channels);
    let hidden = rest.iter().product::<usize>() * channels / groups.max(1);
    let x = Dispatch::float_reshape(x, [*batch, groups, hidden].into());
    let mean = Dispatch::float_mean_dim(x.clone(), 2);
    let x = Dispatch::float_sub(x, mean);
    let variance = Dispatch::float_mean_dim(square(x.clone()), 2);
    let deviation = Dispatch::float_sqrt(Dispatch::float_add_scalar(variance, epsilon.into()));
    let x = Dispatch::float_reshape(Dispatch::float_div(x, deviation), shape.clone());
    let (Some(gamma), Some(beta)) = (gamma, beta) else { return Ok(Value::Float(x)) };

    let mut affine = vec![1; shape.len()];
    affine[1] = *channels;
    let x = Dispatch::float_mul(x, Dispatch::float_reshape(gamma, affine.clone().into()));
    Ok(Value::Float(Dispatch::float_add(x, Dispatch::float_reshape(beta, affine.into()))))
}

/// The sequence of burn's RMS norm: the mean square is computed in single precision.
pub(super) fn rms(epsilon: f64, mut args: Args) -> Result<Value, Reason> {
    let (x, gamma) = (args.float()?, args.float()?);
    let shape = x.shape();
    let last = shape.len().checked_sub(1).ok_or("an RMS norm takes at least one axis")?;
    let dtype = x.dtype();
    let mean = Dispatch::float_mean_dim(square(cast(x.clone(), DType::F32)), last);
    let rms = Dispatch::float_sqrt(Dispatch::float_add_scalar(mean, epsilon.into()));
    let x = Dispatch::float_div(x, cast(rms, dtype));
    let mut affine = vec![1; shape.len()];
    affine[last] = shape[last];
    Ok(Value::Float(Dispatch::float_mul(x, Dispatch::float_reshape(gamma, affine.into()))))
}

fn square(x: DispatchTensor) -> DispatchTensor {
    Dispatch::float_powi_scalar(x, 2i64.into())
}

fn cast(x: DispatchTensor, dtype: DType) -> DispatchTensor {
    if x.dtype() == dtype { x } else { Dispatch::float_cast(x, FloatDType::from(dtype)) }
}
