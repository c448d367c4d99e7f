//! The graph: nodes in execution order, with the tensors that its parameters and constants hold.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use burn::tensor::{DType, TensorData};
use serde::{Deserialize, Serialize};

use crate::infer::{InferError, infer};
use crate::{Kind, Op, Role, Shape, TensorType};

/// A node of one graph. It stays valid while other nodes come and go; that of a removed node is never given out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub(crate) u32);

/// An operation with its inputs and the type of its one result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    pub(crate) name: String,
    pub(crate) op: Op,
    pub(crate) inputs: Vec<NodeId>,
    pub(crate) output: TensorType,
}

impl Node {
    /// Unique in its graph: the module's path for a layer, scope and operation for anything else.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it does.
    pub fn op(&self) -> &Op {
        &self.op
    }

    /// Where its arguments come from, in the order that [`Op`] documents.
    pub fn inputs(&self) -> &[NodeId] {
        &self.inputs
    }

    /// Kind and shape of its result.
    pub fn output(&self) -> &TensorType {
        &self.output
    }
}

/// A layer of the traced model that acts in training only, so that no node stands for it: a dropout, say, unless its rate is 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unseen {
    /// Path of the module.
    pub path: String,
    /// Name of its type.
    pub kind: String,
}

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ({})", self.path, self.kind)
    }
}

/// Why a graph could not be read or changed as asked.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GraphError {
    /// No node of this name.
    #[error("no node is called `{name}`{}", suggest(nearest))]
    UnknownName {
        /// The name asked for.
        name: String,
        /// The names most like it, best first.
        nearest: Vec<String>,
    },
    /// A node that is not, or no longer, in this graph.
    #[error("node {} is not in this graph: it was removed, or belongs to another graph", id.0)]
    UnknownNode {
        /// The node.
        id: NodeId,
    },
    /// Names are unique.
    #[error("a node called `{name}` exists already; choose another name")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// The operation does not fit its inputs.
    #[error("`{name}`: {source}")]
    Type {
        /// Name of the node.
        name: String,
        /// What does not fit.
        source: InferError,
    },
    /// A tensor that graphs do not hold.
    #[error("`{name}` holds {dtype}; parameters and constants are floats, integers or truth values")]
    DType {
        /// Name of the node.
        name: String,
        /// Its type.
        dtype: String,
    },
    /// The edit would leave the graph inconsistent.
    #[error("`{name}`: {reason}")]
    Edit {
        /// Name of the node.
        name: String,
        /// What is wrong, and what to do.
        reason: String,
    },
}

fn suggest(nearest: &[String]) -> String {
    match nearest {
        [] => String::new(),
        names => format!("; the nearest names are `{}`", names.join("`, `")),
    }
}

/// A network as data: operations in execution order, parameters by module path, the batch as a symbol.
///
/// ```
/// use burn::tensor::TensorData;
/// use kd_graph::{Activation, Graph, Op, Role, Shape, TensorType};
///
/// let mut graph = Graph::new();
/// let x = graph.input("input", TensorType::float(Shape::batched([4])))?;
/// let weight = graph.parameter("fc.weight", Role::Weight, TensorData::zeros::<f32, _>([4, 2]))?;
/// let fc = graph.add("fc", Op::Linear, &[x, weight])?;
/// let relu = graph.add("relu", Op::Activation(Activation::Relu), &[fc])?;
/// graph.set_outputs(&[relu])?;
/// assert_eq!(graph.node(relu)?.output().to_string(), "[B, 2]");
/// assert!(graph.find("relv").unwrap_err().to_string().contains("`relu`"));
/// # Ok::<(), kd_graph::GraphError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    /// Every node after all of its inputs.
    pub(crate) order: Vec<NodeId>,
    pub(crate) inputs: Vec<NodeId>,
    pub(crate) outputs: Vec<NodeId>,
    pub(crate) next: u32,
    #[serde(default)]
    pub(crate) unseen: Vec<Unseen>,
    #[serde(skip)]
    pub(crate) values: BTreeMap<NodeId, Arc<TensorData>>,
    #[serde(skip)]
    pub(crate) names: HashMap<String, NodeId>,
}

