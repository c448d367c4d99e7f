//! Gaussian noise on weights, in a graph.

use burn::tensor::{Distribution, TensorData};
use kd_graph::{Binary, Graph, GraphError, Kernel, NodeId, Op, Role, Scalar, Unary, Value};

use crate::PruneError;
use crate::subject::by_rank;

/// Name of the operation.
pub(super) const OP: &str = "gaussian-noise";

/// Added to the variance before its root, whose slope at 0 is infinite.
const EPSILON: f64 = 1e-8;

/// Draws responses of a mean and a variance in training, gives the mean in evaluation.
#[derive(Clone, Copy, Debug)]
pub struct NoiseKernel;

impl Kernel for NoiseKernel {
    fn run(&self, inputs: Vec<Value>, _attributes: &[Scalar]) -> Result<Value, String> {
        inputs.into_iter().next().ok_or_else(|| "a mean and a variance, not nothing".to_owned())
    }

    fn differs_in_training(&self) -> bool {
        true
    }

    fn train(&self, inputs: Vec<Value>, _attributes: &[Scalar]) -> Result<Value, String> {
        let [mean, variance] = inputs.as_slice() else {
            return Err(format!("a mean and a variance, not {} inputs", inputs.len()));
        };
        draw(mean, variance).map_err(|error| error.to_string())
    }
}

fn draw(mean: &Value, variance: &Value) -> Result<Value, PruneError> {
    Ok(by_rank!(mean, mean => {
        let deviation = variance.float()?.add_scalar(EPSILON).sqrt();
        let noise = mean.random_like(Distribution::Normal(0.0, 1.0));
        mean + deviation * noise
    }))
}

/// Makes the weights of a convolution or a linear layer Gaussian, $w \sim \mathcal N(\theta, \sigma^2)$ with $\theta$ the weight as it is and $\ln\sigma^2$ the new parameter
/// `fc.weight_log_variance`, and draws in training not weights but responses, as the local reparameterisation does:
///
/// $$y \sim \mathcal N(x \theta + b, \; x^2 \sigma^2)$$
///
/// Kingma et al., *Variational Dropout and the Local Reparameterization Trick* (2015); Molchanov et al., *Variational Dropout Sparsifies Deep Neural Networks*
/// (2017), who start $\ln\sigma^2$ at -10.
///
/// # Errors
/// [`GraphError::UnknownName`] with the nearest names, [`GraphError::Edit`] for a parameter that is not the weight of exactly one such layer,
/// [`PruneError::Setting`] for a start that is not finite.
pub fn insert_noise(graph: &mut Graph, weight: &str, log_variance: f64) -> Result<(), PruneError> {
    if !log_variance.is_finite() {
        return Err(PruneError::setting("log-variance", log_variance, "a finite number"));
    }
    let id = graph.find(weight)?;
    let sizes = graph.node(id)?.output().shape.at(1);
    let (layer, op, source) = reader(graph, weight, id)?;
    let name = graph.node(layer)?.name().to_owned();
    graph.edit(|edit| {
        let data = TensorData::new(vec![log_variance as f32; sizes.iter().product()], sizes);
        let log_variance = edit.add_parameter(&format!("{weight}_log_variance"), Role::Weight, data)?;
        let variance = edit.add(&format!("{weight}_variance"), Op::Unary(Unary::Exp), &[log_variance])?;
        let square = edit.add(&format!("{name}_square"), Op::Binary(Binary::Mul), &[source, source])?;
        let spread = edit.add(&format!("{name}_variance"), op, &[square, variance])?;
        let noise = Op::Custom { name: OP.to_owned(), attributes: Vec::new() };
        let output = edit.graph().node(layer)?.output().clone();
        let noisy = edit.insert_after(layer, &format!("{name}_noisy"), noise, &[layer, spread])?;
        edit.set_type(noisy, output)
    })?;
    Ok(())
}

/// The one layer that reads a weight, and what it reads besides.
fn reader(graph: &Graph, weight: &str, id: NodeId) -> Result<(NodeId, Op, NodeId), PruneError> {
    let mut users = graph.users(id);
    if let (Some((layer, node)), None) = (users.next(), users.next())
        && matches!(node.op(), Op::Linear | Op::Conv(_))
        && let [source, second, ..] = *node.inputs()
        && second == id
    {
        return Ok((layer, node.op().clone(), source));
    }
    let reason = "noise goes on the weight of one convolution or linear layer, and this is none".to_owned();
    Err(GraphError::Edit { name: weight.to_owned(), reason }.into())
}

/// A weight with noise.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Noise {
    pub weight: String,
    pub log_variance: String,
    pub noisy: NodeId,
}

impl Noise {
    /// All noise in a graph, in execution order.
    pub(super) fn of(graph: &Graph) -> Result<Vec<Self>, PruneError> {
        let is_noise = |op: &Op| matches!(op, Op::Custom { name, .. } if name == OP);
        graph.nodes().filter(|(_, node)| is_noise(node.op())).map(|(id, _)| Self::at(graph, id)).collect()
    }

    fn at(graph: &Graph, noisy: NodeId) -> Result<Self, PruneError> {
        let node = graph.node(noisy)?;
        let foreign = || GraphError::Edit {
            name: node.name().to_owned(),
            reason: "it is not behind a layer and its variance, where `insert_noise` puts noise".to_owned(),
        };
        let input =
            |id: NodeId, index: usize| graph.node(id)?.inputs().get(index).copied().ok_or_else(foreign);
        let weight = input(input(noisy, 0)?, 1)?;
        let log_variance = input(input(input(noisy, 1)?, 1)?, 0)?;
        let name = |id: NodeId| Ok::<_, GraphError>(graph.node(id)?.name().to_owned());
        Ok(Self { weight: name(weight)?, log_variance: name(log_variance)?, noisy })
    }
}
