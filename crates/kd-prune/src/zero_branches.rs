//! Whole layers of which nothing is left: branches that add zero.

use std::collections::{BTreeMap, BTreeSet};

use kd_graph::{Activation, Binary, Graph, Node, NodeId, Op};

use crate::PruneError;

/// Removes branches that only add zero, as a residual branch does whose last layer has been pruned as a whole: its weight and bias, or the scale and
/// shift of its normalisation, are zero. The sum is replaced by its other operand, and what nobody reads any more goes. Returns the names of
/// the sums that went.
///
/// This is depth-wise removal: Wen et al., *Learning Structured Sparsity in Deep Neural Networks* (2016), on residual networks. It holds in evaluation
/// and, for masked weights, in training.
///
/// # Errors
/// [`PruneError::Graph`] when the graph contradicts itself.
pub fn remove_zero_branches(graph: &mut Graph) -> Result<Vec<String>, PruneError> {
    let mut zero = BTreeSet::new();
    let mut sums: Vec<(NodeId, NodeId, String)> = Vec::new();
    for (id, node) in graph.nodes() {
        if is_zero(graph, node, &zero) {
            zero.insert(id);
        }
        if let (Op::Binary(Binary::Add), [a, b]) = (node.op(), node.inputs()) {
            let stays = match (zero.contains(a), zero.contains(b)) {
                (true, false) => *b,
                (false, true) => *a,
                _ => continue,
            };
            // A sum may also widen its operand; then it has something to do.
            if graph.node(stays)?.output() == node.output() {
                sums.push((id, stays, node.name().to_owned()));
            }
        }
    }
    let mut instead: BTreeMap<NodeId, NodeId> = BTreeMap::new();
    for (sum, stays, _) in &sums {
        // What stays may itself be a sum that goes.
        instead.insert(*sum, instead.get(stays).copied().unwrap_or(*stays));
    }
    graph.edit(|edit| instead.iter().try_for_each(|(sum, stays)| edit.replace_uses(*sum, *stays)))?;
    graph.remove_dead()?;
    Ok(sums.into_iter().map(|(_, _, name)| name).collect())
}

/// Whether a node's result is zero for every input, as far as is known without computing it.
fn is_zero(graph: &Graph, node: &Node, zero: &BTreeSet<NodeId>) -> bool {
    let input = |index: usize| node.inputs().get(index).is_some_and(|id| zero.contains(id));
    // A bias that is not there adds nothing.
    let absent = |index: usize| node.inputs().len() <= index;
    match node.op() {
        Op::Parameter { .. } | Op::Constant => {
            let value = crate::subject::value(graph, node.name());
            value.is_ok_and(|value| value.values().iter().all(|value| *value == 0.0))
        }
        Op::Conv(_) | Op::ConvTranspose(_) | Op::Linear => (input(0) || input(1)) && (absent(2) || input(2)),
        Op::BatchNorm(_) => input(1) && input(2),
        Op::Binary(Binary::Mul) => input(0) || input(1),
        Op::Binary(Binary::Add) => input(0) && input(1),
        Op::Activation(Activation::Relu) | Op::Dropout { .. } => input(0),
        _ => false,
    }
}
