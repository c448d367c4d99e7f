//! Questions that plans ask of a network.

use std::collections::{BTreeMap, BTreeSet};

use kd_graph::{Activation, Binary, Graph, GraphError, NodeId, Op};

use super::op::parameter_behind;
use crate::QuantError;

/// A layer: what it multiplies with what.
pub(super) struct Layer {
    pub node: NodeId,
    pub name: String,
    pub weight: String,
    pub source: NodeId,
}

/// Learned parameters and their shapes.
pub(super) fn network(graph: &Graph) -> Result<BTreeMap<String, Vec<usize>>, QuantError> {
    let mut found = BTreeMap::new();
    for (_, node) in graph.parameters() {
        if matches!(node.op(), Op::Parameter { role: kd_graph::Role::Weight, .. }) {
            found.insert(node.name().to_owned(), node.output().shape.at(1));
        }
    }
    Ok(found)
}

/// Layers with a learned weight, in execution order.
pub(super) fn layers(graph: &Graph) -> Result<Vec<Layer>, QuantError> {
    let mut layers = Vec::new();
    for (node, of) in graph.nodes() {
        if !is_layer(of.op()) {
            continue;
        }
        let [x, weight, ..] = of.inputs() else { continue };
        let Some(parameter) = parameter_behind(graph, *weight)? else { continue };
        layers.push(Layer {
            node,
            name: of.name().to_owned(),
            weight: graph.node(parameter)?.name().to_owned(),
            source: source(graph, *x)?,
        });
    }
    Ok(layers)
}

/// Whether an operation multiplies an input with a weight.
pub(super) fn is_layer(op: &Op) -> bool {
    matches!(op, Op::Conv(_) | Op::ConvTranspose(_) | Op::Linear)
}

/// Whether an operation moves numbers about and makes none.
pub(super) fn moves(op: &Op) -> bool {
    matches!(op, Op::Reshape { .. } | Op::Permute { .. } | Op::Slice { .. } | Op::Pad { .. })
}

/// The node that makes a tensor's numbers: moving them about makes none.
pub(super) fn source(graph: &Graph, mut id: NodeId) -> Result<NodeId, GraphError> {
    loop {
        let node = graph.node(id)?;
        match node.inputs().first() {
            Some(&first) if moves(node.op()) => id = first,
            _ => return Ok(id),
        }
    }
}

pub(super) fn depends_on_input(graph: &Graph, id: NodeId) -> Result<bool, GraphError> {
    let (mut stack, mut seen) = (vec![id], BTreeSet::new());
    while let Some(id) = stack.pop() {
        let node = graph.node(id)?;
        if matches!(node.op(), Op::Input) {
            return Ok(true);
        }
        stack.extend(node.inputs().iter().copied().filter(|input| seen.insert(*input)));
    }
    Ok(false)
}

/// Whether values below zero can occur.
pub(super) fn can_be_negative(graph: &Graph, id: NodeId) -> Result<bool, GraphError> {
    let node = graph.node(id)?;
    let first = node.inputs().first().copied();
    Ok(match (node.op(), first) {
        (Op::Activation(Activation::Relu | Activation::Sigmoid) | Op::Softmax { .. }, _) => false,
        (Op::Clamp { min, .. }, _) => *min < 0.0,
        (
            Op::Pool(_)
            | Op::AdaptiveAvgPool { .. }
            | Op::Reshape { .. }
            | Op::Permute { .. }
            | Op::Slice { .. }
            | Op::Pad { .. }
            | Op::Dropout { .. },
            Some(first),
        ) => can_be_negative(graph, first)?,
        (Op::Binary(Binary::Add) | Op::Cat { .. }, _) => {
            let mut any = false;
            for &input in node.inputs() {
                any |= can_be_negative(graph, input)?;
            }
            any
        }
        _ => true,
    })
}

/// Whether a name matches a pattern in which `*` stands for any letters.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|tail| {
            tail.char_indices()
                .map(|(at, _)| at)
                .chain([tail.len()])
                .any(|at| tail.get(at..).is_some_and(|tail| matches(rest, tail)))
        }),
    }
}
