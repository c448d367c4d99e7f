//! DoReFa's gradients on the tape: a node through which values pass and gradients are quantised.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

use crate::adder::supported;
use crate::{DorefaGradient, QuantError};

impl DorefaGradient {
    /// `x` as it is, whose gradient, `[batch, ...]`, is quantised on its way back. The noise is drawn from the device's random numbers.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use kd_quant::DorefaGradient;
    ///
    /// let x = Tensor::<2>::from_floats([[0.5, 2.0]], &Device::flex().autodiff()).require_grad();
    /// let y = DorefaGradient::new(1)?.pass(x.clone())?;
    /// let gradients = (y.clone() * 3.0).sum().backward();
    /// assert_eq!(y.into_data(), x.clone().into_data());
    /// // One bit knows two values: plus and minus the sample's greatest.
    /// let gradient = x.grad(&gradients).map(|g| g.into_data().try_to_vec::<f32>());
    /// assert_eq!(gradient, Some(Ok(vec![3.0, 3.0])));
    /// # Ok::<(), kd_quant::QuantError>(())
    /// ```
    ///
    /// # Errors
    /// [`QuantError::Setting`] for bits out of range; [`QuantError::Device`] on other devices than `flex`, or other numbers than f32.
    pub fn pass<const D: usize>(&self, x: Tensor<D>) -> Result<Tensor<D>, QuantError> {
        Self::new(self.bits)?;
        supported("a quantised gradient", &x.device())?;
        Ok(Tensor::from_dispatch(Dispatch::gradient_node(x.into_dispatch(), self.bits as usize)))
    }
}

/// The identity, with a quantised gradient wherever the backend has one.
#[backend_extension(Flex: cfg(feature = "flex"), Autodiff)]
pub(crate) trait GradientNode: Backend {
    fn gradient_node(x: FloatTensor<Self>, bits: usize) -> FloatTensor<Self>;
}

/// The quantised gradient, on a backend without a tape.
pub(crate) trait GradientCodes: GradientNode {
    fn gradient_codes(dy: FloatTensor<Self>, bits: usize) -> FloatTensor<Self>;
}

#[derive(Debug)]
struct Rule;

impl<B: GradientCodes> Backward<B, 1> for Rule {
    type State = usize;

    fn backward(self, ops: Ops<usize, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let [parent] = ops.parents;
        if let Some(node) = parent {
            grads.register::<B>(node.id, B::gradient_codes(dy, ops.state));
        }
    }
}

impl<B: GradientCodes, C: CheckpointStrategy> GradientNode for Autodiff<B, C> {
    fn gradient_node(x: FloatTensor<Self>, bits: usize) -> FloatTensor<Self> {
        let node = x.node();
        let y = B::gradient_node(x.into_primitive(), bits);
        match Rule.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(bits, y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }
}

#[cfg(feature = "flex")]
mod flex {
    use burn::backend::{Flex, TensorMetadata};
    use burn::tensor::{Device, Distribution, Tensor, TensorData};
    use burn_flex::FlexTensor;

    use super::{GradientCodes, GradientNode};
    use crate::DorefaGradient;

    impl GradientNode for Flex {
        fn gradient_node(x: FlexTensor, _bits: usize) -> FlexTensor {
            x
        }
    }

    impl GradientCodes for Flex {
        fn gradient_codes(dy: FlexTensor, bits: usize) -> FlexTensor {
            let dy = dy.to_contiguous();
            let shape = dy.shape();
            let quantizer = DorefaGradient { bits: bits as u32 };
            let values: &[f32] = dy.as_slice().unwrap_or_default();
            let batch = shape.first().copied().unwrap_or(1).max(1);
            let rows = [batch, values.len() / batch];
            let device = Device::flex();
            let gradient = Tensor::<2>::from_data(TensorData::new(values.to_vec(), rows), &device);
            let quantized = quantizer.noise_bound().and_then(|bound| {
                let uniform = Distribution::Uniform(-f64::from(bound), f64::from(bound));
                quantizer.quantize(gradient, Tensor::random(rows, uniform, &device))
            });
            // `pass` has checked the bits, and a gradient has elements.
            match quantized {
                Ok(quantized) => {
                    let (bytes, _, dtype) = quantized.into_data().into_parts();
                    FlexTensor::from_data(TensorData::from_bytes(bytes, shape, dtype))
                }
                Err(_) => dy,
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn gradients_lie_on_the_grid_of_their_sample_and_are_right_on_average() {
        let device = Device::flex().autodiff();
        device.seed(3);
        let upstream = Tensor::<2>::from_floats([[0.9, -0.3, 0.05], [0.02, 0.01, -0.015]], &device);
        let gradient = || {
            let x = Tensor::<2>::ones([2, 3], &device).require_grad();
            let y = DorefaGradient { bits: 3 }.pass(x.clone()).unwrap();
            let gradients = (y * upstream.clone()).sum().backward();
            x.grad(&gradients).unwrap().into_data().try_to_vec::<f32>().unwrap()
        };
        let mut mean = [0.0_f32; 6];
        for _ in 0..2000 {
            for (i, (mean, g)) in mean.iter_mut().zip(gradient()).enumerate() {
                let max = if i < 3 { 0.9 } else { 0.02 };
                let code = (g / max + 1.0) * 3.5;
                assert!((code - code.round()).abs() < 1e-4, "{g} is no code");
                *mean += g / 2000.0;
            }
        }
        for (mean, wanted) in mean.iter().zip(upstream.into_data().try_to_vec::<f32>().unwrap()) {
            // The greatest magnitude is at the end of the grid, where noise is cut off on one side.
            assert!((mean - wanted).abs() < 0.08, "{mean} {wanted}");
        }
    }
}
