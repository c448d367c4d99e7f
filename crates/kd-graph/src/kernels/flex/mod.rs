//! The chains on flex, by `kd-kernels`.

mod conv;
mod fold;
mod linear;
mod norm;
mod pool;

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::DType;
use burn_flex::{FlexTensor, Layout};
use kd_kernels::{KernelError, elementwise};

pub(crate) use fold::{FoldCache, evaluate};

use super::layout::{channels_last, dims, images};
use super::ops::{ChainGradients, Chains, Maybe, Norm, Pooling, SavedNorm, Window};
use super::pooled::Buffer;

/// The numbers of a tensor that lies in memory in order.
fn numbers(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().unwrap_or_default()
}

/// A vector, or a matrix, in row-major order.
fn dense(buffer: Buffer, shape: impl Into<burn::tensor::Shape>) -> FloatTensor<Flex> {
    FlexTensor::new(buffer.into_bytes(), Layout::contiguous(shape.into()), DType::F32)
}

/// A buffer filled by a kernel.
///
/// burn's operations have no way to return an error, and sizes were checked when the graph was made. Should a kernel refuse all the same, the
/// log says why and the result is NaN everywhere, which no run overlooks; where even its sizes are impossible, it is empty.
fn filled(len: usize, kernel: impl FnOnce(&mut [f32]) -> Result<(), KernelError>) -> Buffer {
    let mut buffer = Buffer::new(len);
    if let Err(error) = kernel(buffer.slice()) {
        tracing::error!("a kernel refused its arguments, and its result is NaN: {error}");
        buffer.slice().fill(f32::NAN);
    }
    buffer
}

/// Two tensors of one shape in the same order in memory, and how to give a result in that order back.
fn aligned(a: FlexTensor, b: FlexTensor) -> (FlexTensor, FlexTensor, impl FnOnce(Buffer) -> FlexTensor) {
    let shape = a.layout().shape().clone();
    let images_like = shape.num_dims() == 4 && !(a.is_contiguous() && b.is_contiguous());
    let (a, b) = if images_like {
        (channels_last(a), channels_last(b))
    } else {
        (a.to_contiguous(), b.to_contiguous())
    };
    let ordered = a.layout().shape().clone();
    let back = move |buffer: Buffer| {
        let tensor = dense(buffer, ordered);
        if images_like { tensor.permute(&[0, 3, 1, 2]) } else { tensor }
    };
    (a, b, back)
}

impl Chains for Flex {
    fn chain_conv(
        x: FlexTensor,
        weight: FlexTensor,
        bias: Maybe<Self>,
        window: Window,
        relu: bool,
    ) -> FlexTensor {
        conv::forward(x, &weight, bias.given().as_ref(), window, relu)
    }

    fn chain_conv_norm(
        x: FlexTensor,
        weight: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        residual: Maybe<Self>,
        near: FlexTensor,
        window: Window,
        norm: Norm,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let [y, _, mean, variance] =
            Self::conv_norm_forward([x, weight, gamma, beta, near], residual.given(), window, norm);
        (y, mean, variance)
    }

    fn chain_norm(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        residual: Maybe<Self>,
        norm: Norm,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        norm::forward(x, &gamma, &beta, residual.given(), norm)
    }

    fn chain_relu(x: FlexTensor) -> FlexTensor {
        let (x, _, back) = aligned(x.clone(), x);
        back(filled(numbers(&x).len(), |y| elementwise::relu(numbers(&x), y)))
    }

    fn chain_add(a: FlexTensor, b: FlexTensor, relu: bool) -> FlexTensor {
        let (a, b, back) = aligned(a, b);
        let sum = if relu { elementwise::add_relu } else { elementwise::add };
        back(filled(numbers(&a).len(), |y| sum(numbers(&a), numbers(&b), y)))
    }

    fn chain_pool(x: FlexTensor, pooling: Pooling) -> FlexTensor {
        pool::forward(x, &pooling)
    }

    fn chain_linear(x: FlexTensor, weight: FlexTensor, bias: Maybe<Self>, relu: bool) -> FlexTensor {
        linear::forward(&x, &weight, bias.given().as_ref(), relu)
    }
}

impl ChainGradients for Flex {
    fn conv_gradients(
        x: FlexTensor,
        weight: FlexTensor,
        y: Option<FlexTensor>,
        dy: FlexTensor,
        window: Window,
        wanted: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let dy = match y {
            Some(y) => Self::relu_gradient(y, dy),
            None => dy,
        };
        conv::gradients(x, &weight, dy, window, wanted)
    }

    fn norm_gradients(saved: SavedNorm<Self>, dy: FlexTensor, residual: bool) -> [Option<FlexTensor>; 4] {
        norm::gradients(saved, dy, residual)
    }

    fn conv_norm_forward(
        [x, weight, gamma, beta, near]: [FlexTensor; 5],
        residual: Option<FlexTensor>,
        window: Window,
        norm: Norm,
    ) -> [FlexTensor; 4] {
        let (conv, mean, variance) = conv::forward_with_moments(x, &weight, &near, window);
        let y = norm::apply(&conv, [&gamma, &beta, &mean, &variance], residual, norm);
        [y, conv, mean, variance]
    }

    fn conv_again(x: FlexTensor, weight: FlexTensor, window: Window) -> FlexTensor {
        conv::forward(x, &weight, None, window, false)
    }

    fn relu_gradient(y: FlexTensor, dy: FlexTensor) -> FlexTensor {
        let (y, dy, back) = aligned(y, dy);
        back(filled(numbers(&y).len(), |dx| elementwise::relu_backward(numbers(&y), numbers(&dy), dx)))
    }

    fn pool_with_winners(x: FlexTensor, pooling: &Pooling) -> (FlexTensor, Option<Vec<u16>>) {
        pool::forward_with_winners(x, pooling)
    }

    fn pool_gradient(
        dy: FlexTensor,
        input: [usize; 4],
        pooling: &Pooling,
        winners: Option<&[u16]>,
    ) -> FlexTensor {
        pool::gradient(dy, input, pooling, winners)
    }

    fn linear_gradients(
        x: FlexTensor,
        weight: FlexTensor,
        y: Option<FlexTensor>,
        dy: FlexTensor,
        wanted: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let dy = match y {
            Some(y) => Self::relu_gradient(y, dy),
            None => dy,
        };
        linear::gradients(&x, &weight, &dy, wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_refuses_gives_nan_and_not_a_guess() {
        let mut buffer = filled(3, |y| elementwise::relu(&[1.0], y));
        assert!(buffer.slice().iter().all(|y| y.is_nan()));
        let mut buffer = filled(2, |y| elementwise::relu(&[-1.0, 2.0], y));
        assert_eq!(buffer.slice(), [0.0, 2.0]);
    }
}
