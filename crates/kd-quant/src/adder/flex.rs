//! The layer on flex.

use burn::backend::Flex;
use burn::tensor::TensorData;
use burn_flex::FlexTensor;
use kd_kernels::KernelError;

use super::ops::{Adder, AdderGradients};
use super::{Geometry, kernel};

fn numbers(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().unwrap_or_default()
}

fn images(values: Vec<f32>, shape: [usize; 4]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// burn's operations can't return an error, and shapes were checked before. Should a kernel refuse all the same, the log says why, and NaN in the result is
/// what no run overlooks.
fn refused(error: &KernelError, len: usize) -> Vec<f32> {
    tracing::error!("a kernel refused its arguments, and its result is NaN: {error}");
    vec![f32::NAN; len]
}

impl Adder for Flex {
    fn adder_conv(x: FlexTensor, weight: FlexTensor, g: Geometry, _eta: f32) -> FlexTensor {
        let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
        let [height, width] = g.result;
        let y = kernel::forward(g, numbers(&x), numbers(&weight));
        let y = y.unwrap_or_else(|error| refused(&error, g.batch * g.out * height * width));
        images(y, [g.batch, g.out, height, width])
    }
}

impl AdderGradients for Flex {
    fn adder_gradients(
        x: FlexTensor,
        weight: FlexTensor,
        dy: FlexTensor,
        g: Geometry,
        eta: f32,
        wanted: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let (x, weight, dy) = (x.to_contiguous(), weight.to_contiguous(), dy.to_contiguous());
        let (xs, ws) = (numbers(&x), numbers(&weight));
        let [dx, dw] = kernel::gradients(g, xs, ws, numbers(&dy), eta, wanted).unwrap_or_else(|error| {
            [(0, xs.len()), (1, ws.len())].map(|(i, len)| wanted[i].then(|| refused(&error, len)))
        });
        let ([height, width], [kh, kw]) = (g.size, g.kernel);
        [
            dx.map(|dx| images(dx, [g.batch, g.channels, height, width])),
            dw.map(|dw| images(dw, [g.out, g.channels, kh, kw])),
        ]
    }
}
