//! Our optimizers and burn's: results, memory, records.
#![allow(clippy::unwrap_used)]

use burn::backend::Flex;
use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, AdamWConfig, GradientsParams, ModuleOptimizer, Optimizer, SgdConfig};
use burn::tensor::{DType, Device, Tensor, TensorData};
use kd_data::mix;

use super::{Adam, AdamDecay, Sgd};

/// Every rule as ours and as burn's, with a name.
fn pairs(kernels: bool) -> Vec<(String, ModuleOptimizer, ModuleOptimizer)> {
    let mut pairs = Vec::new();
    for (momentum, dampening, nesterov, weight_decay) in
        [(0.0, 0.0, false, 0.0), (0.0, 0.0, false, 0.05), (0.9, 0.0, false, 0.05), (0.9, 0.1, true, 0.0)]
    {
        let ours = Sgd { momentum, dampening, nesterov, weight_decay, kernels };
        let burns = SgdConfig::new()
            .with_momentum((momentum > 0.0).then_some(MomentumConfig { momentum, dampening, nesterov }))
            .with_weight_decay((weight_decay > 0.0).then(|| WeightDecayConfig::new(weight_decay as f32)));
        pairs.push((format!("{ours:?}"), ours.into(), burns.init()));
    }
    for amsgrad in [false, true] {
        let adam =
            Adam { epsilon: 1e-5, amsgrad, decay: AdamDecay::Gradient(0.05), kernels, ..Adam::default() };
        let decay = Some(WeightDecayConfig::new(0.05));
        let burns = AdamConfig::new().with_epsilon(1e-5).with_amsgrad(amsgrad).with_weight_decay(decay);
        pairs.push((format!("{adam:?}"), adam.into(), burns.init()));
        let adam_w = Adam { decay: AdamDecay::Weight(0.05), ..adam };
        let burns = AdamWConfig::new().with_epsilon(1e-5).with_amsgrad(amsgrad).with_weight_decay(0.05);
        pairs.push((format!("{adam_w:?}"), adam_w.into(), burns.init()));
    }
    pairs
}

fn layer(dtype: DType) -> Linear {
    let layer = LinearConfig::new(37, 5).init(&Device::flex().autodiff());
    Linear {
        weight: layer.weight.map(|weight| weight.inner().cast(dtype).autodiff().require_grad()),
        bias: layer.bias.map(|bias| bias.map(|bias| bias.inner().cast(dtype).autodiff().require_grad())),
    }
}

/// Gradients that differ from step to step; that of the weight is a transposed view.
fn gradients(layer: &Linear, step: u64) -> GradientsParams {
    let bias = layer.bias.as_ref().unwrap();
    // Not from the device's random numbers, which tests that run at the same time share.
    let noise = |shape: [usize; 2]| {
        let number = |index| (mix(&[step, index]) as f64 / u64::MAX as f64 * 4.0 - 2.0) as f32;
        let numbers: Vec<f32> = (0..(shape[0] * shape[1]) as u64).map(number).collect();
        Tensor::<2>::from_data(TensorData::new(numbers, shape), &Device::flex())
    };
    let dtype = bias.val().dtype();
    let mut gradients = GradientsParams::new();
    gradients.register(layer.weight.id, noise([5, 37]).transpose().cast(dtype));
    gradients.register(bias.id, noise([1, 5]).squeeze_dim::<1>(0).cast(dtype));
    gradients
}

/// `steps` steps, the first of which is number `first`.
fn train(optimizer: &mut ModuleOptimizer, layer: Linear, first: u64, steps: u64) -> Linear {
    (first..first + steps).fold(layer, |layer, step| {
        let gradients = gradients(&layer, step);
        optimizer.step(0.05, layer, gradients)
    })
}

