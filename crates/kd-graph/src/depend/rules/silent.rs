//! Whether a result is zero at every index whose parameters are zero.
//!
//! Layers and normalisations are, because their own filters and shifts are among these parameters; functions that are zero at zero keep it.
//! Where something else is added up, zeroing an index still lets a constant through, which removing it does not.

use super::super::label::Axis;
use super::Walk;
use crate::{Activation, Binary, Node, Op, PadMode, Reduction, Unary};

impl Walk<'_> {
    pub(super) fn is_silent(&mut self, node: &Node, inputs: &[Vec<Axis>]) -> bool {
        let zeros: Vec<bool> = node.inputs.iter().map(|input| self.silent.contains(input)).collect();
        let first = zeros.first() == Some(&true);
        match &node.op {
            Op::Parameter { .. } | Op::Embedding => true,
            Op::Full { value, .. } => value.as_f64() == 0.0,
            Op::Conv(_) | Op::ConvTranspose(_) => self.only(inputs, 1) || (first && inputs.len() == 2),
            Op::Linear => {
                let last = inputs.first().map_or(0, |x| x.len().saturating_sub(1));
                self.only(inputs, last) || (first && inputs.len() == 2)
            }
            Op::BatchNorm(_) => self.only(inputs, 1),
            Op::GroupNorm { .. } | Op::InstanceNorm { .. } => inputs.len() > 1 && self.only(inputs, 1),
            Op::LayerNorm { .. } => {
                let last = inputs.first().map_or(0, |x| x.len().saturating_sub(1));
                self.only(inputs, last)
            }
            Op::Binary(Binary::Mul) | Op::Matmul => zeros.contains(&true),
            Op::Binary(Binary::Add | Binary::Sub | Binary::Min | Binary::Max) => !zeros.contains(&false),
            Op::Cat { .. } | Op::SliceAssign { .. } => !zeros.contains(&false),
            Op::Where => first && zeros.get(2) == Some(&true),
            Op::Attention(_) | Op::LayeredAttention(_) => zeros.get(2) == Some(&true),
            op => first && keeps_zero(op),
        }
    }

    /// Whether nothing can be removed from any axis of the first input but one.
    fn only(&mut self, inputs: &[Vec<Axis>], made: usize) -> bool {
        let axes = inputs.first().into_iter().flatten().enumerate();
        axes.filter(|(place, _)| *place != made).all(|(_, axis)| self.atoms.stays(axis))
    }
}

fn keeps_zero(op: &Op) -> bool {
    match op {
        Op::Activation(activation) => {
            use Activation::*;
            !matches!(activation, Sigmoid | HardSigmoid { .. } | LogSigmoid | Softplus { .. })
        }
        Op::Unary(op) => {
            use Unary::*;
            let kept = matches!(op, Neg | Abs | Sign | Log1p | Sqrt | Erf | Sin | Tan | Sinh | Asin | Atan);
            kept || matches!(op, Asinh | Atanh | Round | Floor | Ceil | Trunc)
        }
        Op::Literal { op, value } => match op {
            Binary::Mul => true,
            Binary::Div => value.as_f64() != 0.0,
            Binary::Pow => value.as_f64() > 0.0,
            Binary::Max => value.as_f64() <= 0.0,
            Binary::Min => value.as_f64() >= 0.0,
            _ => false,
        },
        Op::Clamp { min, max } => *min <= 0.0 && *max >= 0.0,
        Op::Pad { mode: PadMode::Constant(value), .. } | Op::MaskFill { value } => value.as_f64() == 0.0,
        Op::Pad { .. } | Op::RmsNorm { .. } | Op::Cast { .. } | Op::Dropout { .. } => true,
        Op::Reshape { .. } | Op::Permute { .. } | Op::Expand { .. } | Op::Repeat { .. } => true,
        Op::Slice { .. } | Op::Flip { .. } | Op::Select { .. } | Op::Pool(_) => true,
        Op::AdaptiveAvgPool { .. } | Op::Interpolate { .. } => true,
        Op::Reduce { kind, .. } => !matches!(kind, Reduction::ArgMax | Reduction::ArgMin),
        _ => false,
    }
}
