//! Structured sparsity learning: whole filters, channels, shapes or layers are driven to zero in training.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::Tensor;
use kd_core::Time;
use kd_graph::{Graph, Op};
use kd_train::{Gradients, Hook, HookError, Learner, TensorMap};
use serde::{Deserialize, Serialize};

use crate::subject::{readers, value};
use crate::visit::{See, Weights};
use crate::{Array, Arrays, GroupLasso, PruneError, Structure};

/// What structured sparsity learning removes as one, of convolutions and linear layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightGroup {
    /// All weights that make an output.
    Filter,
    /// All weights that read an input.
    Channel,
    /// The same place in all filters of a convolution; of a linear layer, the same as a channel.
    Shape,
    /// The whole layer. Only a shortcut makes it safe: it carries on what the layer no longer does, see [`has_shortcut`](crate::has_shortcut).
    Layer,
}

impl WeightGroup {
    /// The units of a weight: the axes along which its groups are counted.
    ///
    /// `outputs_first` is true for convolutions, whose weight is `[out, in, ..]`, and false for linear layers, `[in, out]`.
    pub fn structure(self, rank: usize, outputs_first: bool) -> Structure {
        let (output, input) = if outputs_first { (0, 1) } else { (1, 0) };
        let axes = match self {
            Self::Filter => vec![output],
            Self::Channel => vec![input],
            Self::Shape => (0..rank).filter(|axis| *axis != output).collect(),
            Self::Layer => Vec::new(),
        };
        Structure::Slices { axes, pooling: crate::Pooling::Sum }
    }
}

/// A hook that adds the gradient of a group lasso to those of some weights, after the backward pass and before the optimizer:
///
/// $$\frac{\partial}{\partial w} \lambda \sum_g \lVert w_g \rVert_2 = \lambda \frac{w}{\lVert w_g \rVert_2}$$
///
/// and 0 for a group of zeros. Groups end up small, not zero: [`zero_small_groups`] ends the training, after which [`zero_positions`](crate::zero_positions)
/// finds what can be removed physically. Wen et al., *Learning Structured Sparsity in Deep Neural Networks* (2016).
///
/// ```
/// use kd_prune::{SparsifyGroups, WeightGroup};
/// # use burn::tensor::TensorData;
/// # use kd_graph::{Graph, Op, Role, Shape, TensorType};
/// # let mut graph = Graph::new();
/// # let x = graph.input("x", TensorType::float(Shape::batched([2])))?;
/// # let a = graph.parameter("fc1.weight", Role::Weight, TensorData::ones::<f32, _>([2, 4]))?;
/// # let y = graph.add("fc1", Op::Linear, &[x, a])?;
/// # graph.set_outputs(&[y])?;
/// let mut hook = SparsifyGroups::default();
/// hook.add(&graph, "fc1.weight", WeightGroup::Channel, 1e-3)?;
/// assert!(hook.add(&graph, "fc1.weigth", WeightGroup::Filter, 1e-3).unwrap_err().to_string().contains("`fc1.weight`"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct SparsifyGroups {
    /// By the path in the run. A weight may have several.
    groups: BTreeMap<String, Vec<GroupLasso>>,
}

impl SparsifyGroups {
    /// Adds groups of a weight; those of several calls add up.
    ///
    /// # Errors
    /// [`GraphError::UnknownName`](kd_graph::GraphError::UnknownName) with the nearest names, [`PruneError::Setting`] for a factor that is not positive.
    pub fn add(
        &mut self,
        graph: &Graph,
        weight: &str,
        group: WeightGroup,
        lambda: f64,
    ) -> Result<(), PruneError> {
        if !(lambda > 0.0 && lambda.is_finite()) {
            return Err(PruneError::setting("lambda", lambda, "a positive number"));
        }
        let structure = structure_of(graph, weight, group)?;
        let lasso = GroupLasso { lambda, structure, epsilon: 0.0 };
        self.groups.entry(format!("student.{weight}")).or_default().push(lasso);
        Ok(())
    }
}

/// The units of a weight of a graph.
pub(crate) fn structure_of(graph: &Graph, weight: &str, group: WeightGroup) -> Result<Structure, PruneError> {
    let id = graph.find(weight)?;
    let outputs_first = readers(graph, id).iter().any(|(op, _)| matches!(op, Op::Conv(_)));
    Ok(group.structure(graph.node(id)?.output().shape.rank(), outputs_first))
}

impl<N: Module> Hook<N> for SparsifyGroups {
    fn name(&self) -> &str {
        "sparsify-groups"
    }

    fn before_step(
        &mut self,
        _time: Time,
        learner: &Learner<N>,
        gradients: &mut Gradients<'_, Learner<N>>,
    ) -> Result<(), HookError> {
        let mut pulls = Pulls { groups: &self.groups, found: BTreeMap::new() };
        learner.visit(&mut Weights::new(&mut pulls));
        gradients.map(&mut Add { pulls: pulls.found });
        Ok(())
    }
}

