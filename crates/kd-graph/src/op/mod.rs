//! What a node does.
//!
//! The set is small on purpose: one entry for one meaning. Squeezing, flattening and unsqueezing are all [`Op::Reshape`], swapping and
//! transposing are [`Op::Permute`], splitting and narrowing are [`Op::Slice`]. A whole layer is one operation, whatever its forward pass is
//! made of inside burn.

mod exact;
mod layer;
mod movement;
mod pointwise;

use serde::{Deserialize, Serialize};

pub use layer::{Attention, BatchNorm, Conv, ConvTranspose, LayeredAttention, Pool, PoolKind};
pub use movement::{InterpolateMode, PadMode, Range, Reduction};
pub use pointwise::{Activation, Binary, Scalar, Unary};

use crate::{Dim, Kind, Shape};

/// Whether an optimizer may change a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Learned by gradients.
    Weight,
    /// State without gradient: running statistics, frozen tensors, tables.
    Buffer,
}

/// An operation with its attributes. The comment of each says what its inputs are, in order; those in brackets may be missing.
///
/// Shapes are burn's: images are `[batch, channels, height, width]`, the weight of a linear layer is `[in, out]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// A tensor that the caller gives. No inputs.
    Input,
    /// A tensor of the module, named by its path. No inputs.
    Parameter {
        /// Whether it is learned.
        role: Role,
        /// Other paths of the module that hold this very tensor.
        aliases: Vec<String>,
    },
    /// A tensor made in the forward pass that does not depend on any input. No inputs.
    Constant,

    /// Convolution. `x [batch, in, ..]`, `weight [out, in/groups, ..]`, `[bias [out]]`.
    Conv(Conv),
    /// Transposed convolution. `x [batch, in, ..]`, `weight [in, out/groups, ..]`, `[bias [out]]`.
    ConvTranspose(ConvTranspose),
    /// `x weight + bias`. `x [.., in]`, `weight [in, out]`, `[bias [out]]`.
    Linear,
    /// Matrix product over the last two axes, the others broadcast. `a [.., m, k]`, `b [.., k, n]`.
    Matmul,
    /// Rows of a table. `weight [tokens, features]`, `indices [batch, position]`.
    Embedding,
    /// Batch normalisation. `x [batch, channels, ..]`, `gamma`, `beta`, `mean`, `variance`, each `[channels]`.
    BatchNorm(BatchNorm),
    /// Normalisation over the last axis. `x`, `gamma [last]`, `[beta [last]]`.
    LayerNorm {
        /// Added to the variance.
        #[serde(with = "exact")]
        epsilon: f64,
    },
    /// Normalisation over groups of channels. `x [batch, channels, ..]`, `[gamma [channels], beta [channels]]`.
    GroupNorm {
        /// Number of groups; as many as channels is instance normalisation.
        groups: usize,
        /// Added to the variance.
        #[serde(with = "exact")]
        epsilon: f64,
    },
    /// Normalisation of every channel of every example. `x [batch, channels, ..]`, `[gamma [channels], beta [channels]]`.
    InstanceNorm {
        /// Added to the variance.
        #[serde(with = "exact")]
        epsilon: f64,
    },
    /// Division by the root mean square of the last axis. `x`, `gamma [last]`.
    RmsNorm {
        /// Added to the mean square.
        #[serde(with = "exact")]
        epsilon: f64,
    },
    /// `softmax(q kᵀ · scale) v`. `q`, `k`, `v` (each `[batch, heads, position, features]`), `[mask]`, `[bias]`.
    Attention(Attention),
    /// `softmax(fill(q kᵀ / divisor)) v`, by one operation after the other, as burn's `MultiHeadAttention` has it. `q`, `k`, `v` (each
    /// `[batch, heads, position, features]`), then the masks, which broadcast to the scores. [`Graph::lower_attention`](crate::Graph::lower_attention)
    /// takes it apart.
    LayeredAttention(LayeredAttention),

    /// A non-linearity. `x`, and for a PReLU `slope`.
    Activation(Activation),
    /// A function of every element. `x`.
    Unary(Unary),
    /// A function of pairs of elements, the shapes broadcast. `a`, `b`.
    Binary(Binary),
    /// As [`Op::Binary`], with a literal on the right. `a`.
    Literal {
        /// The operation.
        op: Binary,
        /// Its right-hand side.
        value: Scalar,
    },
    /// Values outside the bounds become the bounds. `x`.
    Clamp {
        /// Lower bound.
        #[serde(with = "exact")]
        min: f64,
        /// Upper bound.
        #[serde(with = "exact")]
        max: f64,
    },
    /// Elements of `b` where the mask is true, of `a` elsewhere. `a`, `mask`, `b`.
    Where,
    /// A literal where the mask is true, `a` elsewhere. `a`, `mask`.
    MaskFill {
        /// The literal.
        value: Scalar,
    },
    /// Another kind or precision. `x`.
    Cast {
        /// What the result holds.
        kind: Kind,
        /// burn's name of the precision (`f16`) where it is not the device's default.
        precision: Option<String>,
    },
    /// Zeroes elements at random in training and scales the others up; in evaluation it does nothing. A trace never shows it. `x`.
    Dropout {
        /// Probability of a zero.
        #[serde(with = "exact")]
        rate: f64,
    },

    /// The same elements in the same order under another shape. `x`.
    Reshape {
        /// The new shape.
        shape: Shape,
    },
    /// Axes in another order. `x`.
    Permute {
        /// For every axis of the result, which axis of `x` it is.
        axes: Vec<usize>,
    },
    /// Axes of size 1 repeated without copying, new ones in front. `x`.
    Expand {
        /// The new shape.
        shape: Shape,
    },
    /// Copies one after the other along an axis. `x`.
    Repeat {
        /// The axis.
        axis: usize,
        /// Number of copies.
        times: Dim,
    },
    /// Tensors one after the other along an axis. One or more inputs.
    Cat {
        /// The axis.
        axis: usize,
    },
    /// A part of every axis. `x`.
    Slice {
        /// One range for every axis.
        ranges: Vec<Range>,
    },
    /// `x` with a part of it replaced. `x`, `value`.
    SliceAssign {
        /// One range for every axis.
        ranges: Vec<Range>,
    },
    /// Elements by index along an axis. `x`, `indices [n]`.
    Select {
        /// The axis.
        axis: usize,
    },
    /// For every position, the element whose place along the axis is the index found there. `x`, `indices` (of `x`'s rank).
    Gather {
        /// The axis.
        axis: usize,
    },
    /// A border. `x`.
    Pad {
        /// How many elements `(before, after)` every axis.
        padding: Vec<(usize, usize)>,
        /// With what.
        mode: PadMode,
    },
    /// Axes backwards. `x`.
    Flip {
        /// Which ones.
        axes: Vec<usize>,
    },

    /// Pooling over the last axes. `x [batch, channels, ..]`.
    Pool(Pool),
    /// Mean over windows chosen so that the result has a given size. `x [batch, channels, ..]`.
    AdaptiveAvgPool {
        /// Size of every pooled axis of the result.
        size: Vec<usize>,
    },
    /// Images at another size. `x [batch, channels, height, width]`.
    Interpolate {
        /// Height and width of the result.
        size: [usize; 2],
        /// How.
        mode: InterpolateMode,
        /// Whether the corners' centres stay in place.
        align_corners: bool,
    },
    /// Elements along some axes become one; the axes stay, with size 1. `x`.
    Reduce {
        /// What becomes of them.
        kind: Reduction,
        /// Which axes; `None` reduces all to one axis of size 1.
        axes: Option<Vec<usize>>,
    },
    /// `exp(x) / sum(exp(x))` along an axis. `x`.
    Softmax {
        /// The axis.
        axis: usize,
    },
    /// Logarithm of the softmax. `x`.
    LogSoftmax {
        /// The axis.
        axis: usize,
    },
    /// One value everywhere. No inputs.
    Full {
        /// Its shape.
        shape: Shape,
        /// The value.
        value: Scalar,
    },
    /// An operation that the user has registered under this name. Any inputs.
    Custom {
        /// Name in the registry.
        name: String,
        /// Its literals.
        attributes: Vec<Scalar>,
    },
}

