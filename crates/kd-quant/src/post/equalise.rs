//! Cross-layer equalisation: channels of like ranges, so that one scale per tensor loses less.

use burn::tensor::Tensor;

use crate::{Granularity, QuantError};

/// Two layers in a row, rescaled channel by channel. What the second gives is what it gave before.
#[derive(Clone, Debug)]
pub struct Equalised<const A: usize, const B: usize> {
    /// The first layer's weight.
    pub first: Tensor<A>,
    /// The first layer's bias, `[channels]`.
    pub bias: Option<Tensor<1>>,
    /// The second layer's weight.
    pub second: Tensor<B>,
    /// What the channels between them are divided by, `[channels]`.
    pub scale: Tensor<1>,
}

/// Divides the first layer's output channels by $s_i$ and multiplies the second's input channels by it.
///
/// $$ s_i = \sqrt{r^{(1)}_i / r^{(2)}_i}, \qquad r_i = \max|w| \text{ of channel } i $$
///
/// Both ranges become $\sqrt{r^{(1)}_i r^{(2)}_i}$. Between the layers there may be nothing but functions with $f(sx) = s f(x)$ for $s > 0$: a rectifier,
/// pooling, not a clipped rectifier. A channel that is zero on either side stays. `out_axis` and `in_axis` are the axes of the channels between them:
/// 0 and 1 for convolutions, 1 and 0 for burn's linear weights `[in, out]`.
///
/// Nagel et al., *Data-Free Quantization Through Weight Equalization and Bias Correction*, ICCV 2019.
///
/// # Errors
/// [`QuantError::Blocks`] for an axis that a weight hasn't; [`QuantError::Length`] unless the layers agree in channels.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_quant::post::equalise;
///
/// let device = Device::flex();
/// let first = Tensor::<2>::from_floats([[8.0, -4.0], [0.5, 0.25]], &device);
/// let second = Tensor::<2>::from_floats([[0.5, 2.0]], &device);
/// let layers = equalise(first, 0, None, second, 1)?;
/// assert_eq!(layers.scale.into_data().try_to_vec::<f32>(), Ok(vec![4.0, 0.5]));
/// assert_eq!(layers.second.into_data().try_to_vec::<f32>(), Ok(vec![2.0, 1.0]));
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
pub fn equalise<const A: usize, const B: usize>(
    first: Tensor<A>,
    out_axis: usize,
    bias: Option<Tensor<1>>,
    second: Tensor<B>,
    in_axis: usize,
) -> Result<Equalised<A, B>, QuantError> {
    let (out, input) = (Granularity::Channel { axis: out_axis }, Granularity::Channel { axis: in_axis });
    let (shape_a, shape_b) = (first.dims(), second.dims());
    let (a, b) = (out.split(first)?, input.split(second)?);
    let channels = a.dims()[0];
    let check = |what, got| {
        if got == channels { Ok(()) } else { Err(QuantError::Length { what, got, wanted: channels }) }
    };
    check("the second layer's input channels", b.dims()[0])?;
    if let Some(bias) = &bias {
        check("the first layer's bias", bias.dims()[0])?;
    }
    let (range_a, range_b) = (a.clone().abs().max_dim(1), b.clone().abs().max_dim(1));
    let dead = (range_a.clone() * range_b.clone()).lower_equal_scalar(0.0);
    let scale = (range_a / range_b).sqrt().mask_fill(dead, 1.0);
    let row = scale.clone().reshape([channels]);
    Ok(Equalised {
        first: out.join(a / scale.clone(), shape_a),
        bias: bias.map(|bias| bias / row.clone()),
        second: input.join(b * scale, shape_b),
        scale: row,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use burn::tensor::activation::relu;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn two_layers_give_what_they_gave_and_their_ranges_agree() {
        let device = Device::flex();
        let draw =
            |rows, columns| Tensor::<2>::random([rows, columns], Distribution::Normal(0.0, 2.0), &device);
        let (x, first, second) = (draw(5, 3), draw(4, 3), draw(2, 4));
        let bias = Tensor::<1>::from_floats([0.3, -0.2, 1.0, 0.1], &device);
        let run = |first: Tensor<2>, bias: Tensor<1>, second: Tensor<2>| {
            relu(x.clone().matmul(first.transpose()) + bias.unsqueeze()).matmul(second.transpose())
        };
        let before = run(first.clone(), bias.clone(), second.clone());
        let layers = equalise(first, 0, Some(bias), second, 1).unwrap();
        let ranges =
            (layers.first.clone().abs().max_dim(1), layers.second.clone().abs().max_dim(0).transpose());
        assert!((ranges.0 - ranges.1).abs().max().into_scalar::<f32>() < 1e-5);
        let after = run(layers.first, layers.bias.unwrap(), layers.second);
        assert!((before - after).abs().max().into_scalar::<f32>() < 1e-4);
    }

    #[test]
    fn a_dead_channel_stays_and_other_channels_are_an_error() {
        let device = Device::flex();
        let first = Tensor::<2>::from_floats([[0.0, 0.0], [1.0, 4.0]], &device);
        let second = Tensor::<2>::from_floats([[3.0, 1.0]], &device);
        let layers = equalise(first.clone(), 0, None, second, 1).unwrap();
        assert_eq!(layers.scale.into_data().try_to_vec::<f32>().unwrap(), [1.0, 2.0]);
        assert!(equalise(first, 0, None, Tensor::<2>::ones([1, 3], &device), 1).is_err());
    }
}