impl Graph {
    /// A graph without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tensor that the caller gives at every run; inputs are ordered as they are added.
    ///
    /// # Errors
    /// [`GraphError::DuplicateName`].
    pub fn input(&mut self, name: &str, output: TensorType) -> Result<NodeId, GraphError> {
        let id = self.push(name, Op::Input, Vec::new(), output)?;
        self.inputs.push(id);
        Ok(id)
    }

    /// Adds a parameter by its module path.
    ///
    /// # Errors
    /// [`GraphError::DuplicateName`], or [`GraphError::DType`] for a tensor that is neither float, int nor bool.
    pub fn parameter(&mut self, path: &str, role: Role, value: TensorData) -> Result<NodeId, GraphError> {
        self.holding(path, Op::Parameter { role, aliases: Vec::new() }, value)
    }

    /// Adds a tensor that is the same at every run.
    ///
    /// # Errors
    /// As [`parameter`](Self::parameter).
    pub fn constant(&mut self, name: &str, value: TensorData) -> Result<NodeId, GraphError> {
        self.holding(name, Op::Constant, value)
    }

    /// Adds a leaf with its tensor.
    pub(crate) fn holding(&mut self, name: &str, op: Op, value: TensorData) -> Result<NodeId, GraphError> {
        let output = type_of(name, &value)?;
        let id = self.push(name, op, Vec::new(), output)?;
        self.values.insert(id, Arc::new(value));
        Ok(id)
    }

    /// Adds an operation at the end; the type of its result follows from its inputs.
    ///
    /// # Errors
    /// [`GraphError::DuplicateName`], [`GraphError::UnknownNode`], or [`GraphError::Type`] when the operation does not fit the inputs.
    pub fn add(&mut self, name: &str, op: Op, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let types = self.types(inputs)?;
        let output =
            infer(&op, &types).map_err(|source| GraphError::Type { name: name.to_owned(), source })?;
        self.push(name, op, inputs.to_vec(), output)
    }

    /// Says which nodes are the results, in order. A node may be named twice.
    ///
    /// # Errors
    /// [`GraphError::UnknownNode`].
    pub fn set_outputs(&mut self, outputs: &[NodeId]) -> Result<(), GraphError> {
        for &id in outputs {
            self.node(id)?;
        }
        self.outputs = outputs.to_vec();
        Ok(())
    }

    /// A node.
    ///
    /// # Errors
    /// [`GraphError::UnknownNode`] when it was removed or belongs to another graph.
    pub fn node(&self, id: NodeId) -> Result<&Node, GraphError> {
        self.nodes.get(&id).ok_or(GraphError::UnknownNode { id })
    }

    /// The node of a name.
    ///
    /// # Errors
    /// [`GraphError::UnknownName`] with the names most like it.
    pub fn find(&self, name: &str) -> Result<NodeId, GraphError> {
        self.names.get(name).copied().ok_or_else(|| GraphError::UnknownName {
            name: name.to_owned(),
            nearest: nearest(name, self.names.keys().map(String::as_str)),
        })
    }

