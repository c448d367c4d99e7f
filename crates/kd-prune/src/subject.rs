//! What a score looks at: a network, its prunable weights, and a batch with a loss where gradients are wanted.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Flag, Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use kd_graph::{Activation, Binary, Graph, GraphError, GraphModule, Kind, Node, NodeId, Op, Role, Value};
use kd_train::Gradients;

use crate::masked::is_mask;
use crate::visit::Collect;
use crate::{Array, Mask, Masks, PruneError};

/// A loss of a network's outputs, of shape `[1]`.
type Loss<'a> = Box<dyn Fn(&[Value]) -> Result<Tensor<1>, PruneError> + 'a>;

/// Numbers for parameters, by path.
pub type Arrays = BTreeMap<String, Array>;

/// A network as scores see it.
///
/// Prunable are, unless said otherwise with [`only`](Self::only), the learned weights of at least two axes that a convolution, a transposed
/// convolution, a linear layer or an embedding reads: no biases, no normalisation.
pub struct Subject<'a> {
    graph: &'a Graph,
    device: Device,
    parameters: BTreeSet<String>,
    batch: Option<(Vec<Value>, Loss<'a>)>,
}

impl<'a> Subject<'a> {
    /// A network whose gradients, if any are asked for, are computed on a device; it need not be an autodiff device.
    pub fn new(graph: &'a Graph, device: &Device) -> Self {
        let weights = graph.parameters().filter(|(id, node)| {
            let learned = matches!(node.op(), Op::Parameter { role: Role::Weight, .. });
            let matrix = node.output().kind == Kind::Float && node.output().shape.rank() > 1;
            let layer =
                |op: &Op| matches!(op, Op::Conv(_) | Op::ConvTranspose(_) | Op::Linear | Op::Embedding);
            learned && matrix && readers(graph, *id).iter().any(|(op, _)| layer(op))
        });
        let parameters = weights.map(|(_, node)| node.name().to_owned()).collect();
        Self { graph, device: device.clone().without_autodiff(), parameters, batch: None }
    }

    /// Prunes these parameters and no others.
    ///
    /// # Errors
    /// [`GraphError::UnknownName`] with the nearest names, or [`GraphError::Edit`] for a node that is not a learned float parameter.
    pub fn only<N: Into<String>>(
        mut self,
        parameters: impl IntoIterator<Item = N>,
    ) -> Result<Self, PruneError> {
        self.parameters = parameters.into_iter().map(Into::into).collect();
        for name in &self.parameters {
            let node = self.graph.node(self.graph.find(name)?)?;
            let learned = matches!(node.op(), Op::Parameter { role: Role::Weight, .. });
            if !learned || node.output().kind != Kind::Float {
                let reason = format!("{} can't be pruned: it is not a learned parameter", node.op().word());
                return Err(GraphError::Edit { name: name.clone(), reason }.into());
            }
        }
        Ok(self)
    }

    /// Gives a batch, and a loss of the network's outputs that gradients are taken of.
    #[must_use]
    pub fn with_loss(
        mut self,
        inputs: Vec<Value>,
        loss: impl Fn(&[Value]) -> Result<Tensor<1>, PruneError> + 'a,
    ) -> Self {
        self.batch = Some((inputs, Box::new(loss)));
        self
    }

    /// The network.
    pub fn graph(&self) -> &Graph {
        self.graph
    }

