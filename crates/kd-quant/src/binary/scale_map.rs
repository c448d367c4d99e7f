//! XNOR-Net's map of the activations' scales.

use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, ops::PadMode};
use serde::{Deserialize, Serialize};

use crate::QuantError;
use crate::error::in_range;

/// How large the activations are under every window of a convolution: a product of signs is multiplied with it.
///
/// $$ I * W \approx \big(\mathrm{sign}(I) \circledast \mathrm{sign}(W)\big) \odot K\alpha, \qquad
///    K = A * k, \quad A = \frac1c \sum_{i=1}^{c} |I_i|, \quad k_{ij} = \frac{1}{wh} $$
///
/// The window of the box filter $k$ is the convolution's, with its stride, padding and dilation, so that $K$ has one number for every place of the result;
/// padding counts as zeros. The gradient goes through $K$ to the activations by its derivative, beside that of the sign.
///
/// Rastegari et al., *XNOR-Net*, ECCV 2016, section 3.2. The paper finds that leaving $K$ out costs less than a percent, and public implementations train
/// without it: plans do so too unless told otherwise, because $K$ is the one part of a binary layer that is neither binary nor constant.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_quant::binary::ScaleMap;
///
/// let x = Tensor::<4>::from_floats([[[[1.0, -3.0, 2.0]], [[-1.0, 1.0, 0.0]]]], &Device::flex());
/// // Means over the channels: 1, 2, 1; over pairs of neighbours: 1.5, 1.5.
/// let map = ScaleMap::new([1, 2], [1, 1]).of(x)?;
/// assert_eq!(map.into_data().try_to_vec::<f32>(), Ok(vec![1.5, 1.5]));
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleMap {
    /// Height and width of the window.
    pub kernel: [usize; 2],
    /// Its steps down and across.
    pub stride: [usize; 2],
    /// Zeros before and after, down and across.
    #[serde(default)]
    pub padding: [(usize, usize); 2],
    /// Distances between a window's elements.
    #[serde(default = "one")]
    pub dilation: [usize; 2],
}

fn one() -> [usize; 2] {
    [1, 1]
}

impl ScaleMap {
    /// A dense window without padding.
    pub fn new(kernel: [usize; 2], stride: [usize; 2]) -> Self {
        Self { kernel, stride, padding: [(0, 0); 2], dilation: one() }
    }

    /// $K$ of activations `[batch, channels, height, width]`: `[batch, 1, places down, places across]`.
    ///
    /// # Errors
    /// [`QuantError::Setting`] for a window or a step of zero; [`QuantError::Shape`] for images smaller than the window.
    pub fn of(&self, x: Tensor<4>) -> Result<Tensor<4>, QuantError> {
        let sizes = [("kernel", self.kernel), ("stride", self.stride), ("dilation", self.dilation)];
        for (key, [down, across]) in sizes {
            in_range(key, format!("{down}x{across}"), down > 0 && across > 0, "1 or more")?;
        }
        let [_, _, height, width] = x.dims();
        let [(above, below), (left, right)] = self.padding;
        let reach = |axis: usize| (self.kernel[axis] - 1) * self.dilation[axis] + 1;
        if reach(0) > above + height + below || reach(1) > left + width + right {
            let (got, wanted) = (x.dims().to_vec(), format!("at least {}x{}", reach(0), reach(1)));
            return Err(QuantError::Shape { what: "the padded image", got, wanted });
        }
        let mean = x.abs().mean_dim(1);
        let mean = match self.padding {
            [(0, 0), (0, 0)] => mean,
            _ => mean.pad((left, right, above, below), PadMode::Constant(0.0)),
        };
        let [kh, kw] = self.kernel;
        let window = Tensor::full([1, 1, kh, kw], 1.0 / (kh * kw) as f64, &mean.device());
        Ok(conv2d(mean, window, None, ConvOptions::new(self.stride, [0, 0], self.dilation, 1)))
    }

