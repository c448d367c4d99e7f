//! Hard-concrete gates in a graph.

use burn::tensor::{Distribution, Tensor, TensorData};
use kd_graph::{Binary, Graph, GraphError, Kernel, NodeId, Op, Role, Scalar, Shape, TensorType, Value};

use crate::{HardConcrete, PruneError};

/// Name of the operation.
pub(super) const OP: &str = "hard-concrete";

/// How close to 0 and 1 uniform noise comes; its logarithm is taken.
const NOISE: f64 = 1e-6;

/// Computes gates: drawn in training, expected in evaluation. The settings of the distribution are the operation's attributes, so that a saved graph has
/// them: temperature, lower and upper end.
#[derive(Clone, Copy, Debug)]
pub struct GateKernel;

impl Kernel for GateKernel {
    fn run(&self, inputs: Vec<Value>, attributes: &[Scalar]) -> Result<Value, String> {
        Ok(distribution(attributes)?.expected(log_alpha(&inputs)?).into())
    }

    fn differs_in_training(&self) -> bool {
        true
    }

    fn train(&self, inputs: Vec<Value>, attributes: &[Scalar]) -> Result<Value, String> {
        let log_alpha = log_alpha(&inputs)?;
        let range = Distribution::Uniform(NOISE, 1.0 - NOISE);
        let noise = Tensor::<1>::random(log_alpha.dims(), range, &log_alpha.device());
        Ok(distribution(attributes)?.gates(log_alpha, noise).into())
    }
}

fn log_alpha(inputs: &[Value]) -> Result<Tensor<1>, String> {
    let [log_alpha] = inputs else { return Err(format!("one input, not {}", inputs.len())) };
    log_alpha.float::<1>().map_err(|error| error.to_string())
}

fn distribution(attributes: &[Scalar]) -> Result<HardConcrete, String> {
    let [temperature, lower, upper] = attributes else {
        return Err(format!("temperature, lower and upper end, not {} attributes", attributes.len()));
    };
    let [temperature, lower, upper] = [temperature, lower, upper].map(|scalar| scalar.as_f64());
    HardConcrete { temperature, lower, upper }.validate().map_err(|error| error.to_string())
}

/// The gates of a weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Gates {
    /// Path of the weight.
    pub weight: String,
    /// Path of $\ln\alpha$, one number for every gate.
    pub log_alpha: String,
    /// The axis of the weight along which there are gates.
    pub axis: usize,
    /// Their distribution.
    pub distribution: HardConcrete,
    /// The gates, and the product with the weight.
    pub(super) nodes: GateNodes,
}

/// What [`insert_gates`] adds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct GateNodes {
    pub weight: NodeId,
    pub log_alpha: NodeId,
    pub gate: NodeId,
    pub shaped: NodeId,
    pub product: NodeId,
}

