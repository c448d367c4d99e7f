//! Batch normalisation folded into a quantised convolution, while it trains.
//!
//! What is quantised has to be what is deployed, the weight with the normalisation's scale in it. In training that scale is of the running statistics, and
//! is taken out again behind the convolution, so that the normalisation sees what it would see otherwise:
//!
//! $$ y = \mathrm{BN}\Big(\frac{x * q(w f)}{f}\Big), \qquad f = \frac{\gamma}{\sqrt{\sigma^2_{\text{run}} + \epsilon}} $$
//!
//! There is one convolution, not two. After training, [`fold_trained`] leaves $x * q(w f) + \beta - \mu f$.
//!
//! Jacob et al., *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference*, CVPR 2018.

use burn::tensor::{Tensor, TensorData};
use kd_graph::{Edit, Graph, GraphError, Kernel, NodeId, Op, Role, Scalar, Value};

use crate::QuantError;

/// Multiplies a weight by $f$.
const FOLD: &str = "fold.batch_norm";
/// Divides a layer's result by $f$.
const UNFOLD: &str = "unfold.batch_norm";
/// The least magnitude of $f$: a channel of scale zero could not be taken out again.
const LEAST: f32 = 1e-8;

/// A convolution and the normalisation behind it.
pub(super) struct Pair {
    pub layer: NodeId,
    norm: NodeId,
    gamma: NodeId,
    variance: NodeId,
    epsilon: f64,
}

/// The convolution that a normalisation can be folded into, or why there is none.
pub(super) fn pair(graph: &Graph, norm: NodeId) -> Result<Result<Pair, &'static str>, GraphError> {
    let node = graph.node(norm)?;
    let (Op::BatchNorm(settings), &[layer, gamma, _, _, variance]) = (node.op(), node.inputs()) else {
        return Ok(Err("is no batch normalisation"));
    };
    let of = graph.node(layer)?;
    Ok(match of.op() {
        Op::Conv(_) if of.inputs().len() != 2 => {
            Err("follows a convolution with a bias, which does nothing: remove it")
        }
        Op::Conv(_) if graph.users(layer).count() > 1 => {
            Err("follows a convolution that is read elsewhere too")
        }
        Op::Conv(_) => Ok(Pair { layer, norm, gamma, variance, epsilon: settings.epsilon }),
        _ => Err("does not follow a convolution"),
    })
}

impl Pair {
    /// $f$ of every channel.
    pub fn factors(&self, graph: &Graph) -> Result<Vec<f32>, QuantError> {
        let numbers = |id: NodeId| -> Vec<f32> {
            graph.value(id).map(|value| value.iter::<f32>().collect()).unwrap_or_default()
        };
        Ok(factors(&numbers(self.gamma), &numbers(self.variance), self.epsilon))
    }

    /// Puts both nodes in place; returns the folded weight, to be quantised.
    pub fn insert(&self, edit: &mut Edit, weight: NodeId) -> Result<NodeId, QuantError> {
        let op =
            |name: &str| Op::Custom { name: name.to_owned(), attributes: vec![Scalar::Float(self.epsilon)] };
        let mut add = |source: NodeId, kind: &str, suffix: &str| -> Result<NodeId, QuantError> {
            let node = edit.graph().node(source)?;
            let (name, ty) = (format!("{}{suffix}", node.name()), node.output().clone());
            let new = edit.insert_after(source, &name, op(kind), &[source, self.gamma, self.variance])?;
            edit.set_type(new, ty)?;
            Ok(new)
        };
        add(self.layer, UNFOLD, ".unfolded")?;
        add(weight, FOLD, "_folded")
    }

    /// Paths of scale and running variance, and what is added to the latter.
    pub fn paths(&self, graph: &Graph) -> Result<(String, String, f64), GraphError> {
        let name = |id| Ok::<_, GraphError>(graph.node(id)?.name().to_owned());
        Ok((name(self.gamma)?, name(self.variance)?, self.epsilon))
    }
}

/// The normalisation around a folded weight, if a node is one.
pub(super) fn folded(graph: &Graph, node: NodeId) -> Result<Option<Pair>, GraphError> {
    let (Op::Custom { name, attributes }, &[_, gamma, variance]) =
        (graph.node(node)?.op(), graph.node(node)?.inputs())
    else {
        return Ok(None);
    };
    if name != FOLD {
        return Ok(None);
    }
    let reads = |of: &kd_graph::Node| of.inputs().get(1) == Some(&gamma);
    let norm = graph.nodes().find(|(_, of)| matches!(of.op(), Op::BatchNorm(_)) && reads(of));
    let unfold =
        graph.users(variance).find(|(_, of)| matches!(of.op(), Op::Custom { name, .. } if name == UNFOLD));
    let layer = unfold.and_then(|(_, of)| of.inputs().first().copied());
    let (Some((norm, _)), Some(layer)) = (norm, layer) else { return Ok(None) };
    let epsilon = attributes.first().map_or(0.0, |epsilon| epsilon.as_f64());
    Ok(Some(Pair { layer, norm, gamma, variance, epsilon }))
}

