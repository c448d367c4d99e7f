//! Normalisation without running statistics.

use burn::module::Param;
use burn::nn::{GroupNormConfig, InstanceNormConfig, RmsNormConfig};
use burn::tensor::module::layer_norm;
use burn::tensor::{Device, Tensor};
use kd_graph::{Op, Value};

use crate::support::{Arg::*, B, same};

/// A parameter that passes gradients on to what made it.
fn param<const D: usize>(value: &Value) -> Param<Tensor<D>> {
    Param::initialized(burn::module::ParamId::new(), value.float().unwrap())
}

#[test]
fn layer_norm_with_and_without_beta() {
    same(Op::LayerNorm { epsilon: 1e-3 }, &[Input(vec![B, 4, 6]), Weight(vec![6]), Weight(vec![6])], |v| {
        let beta = Some(v[2].float().unwrap());
        layer_norm(v[0].float::<3>().unwrap(), v[1].float().unwrap(), beta, 1e-3).into()
    });
    same(Op::LayerNorm { epsilon: 1e-5 }, &[Input(vec![B, 6]), Weight(vec![6])], |v| {
        layer_norm(v[0].float::<2>().unwrap(), v[1].float().unwrap(), None, 1e-5).into()
    });
}

#[test]
fn group_norm_is_burns() {
    same(
        Op::GroupNorm { groups: 2, epsilon: 1e-4 },
        &[Input(vec![B, 6, 3, 2]), Weight(vec![6]), Weight(vec![6])],
        |v| {
            let mut layer = GroupNormConfig::new(2, 6).with_epsilon(1e-4).init(&Device::flex());
            layer.gamma = Some(param(&v[1]));
            layer.beta = Some(param(&v[2]));
            layer.forward(v[0].float::<4>().unwrap()).into()
        },
    );
    same(Op::GroupNorm { groups: 3, epsilon: 1e-4 }, &[Input(vec![B, 6, 5])], |v| {
        let layer = GroupNormConfig::new(3, 6).with_epsilon(1e-4).with_affine(false).init(&Device::flex());
        layer.forward(v[0].float::<3>().unwrap()).into()
    });
}

#[test]
fn instance_norm_is_burns() {
    same(
        Op::InstanceNorm { epsilon: 1e-4 },
        &[Input(vec![B, 3, 4, 2]), Weight(vec![3]), Weight(vec![3])],
        |v| {
            let mut layer = InstanceNormConfig::new(3).with_epsilon(1e-4).init(&Device::flex());
            layer.gamma = Some(param(&v[1]));
            layer.beta = Some(param(&v[2]));
            layer.forward(v[0].float::<4>().unwrap()).into()
        },
    );
}

#[test]
fn rms_norm_is_burns() {
    same(Op::RmsNorm { epsilon: 1e-4 }, &[Input(vec![B, 4, 5]), Weight(vec![5])], |v| {
        let mut layer = RmsNormConfig::new(5).with_epsilon(1e-4).init(&Device::flex());
        layer.gamma = param(&v[1]);
        layer.forward(v[0].float::<3>().unwrap()).into()
    });
}
