//! Channels that layers share: their worth, and which of them go.

use std::collections::{BTreeMap, BTreeSet};

use kd_graph::{Dependencies, Graph, Group, Member, Op, Position, Side};
use serde::{Deserialize, Serialize};

use crate::allocation::{Allocation, LayerScores, LayerShape, Limits};
use crate::subject::{readers, value};
use crate::{Array, PruneError, Rounding};

/// What is summed over the slice of a weight that belongs to a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChannelNorm {
    /// $|w|$.
    L1,
    /// $w^2$, without a root.
    #[default]
    L2,
    /// $|\gamma|$ of batch normalisations alone.
    BatchNorm,
}

/// How the members of a group are combined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reduce {
    /// Their mean; a member that has only some of the channels still counts in the divisor.
    #[default]
    Mean,
    /// Their sum.
    Sum,
    /// The largest.
    Max,
    /// The member that runs first.
    First,
}

/// The importance of the channels of a dependency group: the filters that make them, the scales that normalise them and the weights
/// that read them, each summed over everything else, then combined.
///
/// Biases, depthwise convolutions and tables that are added do not count. Fang et al., *DepGraph: Towards Any Structural Pruning* (2023).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChannelImportance {
    /// What is summed.
    pub norm: ChannelNorm,
    /// How members are combined.
    pub reduce: Reduce,
    /// Whether importances are divided by their mean over the group, so that groups can be compared. true.
    pub normalise: bool,
}

impl Default for ChannelImportance {
    fn default() -> Self {
        Self { norm: ChannelNorm::L2, reduce: Reduce::Mean, normalise: true }
    }
}

/// Importances of the positions of groups, by the group's index.
pub type GroupScores = BTreeMap<usize, Vec<f32>>;

impl ChannelImportance {
    /// The importance of every position of every group of which something can be removed. A group without any member that counts is left
    /// out, and so is not pruned.
    ///
    /// # Errors
    /// [`PruneError::Shape`] for a weight that can't be read.
    pub fn score(&self, graph: &Graph, dependencies: &Dependencies) -> Result<GroupScores, PruneError> {
        let mut all = GroupScores::new();
        for group in dependencies.groups().iter().filter(|group| group.unprunable().is_none()) {
            let members = self.members(graph, group)?;
            if !members.is_empty() {
                let parts: Vec<&[f64]> = members.iter().map(|(_, scores)| scores.as_slice()).collect();
                all.insert(group.index, self.combined(&parts));
            }
        }
        Ok(all)
    }

    /// What every member that counts contributes to every position, by its path, in execution order.
    ///
    /// # Errors
    /// As [`score`](Self::score).
    pub fn members(&self, graph: &Graph, group: &Group) -> Result<Vec<(String, Vec<f64>)>, PruneError> {
        let mut members = Vec::new();
        for member in &group.members {
            if self.counts(graph, member)? {
                let weight = value(graph, &member.parameter)?;
                members.push((member.parameter.clone(), self.of(&weight, member)));
            }
        }
        Ok(members)
    }

    /// Combines what members contribute.
    pub fn combined(&self, members: &[&[f64]]) -> Vec<f32> {
        let positions = members.first().map_or(0, |scores| scores.len());
        let of = |position: usize| {
            let mut scores = members.iter().filter_map(|scores| scores.get(position).copied());
            match self.reduce {
                Reduce::Mean => scores.sum::<f64>() / members.len() as f64,
                Reduce::Sum => scores.sum(),
                Reduce::Max => scores.fold(0.0, f64::max),
                Reduce::First => scores.next().unwrap_or(0.0),
            }
        };
        let scores: Vec<f64> = (0..positions).map(of).collect();
        let mean = scores.iter().sum::<f64>() / positions.max(1) as f64;
        let divisor = if self.normalise && mean > 0.0 { mean } else { 1.0 };
        scores.into_iter().map(|score| (score / divisor) as f32).collect()
    }

    fn counts(&self, graph: &Graph, member: &Member) -> Result<bool, PruneError> {
        let readers = readers(graph, member.node);
        let counts = |(op, input): &(&Op, usize)| match op {
            // A filter of a grouped convolution belongs to one group: there is nothing to compare it with.
            Op::Conv(conv) => *input == 1 && conv.groups == 1 && self.norm != ChannelNorm::BatchNorm,
            Op::ConvTranspose(conv) => *input == 1 && conv.groups == 1 && self.norm != ChannelNorm::BatchNorm,
            Op::Linear => *input == 1 && self.norm != ChannelNorm::BatchNorm,
            Op::BatchNorm(_) => *input == 1,
            Op::LayerNorm { .. } => *input == 1 && self.norm != ChannelNorm::BatchNorm,
            _ => false,
        };
        Ok(readers.iter().any(counts))
    }

    fn of(&self, weight: &Array, member: &Member) -> Vec<f64> {
        let term = |w: f32| match self.norm {
            ChannelNorm::L1 | ChannelNorm::BatchNorm => f64::from(w.abs()),
            ChannelNorm::L2 => f64::from(w).powi(2),
        };
        let sums = weight.sums(member.axis, term).unwrap_or_default();
        let of = |indices: &Vec<usize>| indices.iter().filter_map(|index| sums.get(*index)).sum();
        member.indices.iter().map(of).collect()
    }
}