    /// Where gradients are computed, without autodiff.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Paths of the prunable parameters.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.parameters.iter().map(String::as_str)
    }

    /// The prunable weights.
    ///
    /// # Errors
    /// [`PruneError::Shape`] for a tensor that can't be read as floats.
    pub fn weights(&self) -> Result<Arrays, PruneError> {
        self.parameters().map(|path| Ok((path.to_owned(), value(self.graph, path)?))).collect()
    }

    /// Gradients of the loss with respect to every prunable weight, at the weights given instead of the graph's own. The network is
    /// in evaluation mode: normalisation by running statistics, no dropout.
    ///
    /// `temperature` divides the first output before the loss.
    ///
    /// # Errors
    /// [`PruneError::NoLoss`] in the name of `score` when there is no batch; whatever the loss returns.
    pub fn gradients(
        &self,
        score: &'static str,
        weights: &Arrays,
        temperature: f64,
    ) -> Result<Arrays, PruneError> {
        let (inputs, _) = self.batch.as_ref().ok_or(PruneError::NoLoss { score })?;
        self.gradients_on(score, self.graph, inputs, weights, temperature)
    }

    /// As [`gradients`](Self::gradients), of a graph that stands in for the subject's.
    pub(crate) fn gradients_on(
        &self,
        score: &'static str,
        graph: &Graph,
        inputs: &[Value],
        weights: &Arrays,
        temperature: f64,
    ) -> Result<Arrays, PruneError> {
        let (_, loss) = self.batch.as_ref().ok_or(PruneError::NoLoss { score })?;
        let graph = with_values(graph, weights)?;
        gradients_of(graph, &self.device, inputs, &self.parameters, |outputs| {
            let mut outputs = outputs;
            if let Some(first) = outputs.first_mut().filter(|_| temperature != 1.0) {
                *first = scaled(first, 1.0 / temperature)?;
            }
            loss(&outputs)
        })
    }

    /// The graph with every ReLU replaced by a product with what it lets through at these weights, and the batch with these gates behind it:
    /// a network without kinks, whose gradients at these weights are the same.
    pub(crate) fn without_kinks(
        &self,
        score: &'static str,
        weights: &Arrays,
    ) -> Result<(Graph, Vec<Value>), PruneError> {
        let (inputs, _) = self.batch.as_ref().ok_or(PruneError::NoLoss { score })?;
        let mut graph = with_values(self.graph, weights)?;
        let relu = |node: &Node| *node.op() == Op::Activation(Activation::Relu);
        let kinks: Vec<_> = graph
            .nodes()
            .filter(|(_, node)| relu(node))
            .filter_map(|(id, node)| Some((id, *node.inputs().first()?, node.output().clone())))
            .collect();
        let sources: Vec<NodeId> = kinks.iter().map(|(_, source, _)| *source).collect();
        let module = GraphModule::new(graph.clone(), &self.device)?;
        let mut inputs = inputs.iter().map(off_tape).collect::<Result<Vec<_>, _>>()?;
        let (_, values) = module.run_tapped(inputs.clone(), &sources)?;
        for value in &values {
            inputs.push(open(value)?);
        }
        graph.edit(|edit| {
            for (id, source, output) in kinks {
                let name = edit.graph().free_name("gate");
                let gate = edit.add_input(&name, output)?;
                edit.replace(id, Op::Binary(Binary::Mul), &[source, gate])?;
            }
            Ok(())
        })?;
        Ok((graph, inputs))
    }

    /// Masks that keep every prunable weight.
    ///
    /// # Errors
    /// As [`weights`](Self::weights).
    pub fn dense(&self) -> Result<Masks, PruneError> {
        Ok(self.weights()?.into_iter().map(|(path, array)| (path, Mask::dense(array.shape()))).collect())
    }
}

/// The operations that read a parameter, directly or through masks and other products with it, and as which input.
pub(crate) fn readers(graph: &Graph, id: NodeId) -> Vec<(&Op, usize)> {
    let mut found = Vec::new();
    for (user, node) in graph.users(id) {
        if is_mask(node.op()) {
            found.extend(readers(graph, user));
        } else {
            let inputs = node.inputs().iter().enumerate().filter(|(_, input)| **input == id);
            found.extend(inputs.map(|(input, _)| (node.op(), input)));
        }
    }
    found
}

/// The tensor of a parameter.
pub(crate) fn value(graph: &Graph, path: &str) -> Result<Array, PruneError> {
    let id = graph.find(path)?;
    let missing = || GraphError::Edit {
        name: path.to_owned(),
        reason: "its tensor is missing from the graph".to_owned(),
    };
    Array::from_data(graph.value(id).ok_or_else(missing)?)
}

