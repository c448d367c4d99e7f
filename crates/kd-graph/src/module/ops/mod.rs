//! What every operation calls.
//!
//! Layers and activations call what burn's own layers call, everything else the primitive of its name, so that a graph computes what the
//! traced model computes, bit for bit, with the same gradients.

mod activation;
mod args;
mod layer;
mod movement;
mod norm;
mod pointwise;
mod pool;
mod reduce;

pub(super) use args::{Args, Reason};

use super::Value;
use super::run::Context;
use crate::Op;

/// Runs one operation. Its arguments have the types that the graph says.
pub(super) fn run(op: &Op, args: Args, context: &Context) -> Result<Value, Reason> {
    match op {
        Op::Conv(conv) => layer::conv(conv, args),
        Op::ConvTranspose(conv) => layer::conv_transpose(conv, args),
        Op::Linear => layer::linear(args),
        Op::Matmul => layer::matmul(args),
        Op::Embedding => layer::embedding(args),
        Op::Attention(attention) => layer::attention(attention, args),
        Op::LayeredAttention(attention) => layer::layered_attention(attention, args),

        Op::LayerNorm { epsilon } => norm::layer(*epsilon, args),
        Op::GroupNorm { groups, epsilon } => norm::group(Some(*groups), *epsilon, args),
        Op::InstanceNorm { epsilon } => norm::group(None, *epsilon, args),
        Op::RmsNorm { epsilon } => norm::rms(*epsilon, args),

        Op::Activation(activation) => activation::run(activation, args),
        Op::Softmax { axis } => activation::softmax(*axis, args),
        Op::LogSoftmax { axis } => activation::log_softmax(*axis, args),

        Op::Unary(op) => pointwise::unary(*op, args, context),
        Op::Binary(op) => pointwise::binary(*op, args, context),
        Op::Literal { op, value } => pointwise::literal(*op, *value, args, context),
        Op::Clamp { min, max } => pointwise::clamp(*min, *max, args),
        Op::Where => pointwise::choose(args),
        Op::MaskFill { value } => pointwise::mask_fill(*value, args),
        Op::Cast { kind, precision } => pointwise::cast(*kind, precision.as_deref(), args, context),

        Op::Reshape { shape } => movement::reshape(shape, args, context),
        Op::Permute { axes } => movement::permute(axes, args),
        Op::Expand { shape } => movement::expand(shape, args, context),
        Op::Repeat { axis, times } => movement::repeat(*axis, *times, args, context),
        Op::Cat { axis } => movement::cat(*axis, args),
        Op::Slice { ranges } => movement::slice(ranges, args, context),
        Op::SliceAssign { ranges } => movement::slice_assign(ranges, args, context),
        Op::Select { axis } => movement::select(*axis, args),
        Op::Gather { axis } => movement::gather(*axis, args),
        Op::Pad { padding, mode } => movement::pad(padding, *mode, args),
        Op::Flip { axes } => movement::flip(axes, args),
        Op::Full { shape, value } => movement::full(shape, *value, context),

        Op::Pool(pool) => pool::pool(pool, args),
        Op::AdaptiveAvgPool { size } => pool::adaptive_avg(size, args),
        Op::Interpolate { size, mode, align_corners } => {
            pool::interpolate(*size, *mode, *align_corners, args)
        }
        Op::Reduce { kind, axes } => reduce::run(*kind, axes.as_deref(), args, context),

        Op::Input
        | Op::Parameter { .. }
        | Op::Constant
        | Op::BatchNorm(_)
        | Op::Dropout { .. }
        | Op::Custom { .. } => Err(format!("{} is no call to burn", op.word())),
    }
}
