//! The end of an edit: order, types, checks.

use std::collections::HashMap;

use super::{Edit, refused};
use crate::graph::type_of;
use crate::{Graph, GraphError, InferError, NodeId, Op, TensorType, infer};

impl Edit {
    /// The graph in a valid order with the types that follow; `before` is the graph that was edited.
    pub(super) fn settle(mut self, before: &Graph) -> Result<Graph, GraphError> {
        self.graph.order = order(&self.graph)?;
        for id in self.graph.order.clone() {
            let output = self.type_now(id, before)?;
            self.node_mut(id)?.output = output;
        }
        self.graph.validate()?;
        Ok(self.graph)
    }

    fn type_now(&self, id: NodeId, before: &Graph) -> Result<TensorType, GraphError> {
        let node = self.graph.node(id)?;
        match (&node.op, self.graph.values.get(&id)) {
            (Op::Input, _) => Ok(self.given.get(&id).unwrap_or(&node.output).clone()),
            (Op::Parameter { .. } | Op::Constant, Some(value)) => type_of(&node.name, value),
            (Op::Parameter { .. } | Op::Constant, None) => {
                Err(refused(&node.name, "its tensor is missing".into()))
            }
            (Op::Custom { .. }, _) => self.custom_type(id, before),
            (op, _) => infer(op, &self.graph.types(&node.inputs)?)
                .map_err(|source| GraphError::Type { name: node.name.clone(), source }),
        }
    }

    /// What was given, or what it was as long as nothing about the node has changed.
    fn custom_type(&self, id: NodeId, before: &Graph) -> Result<TensorType, GraphError> {
        if let Some(given) = self.given.get(&id) {
            return Ok(given.clone());
        }
        let node = self.graph.node(id)?;
        let same = before.nodes.get(&id).is_some_and(|old| {
            old.op == node.op
                && before.types(&old.inputs).is_ok_and(|old| self.graph.types(&node.inputs) == Ok(old))
        });
        if same {
            return Ok(node.output.clone());
        }
        let source = InferError::Unknown { op: node.op.word(), advice: "say it with `Edit::set_type`" };
        Err(GraphError::Type { name: node.name.clone(), source })
    }
}

/// The present order, but every node behind its inputs: an input that stands too late is moved in front of its first reader.
fn order(graph: &Graph) -> Result<Vec<NodeId>, GraphError> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        Open,
        Done,
    }
    let mut marks = HashMap::new();
    let mut sorted = Vec::with_capacity(graph.order.len());
    for &root in &graph.order {
        let mut stack = vec![root];
        while let Some(&id) = stack.last() {
            let node = graph.node(id)?;
            match marks.get(&id) {
                Some(Mark::Done) => {
                    stack.pop();
                }
                Some(Mark::Open) => {
                    stack.pop();
                    marks.insert(id, Mark::Done);
                    sorted.push(id);
                }
                None => {
                    marks.insert(id, Mark::Open);
                    for input in node.inputs.iter().rev() {
                        match marks.get(input) {
                            Some(Mark::Open) => {
                                return Err(refused(&node.name, "it would read its own result".into()));
                            }
                            Some(Mark::Done) => {}
                            None => stack.push(*input),
                        }
                    }
                }
            }
        }
    }
    Ok(sorted)
}
