//! The layer as an extension of burn's backends.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};

use super::Geometry;

/// The adder layer, with gradients wherever the backend has them.
#[backend_extension(Flex: cfg(feature = "flex"), Autodiff)]
pub(crate) trait Adder: Backend {
    fn adder_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        geometry: Geometry,
        eta: f32,
    ) -> FloatTensor<Self>;
}

/// Its gradients, on a backend without a tape.
pub(crate) trait AdderGradients: Adder {
    /// Of input and weight, those wanted.
    fn adder_gradients(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        geometry: Geometry,
        eta: f32,
        wanted: [bool; 2],
    ) -> [Option<FloatTensor<Self>>; 2];
}
