//! Dropout.

use burn::backend::ops::FloatTensorOps;
use burn::backend::{Dispatch, TensorMetadata};
use burn::tensor::Distribution;

use super::Value;
use super::ops::{Args, Reason};
use super::value::is_autodiff;

/// As burn's layer: in training, elements are zeroed with probability `rate` and the others divided by `1 - rate`; else nothing happens.
/// It draws as many random numbers in the same order, so that with the same seed it drops the same elements.
pub(super) fn run(rate: f64, enabled: bool, mut args: Args) -> Result<Value, Reason> {
    let x = args.float()?;
    if !enabled || !is_autodiff(&x) || rate == 0.0 {
        return Ok(Value::Float(x));
    }
    let keep = 1.0 - rate;
    let mask =
        Dispatch::float_random(x.shape(), Distribution::Bernoulli(keep), &x.device(), x.dtype().into());
    let kept = Dispatch::float_mul(x, mask);
    Ok(Value::Float(Dispatch::float_mul_scalar(kept, (1.0 / keep).into())))
}
