//! Batch normalisation folded into a quantised convolution or linear layer, while it trains.
//!
//! What is quantised has to be what is deployed, the weight with the normalisation's scale in it. In training that scale is of the running statistics, and
//! is taken out again behind the layer, and its bias is added there, so that the normalisation sees what it would see otherwise:
//!
//! $$ y = \mathrm{BN}\Big(\frac{x * q(w f)}{f} + b\Big), \qquad f = \frac{\gamma}{\sqrt{\sigma^2_{\text{run}} + \epsilon}} $$
//!
//! There is one convolution, not two. After training, [`fold_trained`] leaves $x * q(w f) + \beta + (b - \mu) f$.
//!
//! Jacob et al., *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference*, CVPR 2018.

use burn::tensor::{Tensor, TensorData};
use kd_graph::{Edit, Graph, GraphError, Kernel, NodeId, Op, Role, Scalar, Value};

use crate::QuantError;

/// Multiplies a weight by $f$.
const FOLD: &str = "fold.batch_norm";
/// Divides a layer's result by $f$ and adds the layer's bias, if there is one.
const UNFOLD: &str = "unfold.batch_norm";
/// The least magnitude of $f$: a channel of scale zero could not be taken out again.
const LEAST: f32 = 1e-8;

/// A layer and the normalisation behind it.
pub(super) struct Pair {
    pub layer: NodeId,
    bias: Option<NodeId>,
    norm: NodeId,
    gamma: NodeId,
    variance: NodeId,
    epsilon: f64,
}