/// Which positions go at a ratio: the least important of every group, or of all groups together. At least one position of every group stays.
///
/// ```
/// use kd_prune::{Allocation, ChannelImportance, ChannelLimits, channel_positions};
/// # use burn::tensor::TensorData;
/// # use kd_graph::{Graph, Op, Role, Shape, TensorType};
/// # let mut graph = Graph::new();
/// # let x = graph.input("x", TensorType::float(Shape::batched([2])))?;
/// # let a = graph.parameter("a", Role::Weight, TensorData::from([[1.0f32, 9.0, 2.0, 8.0], [1.0, 9.0, 2.0, 8.0]]))?;
/// # let b = graph.parameter("b", Role::Weight, TensorData::ones::<f32, _>([4, 3]))?;
/// # let hidden = graph.add("hidden", Op::Linear, &[x, a])?;
/// # let logits = graph.add("logits", Op::Linear, &[hidden, b])?;
/// # graph.set_outputs(&[logits])?;
/// let dependencies = graph.dependencies();
/// let scores = ChannelImportance::default().score(&graph, &dependencies)?;
/// let gone = channel_positions(&dependencies, &scores, &Allocation::Uniform, 0.5, &ChannelLimits::default())?;
/// let smaller = dependencies.remove(&graph, gone)?;
/// assert_eq!(smaller.value(a).unwrap().as_slice::<f32>()?, [9.0, 8.0, 9.0, 8.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`Allocation::keep`]. A per-layer table names layers by the weight that makes the channels, and layers that it does not name keep theirs:
/// [`GraphError::UnknownName`](kd_graph::GraphError::UnknownName) lists the nearest for a name that is not there.
pub fn channel_positions(
    dependencies: &Dependencies,
    scores: &GroupScores,
    allocation: &Allocation,
    ratio: f64,
    limits: &ChannelLimits,
) -> Result<BTreeSet<Position>, PruneError> {
    let free = |group: &Group| -> Vec<usize> {
        let free = group.fixed.iter().enumerate().filter(|(_, why)| why.is_none());
        free.map(|(index, _)| index).collect()
    };
    let mut layers = BTreeMap::new();
    for group in dependencies.groups() {
        let Some(scores) = scores.get(&group.index) else { continue };
        let scores: Vec<f32> = free(group).iter().filter_map(|index| scores.get(*index)).copied().collect();
        let shape = LayerShape { sizes: vec![scores.len()], inputs: scores.len(), outputs: 1 };
        layers.insert(key(group.index), LayerScores { scores, shape });
    }
    let inner = Limits { rounding: Rounding::FloorKept, multiple: 1, ..limits.limits };
    let keep = match allocation {
        Allocation::PerLayer(table) => {
            let table = by_group(dependencies, &layers, table)?;
            Allocation::PerLayer(table).keep(&layers, ratio, &inner)?
        }
        _ => allocation.keep(&layers, ratio, &inner)?,
    };
    let mut removed = BTreeSet::new();
    for group in dependencies.groups() {
        let (Some(keep), Some(layer)) = (keep.get(&key(group.index)), layers.get(&key(group.index))) else {
            continue;
        };
        let size = keep.len();
        let kept = keep.iter().filter(|keep| **keep).count();
        let least = (size as f64 * (1.0 - limits.most)).ceil() as usize;
        let kept = limits.limits.within(kept.max(least), size);
        let keep = crate::top_k(&layer.scores, kept, crate::Ties::LowerIndex);
        let gone = free(group).into_iter().zip(keep).filter(|(_, keep)| !keep);
        removed.extend(gone.map(|(index, _)| group.position(index)));
    }
    Ok(removed)
}

/// Limits of what a group loses.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChannelLimits {
    /// At least one, multiples.
    pub limits: Limits,
    /// The largest share that any group loses; 1.
    pub most: f64,
}

impl Default for ChannelLimits {
    fn default() -> Self {
        Self { limits: Limits::default(), most: 1.0 }
    }
}

/// The name of a group of channels: the weight that makes them, of several the first.
pub(crate) fn layer_name(group: &Group) -> &str {
    let makes = group.members.iter().find(|member| member.side == Side::Output);
    makes.or(group.members.first()).map_or("", |member| member.parameter.as_str())
}

/// A table by layers as one by groups.
fn by_group(
    dependencies: &Dependencies,
    layers: &BTreeMap<String, LayerScores>,
    table: &BTreeMap<String, f64>,
) -> Result<BTreeMap<String, f64>, PruneError> {
    let mut found: BTreeMap<String, f64> = layers.keys().map(|key| (key.clone(), 0.0)).collect();
    for (layer, share) in table {
        dependencies.groups_of(layer, 0)?;
        let makes = |member: &Member| member.parameter == *layer && member.side == Side::Output;
        let groups = dependencies.groups().iter().filter(|group| group.members.iter().any(makes));
        let mut any = false;
        for group in groups {
            if let Some(slot) = found.get_mut(&key(group.index)) {
                (*slot, any) = (*share, true);
            }
        }
        if !any {
            return Err(PruneError::setting("layer", format!("`{layer}`"), "a layer whose channels can go"));
        }
    }
    Ok(found)
}

fn key(group: usize) -> String {
    format!("{group:06}")
}
