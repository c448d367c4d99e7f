//! The layer on flex.

use burn::backend::Flex;
use burn::tensor::TensorData;
use burn_flex::FlexTensor;

use super::ops::{Adder, AdderGradients};
use super::{Geometry, kernel};

fn numbers(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().unwrap_or_default()
}

fn images(values: Vec<f32>, shape: [usize; 4]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

impl Adder for Flex {
    fn adder_conv(x: FlexTensor, weight: FlexTensor, g: Geometry, _eta: f32) -> FlexTensor {
        let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
        let [height, width] = g.result;
        images(kernel::forward(g, numbers(&x), numbers(&weight)), [g.batch, g.out, height, width])
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
        let [dx, dw] = kernel::gradients(g, numbers(&x), numbers(&weight), numbers(&dy), eta, wanted);
        let ([height, width], [kh, kw]) = (g.size, g.kernel);
        [
            dx.map(|dx| images(dx, [g.batch, g.channels, height, width])),
            dw.map(|dw| images(dw, [g.out, g.channels, kh, kw])),
        ]
    }
}
