//! What a graph costs, before anything is run.
//!
//! | Quantity | How it is counted |
//! |---|---|
//! | parameters | elements of learned tensors, shared ones once; running statistics and tables are buffers |
//! | MACs | products of a weight (or, in matrix products and attention, of another tensor) and an activation that are summed; border included |
//! | FLOPs | two for every MAC, one for every bias added, and what [`Op`](crate::Op)s without MACs do to every element (one for an elementwise function, whatever it costs) |
//! | bytes of weights | the tensors of parameters, buffers and constants as they are held |
//! | bytes moved | every input read once and the result written once, as if no cache kept anything between nodes |
//! | peak activation memory | inputs and results alive at once when nodes run in order and each result is freed after its last reader |
//! | arithmetic intensity | FLOPs by byte moved |
//!
//! Batch normalisation is counted as in evaluation. A MAC count in papers is that of convolutions and linear layers alone; here other nodes have
//! none either, but for matrix products, so the totals agree.

mod count;
mod measure;
mod memory;
mod probe;
mod roofline;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde::Serialize;

pub use probe::ProbeError;
pub use roofline::{Bottleneck, Machine, Roofline};

use crate::{Graph, GraphError, Kind, NodeId, Op, Role, TensorType};

/// Cost of one node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeCost {
    /// The node.
    #[serde(skip)]
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// The word for its operation.
    pub op: String,
    /// Type of its result, with the batch as a symbol.
    pub output: String,
    /// Learned elements that it is the first to read.
    pub parameters: u64,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Floating point operations.
    pub flops: u64,
    /// Bytes of parameters, buffers and constants that it reads.
    pub weight_bytes: u64,
    /// Bytes of activations read and written.
    pub activation_bytes: u64,
    /// Bytes of activations alive while it runs.
    pub alive_bytes: u64,
    /// Measured on a device, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub milliseconds: Option<f64>,
}

impl NodeCost {
    /// Bytes read and written.
    pub fn bytes_moved(&self) -> u64 {
        self.weight_bytes.saturating_add(self.activation_bytes)
    }

    /// FLOPs by byte moved; 0 where nothing is moved.
    pub fn intensity(&self) -> f64 {
        ratio(self.flops, self.bytes_moved())
    }
}

/// Cost of a graph at one batch size: of every node that computes, and in total.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Batch size.
    pub batch: usize,
    /// Learned elements.
    pub parameters: u64,
    /// Elements of running statistics, tables and other tensors without gradient.
    pub buffers: u64,
    /// Bytes of parameters, buffers and constants.
    pub weight_bytes: u64,
    /// Multiply-accumulates of one forward pass.
    pub macs: u64,
    /// Floating point operations of one forward pass.
    pub flops: u64,
    /// Bytes read and written in one forward pass.
    pub bytes_moved: u64,
    /// Largest number of bytes of activations alive at once.
    pub peak_activation_bytes: u64,
    /// The node during which that is so; empty for a graph without nodes.
    pub peak_at: String,
    /// Custom operations, of whose arithmetic nothing is known: they count as none.
    pub uncounted: Vec<String>,
    /// Every node that computes, in execution order.
    pub nodes: Vec<NodeCost>,
}

impl Cost {
    /// FLOPs by byte moved.
    pub fn intensity(&self) -> f64 {
        ratio(self.flops, self.bytes_moved)
    }

    /// Measured milliseconds of all nodes, if every node was measured.
    pub fn milliseconds(&self) -> Option<f64> {
        self.nodes.iter().map(|node| node.milliseconds).sum()
    }

    /// Enters measured times; nodes that are not in the map keep what they had.
    #[must_use]
    pub fn with_times(mut self, times: &BTreeMap<NodeId, Duration>) -> Self {
        for node in &mut self.nodes {
            if let Some(time) = times.get(&node.id) {
                node.milliseconds = Some(time.as_secs_f64() * 1e3);
            }
        }
        self
    }
}

fn ratio(of: u64, by: u64) -> f64 {
    if by == 0 { 0.0 } else { of as f64 / by as f64 }
}

