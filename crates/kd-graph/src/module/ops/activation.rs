//! Activations: burn's own functions, at the tensor's rank.

use burn::backend::ops::ActivationOps;
use burn::backend::{Dispatch, TensorMetadata};
use burn::tensor::{Tensor, activation};

use super::super::Value;
use super::{Args, Reason};
use crate::Activation;

/// Runs `$body` with `$x` bound to burn's tensor of the primitive's rank.
macro_rules! at_rank {
    ($primitive:expr, $x:ident => $body:expr) => {
        at_rank!(@ $primitive, $x, $body, 1 2 3 4 5 6 7 8)
    };
    (@ $primitive:expr, $x:ident, $body:expr, $($rank:literal)*) => {{
        let primitive = $primitive;
        match primitive.shape().len() {
            $($rank => {
                let $x = Tensor::<$rank>::from_dispatch(primitive);
                Ok(Value::Float($body.into_dispatch()))
            })*
            rank => Err(format!("activations of tensors of {rank} axes are not supported")),
        }
    }};
}

pub(super) fn run(activation: &Activation, mut args: Args) -> Result<Value, Reason> {
    let x = args.float()?;
    match *activation {
        Activation::Relu => Ok(Value::Float(Dispatch::relu(x))),
        Activation::LeakyRelu { slope } => Ok(Value::Float(Dispatch::leaky_relu(x, slope.into()))),
        Activation::Gelu => Ok(Value::Float(Dispatch::gelu(x))),
        Activation::Sigmoid => Ok(Value::Float(Dispatch::sigmoid(x))),
        Activation::HardSigmoid { alpha, beta } => {
            Ok(Value::Float(Dispatch::hard_sigmoid(x, alpha.into(), beta.into())))
        }
        Activation::LogSigmoid => Ok(Value::Float(Dispatch::log_sigmoid(x))),
        Activation::Prelu => {
            let slope = Tensor::<1>::from_dispatch(args.float()?);
            at_rank!(x, x => activation::prelu(x, slope))
        }
        Activation::GeluTanh => at_rank!(x, x => activation::gelu_approximate(x)),
        Activation::Silu => at_rank!(x, x => activation::silu(x)),
        Activation::HardSwish => at_rank!(x, x => activation::hard_swish(x)),
        Activation::Softplus { beta } => at_rank!(x, x => activation::softplus(x, beta)),
        Activation::Softsign => at_rank!(x, x => activation::softsign(x)),
        Activation::Mish => at_rank!(x, x => activation::mish(x)),
        Activation::Elu { alpha } => at_rank!(x, x => activation::elu(x, alpha)),
        Activation::Celu { alpha } => at_rank!(x, x => activation::celu(x, alpha)),
        Activation::Selu => at_rank!(x, x => activation::selu(x)),
        Activation::Tanh => at_rank!(x, x => activation::tanh(x)),
    }
}

pub(super) fn softmax(axis: usize, mut args: Args) -> Result<Value, Reason> {
    Ok(Value::Float(Dispatch::softmax(args.float()?, axis)))
}

pub(super) fn log_softmax(axis: usize, mut args: Args) -> Result<Value, Reason> {
    Ok(Value::Float(Dispatch::log_softmax(args.float()?, axis)))
}