/// A trained graph with its folded normalisations gone into weights and biases: what is deployed. A graph without them is as it was.
///
/// # Errors
/// [`QuantError::Graph`] for a graph that contradicts itself.
pub fn fold_trained(graph: &Graph) -> Result<Graph, QuantError> {
    let mut result = graph.clone();
    let nodes: Vec<NodeId> = graph.nodes().map(|(id, _)| id).collect();
    for fold in nodes {
        if result.node(fold).is_err() {
            // Gone with another one.
            continue;
        }
        let Some(pair) = folded(&result, fold)? else { continue };
        let factors = pair.factors(&result)?;
        let &[weight, ..] = result.node(fold)?.inputs() else { continue };
        let (Some(value), &[_, _, beta, mean, _]) =
            (result.value(weight).cloned(), result.node(pair.norm)?.inputs())
        else {
            let name = result.node(weight)?.name().to_owned();
            let why = "is masked or computed: fold masks first".to_owned();
            return Err(QuantError::Plan { name, why });
        };
        let row = value.shape().iter().skip(1).product::<usize>().max(1);
        let scaled: Vec<f32> =
            value.iter::<f32>().enumerate().map(|(i, w)| w * factors.get(i / row).unwrap_or(&1.0)).collect();
        let scaled = TensorData::new(scaled, value.shape().clone());
        let vector = |id: NodeId| -> Vec<f32> {
            result.value(id).map(|value| value.iter::<f32>().collect()).unwrap_or_default()
        };
        let shifts = vector(beta).into_iter().zip(vector(mean)).zip(&factors);
        let bias: Vec<f32> = shifts.map(|((beta, mean), f)| beta - mean * f).collect();
        let path = result.node(weight)?.name().to_owned();
        let parent = path.rsplit_once('.').map_or(String::new(), |(parent, _)| format!("{parent}."));
        let name = result.free_name(&format!("{parent}bias"));
        let op = result.node(pair.layer)?.op().clone();
        let read = result.node(pair.layer)?.inputs().to_vec();
        result.edit(|edit| {
            edit.set_value(weight, scaled)?;
            edit.replace_uses(fold, weight)?;
            let count = bias.len();
            let bias = edit.add_parameter(&name, Role::Weight, TensorData::new(bias, [count]))?;
            let inputs: Vec<NodeId> = read.iter().copied().chain([bias]).collect();
            edit.replace(pair.layer, op, &inputs)?;
            edit.replace_uses(pair.norm, pair.layer)
        })?;
        result.remove_dead()?;
    }
    Ok(result)
}

/// $f$ of every channel, no smaller than what can be taken out again.
pub(super) fn factors(gamma: &[f32], variance: &[f32], epsilon: f64) -> Vec<f32> {
    let factor = |(gamma, variance): (&f32, &f32)| {
        let f = gamma / (variance + epsilon as f32).sqrt();
        if f.abs() < LEAST { LEAST } else { f }
    };
    gamma.iter().zip(variance).map(factor).collect()
}

/// The kernel of an operation, or none for another operation.
pub(super) fn kernel(name: &str) -> Option<FoldKernel> {
    match name {
        FOLD => Some(FoldKernel { fold: true }),
        UNFOLD => Some(FoldKernel { fold: false }),
        _ => None,
    }
}

#[derive(Debug)]
pub(super) struct FoldKernel {
    fold: bool,
}

impl Kernel for FoldKernel {
    fn run(&self, inputs: Vec<Value>, attributes: &[Scalar]) -> Result<Value, String> {
        let [x, gamma, variance] = inputs.as_slice() else {
            return Err(format!("it reads three tensors, not {}", inputs.len()));
        };
        let epsilon = attributes.first().map_or(0.0, |epsilon| epsilon.as_f64());
        match x.rank() {
            3 => self.at_rank::<3>(x, gamma, variance, epsilon),
            4 => self.at_rank::<4>(x, gamma, variance, epsilon),
            5 => self.at_rank::<5>(x, gamma, variance, epsilon),
            rank => Err(format!("convolutions have 3 to 5 axes, not {rank}")),
        }
    }
}

impl FoldKernel {
    fn at_rank<const D: usize>(
        &self,
        x: &Value,
        gamma: &Value,
        variance: &Value,
        epsilon: f64,
    ) -> Result<Value, String> {
        let in_words = |error: kd_graph::ValueError| error.to_string();
        let x: Tensor<D> = x.float().map_err(in_words)?;
        let gamma: Tensor<1> = gamma.float().map_err(in_words)?;
        let variance: Tensor<1> = variance.float().map_err(in_words)?;
        // Running statistics are on no tape.
        let variance =
            if gamma.is_autodiff() && !variance.is_autodiff() { variance.autodiff() } else { variance };
        let f = gamma / (variance.detach() + epsilon).sqrt();
        let small = f.clone().detach().abs().lower_scalar(LEAST);
        let f = f.mask_fill(small, LEAST);
        let mut shape = [1; D];
        if let Some(size) = shape.get_mut(usize::from(!self.fold)) {
            *size = f.dims()[0];
        }
        let f = f.reshape(shape);
        Ok(if self.fold { x * f } else { x / f }.into())
    }
}
