//! Changes to a graph, all or none of them.
//!
//! ```
//! use burn::tensor::TensorData;
//! use kd_graph::{Activation, Graph, Op, Role, Shape, TensorType};
//!
//! let mut graph = Graph::new();
//! let x = graph.input("x", TensorType::float(Shape::batched([4])))?;
//! let weight = graph.parameter("fc.weight", Role::Weight, TensorData::zeros::<f32, _>([4, 2]))?;
//! let fc = graph.add("fc", Op::Linear, &[x, weight])?;
//! graph.set_outputs(&[fc])?;
//!
//! // Half as many inputs: the weight alone contradicts the graph and is refused, together with the input it is consistent.
//! let narrow = TensorData::zeros::<f32, _>([2, 2]);
//! assert!(graph.edit(|edit| edit.set_value(weight, narrow.clone())).is_err());
//! assert_eq!(graph.node(weight)?.output().to_string(), "[4, 2]");
//! graph.edit(|edit| {
//!     edit.set_value(weight, narrow)?;
//!     edit.set_type(x, TensorType::float(Shape::batched([2])))?;
//!     edit.insert_after(fc, "relu", Op::Activation(Activation::Relu), &[fc])
//! })?;
//! assert_eq!(graph.node(graph.outputs()[0])?.name(), "relu");
//! # Ok::<(), kd_graph::GraphError>(())
//! ```

mod insert;
mod settle;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use burn::tensor::TensorData;

use crate::graph::type_of;
use crate::{Graph, GraphError, NodeId, Op, TensorType};

/// A graph while it is changed, as [`Graph::edit`] gives it.
///
/// In between it may contradict itself: the types of results are settled, and everything is checked, after the last change.
#[derive(Debug)]
pub struct Edit {
    graph: Graph,
    /// Types that do not follow from anything: of inputs and of custom operations.
    given: HashMap<NodeId, TensorType>,
}

impl Graph {
    /// Makes some changes, orders the nodes, infers every type again and checks the result.
    ///
    /// Tensors are shared, not copied, so that an edit costs a few microseconds a node.
    ///
    /// # Errors
    /// What the closure returns, or the first contradiction that [`Graph::validate`] finds in the result; the graph is then as it was.
    pub fn edit<R>(
        &mut self,
        change: impl FnOnce(&mut Edit) -> Result<R, GraphError>,
    ) -> Result<R, GraphError> {
        let mut edit = Edit { graph: self.clone(), given: HashMap::new() };
        let result = change(&mut edit)?;
        *self = edit.settle(self)?;
        Ok(result)
    }

    /// Puts a dropout behind the node of this name, which a trace cannot see: everything that read the node reads it through the dropout. That of
    /// an attention is behind its softmax, so that the attention is [taken apart](Self::lower_attention) for it.
    ///
    /// ```text
    /// graph.put_dropout_back("fc1.relu", 0.5)
    /// ```
    ///
    /// # Errors
    /// [`GraphError::UnknownName`] with the nearest names, or [`GraphError::Type`] for a rate outside `0..=1` or a result that is not float.
    pub fn put_dropout_back(&mut self, name: &str, rate: f64) -> Result<NodeId, GraphError> {
        let mut graph = self.clone();
        let id = match graph.node(graph.find(name)?)?.op() {
            Op::LayeredAttention(_) => graph.lower_attention(name)?,
            _ => graph.find(name)?,
        };
        let free = graph.free_name(&format!("{name}.dropout"));
        let dropout = graph.edit(|edit| edit.insert_after(id, &free, Op::Dropout { rate }, &[id]))?;
        *self = graph;
        Ok(dropout)
    }
}

impl Edit {
    /// The graph as it is so far. Types of new nodes are not settled yet.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Gives a node another name; that of a parameter is the path under which records hold it.
    ///
    /// # Errors
    /// [`GraphError::DuplicateName`] or [`GraphError::UnknownNode`].
    pub fn rename(&mut self, id: NodeId, name: &str) -> Result<(), GraphError> {
        let old = self.graph.node(id)?.name.clone();
        if old == name {
            return Ok(());
        }
        if self.graph.names.contains_key(name) {
            return Err(GraphError::DuplicateName { name: name.to_owned() });
        }
        self.graph.names.remove(&old);
        self.graph.names.insert(name.to_owned(), id);
        self.node_mut(id)?.name = name.to_owned();
        Ok(())
    }

    /// Gives a node another operation or other attributes (groups, the shape of a reshape); its inputs stay.
    ///
    /// # Errors
    /// [`GraphError::UnknownNode`], or [`GraphError::Edit`] when a node that holds a tensor would become one that computes, or the reverse.
    pub fn set_op(&mut self, id: NodeId, op: Op) -> Result<(), GraphError> {
        let node = self.node_mut(id)?;
        let same = match (&node.op, &op) {
            (Op::Input, other) | (other, Op::Input) => *other == Op::Input,
            (a, b) => a.is_leaf() == b.is_leaf(),
        };
        if !same {
            let reason = format!(
                "{} does not become {}; add a node and replace this one's uses",
                node.op.word(),
                op.word()
            );
            return Err(GraphError::Edit { name: node.name.clone(), reason });
        }
        node.op = op;
        Ok(())
    }

