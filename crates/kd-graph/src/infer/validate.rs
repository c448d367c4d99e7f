//! Whether a graph contradicts itself.

use std::collections::HashSet;

use super::infer;
use crate::graph::type_of;
use crate::{Dim, Graph, GraphError, Node, NodeId, Op, TensorType};

impl Graph {
    /// Adds an operation at the end with the type of its result: for an [`Op::Custom`], whose type does not follow from its inputs.
    ///
    /// # Errors
    /// [`GraphError::DuplicateName`], [`GraphError::UnknownNode`], or [`GraphError::Edit`] for an operation that [`Graph::add`] can type.
    pub fn add_typed(
        &mut self,
        name: &str,
        op: Op,
        inputs: &[NodeId],
        output: TensorType,
    ) -> Result<NodeId, GraphError> {
        if !matches!(op, Op::Custom { .. }) {
            let reason = format!("the type of {} follows from its inputs; use `Graph::add`", op.word());
            return Err(GraphError::Edit { name: name.to_owned(), reason });
        }
        self.push(name, op, inputs.to_vec(), output)
    }

    /// Looks at everything: that names are unique, that every node comes after its inputs, that the tensors of parameters and constants have
    /// the type that their nodes say, and that the type of every result follows from the inputs.
    ///
    /// # Errors
    /// The first contradiction: [`GraphError::Type`] where an operation does not fit its inputs, [`GraphError::Edit`] for anything else.
    pub fn validate(&self) -> Result<(), GraphError> {
        let mut seen = HashSet::new();
        for &id in &self.order {
            let node = self.node(id)?;
            self.check_place(id, node, &seen)?;
            if node.op.is_leaf() { self.check_leaf(id, node) } else { self.check_type(id, node) }?;
            seen.insert(id);
        }
        self.check_lists(&seen)
    }

    fn check_place(&self, id: NodeId, node: &Node, before: &HashSet<NodeId>) -> Result<(), GraphError> {
        if before.contains(&id) {
            return Err(wrong(node, "it is in the order twice"));
        }
        if self.names.get(&node.name) != Some(&id) {
            return Err(GraphError::DuplicateName { name: node.name.clone() });
        }
        for &input in &node.inputs {
            let input_node = self.node(input)?;
            if !before.contains(&input) {
                return Err(wrong(node, format!("it reads `{}`, which comes later", input_node.name)));
            }
        }
        if id.0 >= self.next {
            return Err(wrong(node, "its number is still free"));
        }
        if node.output.shape.dims().contains(&Dim::Batch(0)) {
            return Err(wrong(node, "an axis of no times the batch size is fixed: 0"));
        }
        Ok(())
    }

    fn check_leaf(&self, id: NodeId, node: &Node) -> Result<(), GraphError> {
        if !node.inputs.is_empty() {
            return Err(wrong(node, format!("{} has no inputs", node.op.word())));
        }
        let listed = self.inputs.iter().filter(|&&input| input == id).count();
        if listed != usize::from(node.op == Op::Input) {
            return Err(wrong(node, format!("it is {listed} times among the graph's inputs")));
        }
        match (&node.op, self.values.get(&id)) {
            (Op::Input, None) => Ok(()),
            (Op::Input, Some(_)) => Err(wrong(node, "an input holds no tensor")),
            (_, None) => Err(wrong(node, "its tensor is missing")),
            (_, Some(value)) => {
                let held = type_of(&node.name, value)?;
                if held == node.output {
                    return Ok(());
                }
                Err(wrong(node, format!("it holds {held} but is said to be {}", node.output)))
            }
        }
    }

    fn check_type(&self, id: NodeId, node: &Node) -> Result<(), GraphError> {
        if self.values.contains_key(&id) {
            return Err(wrong(node, format!("{} holds no tensor", node.op.word())));
        }
        if matches!(node.op, Op::Custom { .. }) {
            return Ok(());
        }
        let types = self.types(&node.inputs)?;
        let inferred =
            infer(&node.op, &types).map_err(|source| GraphError::Type { name: node.name.clone(), source })?;
        if inferred == node.output {
            return Ok(());
        }
        Err(wrong(node, format!("its result is {inferred} but is said to be {}", node.output)))
    }

    fn check_lists(&self, seen: &HashSet<NodeId>) -> Result<(), GraphError> {
        if let Some((_, node)) = self.nodes.iter().find(|(id, _)| !seen.contains(id)) {
            return Err(wrong(node, "it is missing from the order"));
        }
        for (name, &id) in &self.names {
            if self.node(id)?.name != *name {
                return Err(GraphError::DuplicateName { name: name.clone() });
            }
        }
        let lists = self.inputs.iter().chain(&self.outputs).chain(self.values.keys());
        for &id in lists {
            self.node(id)?;
        }
        if let Some(id) = self.inputs.iter().find(|id| self.nodes.get(id).is_some_and(|n| n.op != Op::Input))
        {
            return Err(wrong(self.node(*id)?, "it is among the graph's inputs"));
        }
        Ok(())
    }
}

fn wrong(node: &Node, reason: impl Into<String>) -> GraphError {
    GraphError::Edit { name: node.name.clone(), reason: reason.into() }
}