/// The gradients of the penalty, flat.
struct Pulls<'a> {
    groups: &'a BTreeMap<String, Vec<GroupLasso>>,
    found: BTreeMap<String, Tensor<1>>,
}

impl See for Pulls<'_> {
    fn see<const D: usize>(&mut self, path: &str, weight: Tensor<D>) {
        let Some(groups) = self.groups.get(path) else { return };
        let pulls = groups.iter().map(|lasso| pull(lasso, weight.clone()));
        if let Some(sum) = pulls.reduce(|sum, pull| sum + pull) {
            self.found.insert(path.to_owned(), sum.flatten(0, D.saturating_sub(1)));
        }
    }
}

fn pull<const D: usize>(lasso: &GroupLasso, weight: Tensor<D>) -> Tensor<D> {
    let axes: &[usize] = match &lasso.structure {
        Structure::Slices { axes, .. } => axes,
        _ => &[],
    };
    let others = (0..D).filter(|axis| !axes.contains(axis));
    let squares = others.fold(weight.clone().square(), |sum, axis| sum.sum_dim(axis));
    let norm = squares.add_scalar(lasso.epsilon).sqrt();
    let zero = norm.clone().equal_elem(0.0);
    weight * norm.recip().mul_scalar(lasso.lambda).mask_fill(zero, 0.0)
}

struct Add {
    pulls: BTreeMap<String, Tensor<1>>,
}

impl TensorMap for Add {
    fn map<const D: usize>(&mut self, path: &str, gradient: Tensor<D>) -> Tensor<D> {
        match self.pulls.get(path) {
            Some(pull) => {
                let shape = gradient.dims();
                gradient + pull.clone().reshape(shape)
            }
            None => gradient,
        }
    }
}

/// Sets the groups of some weights to zero whose root mean square is below `share` of the layer's; returns how many of how many went, by weight.
///
/// The root mean square, not the norm, so that one threshold fits groups of all sizes. Whole layers are compared with the root mean square of all weights that
/// are given as whole layers.
///
/// # Errors
/// [`GraphError::UnknownName`](kd_graph::GraphError::UnknownName), [`PruneError::Setting`] for a share outside `[0, 1]`.
pub fn zero_small_groups(
    graph: &mut Graph,
    groups: &[(String, WeightGroup)],
    share: f64,
) -> Result<BTreeMap<String, (usize, usize)>, PruneError> {
    if !(0.0..=1.0).contains(&share) {
        return Err(PruneError::setting("share", share, "0 to 1"));
    }
    let mut counts = BTreeMap::new();
    let mut weights = Arrays::new();
    let all_layers = mean_square_of_layers(graph, groups)?;
    for (path, group) in groups {
        let weight = match weights.remove(path) {
            Some(weight) => weight,
            None => value(graph, path)?,
        };
        let units = structure_of(graph, path, *group)?.units(weight.shape())?;
        let mut squares = vec![0.0; units.count];
        for (unit, w) in units.of.iter().zip(weight.values()) {
            if let Some(sum) = squares.get_mut(*unit) {
                *sum += f64::from(*w).powi(2);
            }
        }
        let mean = match group {
            WeightGroup::Layer => all_layers,
            _ => squares.iter().sum::<f64>() / weight.len().max(1) as f64,
        };
        let small = |(square, size): (f64, usize)| (square / size.max(1) as f64) < share * share * mean;
        let small: Vec<bool> = squares.into_iter().zip(units.sizes()).map(small).collect();
        let keep: Vec<bool> = small.iter().map(|small| !small).collect();
        let count: &mut (usize, usize) = counts.entry(path.clone()).or_default();
        *count = (count.0 + small.iter().filter(|small| **small).count(), count.1 + small.len());
        weights.insert(path.clone(), units.mask(&keep)?.apply(&weight)?);
    }
    let values: Vec<_> = weights
        .iter()
        .map(|(path, weight)| Ok((graph.find(path)?, weight)))
        .collect::<Result<_, PruneError>>()?;
    graph.edit(|edit| {
        values.iter().try_for_each(|(id, weight)| edit.set_value(*id, Array::to_data(weight)))
    })?;
    Ok(counts)
}

/// The mean square of the weights that are given as whole layers.
fn mean_square_of_layers(graph: &Graph, groups: &[(String, WeightGroup)]) -> Result<f64, PruneError> {
    let (mut sum, mut count) = (0.0, 0);
    for (path, _) in groups.iter().filter(|(_, group)| *group == WeightGroup::Layer) {
        let weight = value(graph, path)?;
        sum += weight.values().iter().map(|w| f64::from(*w).powi(2)).sum::<f64>();
        count += weight.len();
    }
    Ok(sum / count.max(1) as f64)
}
