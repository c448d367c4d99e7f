//! Whether a product of two activations adds nothing for an index whose parameters are zero.

use std::collections::BTreeMap;

use crate::{Activation, Binary, Graph, NodeId, Op, Unary};

/// Whether at least one factor of a product, or of an attention's scores, is zero wherever its parameters are.
pub(super) fn product(graph: &Graph, id: NodeId) -> bool {
    let Some(node) = graph.nodes.get(&id) else { return false };
    let mut known = BTreeMap::new();
    node.inputs.iter().take(2).any(|&input| silent(graph, input, &mut known))
}

fn silent(graph: &Graph, id: NodeId, known: &mut BTreeMap<NodeId, bool>) -> bool {
    if let Some(&answer) = known.get(&id) {
        return answer;
    }
    let Some(node) = graph.nodes.get(&id) else { return false };
    let inputs = &node.inputs;
    let answer = match &node.op {
        Op::Parameter { .. } | Op::Conv(_) | Op::ConvTranspose(_) | Op::Linear | Op::Embedding => true,
        Op::BatchNorm(_) | Op::LayerNorm { .. } | Op::RmsNorm { .. } => true,
        Op::GroupNorm { .. } | Op::InstanceNorm { .. } => inputs.len() > 1,
        Op::Binary(Binary::Mul) => inputs.iter().any(|&input| silent(graph, input, known)),
        Op::Binary(Binary::Add | Binary::Sub | Binary::Min | Binary::Max) | Op::Cat { .. } => {
            inputs.iter().all(|&input| silent(graph, input, known))
        }
        Op::Attention(_) => inputs.get(2).is_some_and(|&value| silent(graph, value, known)),
        op if keeps_zero(op) => inputs.first().is_some_and(|&input| silent(graph, input, known)),
        _ => false,
    };
    known.insert(id, answer);
    answer
}

fn keeps_zero(op: &Op) -> bool {
    use Activation::*;
    match op {
        Op::Activation(activation) => {
            !matches!(activation, Sigmoid | HardSigmoid { .. } | LogSigmoid | Softplus { .. })
        }
        Op::Unary(op) => {
            use Unary::*;
            let kept = matches!(op, Neg | Abs | Sign | Log1p | Sqrt | Erf | Sin | Tan | Sinh | Asin | Atan);
            kept || matches!(op, Asinh | Atanh | Round | Floor | Ceil | Trunc)
        }
        Op::Literal { op: Binary::Mul | Binary::Div, .. } => true,
        Op::Clamp { min, max } => *min <= 0.0 && *max >= 0.0,
        Op::Cast { .. } | Op::Dropout { .. } | Op::Reshape { .. } | Op::Permute { .. } => true,
        Op::Expand { .. } | Op::Repeat { .. } | Op::Slice { .. } | Op::Flip { .. } | Op::Pool(_) => true,
        _ => false,
    }
}