/// The layer that a normalisation can be folded into, or why there is none.
pub(super) fn pair(graph: &Graph, norm: NodeId) -> Result<Result<Pair, &'static str>, GraphError> {
    let node = graph.node(norm)?;
    let (Op::BatchNorm(settings), &[layer, gamma, _, _, variance]) = (node.op(), node.inputs()) else {
        return Ok(Err("is no batch normalisation"));
    };
    let of = graph.node(layer)?;
    Ok(match of.op() {
        Op::Linear if of.output().shape.rank() != 2 => {
            Err("follows a linear layer over more than `[batch, features]`")
        }
        Op::Conv(_) | Op::Linear if graph.users(layer).count() > 1 || graph.outputs().contains(&layer) => {
            Err("follows a layer that is read elsewhere too")
        }
        Op::Conv(_) | Op::Linear => {
            let bias = of.inputs().get(2).copied();
            Ok(Pair { layer, bias, norm, gamma, variance, epsilon: settings.epsilon })
        }
        _ => Err("does not follow a convolution or linear layer"),
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
        if self.bias.is_some() {
            let layer = edit.graph().node(self.layer)?;
            let (op, read) = (layer.op().clone(), layer.inputs().iter().copied().take(2).collect::<Vec<_>>());
            edit.replace(self.layer, op, &read)?;
        }
        let mut add = |source: NodeId, kind: &str, suffix: &str, bias: Option<NodeId>| {
            let op = Op::Custom { name: kind.to_owned(), attributes: vec![Scalar::Float(self.epsilon)] };
            let node = edit.graph().node(source)?;
            let (name, ty) = (format!("{}{suffix}", node.name()), node.output().clone());
            let read: Vec<NodeId> = [source, self.gamma, self.variance].into_iter().chain(bias).collect();
            let new = edit.insert_after(source, &name, op, &read)?;
            edit.set_type(new, ty)?;
            Ok::<_, GraphError>(new)
        };
        add(self.layer, UNFOLD, ".unfolded", self.bias)?;
        Ok(add(weight, FOLD, "_folded", None)?)
    }

    /// A weight's numbers times $f$ of their output channel: axis 0 of a convolution's, axis 1 of a linear layer's.
    pub fn scaled(&self, graph: &Graph, weight: &TensorData) -> Result<TensorData, QuantError> {
        let factors = self.factors(graph)?;
        let axis = usize::from(matches!(graph.node(self.layer)?.op(), Op::Linear));
        let inner = weight.shape().iter().skip(axis + 1).product::<usize>().max(1);
        let factor = |i: usize| factors.get(i / inner % factors.len().max(1)).copied().unwrap_or(1.0);
        let scaled = weight.iter::<f32>().enumerate().map(|(i, w)| w * factor(i)).collect();
        Ok(TensorData::new(scaled, weight.shape().clone()))
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
    let (Some((norm, _)), Some((_, unfold))) = (norm, unfold) else { return Ok(None) };
    let Some(&layer) = unfold.inputs().first() else { return Ok(None) };
    let bias = unfold.inputs().get(3).copied();
    let epsilon = attributes.first().map_or(0.0, |epsilon| epsilon.as_f64());
    Ok(Some(Pair { layer, bias, norm, gamma, variance, epsilon }))
}

/// A trained graph with its folded normalisations gone into weights and biases: what is deployed. A graph without them is as it was.
///
/// # Errors
/// [`QuantError::Plan`] for a weight or a bias that is computed; [`QuantError::Graph`] for a graph that contradicts itself.
pub fn fold_trained(graph: &Graph) -> Result<Graph, QuantError> {
    let mut result = graph.clone();
    let nodes: Vec<NodeId> = graph.nodes().map(|(id, _)| id).collect();
    for fold in nodes {
        if result.node(fold).is_err() {
            // Gone with another one.
            continue;
        }
        if let Some(pair) = folded(&result, fold)? {
            pair.settle(&mut result, fold)?;
            result.remove_dead()?;
        }
    }
    Ok(result)
}

impl Pair {
    /// Leaves the layer alone with the weight and bias that stand for all.
    fn settle(&self, graph: &mut Graph, fold: NodeId) -> Result<(), QuantError> {
        let &[weight, ..] = graph.node(fold)?.inputs() else { return Ok(()) };
        let &[_, _, beta, mean, _] = graph.node(self.norm)?.inputs() else { return Ok(()) };
        let held = |id: NodeId| -> Result<&TensorData, QuantError> {
            let name = graph.node(id)?.name().to_owned();
            let why = "is masked or computed: fold masks first".to_owned();
            graph.value(id).map(|value| &**value).ok_or(QuantError::Plan { name, why })
        };
        let numbers = |id: NodeId| Ok::<Vec<f32>, QuantError>(held(id)?.iter::<f32>().collect());
        let scaled = self.scaled(graph, held(weight)?)?;
        let factors = self.factors(graph)?;
        let old = self.bias.map(numbers).transpose()?.unwrap_or_else(|| vec![0.0; factors.len()]);
        let shifts = numbers(beta)?.into_iter().zip(numbers(mean)?).zip(old).zip(&factors);
        let shift: Vec<f32> = shifts.map(|(((beta, mean), old), f)| beta + (old - mean) * f).collect();
        let shift = TensorData::new(shift, [factors.len()]);

        let path = graph.node(weight)?.name();
        let parent = path.rsplit_once('.').map_or(String::new(), |(parent, _)| format!("{parent}."));
        let name = graph.free_name(&format!("{parent}bias"));
        let layer = graph.node(self.layer)?;
        let (op, read) = (layer.op().clone(), layer.inputs().to_vec());
        // A bias that others read too stays theirs.
        let own = self.bias.filter(|&bias| graph.users(bias).count() == 1);
        graph.edit(|edit| {
            edit.set_value(weight, scaled)?;
            edit.replace_uses(fold, weight)?;
            let bias = match own {
                Some(bias) => edit.set_value(bias, shift).map(|()| bias)?,
                None => edit.add_parameter(&name, Role::Weight, shift)?,
            };
            let inputs: Vec<NodeId> = read.iter().copied().chain([bias]).collect();
            edit.replace(self.layer, op, &inputs)?;
            edit.replace_uses(self.norm, self.layer)
        })?;
        Ok(())
    }
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
        let [x, gamma, variance, bias @ ..] = inputs.as_slice() else {
            return Err(format!("it reads three tensors or four, not {}", inputs.len()));
        };
        let epsilon = attributes.first().map_or(0.0, |epsilon| epsilon.as_f64());
        let parameters = (gamma, variance, bias.first());
        match x.rank() {
            2 => self.at_rank::<2>(x, parameters, epsilon),
            3 => self.at_rank::<3>(x, parameters, epsilon),
            4 => self.at_rank::<4>(x, parameters, epsilon),
            5 => self.at_rank::<5>(x, parameters, epsilon),
            rank => Err(format!("layers' weights and results have 2 to 5 axes, not {rank}")),
        }
    }
}

impl FoldKernel {
    fn at_rank<const D: usize>(
        &self,
        x: &Value,
        (gamma, variance, bias): (&Value, &Value, Option<&Value>),
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
        // Output channels are axis 0 of a convolution's weight, axis 1 of a matrix and of results.
        let mut shape = [1; D];
        if let Some(size) = shape.get_mut(usize::from(!self.fold || D == 2)) {
            *size = f.dims()[0];
        }
        let f = f.reshape(shape);
        if self.fold {
            return Ok((x * f).into());
        }
        Ok(match bias {
            Some(bias) => x / f + bias.float::<1>().map_err(in_words)?.reshape(shape),
            None => x / f,
        }
        .into())
    }
}

#[cfg(test)]
mod tests;