impl Op {
    /// One word for tables, pictures and node names: `conv2d`, `batch_norm`, `relu`, `add`.
    pub fn word(&self) -> String {
        let word = match self {
            Op::Input => "input",
            Op::Parameter { role: Role::Weight, .. } => "weight",
            Op::Parameter { role: Role::Buffer, .. } => "buffer",
            Op::Constant => "constant",
            Op::Conv(conv) => return format!("conv{}d", conv.axes()),
            Op::ConvTranspose(conv) => return format!("conv_transpose{}d", conv.stride.len()),
            Op::Linear => "linear",
            Op::Matmul => "matmul",
            Op::Embedding => "embedding",
            Op::BatchNorm(_) => "batch_norm",
            Op::LayerNorm { .. } => "layer_norm",
            Op::GroupNorm { .. } => "group_norm",
            Op::InstanceNorm { .. } => "instance_norm",
            Op::RmsNorm { .. } => "rms_norm",
            Op::Attention(_) | Op::LayeredAttention(_) => "attention",
            Op::Activation(activation) => return word_of(activation),
            Op::Unary(op) => return word_of(op),
            Op::Binary(op) | Op::Literal { op, .. } => return word_of(op),
            Op::Clamp { .. } => "clamp",
            Op::Where => "where",
            Op::MaskFill { .. } => "mask_fill",
            Op::Cast { .. } => "cast",
            Op::Dropout { .. } => "dropout",
            Op::Reshape { .. } => "reshape",
            Op::Permute { .. } => "permute",
            Op::Expand { .. } => "expand",
            Op::Repeat { .. } => "repeat",
            Op::Cat { .. } => "cat",
            Op::Slice { .. } => "slice",
            Op::SliceAssign { .. } => "slice_assign",
            Op::Select { .. } => "select",
            Op::Gather { .. } => "gather",
            Op::Pad { .. } => "pad",
            Op::Flip { .. } => "flip",
            Op::Pool(Pool { kind: PoolKind::Max, kernel, .. }) => {
                return format!("max_pool{}d", kernel.len());
            }
            Op::Pool(Pool { kernel, .. }) => return format!("avg_pool{}d", kernel.len()),
            Op::AdaptiveAvgPool { size } => return format!("adaptive_avg_pool{}d", size.len()),
            Op::Interpolate { .. } => "interpolate",
            Op::Reduce { kind, .. } => return word_of(kind),
            Op::Softmax { .. } => "softmax",
            Op::LogSoftmax { .. } => "log_softmax",
            Op::Full { .. } => "full",
            Op::Custom { name, .. } => name,
        };
        word.to_owned()
    }

    /// Whether the node holds a tensor instead of computing one.
    pub fn is_leaf(&self) -> bool {
        matches!(self, Op::Input | Op::Parameter { .. } | Op::Constant)
    }

    /// Whether the graph holds the node's tensor: a parameter or a constant.
    pub fn holds_tensor(&self) -> bool {
        matches!(self, Op::Parameter { .. } | Op::Constant)
    }
}

/// The variant's name in snake case: `LeakyRelu { .. }` is `leaky_relu`.
fn word_of(variant: &impl std::fmt::Debug) -> String {
    let name = format!("{variant:?}");
    let mut word = String::new();
    for letter in name.chars().take_while(|letter| letter.is_alphanumeric()) {
        if letter.is_uppercase() && !word.is_empty() {
            word.push('_');
        }
        word.extend(letter.to_lowercase());
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_snake_case_without_attributes() {
        assert_eq!(Op::Activation(Activation::LeakyRelu { slope: 0.1 }).word(), "leaky_relu");
        assert_eq!(Op::Unary(Unary::Log1p).word(), "log1p");
        assert_eq!(Op::Reduce { kind: Reduction::ArgMax, axes: None }.word(), "arg_max");
    }
}
