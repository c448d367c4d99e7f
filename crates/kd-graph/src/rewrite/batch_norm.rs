//! Batch normalisation folded into the layer before it.
//!
//! In evaluation a batch normalisation is an affine map of every channel, and so is what a layer's weight does to it:
//!
//! $$ \gamma \frac{W x + b - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta = (s W) x + s (b - \mu) + \beta, \qquad s = \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}} $$
//!
//! The products are rounded once, from 64 bits. In training the result is another network: it normalises nothing.

use burn::tensor::TensorData;

use super::Rewritten;
use crate::{Graph, GraphError, Node, NodeId, Op, Role};

impl Graph {
    /// Folds every batch normalisation into the convolution, transposed convolution or linear layer whose result it alone reads. The layer keeps
    /// its name and gets a bias if it has none, named `bias` beside its `weight`.
    ///
    /// A normalisation stays, with the reason in [`Rewritten::kept`], when its layer's result or weight is read elsewhere too, or when the weight
    /// is not a parameter but computed by other nodes: materialise these first.
    ///
    /// # Errors
    /// [`GraphError`] when the graph is inconsistent before.
    pub fn fold_batch_norm(&mut self) -> Result<Rewritten, GraphError> {
        let mut rewritten = Rewritten::default();
        let norms: Vec<_> = self
            .nodes()
            .filter(|(_, node)| matches!(node.op(), Op::BatchNorm(_)))
            .map(|(id, node)| (id, node.name().to_owned()))
            .collect();
        for (id, name) in norms {
            match self.foldable(id)? {
                Err(reason) => rewritten.kept.push((name, reason)),
                Ok(fold) => {
                    self.apply(id, fold)?;
                    rewritten.removed.push(name);
                }
            }
        }
        Ok(rewritten)
    }

    /// The layer's new weight and bias, or why it cannot have them.
    fn foldable(&self, norm: NodeId) -> Result<Result<Fold, String>, GraphError> {
        let node = self.node(norm)?;
        let (Op::BatchNorm(settings), &[layer, gamma, beta, mean, variance]) = (node.op(), node.inputs())
        else {
            return Ok(Err("it does not have five inputs".into()));
        };
        let layer_node = self.node(layer)?;
        let Some(axis) = OutputAxis::of(layer_node, node) else {
            return Ok(Err(format!("it follows `{}`, which is no layer of its channels", layer_node.name())));
        };
        if self.users(layer).count() > 1 || self.outputs().contains(&layer) {
            return Ok(Err(format!("the result of `{}` is read elsewhere too", layer_node.name())));
        }
        let (Some(&weight), bias) = (layer_node.inputs().get(1), layer_node.inputs().get(2).copied()) else {
            return Ok(Err(format!("`{}` has no weight", layer_node.name())));
        };
        for id in [weight].into_iter().chain(bias) {
            let held = self.node(id)?;
            if self.value(id).is_none() {
                return Ok(Err(format!("`{}` is computed, not a parameter", held.name())));
            }
            if self.users(id).count() > 1 || self.outputs().contains(&id) || aliased(held) {
                return Ok(Err(format!("`{}` is read elsewhere too", held.name())));
            }
        }
        let [Some(gamma), Some(beta), Some(mean), Some(variance), Some(old)] =
            [gamma, beta, mean, variance, weight].map(|id| self.value(id))
        else {
            return Ok(Err("its statistics or factors are computed, not parameters".into()));
        };
        let floats = |data: &TensorData| data.iter::<f64>().collect::<Vec<_>>();
        let scale: Vec<_> = floats(gamma)
            .into_iter()
            .zip(floats(variance))
            .map(|(gamma, variance)| gamma / (variance + settings.epsilon).sqrt())
            .collect();
        let shift = match bias.and_then(|bias| self.value(bias)) {
            Some(bias) => floats(bias),
            None => vec![0.0; scale.len()],
        };
        let shift = shift
            .into_iter()
            .zip(floats(mean))
            .zip(&scale)
            .zip(floats(beta))
            .map(|(((bias, mean), scale), beta)| scale * (bias - mean) + beta)
            .collect();
        let scaled = axis.scaled(floats(old), &old.shape()[..], &scale);
        let dtype = old.dtype();
        Ok(Ok(Fold {
            layer,
            weight: (weight, TensorData::new(scaled, old.shape().clone()).convert_dtype(dtype)),
            bias: (bias, TensorData::new(shift, [scale.len()]).convert_dtype(dtype)),
        }))
    }

    fn apply(&mut self, norm: NodeId, fold: Fold) -> Result<(), GraphError> {
        let Fold { layer, weight: (weight, value), bias: (bias, shift) } = fold;
        let path = self.node(weight)?.name();
        let path = match path.strip_suffix("weight") {
            Some(prefix) => format!("{prefix}bias"),
            None => format!("{path}.bias"),
        };
        let path = self.free_name(&path);
        let parameters: Vec<_> = self.node(norm)?.inputs().iter().skip(1).copied().collect();
        self.edit(|edit| {
            edit.set_value(weight, value)?;
            match bias {
                Some(bias) => edit.set_value(bias, shift)?,
                None => {
                    let bias = edit.add_parameter(&path, Role::Weight, shift)?;
                    let mut inputs = edit.graph().node(layer)?.inputs().to_vec();
                    inputs.push(bias);
                    let op = edit.graph().node(layer)?.op().clone();
                    edit.replace(layer, op, &inputs)?;
                }
            }
            edit.remove(norm)?;
            for id in parameters {
                // gamma may be beta, or belong to another normalisation too.
                let unread = edit.graph().users(id).next().is_none() && !edit.graph().outputs().contains(&id);
                if edit.graph().node(id).is_ok() && unread {
                    edit.remove(id)?;
                }
            }
            Ok(())
        })
    }
}

fn aliased(node: &Node) -> bool {
    matches!(node.op(), Op::Parameter { aliases, .. } if !aliases.is_empty())
}

struct Fold {
    layer: NodeId,
    weight: (NodeId, TensorData),
    bias: (Option<NodeId>, TensorData),
}

/// Where a weight's output channels are.
enum OutputAxis {
    First,
    Last,
    /// Along the second axis, one group of the first after the other.
    Grouped {
        groups: usize,
    },
}

impl OutputAxis {
    fn of(layer: &Node, norm: &Node) -> Option<Self> {
        match layer.op() {
            Op::Conv(_) => Some(Self::First),
            Op::ConvTranspose(conv) => Some(Self::Grouped { groups: conv.groups }),
            // With more axes the channels of the normalisation are not the layer's features.
            Op::Linear if norm.output().shape.rank() == 2 => Some(Self::Last),
            _ => None,
        }
    }

    fn scaled(&self, weight: Vec<f64>, shape: &[usize], scale: &[f64]) -> Vec<f64> {
        let first = shape.first().copied().unwrap_or(1).max(1);
        let second = shape.get(1).copied().unwrap_or(1).max(1);
        let [row, window] = [(weight.len() / first).max(1), (weight.len() / first / second).max(1)];
        let channel = |element: usize| match self {
            Self::First => element / row,
            Self::Last => element % second,
            Self::Grouped { groups } => {
                let group = element / row / (first / (*groups).max(1)).max(1);
                group * second + element % row / window
            }
        };
        let scaled = |(element, weight): (usize, f64)| weight * scale.get(channel(element)).unwrap_or(&1.0);
        weight.into_iter().enumerate().map(scaled).collect()
    }
}
