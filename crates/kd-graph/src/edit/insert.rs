//! New nodes, alone and between others.

use burn::tensor::TensorData;

use super::{Edit, refused};
use crate::{GraphError, NodeId, Op, Role, Shape, TensorType};

impl Edit {
    /// Adds an input at the end of the graph's inputs.
    ///
    /// # Errors
    /// [`GraphError::DuplicateName`].
    pub fn add_input(&mut self, name: &str, output: TensorType) -> Result<NodeId, GraphError> {
        self.graph.input(name, output)
    }

    /// Adds a parameter by its module path.
    ///
    /// # Errors
    /// [`GraphError::DuplicateName`] or [`GraphError::DType`].
    pub fn add_parameter(&mut self, path: &str, role: Role, value: TensorData) -> Result<NodeId, GraphError> {
        self.graph.parameter(path, role, value)
    }

    /// Adds a tensor that is the same at every run.
    ///
    /// # Errors
    /// [`GraphError::DuplicateName`] or [`GraphError::DType`].
    pub fn add_constant(&mut self, name: &str, value: TensorData) -> Result<NodeId, GraphError> {
        self.graph.constant(name, value)
    }

    /// Adds an operation that nothing reads yet; for an [`Op::Custom`], [`set_type`](Self::set_type) must follow.
    ///
    /// # Errors
    /// [`GraphError::DuplicateName`], [`GraphError::UnknownNode`], or [`GraphError::Edit`] for an operation that holds a tensor.
    pub fn add(&mut self, name: &str, op: Op, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        if op.is_leaf() {
            let reason = format!("{} is added by a method of its own", op.word());
            return Err(refused(name, reason));
        }
        // Its type is inferred when the edit is complete.
        self.graph.push(name, op, inputs.to_vec(), TensorType::float(Shape::default()))
    }

    /// Adds an operation that reads `node`, and lets everything that read `node` until now, the graph's outputs too, read the new one.
    ///
    /// # Errors
    /// As [`add`](Self::add), and [`GraphError::Edit`] when `node` is not among the inputs.
    pub fn insert_after(
        &mut self,
        node: NodeId,
        name: &str,
        op: Op,
        inputs: &[NodeId],
    ) -> Result<NodeId, GraphError> {
        self.reads(name, inputs, node)?;
        let new = self.add(name, op, inputs)?;
        self.redirect(node, new, None);
        Ok(new)
    }

    /// Adds an operation between a node and one of its readers; other readers are left as they are. Between a parameter and its layer this is
    /// the place of a mask or a quantiser.
    ///
    /// # Errors
    /// As [`insert_after`](Self::insert_after), and [`GraphError::Edit`] when `reader` does not read `node`.
    pub fn insert_between(
        &mut self,
        node: NodeId,
        reader: NodeId,
        name: &str,
        op: Op,
        inputs: &[NodeId],
    ) -> Result<NodeId, GraphError> {
        self.reads(name, inputs, node)?;
        let consumer = self.graph.node(reader)?;
        self.reads(&consumer.name, &consumer.inputs, node)?;
        let new = self.add(name, op, inputs)?;
        self.redirect(node, new, Some(reader));
        Ok(new)
    }

    /// Adds an operation in front of input number `input` of a node: it reads what was read there, then `more`.
    ///
    /// # Errors
    /// As [`add`](Self::add), and [`GraphError::Edit`] when there is no such input.
    pub fn insert_before(
        &mut self,
        node: NodeId,
        input: usize,
        name: &str,
        op: Op,
        more: &[NodeId],
    ) -> Result<NodeId, GraphError> {
        let consumer = self.graph.node(node)?;
        let source = consumer.inputs.get(input).copied();
        let source = source.ok_or_else(|| {
            refused(&consumer.name, format!("there is no input {input} of {}", consumer.inputs.len()))
        })?;
        let inputs: Vec<_> = [source].into_iter().chain(more.iter().copied()).collect();
        let new = self.add(name, op, &inputs)?;
        self.rewire(node, input, new)?;
        Ok(new)
    }

    fn reads(&self, name: &str, inputs: &[NodeId], node: NodeId) -> Result<(), GraphError> {
        let source = self.graph.node(node)?;
        if inputs.contains(&node) {
            Ok(())
        } else {
            Err(refused(name, format!("it does not read `{}`", source.name)))
        }
    }
}
