//! Channels last: the order in which the kernels read images.
//!
//! A tensor stays `[batch, channels, height, width]` to burn; only the strides say that the channels of one pixel lie side by side. What one
//! kernel writes the next reads as it is, and any other operation of burn understands it too.

use burn::tensor::DType;
use burn_flex::{FlexTensor, Layout};

use super::pooled::Buffer;

/// `[batch, channels, height, width]`.
pub(super) fn dims(tensor: &FlexTensor) -> [usize; 4] {
    let shape = tensor.layout().shape();
    std::array::from_fn(|axis| shape.get(axis).copied().unwrap_or(1))
}

/// The same images as `[batch, height, width, channels]`, in memory in that order.
pub(super) fn channels_last(tensor: FlexTensor) -> FlexTensor {
    let view = tensor.permute(&[0, 2, 3, 1]);
    if view.is_contiguous() {
        return view;
    }
    let [batch, channels, height, width] = dims(&tensor);
    let dense = tensor.to_contiguous();
    let mut buffer = Buffer::new(batch * channels * height * width);
    let source = dense.as_slice().unwrap_or_default();
    if let Err(error) = kd_kernels::layout::to_nhwc([batch, channels, height * width], source, buffer.slice())
    {
        tracing::error!("images could not be reordered, and are NaN: {error}");
        buffer.slice().fill(f32::NAN);
    }
    FlexTensor::new(
        buffer.into_bytes(),
        Layout::contiguous([batch, height, width, channels].into()),
        DType::F32,
    )
}

/// Images from numbers in the order `[batch, height, width, channels]`.
pub(super) fn images(buffer: Buffer, [batch, channels, height, width]: [usize; 4]) -> FlexTensor {
    let layout = Layout::contiguous([batch, height, width, channels].into()).permute(&[0, 3, 1, 2]);
    FlexTensor::new(buffer.into_bytes(), layout, DType::F32)
}
