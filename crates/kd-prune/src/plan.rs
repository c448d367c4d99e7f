//! What is removed physically, as a file that can be replayed.

use std::collections::{BTreeMap, BTreeSet};

use kd_graph::{Graph, Op, Position};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::PruneError;

/// What is kept of every axis that shrinks, for one architecture.
///
/// A plan depends on the structure of the network alone: it applies to every checkpoint of the architecture, and to no other network.
///
/// ```
/// use burn::tensor::TensorData;
/// use kd_graph::{Graph, Op, Role, Shape, TensorType};
/// use kd_prune::PrunePlan;
///
/// let mut graph = Graph::new();
/// let x = graph.input("x", TensorType::float(Shape::batched([2])))?;
/// let first = graph.parameter("first", Role::Weight, TensorData::ones::<f32, _>([2, 4]))?;
/// let second = graph.parameter("second", Role::Weight, TensorData::ones::<f32, _>([4, 3]))?;
/// let hidden = graph.add("hidden", Op::Linear, &[x, first])?;
/// let logits = graph.add("logits", Op::Linear, &[hidden, second])?;
/// graph.set_outputs(&[logits])?;
///
/// let group = graph.dependencies().groups_of("first", 1)?[0].clone();
/// let plan = PrunePlan::new(&graph, [group.position(1), group.position(3)])?;
/// assert_eq!(plan.kept("first", 1), Some(&[0, 2][..]));
///
/// let text = serde_json::to_string(&plan)?;
/// let smaller = serde_json::from_str::<PrunePlan>(&text)?.apply(&graph)?;
/// assert_eq!(smaller.cost(1)?.parameters, 2 * 2 + 2 * 3);
/// assert!(plan.apply(&smaller).unwrap_err().to_string().contains("another architecture"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrunePlan {
    /// What the plan was made for.
    architecture: Architecture,
    /// For every group of channels that loses some: the kept positions.
    groups: BTreeMap<usize, Vec<usize>>,
    /// For every axis of a parameter that shrinks: the kept indices. Follows from the groups, and is checked against them.
    axes: BTreeMap<String, BTreeMap<usize, Vec<usize>>>,
    /// Weights of layers whose number of groups changes, with the number that is left: it is a field of the layer, not a tensor.
    grouped: BTreeMap<String, usize>,
}

/// What tells one architecture from another: the shape of every parameter for a readable complaint, and a digest of all else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Architecture {
    shapes: BTreeMap<String, String>,
    digest: String,
}

impl Architecture {
    fn of(graph: &Graph) -> Self {
        let shapes = graph
            .parameters()
            .map(|(_, node)| (node.name().to_owned(), node.output().shape.to_string()))
            .collect();
        let mut hash = Sha256::new();
        // Names of inputs, not numbers of nodes: these depend on how the graph was made.
        for (_, node) in graph.nodes() {
            let inputs = node.inputs().iter().filter_map(|id| Some(graph.node(*id).ok()?.name()));
            let inputs: Vec<_> = inputs.collect();
            hash.update(format!("{}|{:?}|{inputs:?}|{}\n", node.name(), node.op(), node.output()));
        }
        let digest = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { shapes, digest }
    }

    fn difference(&self, other: &Self) -> Option<String> {
        for (path, shape) in &self.shapes {
            match other.shapes.get(path) {
                None => return Some(format!("it has a parameter `{path}`, which is missing here")),
                Some(here) if here != shape => {
                    return Some(format!("`{path}` has the shape {shape} there and {here} here"));
                }
                Some(_) => {}
            }
        }
        if let Some(path) = other.shapes.keys().find(|path| !self.shapes.contains_key(*path)) {
            return Some(format!("it has no parameter `{path}`, which is here"));
        }
        let same = self.digest == other.digest;
        (!same).then(|| "the parameters agree, but not the operations between them".to_owned())
    }
}

impl PrunePlan {
    /// A plan that removes some positions of a network's groups of channels.
    ///
    /// # Errors
    /// [`PruneError::Remove`] for a position that doesn't exist or must stay, and when a group would vanish.
    pub fn new(graph: &Graph, removed: impl IntoIterator<Item = Position>) -> Result<Self, PruneError> {
        let removed: BTreeSet<Position> = removed.into_iter().collect();
        let dependencies = graph.dependencies();
        // Everything that could fail fails here, not when the plan is used.
        let smaller = dependencies.remove(graph, removed.iter().copied())?;
        let lost: BTreeSet<usize> = removed.iter().map(|position| position.group).collect();
        let kept = |group: &usize| {
            let length = dependencies.groups().get(*group).map_or(0, kd_graph::Group::len);
            let stays = |index: &usize| !removed.contains(&Position { group: *group, index: *index });
            (*group, (0..length).filter(stays).collect())
        };
        let groups = lost.iter().map(kept).collect();
        let axes = axes(graph, &removed);
        Ok(Self { architecture: Architecture::of(graph), groups, axes, grouped: grouped(graph, &smaller) })
    }

