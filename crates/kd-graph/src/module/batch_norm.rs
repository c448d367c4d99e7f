//! Batch norm: statistics of the batch in training, running ones in evaluation.

use burn::backend::ops::ModuleOps;
use burn::backend::{Dispatch, TensorMetadata};
use burn::tensor::{Device, Tensor};

use super::ops::Args;
use super::plan::{Norm, State};
use super::value::is_autodiff;
use super::{GraphModule, RunError, Value};

/// As burn's layer: it trains when its input is on an autodiff device and its flag is on, and then moves the running statistics by
///
/// ```text
/// running <- (1 - momentum) · running + momentum · batch
/// ```
///
/// where the batch's variance is the biased one.
pub(super) fn run(module: &GraphModule, norm: &Norm, mut args: Args, node: &str) -> Result<Value, RunError> {
    let wrong = |reason| RunError::Op { node: node.to_owned(), reason };
    let x = args.float().map_err(wrong)?;
    let gamma = args.float().map_err(wrong)?;
    let beta = args.float().map_err(wrong)?;
    let mean = args.float().map_err(wrong)?;
    let variance = args.float().map_err(wrong)?;
    let epsilon = norm.attributes.epsilon;

    let enabled = norm.state.is_none_or(|state| module.is_training(state.flag));
    if !(enabled && is_autodiff(&x)) {
        return Ok(Value::Float(Dispatch::batch_norm(x, gamma, beta, mean, variance, epsilon)));
    }

    let state = norm.state.ok_or_else(|| RunError::Statistics { node: node.to_owned() })?;
    let momentum = norm.attributes.momentum.ok_or_else(|| RunError::Momentum { node: node.to_owned() })?;
    let device = Device::new(x.device());
    drop((mean, variance));
    let result = Dispatch::batch_norm_train(x, gamma, beta, epsilon);
    let batch = [Tensor::from_dispatch(result.mean), Tensor::from_dispatch(result.variance)];
    update(module, state, batch, momentum, &device);
    Ok(Value::Float(result.output))
}

/// Both statistics are read before either is written, as burn's layer does.
fn update(module: &GraphModule, state: State, batch: [Tensor<1>; 2], momentum: f64, device: &Device) {
    let weights = [state.mean, state.variance];
    let states = weights.map(|index| module.weights.get(index).and_then(|weight| weight.running()));
    let moved = states.map(|state| state.map(|state| state.value_sync().to_device(device)));
    for ((state, running), batch) in states.into_iter().zip(moved).zip(batch) {
        if let (Some(state), Some(running)) = (state, running) {
            let running = running.mul_scalar(1.0 - momentum).add(batch.detach().mul_scalar(momentum));
            state.update(running.detach());
        }
    }
}
