//! Without flex there are no kernels to fold into.

use burn::backend::DispatchTensor;

use super::{Norm, Window};

/// Nothing to keep.
#[derive(Debug, Default)]
pub(crate) struct FoldCache;

/// As it is: no kernel will split its work.
pub(crate) fn on_pool<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// Never: the caller goes on with burn's operations.
pub(crate) fn evaluate(
    _cache: &FoldCache,
    _conv: Option<(&DispatchTensor, Window)>,
    _x: &DispatchTensor,
    _parts: &[DispatchTensor; 4],
    _residual: Option<&DispatchTensor>,
    _norm: Norm,
) -> Option<DispatchTensor> {
    None
}
