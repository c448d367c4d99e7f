//! The type of a node's result, from its operation and the types of its inputs.

mod arithmetic;
mod call;
mod conv;
mod dense;
mod elementwise;
mod indexing;
mod layout;
mod norm;
mod pooling;
mod reduce;
#[cfg(test)]
mod tests;
mod validate;

use call::Call;

use crate::{Op, TensorType};

/// Why an operation does not fit its inputs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InferError {
    /// Too few or too many inputs.
    #[error("{op} takes {wanted} inputs, not {got}")]
    Inputs {
        /// The operation.
        op: String,
        /// How many it takes.
        wanted: &'static str,
        /// How many there are.
        got: usize,
    },
    /// Shapes, kinds and attributes contradict each other.
    #[error("{op} of {}: {reason}", inputs.join(" and "))]
    Mismatch {
        /// The operation.
        op: String,
        /// Types of its inputs.
        inputs: Vec<String>,
        /// What contradicts what.
        reason: String,
    },
    /// The type follows from something other than the inputs.
    #[error("the type of {op} does not follow from its inputs; {advice}")]
    Unknown {
        /// The operation.
        op: String,
        /// How such a node is added.
        advice: &'static str,
    },
}

/// The type of the result, by burn's rules; the batch stays a symbol.
///
/// ```
/// use kd_graph::{Conv, Op, Shape, TensorType, infer};
///
/// let conv = Conv { stride: vec![2; 2], padding: vec![(1, 1); 2], dilation: vec![1; 2], groups: 1 };
/// let image = TensorType::float(Shape::batched([3, 32, 32]));
/// let weight = TensorType::float(Shape::fixed([16, 3, 3, 3]));
/// let result = infer(&Op::Conv(conv), &[image, weight])?;
/// assert_eq!(result.to_string(), "[B, 16, 16, 16]");
/// # Ok::<(), kd_graph::InferError>(())
/// ```
///
/// # Errors
/// [`InferError`] when the operation does not fit the inputs, or when its type does not follow from them: that of an input, parameter or
/// constant is given, and so is that of an [`Op::Custom`].
pub fn infer(op: &Op, inputs: &[TensorType]) -> Result<TensorType, InferError> {
    let call = Call { op, inputs };
    match op {
        Op::Input => call.unknown("add it with `Graph::input`"),
        Op::Parameter { .. } => call.unknown("add it with `Graph::parameter`"),
        Op::Constant => call.unknown("add it with `Graph::constant`"),
        Op::Custom { .. } => call.unknown("add it with `Graph::add_typed`"),

        Op::Conv(conv) => conv::conv(&call, conv),
        Op::ConvTranspose(conv) => conv::transposed(&call, conv),
        Op::Linear => dense::linear(&call),
        Op::Matmul => dense::matmul(&call),
        Op::Embedding => dense::embedding(&call),
        Op::Attention(attention) => dense::attention(&call, attention),
        Op::LayeredAttention(attention) => dense::layered_attention(&call, attention),
        Op::BatchNorm(_) => norm::batch(&call),
        Op::LayerNorm { .. } => norm::last_axis(&call, 1),
        Op::RmsNorm { .. } => norm::last_axis(&call, 0),
        Op::GroupNorm { groups, .. } => norm::group(&call, *groups),
        Op::InstanceNorm { .. } => norm::group(&call, 1),

        Op::Activation(activation) => elementwise::activation(&call, activation),
        Op::Unary(op) => elementwise::unary(&call, *op),
        Op::Binary(op) => elementwise::binary(&call, *op),
        Op::Literal { op, value } => elementwise::literal(&call, *op, *value),
        Op::Clamp { min, max } => elementwise::clamp(&call, *min, *max),
        Op::Where => elementwise::choose(&call),
        Op::MaskFill { value } => elementwise::mask_fill(&call, *value),
        Op::Cast { kind, .. } => elementwise::cast(&call, *kind),
        Op::Dropout { rate } => elementwise::dropout(&call, *rate),

        Op::Reshape { shape } => layout::reshape(&call, shape),
        Op::Permute { axes } => layout::permute(&call, axes),
        Op::Expand { shape } => layout::expand(&call, shape),
        Op::Repeat { axis, times } => layout::repeat(&call, *axis, *times),
        Op::Flip { axes } => layout::flip(&call, axes),
        Op::Pad { padding, mode } => layout::pad(&call, padding, mode),
        Op::Full { shape, value } => layout::full(&call, shape, *value),

        Op::Cat { axis } => indexing::cat(&call, *axis),
        Op::Slice { ranges } => indexing::slice(&call, ranges),
        Op::SliceAssign { ranges } => indexing::slice_assign(&call, ranges),
        Op::Select { axis } => indexing::select(&call, *axis),
        Op::Gather { axis } => indexing::gather(&call, *axis),

        Op::Pool(pool) => pooling::pool(&call, pool),
        Op::AdaptiveAvgPool { size } => pooling::adaptive(&call, size),
        Op::Interpolate { size, .. } => pooling::interpolate(&call, *size),
        Op::Reduce { kind, axes } => reduce::reduce(&call, *kind, axes.as_deref()),
        Op::Softmax { axis } | Op::LogSoftmax { axis } => reduce::softmax(&call, *axis),
    }
}