/// A graph with other tensors in some parameters.
pub(crate) fn with_values(graph: &Graph, values: &Arrays) -> Result<Graph, PruneError> {
    let mut graph = graph.clone();
    let ids: Vec<_> = values
        .iter()
        .map(|(path, value)| Ok((graph.find(path)?, value)))
        .collect::<Result<_, GraphError>>()?;
    graph.edit(|edit| ids.iter().try_for_each(|(id, value)| edit.set_value(*id, value.to_data())))?;
    Ok(graph)
}

/// Gradients of a loss of the outputs, in evaluation mode.
pub(crate) fn gradients_of(
    graph: Graph,
    device: &Device,
    inputs: &[Value],
    parameters: &BTreeSet<String>,
    loss: impl FnOnce(Vec<Value>) -> Result<Tensor<1>, PruneError>,
) -> Result<Arrays, PruneError> {
    let shapes: Vec<_> = parameters
        .iter()
        .map(|path| Ok((path.clone(), graph.node(graph.find(path)?)?.output().shape.at(1))))
        .collect::<Result<_, GraphError>>()?;
    let module = GraphModule::new(graph, &device.clone().autodiff())?;
    // Off the training flags, on the tape: leaving training mode as usual would leave autodiff as well.
    let module = module.map(&mut Evaluate);
    let inputs = inputs.iter().map(on_tape).collect::<Result<Vec<_>, _>>()?;
    let loss = loss(module.run(inputs)?)?;
    let mut grads = GradientsParams::from_grads(loss.backward(), &module);
    let mut collected = Collect::new("", |path| parameters.contains(path));
    Gradients::new(&module, &mut grads).map(&mut collected);
    let mut found = collected.found?;
    // What the loss does not depend on has no gradient.
    for (path, shape) in shapes {
        if let Entry::Vacant(entry) = found.entry(path) {
            let zeros = vec![0.0; shape.iter().product()];
            entry.insert(Array::new(shape, zeros)?);
        }
    }
    Ok(found)
}

/// Switches layers to evaluation and leaves everything else as it is.
struct Evaluate;

impl ModuleMapper for Evaluate {
    fn map_flag(&mut self, _flag: Param<Flag>) -> Param<Flag> {
        Param::from_bool(false)
    }
}

macro_rules! by_rank {
    ($value:expr, $tensor:ident => $body:expr) => {
        match $value.rank() {
            1 => {
                let $tensor = $value.float::<1>()?;
                $body.into()
            }
            2 => {
                let $tensor = $value.float::<2>()?;
                $body.into()
            }
            3 => {
                let $tensor = $value.float::<3>()?;
                $body.into()
            }
            4 => {
                let $tensor = $value.float::<4>()?;
                $body.into()
            }
            _ => {
                let $tensor = $value.float::<5>()?;
                $body.into()
            }
        }
    };
}
pub(crate) use by_rank;

fn scaled(value: &Value, factor: f64) -> Result<Value, PruneError> {
    Ok(by_rank!(value, tensor => tensor.mul_scalar(factor)))
}

/// One where a value is positive, zero elsewhere.
fn open(value: &Value) -> Result<Value, PruneError> {
    Ok(by_rank!(value, tensor => tensor.greater_elem(0.0).float()))
}

/// An input without autodiff.
fn off_tape(value: &Value) -> Result<Value, PruneError> {
    if value.kind() != Kind::Float || !value.is_autodiff() {
        return Ok(value.clone());
    }
    Ok(by_rank!(value, tensor => tensor.inner()))
}

/// An input on the autodiff device; integers and truth values stay where they are.
fn on_tape(value: &Value) -> Result<Value, PruneError> {
    if value.kind() != Kind::Float || value.is_autodiff() {
        return Ok(value.clone());
    }
    Ok(by_rank!(value, tensor => tensor.autodiff()))
}
