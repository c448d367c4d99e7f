//! Settings, and the optimizers that they make.

#![allow(clippy::unwrap_used)]
use super::*;
use burn::module::Param;
use burn::nn::{Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use kd_core::Params;

use crate::learner::{Learner, TensorMap, map_weights};

/// Three steps on $\frac12 \sum_i c_i w_i^2$ with c = (1, -2, 1/2), in double precision by the rules in the documentation of PyTorch's
/// `torch.optim`, from w = (1/2, -1, 2), with learning rate 0.1, weight decay 0.01 and otherwise the defaults:
///
/// ```text
/// SGD:    g = c w + d w;  v = g at first, then 0.9 v + g;  w -= lr v,  or lr (g + 0.9 v) with nesterov
/// Adam:   g = c w + d w;  m = 0.9 m + 0.1 g;  v = 0.999 v + 0.001 g²;  w -= lr m/(1-0.9^t) / (sqrt(v/(1-0.999^t)) + 1e-8)
/// AdamW:  w *= 1 - lr d, then as Adam with g = c w of before
/// ```
#[test]
fn three_steps_of_every_optimizer_are_those_of_pytorch() {
    let golden = [
        (OptimizerKind::Sgd, false, [0.24066225, -2.3143554, 1.4524843]),
        (OptimizerKind::Sgd, true, [0.16092984, -3.20657474, 1.24953171]),
        (OptimizerKind::Adam, false, [0.20487126, -1.30049005, 1.70062339]),
        (OptimizerKind::Adamw, false, [0.20371239, -1.29719201, 1.69494452]),
    ];
    let device = Device::flex().autodiff();
    for (kind, nesterov, expected) in golden {
        let settings = OptimizerSettings {
            kind,
            nesterov,
            learning_rate: 0.1,
            weight_decay: 0.01,
            ..Default::default()
        };
        let mut optimizer = settings.optimizer().unwrap();
        let factors = Tensor::<1>::from_floats([1.0, -2.0, 0.5], &device);
        let mut weight = Param::from_tensor(Tensor::<1>::from_floats([0.5, -1.0, 2.0], &device));
        for _ in 0..3 {
            let loss = (weight.val().square() * factors.clone()).sum() * 0.5;
            let grads = GradientsParams::from_grads(loss.backward(), &weight);
            weight = optimizer.step(0.1, weight, grads);
        }
        let found = weight.val().into_data().try_to_vec::<f32>().unwrap();
        let near = |(a, b): (&f32, f64)| (f64::from(*a) - b).abs() < 2e-6;
        assert!(found.iter().zip(expected).all(near), "{kind:?}: {found:?}, expected {expected:?}");
    }
}

/// One step of plain descent from weights of 1 under a gradient of 1.
fn one_step(settings: &OptimizerSettings) -> [f32; 3] {
    struct One;
    impl TensorMap for One {
        fn map<const D: usize>(&mut self, _path: &str, tensor: Tensor<D>) -> Tensor<D> {
            tensor.ones_like()
        }
    }
    let device = Device::flex().autodiff();
    let mut adapters = Params::default();
    adapters.insert("hint.weight", Tensor::<1>::ones([1], &device)).unwrap();
    let learner = Learner { student: LinearConfig::new(1, 1).init(&device), adapters };
    let learner = map_weights(learner, &mut One);
    let adapter = |learner: &Learner<Linear>| learner.adapters.get::<1>("hint.weight").unwrap();
    let input = Tensor::<2>::ones([1, 1], &device);
    let loss = learner.student.forward(input).sum() + adapter(&learner).sum();
    let grads = GradientsParams::from_grads(loss.backward(), &learner);
    let rates = settings.scheduler(1, 1).unwrap().step();
    let learner = settings.optimizer().unwrap().step(rates, learner, grads);
    let bias = learner.student.bias.as_ref().unwrap().val();
    [
        learner.student.weight.val().into_scalar::<f32>(),
        bias.into_scalar::<f32>(),
        adapter(&learner).into_scalar::<f32>(),
    ]
}

#[test]
fn a_group_has_its_own_learning_rate_and_decay_and_the_last_that_matches_counts() {
    let group = |pattern: &str, learning_rate, weight_decay| ParameterGroup {
        pattern: pattern.into(),
        learning_rate,
        weight_decay,
    };
    let general =
        OptimizerSettings { learning_rate: 0.1, momentum: 0.0, weight_decay: 0.3, ..Default::default() };
    let close = |found: [f32; 3], expected: [f32; 3]| {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} {expected:?}");
    };
    // Weight, bias, adapter: the bias is not decayed.
    close(one_step(&general), [1.0 - 0.1 * 1.3, 1.0 - 0.1, 1.0 - 0.1 * 1.3]);
    let groups = vec![group(r"^adapters\.", Some(0.5), None), group(r"^student\.weight$", None, Some(0.2))];
    close(
        one_step(&OptimizerSettings { groups, ..general.clone() }),
        [1.0 - 0.1 * 1.2, 1.0 - 0.1, 1.0 - 0.5 * 1.3],
    );
    let groups = vec![group("^student", Some(0.2), Some(0.4)), group("bias$", Some(0.3), None)];
    close(
        one_step(&OptimizerSettings { groups, ..general }),
        [1.0 - 0.2 * 1.4, 1.0 - 0.3 * 1.4, 1.0 - 0.1 * 1.3],
    );
}

#[test]
fn norms_and_biases_are_not_decayed_unless_asked_for() {
    let group = pattern(NORMS_AND_BIASES).unwrap();
    let matches = |path: &str| group.matches(&Default::default(), Some(path));
    assert!(["student.fc.bias", "bias", "student.bn1.gamma", "a.beta"].into_iter().all(matches));
    assert!(!["student.fc.weight", "student.bias_net.weight", "alphabeta"].into_iter().any(matches));
}

#[test]
fn a_bad_value_is_an_error_with_key_value_and_range() {
    let settings = OptimizerSettings { learning_rate: -0.1, ..Default::default() };
    let error = settings.validate().unwrap_err().to_string();
    assert_eq!(error, "`optimizer.learning-rate` is -0.1, but it must be above 0, at most 1");
    let bad = ParameterGroup { pattern: "(".into(), learning_rate: None, weight_decay: None };
    assert!(OptimizerSettings { groups: vec![bad], ..Default::default() }.validate().is_err());
}
