//! Arithmetic and traffic of one node.

use super::{activation_bytes, elements};
use crate::{Graph, GraphError, Node, Op, TensorType};

/// Arithmetic of one node.
#[derive(Clone, Copy, Default)]
pub(super) struct Count {
    pub macs: u64,
    pub flops: u64,
}

/// `inputs` are the types of the node's inputs.
pub(super) fn count(op: &Op, inputs: &[TensorType], output: &TensorType, batch: usize) -> Count {
    let out = elements(output, batch);
    let size = |input: usize| inputs.get(input).map_or(0, |tensor| elements(tensor, batch));
    // Elements of the weight that make up one element along its axis `axis`.
    let by = |axis: usize| {
        let channels = inputs.get(1).and_then(|weight| weight.shape.dim(axis)).map_or(0, |dim| dim.at(batch));
        size(1).checked_div(channels as u64).unwrap_or(0)
    };
    let last = |input: usize| {
        let dims = inputs.get(input).map_or(&[][..], |tensor| tensor.shape.dims());
        dims.last().map_or(0, |dim| dim.at(batch) as u64)
    };
    let layer = |macs: u64| {
        let bias = if inputs.len() > 2 { out } else { 0 };
        Count { macs, flops: macs.saturating_mul(2).saturating_add(bias) }
    };
    let each = |operations: u64| Count { macs: 0, flops: out.saturating_mul(operations) };
    match op {
        Op::Conv(_) => layer(out.saturating_mul(by(0))),
        Op::ConvTranspose(_) => layer(size(0).saturating_mul(by(0))),
        Op::Linear => layer(out.saturating_mul(last(0))),
        Op::Matmul => {
            let macs = out.saturating_mul(last(0));
            Count { macs, flops: macs.saturating_mul(2) }
        }
        Op::Attention(_) | Op::LayeredAttention(_) => {
            let positions = inputs.get(1).and_then(|k| k.shape.dim(2)).map_or(0, |dim| dim.at(batch) as u64);
            let scores = size(0).checked_div(last(0)).unwrap_or(0).saturating_mul(positions);
            let macs = scores.saturating_mul(last(0)).saturating_add(out.saturating_mul(positions));
            // The scale and a softmax of the scores.
            Count { macs, flops: macs.saturating_mul(2).saturating_add(scores.saturating_mul(6)) }
        }
        // One factor and one summand a channel, made once.
        Op::BatchNorm(_) => each(2),
        // Mean, variance (3), centre, scale, factor, summand.
        Op::LayerNorm { .. } | Op::GroupNorm { .. } | Op::InstanceNorm { .. } => each(8),
        // Mean square (2), scale, factor.
        Op::RmsNorm { .. } => each(4),
        // Largest, difference, exponential, sum, quotient.
        Op::Softmax { .. } | Op::LogSoftmax { .. } => each(5),
        Op::Pool(pool) => each(pool.kernel.iter().map(|&size| size as u64).product()),
        Op::AdaptiveAvgPool { .. } | Op::Reduce { .. } => Count { macs: 0, flops: size(0) },
        // Two linear interpolations of two, then one of the results.
        Op::Interpolate { .. } => each(6),
        Op::Activation(_)
        | Op::Unary(_)
        | Op::Binary(_)
        | Op::Literal { .. }
        | Op::Clamp { .. }
        | Op::Where
        | Op::MaskFill { .. } => each(1),
        Op::Input
        | Op::Parameter { .. }
        | Op::Constant
        | Op::Embedding
        | Op::Cast { .. }
        | Op::Dropout { .. }
        | Op::Reshape { .. }
        | Op::Permute { .. }
        | Op::Expand { .. }
        | Op::Repeat { .. }
        | Op::Cat { .. }
        | Op::Slice { .. }
        | Op::SliceAssign { .. }
        | Op::Select { .. }
        | Op::Gather { .. }
        | Op::Pad { .. }
        | Op::Flip { .. }
        | Op::Full { .. }
        | Op::Custom { .. } => Count::default(),
    }
}

/// Bytes of activations and of weights that a node moves; `weights` is the size of all that it reads.
pub(super) fn traffic(
    graph: &Graph,
    node: &Node,
    weights: u64,
    batch: usize,
) -> Result<[u64; 2], GraphError> {
    let out = activation_bytes(node.output(), batch);
    let activations = node.inputs().iter().filter(|&&id| graph.value(id).is_none());
    let read = activations
        .map(|&id| Ok(activation_bytes(graph.node(id)?.output(), batch)))
        .sum::<Result<u64, GraphError>>()?;
    let table = node.inputs().first().is_some_and(|&id| graph.value(id).is_some());
    Ok(match node.op() {
        // Another name for the same memory.
        op if is_view(op) => [0, 0],
        // Only what is taken is read, be it of a table or of an activation.
        Op::Embedding | Op::Select { .. } | Op::Gather { .. } if table => [out + read, out.min(weights)],
        Op::Slice { .. } if table => [out, out.min(weights)],
        Op::Slice { .. } => [out.saturating_mul(2), 0],
        _ => [read.saturating_add(out), weights],
    })
}

/// Whether the result is the input's memory, seen otherwise; a dropout is one in evaluation.
pub(super) fn is_view(op: &Op) -> bool {
    matches!(op, Op::Reshape { .. } | Op::Expand { .. } | Op::Dropout { .. })
}
