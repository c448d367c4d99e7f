//! Liveness of activations.

use std::collections::{BTreeMap, HashMap};

use super::activation_bytes;
use super::count::is_view;
use crate::{Graph, NodeId};

/// Bytes of activations alive while each node runs, its result among them.
///
/// The caller holds the inputs from the start and gets the outputs at the end; everything else is freed after its last reader. A view keeps what
/// it shows alive and takes nothing itself. Parameters and constants are no activations.
pub(super) fn alive(graph: &Graph, batch: usize) -> BTreeMap<NodeId, u64> {
    let owner = owners(graph);
    let mut last_use: HashMap<NodeId, usize> = HashMap::new();
    for (step, (id, node)) in graph.nodes().enumerate() {
        last_use.extend(node.inputs().iter().chain([&id]).filter_map(|id| Some((*owner.get(id)?, step))));
    }
    for id in graph.inputs().iter().chain(graph.outputs()).filter_map(|id| owner.get(id)) {
        last_use.insert(*id, usize::MAX);
    }
    let mut frees: HashMap<usize, Vec<u64>> = HashMap::new();
    let bytes = |id| graph.node(id).map_or(0, |node| activation_bytes(node.output(), batch));
    for (&id, &step) in &last_use {
        frees.entry(step).or_default().push(bytes(id));
    }

    let mut now = graph.inputs().iter().map(|&id| bytes(id)).fold(0, u64::saturating_add);
    let mut alive = BTreeMap::new();
    for (step, (id, node)) in graph.nodes().enumerate() {
        if owner.get(&id) == Some(&id) && !node.op().is_leaf() {
            now = now.saturating_add(bytes(id));
        }
        alive.insert(id, now);
        now = frees.remove(&step).into_iter().flatten().fold(now, u64::saturating_sub);
    }
    alive
}

/// For every activation the node whose memory it is.
fn owners(graph: &Graph) -> HashMap<NodeId, NodeId> {
    let mut owner = HashMap::new();
    for (id, node) in graph.nodes().filter(|(id, _)| graph.value(*id).is_none()) {
        let shown = node.inputs().first().filter(|_| is_view(node.op()));
        // A view of a parameter shows no activation.
        let root = shown.map_or(Some(id), |source| owner.get(source).copied());
        owner.extend(root.map(|root| (id, root)));
    }
    owner
}
