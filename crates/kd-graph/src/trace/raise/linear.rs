//! Linear layers: a product with a matrix of parameters, the sum with a bias, and the reshapes around both for tensors of other ranks.
//!
//! burn chooses between a product per example and one of all examples by the sizes, also by that of the batch; both are raised before
//! batch sizes are compared.

use super::{Raised, View};
use crate::{Binary, Op};

/// `x weight`, where the weight depends on no input; burn gives it leading axes of size 1 for an `x` of higher rank.
pub(super) fn product(view: &View<'_>, root: usize) -> Option<Raised> {
    let (Op::Matmul, &[x, matrix]) = (view.op(root), view.inputs(root)) else { return None };
    let weight = match view.sizes(matrix).len() {
        2 => matrix,
        _ => view.reshape(matrix)?,
    };
    let (outer, inner) = (view.sizes(matrix), view.sizes(weight));
    let leading = outer.len().checked_sub(2)?;
    let same =
        inner.len() == 2 && outer[leading..] == inner && outer[..leading].iter().all(|&size| size == 1);
    (same && !view.varying[weight]).then(|| Raised::new(Op::Linear, [x, weight]))?
}

/// `x weight + bias`.
pub(super) fn bias(view: &View<'_>, root: usize) -> Option<Raised> {
    let (product, vector) = view.binary(root, Binary::Add)?;
    let (Op::Linear, &[x, weight]) = (view.op(product), view.inputs(product)) else { return None };
    let sizes = view.sizes(root);
    let bias = match view.sizes(vector).len() {
        1 => vector,
        rank if rank == sizes.len() => view.vector_along(vector, rank - 1)?,
        _ => return None,
    };
    (sizes == view.sizes(product) && view.sizes(bias).first() == sizes.last())
        .then(|| Raised::new(Op::Linear, [x, weight, bias]))?
}

/// All axes but the last folded into one, the layer, and unfolded again.
pub(super) fn folded_batch(view: &View<'_>, root: usize) -> Option<Raised> {
    let layer = view.reshape(root)?;
    let (Op::Linear, [rows, parameters @ ..]) = (view.op(layer), view.inputs(layer)) else { return None };
    let x = view.reshape(*rows)?;
    let (before, after) = (view.sizes(x), view.sizes(root));
    let ((features, leading), (_, unfolded)) = (before.split_last()?, after.split_last()?);
    let same_last = |a: usize, b: usize| view.sizes(a).last() == view.sizes(b).last();
    (leading == unfolded && view.sizes(*rows).last() == Some(features) && same_last(layer, root))
        .then(|| Raised::new(Op::Linear, [x].into_iter().chain(parameters.iter().copied())))?
}
