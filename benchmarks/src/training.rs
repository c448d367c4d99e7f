//! The training step that ours and the peers' programs are timed at.

use anyhow::{Context, Result};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Int, Tensor};
use kd_core::{Network, Taps};
use kd_graph::{GraphModule, trace};
use kd_models::{InputShape, ModelSpec};
use kd_train::OptimizerSettings;

const CLASSES: usize = 10;

/// The images that a model of the zoo is for: MNIST's for LeNet and the MLPs, CIFAR's otherwise.
pub fn input_shape(model: &str) -> InputShape {
    if model.starts_with("lenet") || model.starts_with("mlp") { InputShape::MNIST } else { InputShape::CIFAR }
}

/// A model of the zoo as a graph on `device`, with initial weights.
///
/// # Errors
/// A name that the zoo doesn't have, or a trace that fails.
pub fn graph(model: &str, device: &Device) -> Result<GraphModule> {
    let shape = input_shape(model);
    let zoo = model.parse::<ModelSpec>()?.init(shape, CLASSES, device)?;
    let input = Tensor::<4>::zeros([2, shape.channels, shape.height, shape.width], device);
    Ok(GraphModule::new(trace(&zoo, input, |zoo, input| zoo.forward(input, &mut Taps::none()))?, device)?)
}

/// A closure that makes one step on a batch which stays in memory: forward, mean cross-entropy, backward, SGD with momentum 0.9 and decay 1e-4 of
/// all parameters, as `scripts/peers/pytorch_step.py` does.
///
/// # Errors
/// Never for a graph of the zoo; the closure fails when a step does.
pub fn training(model: &str, graph: GraphModule, batch: usize) -> Result<impl FnMut() -> Result<()>> {
    let device = graph.device().clone();
    let shape = input_shape(model);
    let sizes = [batch, shape.channels, shape.height, shape.width];
    let images = Tensor::<4>::random(sizes, Distribution::Normal(0.0, 1.0), &device).autodiff();
    let labels = Tensor::<1, Int>::random([batch], Distribution::Uniform(0.0, CLASSES as f64), &device);
    let labels = labels.autodiff();
    let loss = CrossEntropyLossConfig::new().init(&device.autodiff());
    let settings = OptimizerSettings {
        weight_decay: 1e-4,
        decay_norms_and_biases: true,
        ..OptimizerSettings::default()
    };
    let mut optimizer = settings.optimizer()?;
    let mut model = Some(burn::module::Module::train(graph));
    Ok(move || {
        let current = model.take().context("a step failed before")?;
        let logits: Tensor<2> = current.forward(images.clone())?;
        let gradients = loss.forward(logits, labels.clone()).backward();
        let gradients = GradientsParams::from_grads(gradients, &current);
        model = Some(optimizer.step(0.01, current, gradients));
        Ok(())
    })
}

/// Median, smallest and largest.
pub fn summary(times: &[f64]) -> [f64; 3] {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    let at = |index: usize| times.get(index).copied().unwrap_or(f64::NAN);
    [at(times.len() / 2), at(0), at(times.len().saturating_sub(1))]
}