/// Puts a gate on every index of an axis of a weight: readers see the weight times $z$, with the parameter `fc.weight_log_alpha` behind $z$.
///
/// Of a convolution, axis 0 gates filters and axis 1 channels; of a linear layer axis 0 gates inputs and axis 1 units. In front of a batch
/// normalisation gate what is read, not what is made: the normalisation would undo every gate that is not zero, and its running statistics would fit no
/// network at all. One set of gates is drawn per step, for the whole batch. `open` is the probability that a gate is not zero at the start, 0.5 or more as a rule.
///
/// ```
/// use burn::tensor::TensorData;
/// use kd_graph::{Graph, GraphModule, Op, Role, Shape, TensorType};
/// use kd_prune::{GateRule, HardConcrete, fold_gates, insert_gates, stochastic_kernels};
/// # use burn::tensor::{Device, Tensor};
///
/// # let mut graph = Graph::new();
/// # let x = graph.input("x", TensorType::float(Shape::batched([2])))?;
/// # let weight = graph.parameter("fc.weight", Role::Weight, TensorData::ones::<f32, _>([2, 3]))?;
/// # let y = graph.add("fc", Op::Linear, &[x, weight])?;
/// # graph.set_outputs(&[y])?;
/// insert_gates(&mut graph, "fc.weight", 1, HardConcrete::default(), 0.9)?;
/// let module = GraphModule::with_kernels(graph.clone(), &Device::flex(), &stochastic_kernels())?;
/// let y: Tensor<2> = module.forward(Tensor::<2>::ones([1, 2], &Device::flex()))?;
/// assert_eq!(y.dims(), [1, 3]);
/// fold_gates(&mut graph, GateRule::Expected)?;
/// assert_eq!(graph.len(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`GraphError::UnknownName`] with the nearest names, [`PruneError::Setting`] for an axis that the weight doesn't have, a probability outside `(0, 1)` or a
/// distribution out of range.
pub fn insert_gates(
    graph: &mut Graph,
    weight: &str,
    axis: usize,
    distribution: HardConcrete,
    open: f64,
) -> Result<(), PruneError> {
    let HardConcrete { temperature, lower, upper } = distribution.validate()?;
    if !(open > 0.0 && open < 1.0) {
        return Err(PruneError::setting("open", open, "above 0 and below 1"));
    }
    let id = graph.find(weight)?;
    let sizes = graph.node(id)?.output().shape.at(1);
    let Some(&count) = sizes.get(axis) else {
        return Err(PruneError::setting("axis", axis, &format!("below {}", sizes.len())));
    };
    // The inverse of the probability that a gate is not zero.
    let start = (open / (1.0 - open)).ln() + temperature * (-lower / upper).ln();
    let mut shape = vec![1; sizes.len()];
    if let Some(slot) = shape.get_mut(axis) {
        *slot = count;
    }
    let attributes = [temperature, lower, upper].map(Scalar::Float).to_vec();
    graph.edit(|edit| {
        let data = TensorData::new(vec![start as f32; count], [count]);
        let log_alpha = edit.add_parameter(&format!("{weight}_log_alpha"), Role::Weight, data)?;
        let op = Op::Custom { name: OP.to_owned(), attributes };
        let gate = edit.add(&format!("{weight}_gate"), op, &[log_alpha])?;
        edit.set_type(gate, TensorType::float(Shape::fixed([count])))?;
        let op = Op::Reshape { shape: Shape::fixed(shape) };
        let shaped = edit.add(&format!("{weight}_gate_shaped"), op, &[gate])?;
        edit.insert_after(id, &format!("{weight}_gated"), Op::Binary(Binary::Mul), &[id, shaped])
    })?;
    Ok(())
}

impl Gates {
    /// All gates of a graph, in execution order.
    ///
    /// # Errors
    /// [`GraphError::Edit`] for gates that [`insert_gates`] did not make.
    pub fn of(graph: &Graph) -> Result<Vec<Self>, PruneError> {
        let is_gate = |op: &Op| matches!(op, Op::Custom { name, .. } if name == OP);
        graph.nodes().filter(|(_, node)| is_gate(node.op())).map(|(id, _)| Self::at(graph, id)).collect()
    }

    fn at(graph: &Graph, gate: NodeId) -> Result<Self, PruneError> {
        let node = graph.node(gate)?;
        let foreign = || GraphError::Edit {
            name: node.name().to_owned(),
            reason:
                "it is not between a parameter and the weight that it gates, where `insert_gates` puts gates"
                    .to_owned(),
        };
        let Op::Custom { attributes, .. } = node.op() else { return Err(foreign().into()) };
        let distribution = distribution(attributes)
            .map_err(|reason| GraphError::Edit { name: node.name().to_owned(), reason })?;
        let log_alpha = *node.inputs().first().ok_or_else(foreign)?;
        let (shaped, shape) = graph.users(gate).next().ok_or_else(foreign)?;
        let (product, user) = graph.users(shaped).next().ok_or_else(foreign)?;
        let weight =
            *user.inputs().first().filter(|_| *user.op() == Op::Binary(Binary::Mul)).ok_or_else(foreign)?;
        let sizes = shape.output().shape.at(1);
        let axis = sizes.iter().position(|size| *size != 1).unwrap_or(0);
        let name = |id: NodeId| Ok::<_, GraphError>(graph.node(id)?.name().to_owned());
        let nodes = GateNodes { weight, log_alpha, gate, shaped, product };
        Ok(Self { weight: name(weight)?, log_alpha: name(log_alpha)?, axis, distribution, nodes })
    }
}