/// Bytes of an element of an activation on a device: 32 bits for numbers, 8 for truth values.
pub(crate) fn element_bytes(kind: Kind) -> u64 {
    match kind {
        Kind::Float | Kind::Int => 4,
        Kind::Bool => 1,
    }
}

fn activation_bytes(tensor: &TensorType, batch: usize) -> u64 {
    elements(tensor, batch).saturating_mul(element_bytes(tensor.kind))
}

fn elements(tensor: &TensorType, batch: usize) -> u64 {
    tensor.shape.at(batch).into_iter().fold(1, |product: u64, size| product.saturating_mul(size as u64))
}

impl Graph {
    /// What a forward pass costs at a batch size.
    ///
    /// ```
    /// use burn::tensor::TensorData;
    /// use kd_graph::{Graph, Op, Role, Shape, TensorType};
    ///
    /// let mut graph = Graph::new();
    /// let x = graph.input("x", TensorType::float(Shape::batched([784])))?;
    /// let weight = graph.parameter("fc.weight", Role::Weight, TensorData::zeros::<f32, _>([784, 300]))?;
    /// let fc = graph.add("fc", Op::Linear, &[x, weight])?;
    /// graph.set_outputs(&[fc])?;
    /// let cost = graph.cost(2)?;
    /// assert_eq!((cost.parameters, cost.macs, cost.flops), (784 * 300, 2 * 784 * 300, 4 * 784 * 300));
    /// assert_eq!(cost.peak_activation_bytes, 2 * 4 * (784 + 300));
    /// # Ok::<(), kd_graph::GraphError>(())
    /// ```
    ///
    /// # Errors
    /// [`GraphError`] when the graph is inconsistent.
    pub fn cost(&self, batch: usize) -> Result<Cost, GraphError> {
        self.validate()?;
        let alive = memory::alive(self, batch);
        let mut seen = HashSet::new();
        let mut nodes = Vec::new();
        for (id, node) in self.nodes().filter(|(_, node)| !node.op().is_leaf()) {
            let types = self.types(node.inputs())?;
            let counted = count::count(node.op(), &types, node.output(), batch);
            let mut parameters = 0;
            let mut weight_bytes = 0;
            for &input in node.inputs() {
                let weight = matches!(self.node(input)?.op(), Op::Parameter { role: Role::Weight, .. });
                if weight && seen.insert(input) {
                    parameters += elements(self.node(input)?.output(), batch);
                }
                weight_bytes += self.value(input).map_or(0, |value| value.as_bytes().len() as u64);
            }
            let [activations, weight_bytes] = count::traffic(self, node, weight_bytes, batch)?;
            nodes.push(NodeCost {
                id,
                name: node.name().to_owned(),
                op: node.op().word(),
                output: node.output().to_string(),
                parameters,
                macs: counted.macs,
                flops: counted.flops,
                weight_bytes,
                activation_bytes: activations,
                alive_bytes: alive.get(&id).copied().unwrap_or(0),
                milliseconds: None,
            });
        }
        let held = |role: Role| {
            let held = self.parameters().filter(move |(_, node)| match node.op() {
                Op::Parameter { role: other, .. } => *other == role,
                _ => false,
            });
            held.map(|(_, node)| elements(node.output(), batch)).sum()
        };
        let peak = nodes.iter().max_by(|a, b| a.alive_bytes.cmp(&b.alive_bytes));
        let sum = |of: fn(&NodeCost) -> u64| nodes.iter().map(of).fold(0, u64::saturating_add);
        Ok(Cost {
            batch,
            parameters: held(Role::Weight),
            buffers: held(Role::Buffer),
            weight_bytes: self.values.values().map(|value| value.as_bytes().len() as u64).sum(),
            macs: sum(|node| node.macs),
            flops: sum(|node| node.flops),
            bytes_moved: sum(NodeCost::bytes_moved),
            peak_activation_bytes: peak.map_or(0, |node| node.alive_bytes),
            peak_at: peak.map_or_else(String::new, |node| node.name.clone()),
            uncounted: nodes
                .iter()
                .filter(|cost| {
                    self.nodes.get(&cost.id).is_some_and(|node| matches!(node.op, Op::Custom { .. }))
                })
                .map(|cost| cost.name.clone())
                .collect(),
            nodes,
        })
    }
}