    /// Gives a parameter or constant another tensor, of any shape.
    ///
    /// # Errors
    /// [`GraphError::UnknownNode`]; [`GraphError::Edit`] for a node that holds no tensor; [`GraphError::DType`].
    pub fn set_value(&mut self, id: NodeId, value: TensorData) -> Result<(), GraphError> {
        let node = self.graph.node(id)?;
        type_of(&node.name, &value)?;
        if !node.op.holds_tensor() {
            return Err(refused(&node.name, format!("{} holds no tensor", node.op.word())));
        }
        self.graph.values.insert(id, Arc::new(value));
        Ok(())
    }

    /// Gives an input or a custom operation another type; all others follow from their inputs.
    ///
    /// # Errors
    /// [`GraphError::UnknownNode`], or [`GraphError::Edit`] for any other node.
    pub fn set_type(&mut self, id: NodeId, output: TensorType) -> Result<(), GraphError> {
        let node = self.graph.node(id)?;
        if !matches!(node.op, Op::Input | Op::Custom { .. }) {
            return Err(refused(
                &node.name,
                format!("the type of {} is not a matter of choice", node.op.word()),
            ));
        }
        self.given.insert(id, output);
        Ok(())
    }

    /// Lets a node read another one as its input number `input`, counted from 0.
    ///
    /// # Errors
    /// [`GraphError::UnknownNode`], or [`GraphError::Edit`] when there is no such input.
    pub fn rewire(&mut self, id: NodeId, input: usize, source: NodeId) -> Result<(), GraphError> {
        self.graph.node(source)?;
        let node = self.node_mut(id)?;
        let count = node.inputs.len();
        match node.inputs.get_mut(input) {
            Some(slot) => *slot = source,
            None => return Err(refused(&node.name, format!("there is no input {input} of {count}"))),
        }
        Ok(())
    }

    /// Gives a node another operation and other inputs; it keeps its name and its users.
    ///
    /// # Errors
    /// [`GraphError::UnknownNode`], or [`GraphError::Edit`] as [`set_op`](Self::set_op).
    pub fn replace(&mut self, id: NodeId, op: Op, inputs: &[NodeId]) -> Result<(), GraphError> {
        for &input in inputs {
            self.graph.node(input)?;
        }
        self.set_op(id, op)?;
        self.node_mut(id)?.inputs = inputs.to_vec();
        Ok(())
    }

    /// Lets every reader of a node, and the graph's outputs, read another one instead.
    ///
    /// # Errors
    /// [`GraphError::UnknownNode`].
    pub fn replace_uses(&mut self, of: NodeId, with: NodeId) -> Result<(), GraphError> {
        self.graph.node(of)?;
        self.graph.node(with)?;
        self.redirect(of, with, None);
        Ok(())
    }

    /// Removes a node; what read it reads its first input from now on. Parameters that nothing reads any more stay until
    /// [`Graph::remove_dead`] is called.
    ///
    /// # Errors
    /// [`GraphError::UnknownNode`], or [`GraphError::Edit`] for a node without inputs that is still read.
    pub fn remove(&mut self, id: NodeId) -> Result<(), GraphError> {
        let node = self.graph.node(id)?;
        let first = node.inputs.first().copied();
        let users: Vec<_> = self.graph.users(id).map(|(_, user)| user.name.as_str()).collect();
        let read = !users.is_empty() || self.graph.outputs.contains(&id);
        match first {
            Some(first) => self.redirect(id, first, None),
            None if read => {
                let by = if users.is_empty() { "the graph's outputs".to_owned() } else { users.join(", ") };
                return Err(refused(&node.name, format!("it is still read by {by}; rewire them first")));
            }
            None => {}
        }
        self.drop_node(id);
        Ok(())
    }

    /// Says which nodes are the results, in order.
    ///
    /// # Errors
    /// [`GraphError::UnknownNode`].
    pub fn set_outputs(&mut self, outputs: &[NodeId]) -> Result<(), GraphError> {
        self.graph.set_outputs(outputs)
    }

    fn node_mut(&mut self, id: NodeId) -> Result<&mut crate::Node, GraphError> {
        self.graph.nodes.get_mut(&id).ok_or(GraphError::UnknownNode { id })
    }

    /// Every use of a node becomes one of another, except in that other itself.
    fn redirect(&mut self, of: NodeId, with: NodeId, only: Option<NodeId>) {
        for (&user, node) in &mut self.graph.nodes {
            if user != with && only.is_none_or(|only| only == user) {
                node.inputs.iter_mut().filter(|input| **input == of).for_each(|input| *input = with);
            }
        }
        if only.is_none() {
            self.graph.outputs.iter_mut().filter(|output| **output == of).for_each(|output| *output = with);
        }
    }

    fn drop_node(&mut self, id: NodeId) {
        if let Some(node) = self.graph.nodes.remove(&id) {
            self.graph.names.remove(&node.name);
        }
        self.graph.values.remove(&id);
        self.graph.order.retain(|&other| other != id);
        self.graph.inputs.retain(|&other| other != id);
    }
}

fn refused(name: &str, reason: String) -> GraphError {
    GraphError::Edit { name: name.to_owned(), reason }
}