    /// The same of a linear layer's activations `[batch, ...]`, whose window is all of them: $\mathrm{mean}|x|$, `[batch, 1]`.
    pub fn of_rows<const D: usize>(x: Tensor<D>) -> Tensor<2> {
        let batch = x.dims().first().copied().unwrap_or(1);
        let rest = x.dims().iter().skip(1).product::<usize>();
        x.reshape([batch, rest]).abs().mean_dim(1)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::binary::SignActivation;
    use burn::tensor::{Device, Distribution};

    fn draw(shape: [usize; 4], seed: u64) -> Tensor<4> {
        let device = Device::flex();
        device.seed(seed);
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), &device)
    }

    fn numbers<const D: usize>(x: Tensor<D>) -> Vec<f32> {
        x.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn the_map_is_the_mean_magnitude_under_every_window() {
        let map = ScaleMap { kernel: [3, 2], stride: [2, 1], padding: [(1, 0), (0, 2)], dilation: [1, 2] };
        let x = draw([2, 3, 6, 5], 1);
        let got = map.of(x.clone()).unwrap();
        let [batch, one, down, across] = got.dims();
        assert_eq!((batch, one, down, across), (2, 1, 3, 5));
        let (x, got) = (numbers(x), numbers(got));
        for (at, got) in got.iter().enumerate() {
            let (b, y, z) = (at / (down * across), at / across % down, at % across);
            let mut sum = 0.0;
            for (ky, kx) in (0..3).flat_map(|ky| (0..2).map(move |kx| (ky, kx))) {
                let (row, column) = (2 * y + ky, z + 2 * kx);
                if (1..7).contains(&row) && column < 5 {
                    sum +=
                        (0..3).map(|c| x[((b * 3 + c) * 6 + row - 1) * 5 + column].abs() / 3.0).sum::<f32>();
                }
            }
            assert!((got - sum / 6.0).abs() < 1e-6, "{got} {sum}");
        }
    }

    #[test]
    fn scaled_signs_are_nearer_to_the_convolution_than_signs_alone() {
        // Images of different brightness, which signs alone can't tell apart.
        let brightness = Tensor::<4>::from_floats([[[[0.2]]], [[[3.0]]]], &Device::flex());
        let (x, w) = (draw([2, 4, 8, 8], 2) * brightness.clone(), draw([5, 4, 3, 3], 3));
        let options = || ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
        let exact = conv2d(x.clone(), w.clone(), None, options());
        let (signs, weights) =
            (SignActivation::default().quantize(x.clone()), crate::binary::Xnor::default().quantize(w));
        let product = conv2d(signs, weights, None, options());
        let scaled = product.clone() * ScaleMap::new([3, 3], [1, 1]).of(x.clone()).unwrap();
        let flat = product * x.abs().mean().reshape([1, 1, 1, 1]);
        // Of each image in its own brightness.
        let error =
            |y: Tensor<4>| ((y - exact.clone()) / brightness.clone()).square().sum().into_scalar::<f32>();
        let (scaled, flat) = (error(scaled), error(flat));
        assert!(scaled < 0.2 * flat, "{scaled} {flat}");
    }

    #[test]
    fn its_gradient_is_the_finite_difference() {
        let device = Device::flex().autodiff();
        let map = ScaleMap { padding: [(1, 1); 2], ..ScaleMap::new([3, 3], [2, 2]) };
        let x = draw([1, 2, 5, 5], 4);
        let upstream = draw([1, 1, 3, 3], 5);
        let leaf = Tensor::<4>::from_data(x.clone().into_data(), &device).require_grad();
        let loss = (map.of(leaf.clone()).unwrap() * upstream.clone().autodiff()).sum();
        let gradient = numbers(leaf.grad(&loss.backward()).unwrap());
        let (values, h) = (numbers(x), 1e-2_f32);
        let at = |values: &[f32]| {
            let x = Tensor::<1>::from_floats(values, &Device::flex()).reshape([1, 2, 5, 5]);
            f64::from((map.of(x).unwrap() * upstream.clone()).sum().into_scalar::<f32>())
        };
        for (i, gradient) in gradient.iter().enumerate().filter(|(i, _)| values[*i].abs() > h) {
            let (mut up, mut down) = (values.clone(), values.clone());
            up[i] += h;
            down[i] -= h;
            let wanted = (at(&up) - at(&down)) / f64::from(2.0 * h);
            assert!((f64::from(*gradient) - wanted).abs() < 1e-3, "{i}: {gradient} {wanted}");
        }
    }

    #[test]
    fn a_window_of_nothing_and_one_larger_than_the_image_are_refused() {
        let error = ScaleMap::new([0, 3], [1, 1]).of(draw([1, 1, 4, 4], 0)).unwrap_err().to_string();
        assert!(error.contains("`kernel` is 0x3"), "{error}");
        let error = ScaleMap::new([5, 5], [1, 1]).of(draw([1, 1, 4, 4], 0)).unwrap_err().to_string();
        assert!(error.contains("at least 5x5"), "{error}");
    }
}
