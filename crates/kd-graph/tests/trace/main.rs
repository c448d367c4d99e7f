//! Traces of models built with burn alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod errors;
mod layers;
mod models;
mod naming;
mod operations;
mod options;

use burn::tensor::Device;
use kd_graph::{Graph, NodeId, Op};

fn device() -> Device {
    Device::flex()
}

/// Nodes that compute, in order.
fn computing(graph: &Graph) -> Vec<(NodeId, &kd_graph::Node)> {
    graph.nodes().filter(|(_, node)| !node.op().is_leaf()).collect()
}

/// Names of the nodes that compute.
fn names(graph: &Graph) -> Vec<&str> {
    computing(graph).into_iter().map(|(_, node)| node.name()).collect()
}

/// Operations of the nodes that compute.
fn ops(graph: &Graph) -> Vec<Op> {
    computing(graph).into_iter().map(|(_, node)| node.op().clone()).collect()
}

/// Names of what a node reads.
fn read_by<'a>(graph: &'a Graph, name: &str) -> Vec<&'a str> {
    let node = graph.node(graph.find(name).unwrap()).unwrap();
    node.inputs().iter().map(|&input| graph.node(input).unwrap().name()).collect()
}
