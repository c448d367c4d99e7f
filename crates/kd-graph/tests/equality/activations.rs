//! Non-linearities and distributions.

use burn::tensor::Tensor;
use burn::tensor::activation as burn_activation;
use kd_graph::{Activation, Op};

use crate::support::{Arg::*, B, same};

type Native = fn(Tensor<3>) -> Tensor<3>;

#[test]
fn every_activation_is_burns() {
    let cases: Vec<(Activation, Native)> = vec![
        (Activation::Relu, burn_activation::relu),
        (Activation::LeakyRelu { slope: 0.2 }, |x| burn_activation::leaky_relu(x, 0.2)),
        (Activation::Gelu, burn_activation::gelu),
        (Activation::GeluTanh, burn_activation::gelu_approximate),
        (Activation::Sigmoid, burn_activation::sigmoid),
        (Activation::HardSigmoid { alpha: 0.3, beta: 0.4 }, |x| burn_activation::hard_sigmoid(x, 0.3, 0.4)),
        (Activation::LogSigmoid, burn_activation::log_sigmoid),
        (Activation::Silu, burn_activation::silu),
        (Activation::HardSwish, burn_activation::hard_swish),
        (Activation::Softplus { beta: 1.5 }, |x| burn_activation::softplus(x, 1.5)),
        (Activation::Softsign, burn_activation::softsign),
        (Activation::Mish, burn_activation::mish),
        (Activation::Elu { alpha: 0.7 }, |x| burn_activation::elu(x, 0.7)),
        (Activation::Celu { alpha: 0.7 }, |x| burn_activation::celu(x, 0.7)),
        (Activation::Selu, burn_activation::selu),
        (Activation::Tanh, burn_activation::tanh),
    ];
    for (activation, native) in cases {
        same(Op::Activation(activation), &[Input(vec![B, 3, 5])], |v| native(v[0].float().unwrap()).into());
    }
}

#[test]
fn prelu_with_one_slope_and_with_one_for_every_channel() {
    for slopes in [1, 3] {
        let args = [Input(vec![B, 3, 4]), Weight(vec![slopes])];
        same(Op::Activation(Activation::Prelu), &args, |v| {
            burn_activation::prelu(v[0].float::<3>().unwrap(), v[1].float().unwrap()).into()
        });
    }
}

#[test]
fn activations_keep_any_rank() {
    same(Op::Activation(Activation::Mish), &[Input(vec![B, 2, 1, 3, 2, 2])], |v| {
        burn_activation::mish(v[0].float::<6>().unwrap()).into()
    });
    same(Op::Activation(Activation::Silu), &[Input(vec![4])], |v| {
        burn_activation::silu(v[0].float::<1>().unwrap()).into()
    });
}

#[test]
fn softmax_and_log_softmax_along_every_axis() {
    for axis in [1, 2] {
        same(Op::Softmax { axis }, &[Input(vec![B, 3, 5])], |v| {
            burn_activation::softmax(v[0].float::<3>().unwrap(), axis).into()
        });
        same(Op::LogSoftmax { axis }, &[Input(vec![B, 3, 5])], |v| {
            burn_activation::log_softmax(v[0].float::<3>().unwrap(), axis).into()
        });
    }
}