    /// All nodes in execution order.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Node)> {
        self.order.iter().filter_map(|id| Some((*id, self.nodes.get(id)?)))
    }

    /// All parameters in the order of their first use.
    pub fn parameters(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes().filter(|(_, node)| matches!(node.op, Op::Parameter { .. }))
    }

    /// What the caller gives, in order.
    pub fn inputs(&self) -> &[NodeId] {
        &self.inputs
    }

    /// What the caller gets, in order.
    pub fn outputs(&self) -> &[NodeId] {
        &self.outputs
    }

    /// The nodes that read a node, in execution order.
    pub fn users(&self, id: NodeId) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes().filter(move |(_, node)| node.inputs.contains(&id))
    }

    /// The tensor that a parameter or constant holds.
    pub fn value(&self, id: NodeId) -> Option<&Arc<TensorData>> {
        self.values.get(&id)
    }

    /// Layers of the traced model that act in training only, in the model's order. They are not in the graph; a dropout can be put back.
    pub fn unseen(&self) -> &[Unseen] {
        &self.unseen
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// A name that no node has: `name` itself, or with `_1`, `_2`, ... behind it.
    pub fn free_name(&self, name: &str) -> String {
        let taken = |name: &str| self.names.contains_key(name);
        if !taken(name) {
            return name.to_owned();
        }
        let mut number = 1;
        loop {
            let candidate = format!("{name}_{number}");
            if !taken(&candidate) {
                return candidate;
            }
            number += 1;
        }
    }

    /// The types of some nodes, in order.
    pub(crate) fn types(&self, ids: &[NodeId]) -> Result<Vec<TensorType>, GraphError> {
        ids.iter().map(|&id| Ok(self.node(id)?.output.clone())).collect()
    }

    /// Adds a node at the end whose type is known.
    pub(crate) fn push(
        &mut self,
        name: &str,
        op: Op,
        inputs: Vec<NodeId>,
        output: TensorType,
    ) -> Result<NodeId, GraphError> {
        if self.names.contains_key(name) {
            return Err(GraphError::DuplicateName { name: name.to_owned() });
        }
        for &id in &inputs {
            self.node(id)?;
        }
        let id = NodeId(self.next);
        self.next += 1;
        self.names.insert(name.to_owned(), id);
        self.nodes.insert(id, Node { name: name.to_owned(), op, inputs, output });
        self.order.push(id);
        Ok(id)
    }
}

/// Kind and shape of a tensor in memory.
pub(crate) fn type_of(name: &str, value: &TensorData) -> Result<TensorType, GraphError> {
    let kind = match value.dtype() {
        dtype if dtype.is_float() => Kind::Float,
        DType::Bool(_) => Kind::Bool,
        dtype if dtype.is_int() || dtype.is_uint() => Kind::Int,
        dtype => return Err(GraphError::DType { name: name.to_owned(), dtype: format!("{dtype:?}") }),
    };
    Ok(TensorType { kind, shape: Shape::fixed(value.shape().iter().copied()) })
}

/// Up to three of the names that are most like the one asked for, best first.
pub(crate) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut scored: Vec<_> = names.map(|other| (strsim::jaro_winkler(name, other), other)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.into_iter().take(3).map(|(_, other)| other.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn input(graph: &mut Graph, name: &str) -> NodeId {
        graph.input(name, TensorType::float(Shape::batched([4]))).unwrap()
    }

    #[test]
    fn a_second_node_of_a_name_is_refused_and_a_free_name_is_offered() {
        let mut graph = Graph::new();
        input(&mut graph, "x");
        let again = graph.input("x", TensorType::float(Shape::batched([4])));
        assert_eq!(again.unwrap_err(), GraphError::DuplicateName { name: "x".into() });
        assert_eq!(graph.free_name("x"), "x_1");
        assert_eq!(graph.free_name("y"), "y");
        assert_eq!(graph.len(), 1);
    }

    #[test]
    fn a_node_of_another_graph_is_refused() {
        let mut other = Graph::new();
        input(&mut other, "a");
        let foreign = input(&mut other, "b");
        let mut graph = Graph::new();
        input(&mut graph, "x");
        assert_eq!(graph.node(foreign).unwrap_err(), GraphError::UnknownNode { id: foreign });
        assert_eq!(graph.set_outputs(&[foreign]).unwrap_err(), GraphError::UnknownNode { id: foreign });
    }

    #[test]
    fn an_unknown_name_lists_the_nearest() {
        let mut graph = Graph::new();
        for name in ["layer1.0.conv1", "layer1.0.conv2", "layer2.0.conv1", "fc"] {
            input(&mut graph, name);
        }
        let GraphError::UnknownName { nearest, .. } = graph.find("layer1.0.conv").unwrap_err() else {
            unreachable!("another error")
        };
        assert_eq!(nearest.len(), 3);
        assert!(nearest[0].starts_with("layer1.0.conv"), "{nearest:?}");
    }
}
