//! The operations that kernels take over, as an extension of burn's backends.
// Autodiff has to see every tensor as an argument of its own.
#![allow(clippy::too_many_arguments)]

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;
use burn::backend::{ExtensionType, backend_extension};

/// How a convolution's window moves: `[vertical, horizontal]` each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Window {
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    pub dilation: [usize; 2],
    pub groups: usize,
}

/// A batch normalisation and what follows it at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Norm {
    pub epsilon: f64,
    /// Whether negative results become zero.
    pub relu: bool,
    /// Whether the backward pass computes the convolution in front again, instead of keeping its result.
    pub recompute: bool,
}

/// What a pooling takes of its windows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Pooling {
    Max { kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2], dilation: [usize; 2] },
    Average { kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2], count_padding: bool },
    Adaptive { size: [usize; 2] },
}

/// An input that may be left out.
#[derive(ExtensionType)]
pub(crate) enum Maybe<B: Backend> {
    Given(FloatTensor<B>),
    Absent,
}

impl<B: Backend> Maybe<B> {
    pub fn given(self) -> Option<FloatTensor<B>> {
        match self {
            Maybe::Given(tensor) => Some(tensor),
            Maybe::Absent => None,
        }
    }
}

impl<B: Backend> Maybe<B> {
    pub fn of(tensor: Option<FloatTensor<B>>) -> Self {
        tensor.map_or(Maybe::Absent, Maybe::Given)
    }
}

/// Chains of layers in one call each. Images are `[batch, channels, height, width]` to the caller; the kernels write them channels last.
///
/// With gradients wherever the backend has them. Only flex has these: who calls one on another device is stopped by burn, so
/// [`supported`](super::supported) comes first.
#[backend_extension(Flex: cfg(feature = "flex"), Autodiff)]
pub(crate) trait Chains: Backend {
    /// Convolution, bias, rectifier. `x [n, in, h, w]`, `weight [out, in/groups, kh, kw]`, `bias [out]`.
    fn chain_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Maybe<Self>,
        window: Window,
        relu: bool,
    ) -> FloatTensor<Self>;

    /// Convolution, batch normalisation by the batch's statistics, `+ residual`, rectifier. Also gives the batch's mean and biased variance, `[out]`
    /// each and without gradient. `near` is a guess of the mean, such as the running one.
    fn chain_conv_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        #[extension_type] residual: Maybe<Self>,
        near: FloatTensor<Self>,
        window: Window,
        norm: Norm,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// As [`chain_conv_norm`](Self::chain_conv_norm), without the convolution.
    fn chain_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        #[extension_type] residual: Maybe<Self>,
        norm: Norm,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// `max(x, 0)`, in whatever order the elements lie.
    fn chain_relu(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `a + b`, then a rectifier, if asked for. Of one shape.
    fn chain_add(a: FloatTensor<Self>, b: FloatTensor<Self>, relu: bool) -> FloatTensor<Self>;

    /// Pooling over height and width.
    fn chain_pool(x: FloatTensor<Self>, pooling: Pooling) -> FloatTensor<Self>;

    /// `x weight + bias`, then a rectifier, if asked for. `x [n, in]`, `weight [in, out]`, `bias [out]`.
    fn chain_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Maybe<Self>,
        relu: bool,
    ) -> FloatTensor<Self>;
}

/// The gradients of [`Chains`], on a backend without a tape.
pub(crate) trait ChainGradients: Chains {
    /// Of input, weight and bias, those wanted. `y` is the result where a rectifier was in the chain.
    fn conv_gradients(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        y: Option<FloatTensor<Self>>,
        dy: FloatTensor<Self>,
        window: Window,
        wanted: [bool; 3],
    ) -> [Option<FloatTensor<Self>>; 3];

    /// Of the input, gamma, beta and, if wanted, the residual. `y` is the result where a rectifier was in the chain.
    fn norm_gradients(
        saved: SavedNorm<Self>,
        dy: FloatTensor<Self>,
        residual: bool,
    ) -> [Option<FloatTensor<Self>>; 4];

    /// [`Chains::chain_conv_norm`] of `x`, `weight`, `gamma`, `beta` and `near`: the result, the convolution's, mean and variance.
    fn conv_norm_forward(
        inputs: [FloatTensor<Self>; 5],
        residual: Option<FloatTensor<Self>>,
        window: Window,
        norm: Norm,
    ) -> [FloatTensor<Self>; 4];

    /// The convolution alone.
    fn conv_again(x: FloatTensor<Self>, weight: FloatTensor<Self>, window: Window) -> FloatTensor<Self>;

    /// `dy` where `y > 0`.
    fn relu_gradient(y: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The pooling and, for a maximum, which place of every window won.
    fn pool_with_winners(x: FloatTensor<Self>, pooling: &Pooling) -> (FloatTensor<Self>, Option<Vec<u16>>);

    /// Of the input, whose sizes are given.
    fn pool_gradient(
        dy: FloatTensor<Self>,
        input: [usize; 4],
        pooling: &Pooling,
        winners: Option<&[u16]>,
    ) -> FloatTensor<Self>;

    /// Of input, weight and bias, those wanted. `y` is the result where a rectifier was in the chain.
    fn linear_gradients(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        y: Option<FloatTensor<Self>>,
        dy: FloatTensor<Self>,
        wanted: [bool; 3],
    ) -> [Option<FloatTensor<Self>>; 3];
}

/// What a normalisation's backward pass needs.
#[derive(Clone, Debug)]
pub(crate) struct SavedNorm<B: Backend> {
    pub x: FloatTensor<B>,
    pub gamma: FloatTensor<B>,
    pub beta: FloatTensor<B>,
    pub mean: FloatTensor<B>,
    pub variance: FloatTensor<B>,
    /// The result, where a residual and a rectifier were in the chain.
    pub y: Option<FloatTensor<B>>,
    pub norm: Norm,
}
