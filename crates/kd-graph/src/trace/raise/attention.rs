//! Attention by a chain of operations, as burn's `MultiHeadAttention` and many a transformer written by hand have it.

use super::{Raised, View};
use crate::{Binary, LayeredAttention, Op, Scalar};

/// `softmax(fill(q kᵀ / divisor)) v` over `[batch, heads, position, features]`; every mask fills with the same number.
pub(super) fn layered(view: &View<'_>, root: usize) -> Option<Raised> {
    let (Op::Matmul, &[weights, v]) = (view.op(root), view.inputs(root)) else { return None };
    let (Op::Softmax { axis: 3 }, Some(mut scores)) = (view.op(weights), view.only_input(weights)) else {
        return None;
    };
    let mut masks = Vec::new();
    let mut fill = None;
    while let (Op::MaskFill { value: Scalar::Float(value) }, &[filled, mask]) =
        (view.op(scores), view.inputs(scores))
    {
        if *fill.get_or_insert(*value) != *value {
            return None;
        }
        masks.push(mask);
        scores = filled;
    }
    masks.reverse();
    let (products, divisor) = view.literal(scores, Binary::Div)?;
    let (Op::Matmul, &[q, turned]) = (view.op(products), view.inputs(products)) else { return None };
    let Op::Permute { axes } = view.op(turned) else { return None };
    let k = view.only_input(turned)?;
    let four_axes = [q, k, v].into_iter().all(|step| view.sizes(step).len() == 4);
    let op = LayeredAttention { divisor, masks: masks.len(), fill: fill.unwrap_or(0.0) };
    (four_axes && *axes == [0, 1, 3, 2])
        .then(|| Raised::new(Op::LayeredAttention(op), [q, k, v].into_iter().chain(masks)))?
}