/// The largest difference of two layers' numbers.
fn difference(a: &Linear, b: &Linear) -> f64 {
    let largest =
        |x: Tensor<1>, y: Tensor<1>| f64::from((x - y).abs().max().cast(DType::F32).into_scalar::<f32>());
    let flat = |layer: &Linear| layer.weight.val().inner().flatten(0, 1);
    let bias = |layer: &Linear| layer.bias.as_ref().unwrap().val().inner();
    largest(flat(a), flat(b)).max(largest(bias(a), bias(b)))
}

/// Where a parameter's numbers lie.
fn address<const D: usize>(parameter: &Param<Tensor<D>>) -> *const u8 {
    parameter.val().inner().try_into_primitive::<Flex>().unwrap().bytes().as_ptr()
}

#[test]
fn kernels_make_burns_steps() {
    for (name, mut ours, mut burns) in pairs(true) {
        let start = layer(DType::F32);
        let (ours, burns) = (train(&mut ours, start.clone(), 0, 6), train(&mut burns, start.clone(), 0, 6));
        assert!(difference(&ours, &start) > 0.1, "{name}");
        assert!(difference(&ours, &burns) < 1e-6, "{name}: {}", difference(&ours, &burns));
    }
}

#[test]
fn without_kernels_a_step_is_burns_to_the_last_bit() {
    for (kernels, dtype) in [(false, DType::F32), (true, DType::F64)] {
        for (name, mut ours, mut burns) in pairs(kernels) {
            let start = layer(dtype);
            let ours = train(&mut ours, start.clone(), 0, 4);
            let burns = train(&mut burns, start.clone(), 0, 4);
            assert!(difference(&ours, &start) > 0.01, "{name} {dtype:?}");
            assert_eq!(difference(&ours, &burns), 0.0, "{name} {dtype:?}");
        }
    }
}

#[test]
fn records_go_from_ours_to_burns_and_back() {
    for (name, ours, burns) in pairs(true) {
        let start = layer(DType::F32);
        for (mut one, other) in [(ours.clone(), burns.clone()), (burns, ours)] {
            let half = train(&mut one, start.clone(), 0, 3);
            let mut other = other.from_bytes(one.to_record().into_bytes().unwrap()).unwrap();
            let on = train(&mut one, half.clone(), 3, 2);
            let taken_up = train(&mut other, half, 3, 2);
            assert!(difference(&on, &taken_up) < 1e-6, "{name}: {}", difference(&on, &taken_up));
        }
    }
}

#[test]
fn a_weight_that_nobody_else_holds_stays_where_it_is() {
    for (name, mut ours, _) in pairs(true) {
        let layer = train(&mut ours, layer(DType::F32), 0, 1);
        let before = address(&layer.weight);
        let layer = train(&mut ours, layer, 1, 3);
        assert_eq!(address(&layer.weight), before, "{name}");
    }
}

#[test]
fn a_copy_of_the_model_keeps_its_weights() {
    for (name, mut ours, _) in pairs(true) {
        let layer = train(&mut ours, layer(DType::F32), 0, 1);
        let copy = layer.clone();
        let numbers = copy.weight.val().into_data();
        let evaluated = layer.valid();
        train(&mut ours, layer, 1, 1);
        assert_eq!(copy.weight.val().into_data(), numbers, "{name}");
        assert_eq!(evaluated.weight.val().into_data(), numbers, "{name}");
    }
}

#[test]
fn a_view_of_a_larger_tensor_is_changed_and_the_rest_is_not() {
    let device = Device::flex();
    let whole = Tensor::<2>::ones([4, 3], &device);
    let (gradient, view) = (Tensor::<2>::ones([2, 3], &device), whole.clone().narrow(0, 1, 2));
    let (view, _) = Sgd::default().step(0.5, view, gradient, None);
    assert_eq!(view.into_data(), Tensor::<2>::full([2, 3], 0.5, &device).into_data());
    assert_eq!(whole.into_data(), Tensor::<2>::ones([4, 3], &device).into_data());
}