    /// The network without what the plan removes: weights are cut, attributes follow.
    ///
    /// # Errors
    /// [`PruneError::Architecture`] with the first difference, for a network that the plan was not made for or a plan that was
    /// tampered with.
    pub fn apply(&self, graph: &Graph) -> Result<Graph, PruneError> {
        if let Some(difference) = self.architecture.difference(&Architecture::of(graph)) {
            return Err(PruneError::Architecture { difference });
        }
        let removed = self.removed(graph)?;
        if axes(graph, &removed) != self.axes {
            let difference = "its kept positions and its kept indices contradict each other".to_owned();
            return Err(PruneError::Architecture { difference });
        }
        Ok(graph.dependencies().remove(graph, removed)?)
    }

    /// The network with zeros in place of what the plan removes.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn mask(&self, graph: &Graph) -> Result<Graph, PruneError> {
        if let Some(difference) = self.architecture.difference(&Architecture::of(graph)) {
            return Err(PruneError::Architecture { difference });
        }
        Ok(graph.dependencies().zero(graph, self.removed(graph)?)?)
    }

    /// The kept indices of an axis of a parameter; none if it does not shrink.
    pub fn kept(&self, parameter: &str, axis: usize) -> Option<&[usize]> {
        self.axes.get(parameter)?.get(&axis).map(Vec::as_slice)
    }

    /// The kept indices of every axis that shrinks, by parameter.
    pub fn axes(&self) -> impl Iterator<Item = (&str, usize, &[usize])> {
        let of = |(path, axes)| {
            let axes: &BTreeMap<usize, Vec<usize>> = axes;
            let path: &String = path;
            axes.iter().map(move |(axis, kept)| (path.as_str(), *axis, kept.as_slice()))
        };
        self.axes.iter().flat_map(of)
    }

    /// Whether nothing is removed.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The weights of layers whose number of groups changes, as that of a depthwise convolution does, with the number that is left.
    pub fn grouped(&self) -> impl Iterator<Item = (&str, usize)> {
        self.grouped.iter().map(|(path, groups)| (path.as_str(), *groups))
    }

    /// The shape that a parameter had before, as text; none if the architecture has no such parameter.
    pub(crate) fn shape_before(&self, parameter: &str) -> Option<&str> {
        self.architecture.shapes.get(parameter).map(String::as_str)
    }

    pub(crate) fn removed(&self, graph: &Graph) -> Result<BTreeSet<Position>, PruneError> {
        let dependencies = graph.dependencies();
        let mut removed = BTreeSet::new();
        for (&group, kept) in &self.groups {
            let length = dependencies.groups().get(group).map_or(0, kd_graph::Group::len);
            if let Some(index) = kept.iter().find(|index| **index >= length) {
                let difference = format!("group {group} has {length} positions, and {index} is to be kept");
                return Err(PruneError::Architecture { difference });
            }
            removed.extend(
                (0..length).filter(|index| !kept.contains(index)).map(|index| Position { group, index }),
            );
        }
        Ok(removed)
    }
}

fn grouped(graph: &Graph, smaller: &Graph) -> BTreeMap<String, usize> {
    let groups = |op: &Op| match op {
        Op::Conv(conv) => Some(conv.groups),
        Op::ConvTranspose(conv) => Some(conv.groups),
        Op::GroupNorm { groups, .. } => Some(*groups),
        _ => None,
    };
    let changed = |(id, node): (kd_graph::NodeId, &kd_graph::Node)| {
        let left = groups(smaller.node(id).ok()?.op())?;
        let weight = graph.node(*node.inputs().get(1)?).ok()?.name().to_owned();
        (groups(node.op()) != Some(left)).then_some((weight, left))
    };
    graph.nodes().filter_map(changed).collect()
}

fn axes(graph: &Graph, removed: &BTreeSet<Position>) -> BTreeMap<String, BTreeMap<usize, Vec<usize>>> {
    let dependencies = graph.dependencies();
    let mut all = BTreeMap::new();
    for (id, node) in graph.nodes().filter(|(_, node)| matches!(node.op(), Op::Parameter { .. })) {
        let sizes = node.output().shape.at(1);
        let axes: BTreeMap<usize, Vec<usize>> = sizes
            .iter()
            .enumerate()
            .filter_map(|(axis, size)| Some((axis, dependencies.kept(id, axis, removed)?, *size)))
            .filter(|(_, kept, size)| kept.len() < *size)
            .map(|(axis, kept, _)| (axis, kept))
            .collect();
        if !axes.is_empty() {
            all.insert(node.name().to_owned(), axes);
        }
    }
    all
}
