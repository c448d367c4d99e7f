//! Whether a graph trains as the model that it was traced from.

use std::fmt;

use burn::module::Module;
use burn::tensor::{Bool, Device, Int, Tensor};

use super::{GraphModule, RunError, Value};
use crate::{TensorMap, Tensors, Unseen};

/// What a training forward pass of a model and of its graph gave.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingReport {
    /// Largest absolute difference between the outputs; infinite where shapes differ or only one has a number.
    pub difference: f64,
    /// Largest absolute value in the model's outputs.
    pub scale: f64,
    /// The layers whose training the trace could not show. A dropout is put back by `Graph::put_dropout_back`; anything else trains as it
    /// evaluates.
    pub unseen: Vec<Unseen>,
}

impl TrainingReport {
    /// Whether the outputs are the same.
    pub fn is_exact(&self) -> bool {
        self.difference == 0.0
    }
}

impl fmt::Display for TrainingReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_exact() {
            f.write_str("the graph's training pass is the model's")?;
        } else {
            let Self { difference, scale, .. } = self;
            write!(f, "in training the graph's outputs differ from the model's by up to {difference:e}; ")?;
            write!(f, "the largest of the model's is {scale:e}")?;
        }
        if self.unseen.is_empty() {
            return Ok(());
        }
        let list: Vec<_> = self.unseen.iter().map(ToString::to_string).collect();
        write!(f, "; a trace does not show the training of {}", list.join(", "))
    }
}

/// Runs model and graph once in training on the same input and with the same seed, and compares their outputs.
///
/// Copies of both are run, so running statistics stay as they are. The input may live on any device. burn's random numbers come from one
/// generator for the whole process: with dropout, nothing else may draw meanwhile.
///
/// # Errors
/// As [`GraphModule::run`].
pub fn compare_training<M, I, O>(
    model: &M,
    module: &GraphModule,
    input: I,
    forward: impl Fn(&M, I) -> O,
) -> Result<TrainingReport, RunError>
where
    M: Module,
    I: Tensors,
    O: Tensors,
{
    let (model, graph) = (model.valid().train(), module.valid().train());
    let device = graph.device();
    let input = input.map(&mut Move { device });

    device.seed(SEED);
    let expected = Value::all(forward(&model, input.clone()));
    device.seed(SEED);
    let found = graph.run(Value::all(input))?;

    let unseen = module.graph().unseen().to_vec();
    let mut report = TrainingReport { difference: 0.0, scale: 0.0, unseen };
    if expected.len() != found.len() {
        report.difference = f64::INFINITY;
    }
    for (index, (expected, found)) in expected.iter().zip(&found).enumerate() {
        let failed = |source| RunError::Output { index, source };
        report.add(&expected.data().map_err(failed)?, &found.data().map_err(failed)?);
    }
    Ok(report)
}

/// Any seed will do: it only has to be the same for both.
const SEED: u64 = 0;

impl TrainingReport {
    fn add(&mut self, expected: &burn::tensor::TensorData, found: &burn::tensor::TensorData) {
        if expected.shape() != found.shape() {
            self.difference = f64::INFINITY;
            return;
        }
        for (a, b) in expected.iter::<f64>().zip(found.iter::<f64>()) {
            let gap = if a == b || (a.is_nan() && b.is_nan()) { 0.0 } else { (a - b).abs() };
            self.difference = if gap.is_nan() { f64::INFINITY } else { self.difference.max(gap) };
            self.scale = self.scale.max(a.abs());
        }
    }
}

/// Moves everything to one device, autodiff included.
struct Move<'a> {
    device: &'a Device,
}

impl TensorMap for Move<'_> {
    fn float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
        tensor.without_autodiff().to_device(self.device).autodiff()
    }

    fn int<const D: usize>(&mut self, tensor: Tensor<D, Int>) -> Tensor<D, Int> {
        tensor.without_autodiff().to_device(self.device).autodiff()
    }

    fn bool<const D: usize>(&mut self, tensor: Tensor<D, Bool>) -> Tensor<D, Bool> {
        tensor.without_autodiff().to_device(self.device).autodiff()
    }
}
