//! The scale of a batch normalisation as the worth of its channel.

use kd_graph::{Graph, Op};

use crate::subject::value;
use crate::{Arrays, PruneError};

/// $$|\gamma|$$ of every batch normalisation, by the path of its scale.
///
/// Liu et al., *Learning Efficient Convolutional Networks through Network Slimming* (2017).
///
/// # Errors
/// [`PruneError::Shape`] for a scale that can't be read.
pub fn batch_norm_scales(graph: &Graph) -> Result<Arrays, PruneError> {
    let norms = graph.nodes().filter(|(_, node)| matches!(node.op(), Op::BatchNorm(_)));
    let mut scales = Arrays::new();
    for (_, node) in norms {
        let Some(&gamma) = node.inputs().get(1) else { continue };
        let path = graph.node(gamma)?.name();
        scales.insert(path.to_owned(), value(graph, path)?.map(f32::abs));
    }
    Ok(scales)
}
