//! Tensors handed to a kernel that changes them where they lie.

use burn::tensor::Tensor;
use kd_kernels::KernelError;

/// A gradient and the tensors that it was to change, as they were.
pub(super) type Refused<const D: usize, const N: usize> = (Tensor<D>, [Tensor<D>; N]);

/// Lets `kernel` change `values` by `gradient`. Memory that nobody else holds is written in place, shared memory is copied first.
///
/// # Errors
/// [`Refused`] where not all tensors are in f32 on flex, without a tape, and of one shape, or where the kernel refuses its settings.
#[cfg(feature = "flex")]
#[expect(
    clippy::result_large_err,
    reason = "the tensors that came in go back; there is nothing smaller to return"
)]
pub(super) fn update<const D: usize, const N: usize>(
    gradient: Tensor<D>,
    values: [Tensor<D>; N],
    kernel: impl FnOnce(&[f32], [&mut [f32]; N]) -> Result<(), KernelError>,
) -> Result<[Tensor<D>; N], Refused<D, N>> {
    use burn::backend::Flex;
    use flex::{all, dense, primitive};

    let shape = gradient.dims();
    let (Some(from), Some(into)) =
        (primitive(&gradient, shape), all(values.each_ref().map(|value| primitive(value, shape))))
    else {
        return Err((gradient, values));
    };
    // From here on `into` may be all that holds the memory.
    drop(values);
    let (from, mut into) = (dense(from), into.map(dense));
    let done = kernel(from.as_slice().unwrap_or_default(), into.each_mut().map(|value| value.storage_mut()));
    let values = into.map(Tensor::from_primitive::<Flex>);
    match done {
        Ok(()) => Ok(values),
        Err(error) => {
            tracing::debug!("burn's operations take a step that the kernels refuse: {error}");
            Err((gradient, values))
        }
    }
}

/// Without flex there are no kernels.
///
/// # Errors
/// [`Refused`], always.
#[cfg(not(feature = "flex"))]
#[expect(
    clippy::result_large_err,
    reason = "the tensors that came in go back; there is nothing smaller to return"
)]
pub(super) fn update<const D: usize, const N: usize>(
    gradient: Tensor<D>,
    values: [Tensor<D>; N],
    _kernel: impl FnOnce(&[f32], [&mut [f32]; N]) -> Result<(), KernelError>,
) -> Result<[Tensor<D>; N], Refused<D, N>> {
    Err((gradient, values))
}

#[cfg(feature = "flex")]
mod flex {
    use burn::backend::Flex;
    use burn::tensor::{DType, Tensor};
    use burn_flex::FlexTensor;

    pub(super) fn primitive<const D: usize>(tensor: &Tensor<D>, shape: [usize; D]) -> Option<FlexTensor> {
        if tensor.dtype() != DType::F32 || tensor.dims() != shape {
            return None;
        }
        tensor.clone().try_into_primitive::<Flex>().ok()
    }

    pub(super) fn all<T, const N: usize>(found: [Option<T>; N]) -> Option<[T; N]> {
        found.into_iter().collect::<Option<Vec<_>>>()?.try_into().ok()
    }

    /// In row-major order, with nothing else in its memory.
    pub(super) fn dense(tensor: FlexTensor) -> FlexTensor {
        let whole = tensor.storage::<f32>().len();
        match tensor.as_slice::<f32>() {
            Some(numbers) if numbers.len() == whole => tensor,
            _ => tensor.to_contiguous(),
        }
    }
}
