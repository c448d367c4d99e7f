//! Whether a graph trains as the model that it was traced from.

use std::fmt;

use burn::module::{Flag, Module, ModuleVisitor, Param};
use burn::tensor::Device;

use super::{GraphModule, RunError, Value};

/// A layer that trains otherwise than it evaluates: dropout, noise, a randomised activation. A trace records evaluation, so it can't show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// Its module path.
    pub path: String,
    /// Name of its struct.
    pub layer: String,
}

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ({})", self.path, self.layer)
    }
}

/// Lists the layers of a model whose training a trace can't show: those with burn's training flag, batch norm aside, which the graph
/// trains as burn does.
pub fn unseen<M: Module>(model: &M) -> Vec<Unseen> {
    let mut visitor = Flags::default();
    model.visit(&mut visitor);
    visitor.found
}

#[derive(Default)]
struct Flags {
    path: Vec<(String, String)>,
    found: Vec<Unseen>,
}

impl ModuleVisitor for Flags {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.push((name.to_owned(), container.to_owned()));
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_flag(&mut self, _flag: &Param<Flag>) {
        let Some(((_, container), parents)) = self.path.split_last() else { return };
        let layer = container.rsplit(':').next().unwrap_or(container).to_owned();
        if layer != "BatchNorm" {
            let names: Vec<&str> = parents.iter().map(|(name, _)| name.as_str()).collect();
            self.found.push(Unseen { path: names.join("."), layer });
        }
    }
}

/// What a training forward pass of a model and of its graph gave.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingReport {
    /// Largest absolute difference between the outputs; infinite where the shapes differ.
    pub difference: f64,
    /// Largest absolute value of the model's output.
    pub scale: f64,
    /// The layers whose training the trace could not show. Put dropout back with `Graph::put_dropout_back`; what else is here trains
    /// as it evaluates.
    pub unseen: Vec<Unseen>,
}

impl TrainingReport {
    /// Whether the outputs are the same bit for bit.
    pub fn is_exact(&self) -> bool {
        self.difference == 0.0
    }
}

impl fmt::Display for TrainingReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_exact() {
            f.write_str("the graph trains as the model does")?;
        } else {
            write!(
                f,
                "in training the graph differs from the model by {:e} of {:e}",
                self.difference, self.scale
            )?;
        }
        match self.unseen.as_slice() {
            [] => Ok(()),
            unseen => {
                let list: Vec<String> = unseen.iter().map(Unseen::to_string).collect();
                write!(f, "; a trace cannot show the training of {}", list.join(", "))
            }
        }
    }
}

/// Runs model and graph once in training on the same inputs and seed, and compares.
///
/// Both are copied first, so that neither's running statistics move. `inputs` may live on any device; `forward` is the one that was traced.
///
/// # Errors
/// As [`GraphModule::run`].
pub fn compare_training<M, F>(
    model: &M,
    module: &GraphModule,
    inputs: Vec<Value>,
    forward: F,
) -> Result<TrainingReport, RunError>
where
    M: Module,
    F: Fn(&M, Vec<Value>) -> Vec<Value>,
{
    let model_unseen = unseen(model);
    let native = model.valid().train();
    let graph = module.valid().train();
    let device: Device = graph.device().clone();
    let inputs: Vec<Value> = inputs.iter().map(|value| value.to_device(&device)).collect();

    device.seed(SEED);
    let expected = forward(&native, inputs.clone());
    device.seed(SEED);
    let found = graph.run(inputs)?;

    let (mut difference, mut scale) = (0.0f64, 0.0f64);
    if expected.len() != found.len() {
        difference = f64::INFINITY;
    }
    for (index, (expected, found)) in expected.iter().zip(&found).enumerate() {
        let read = |value: &Value| {
            let data = value.data().map_err(|source| RunError::Output { index, source })?;
            Ok::<Vec<f64>, RunError>(data.iter::<f64>().collect())
        };
        let (a, b) = (read(expected)?, read(found)?);
        if expected.shape() != found.shape() {
            difference = f64::INFINITY;
        }
        for (a, b) in a.iter().zip(&b) {
            // Equal not-a-numbers are no difference.
            let gap = if a.to_bits() == b.to_bits() { 0.0 } else { (a - b).abs() };
            difference = if gap.is_nan() { f64::INFINITY } else { difference.max(gap) };
            scale = scale.max(a.abs());
        }
    }
    Ok(TrainingReport { difference, scale, unseen: model_unseen })
}

/// Any fixed seed will do: it only has to be the same for both.
const SEED: u64 = 0;
