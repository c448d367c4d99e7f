//! Batch norm: statistics of the batch in training, running ones in evaluation.

use burn::backend::ops::ModuleOps;
use burn::backend::{Dispatch, DispatchTensor, TensorMetadata};
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

    let Some(training) = training(module, norm, &x, node)? else {
        return Ok(Value::Float(Dispatch::batch_norm(x, gamma, beta, mean, variance, epsilon)));
    };
    let device = Device::new(x.device());
    drop((mean, variance));
    let result = Dispatch::batch_norm_train(x, gamma, beta, epsilon);
    let batch = [Tensor::from_dispatch(result.mean), Tensor::from_dispatch(result.variance)];
    training.update(module, batch, &device);
    Ok(Value::Float(result.output))
}

/// A batch norm that takes the batch's statistics.
pub(super) struct Training {
    state: State,
    momentum: f64,
}

/// Whether a batch norm trains with this input.
pub(super) fn training(
    module: &GraphModule,
    norm: &Norm,
    x: &DispatchTensor,
    node: &str,
) -> Result<Option<Training>, RunError> {
    if !(is_autodiff(x) && norm.state.is_none_or(|state| module.is_training(state.flag))) {
        return Ok(None);
    }
    let state = norm.state.ok_or_else(|| RunError::Statistics { node: node.to_owned() })?;
    let momentum = norm.attributes.momentum.ok_or_else(|| RunError::Momentum { node: node.to_owned() })?;
    Ok(Some(Training { state, momentum }))
}

impl Training {
    /// Moves the running statistics. Both are read before either is written, as burn's layer does.
    pub(super) fn update(&self, module: &GraphModule, batch: [Tensor<1>; 2], device: &Device) {
        let Self { state, momentum } = *self;
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
}
