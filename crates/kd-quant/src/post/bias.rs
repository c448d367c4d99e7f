//! Bias correction: quantised weights shift the mean of every output channel, the bias takes it back.

use burn::tensor::Tensor;

use crate::{Granularity, QuantError};

/// What to add to the bias, `[channels]`: $-\mathrm{mean}(\tilde y - y)$ of every channel (axis 1) over the calibration batch.
///
/// `float` and `quantised` are the layer's outputs with float and with quantised weights, for the same inputs.
///
/// Nagel et al., *Data-Free Quantization Through Weight Equalization and Bias Correction*, ICCV 2019.
///
/// # Errors
/// [`QuantError::Shape`] if the shapes differ; [`QuantError::Blocks`] without a channel axis.
pub fn bias_correction<const D: usize>(
    float: Tensor<D>,
    quantised: Tensor<D>,
) -> Result<Tensor<1>, QuantError> {
    let shape = float.dims();
    if quantised.dims() != shape {
        let (got, wanted) = (quantised.dims().to_vec(), format!("the float output's, {shape:?},"));
        return Err(QuantError::Shape { what: "the quantised output", got, wanted });
    }
    let error = Granularity::Channel { axis: 1 }.split(float - quantised)?;
    let [channels, _] = error.dims();
    Ok(error.mean_dim(1).reshape([channels]))
}

/// The same without data: $-\sum_{i} \mathrm{E}(x_i) \sum_{k} (\tilde w_{oik} - w_{oik})$.
///
/// `float` and `quantised` are weights `[out, in, ...]`, without groups; `input [in]` are the means of the input's channels, known from a normalisation in front
/// ([`mean_behind_rectifier`]).
///
/// # Errors
/// [`QuantError::Shape`] if the shapes differ; [`QuantError::Length`] unless there is one mean per input channel.
pub fn bias_correction_without_data<const D: usize>(
    float: Tensor<D>,
    quantised: Tensor<D>,
    input: Tensor<1>,
) -> Result<Tensor<1>, QuantError> {
    let shape = float.dims();
    if quantised.dims() != shape {
        let (got, wanted) = (quantised.dims().to_vec(), format!("the float weight's, {shape:?},"));
        return Err(QuantError::Shape { what: "the quantised weight", got, wanted });
    }
    let (out, inputs) = (shape.first().copied().unwrap_or(1), shape.get(1).copied().unwrap_or(1));
    let [got] = input.dims();
    if got != inputs {
        return Err(QuantError::Length { what: "the input's means", got, wanted: inputs });
    }
    let window: usize = shape.iter().skip(2).product();
    let error: Tensor<2> =
        (float - quantised).reshape([out, inputs, window]).sum_dim(2).reshape([out, inputs]);
    Ok((error * input.reshape([1, inputs])).sum_dim(1).reshape([out]))
}

/// The mean of a channel behind batch normalisation and a rectifier, its input being normal: $\mathrm{E}\max(0, z)$ with $z \sim N(\beta, \gamma^2)$,
///
/// $$ |\gamma|\,\phi(\beta/|\gamma|) + \beta\,\Phi(\beta/|\gamma|) $$
///
/// `gamma` and `beta` are `[channels]`.
pub fn mean_behind_rectifier(gamma: Tensor<1>, beta: Tensor<1>) -> Tensor<1> {
    let deviation = gamma.abs().clamp_min(f32::MIN_POSITIVE);
    // Beyond 30 deviations the density is zero in f32, and the square would overflow.
    let ratio = (beta.clone() / deviation.clone()).clamp(-30.0, 30.0);
    let density = (ratio.clone().square() * -0.5).exp() * (0.5 / std::f32::consts::PI).sqrt();
    let below = ((ratio * std::f32::consts::FRAC_1_SQRT_2).erf() + 1.0) * 0.5;
    deviation * density + beta * below
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn read(x: Tensor<1>) -> Vec<f32> {
        x.into_data().try_to_vec::<f32>().unwrap()
    }

    #[test]
    fn the_mean_of_every_channel_is_taken_back() {
        let device = Device::flex();
        let float = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, 4.0]], &device);
        let quantised = Tensor::<2>::from_floats([[1.5, 2.0], [3.5, 3.0]], &device);
        assert_eq!(read(bias_correction(float.clone(), quantised).unwrap()), [-0.5, 0.5]);
        assert!(bias_correction(float, Tensor::zeros([2, 3], &device)).is_err());
    }

    #[test]
    fn without_data_it_is_the_weight_error_at_the_mean_input() {
        let device = Device::flex();
        let float = Tensor::<3>::from_floats([[[1.0, 1.0], [0.0, 2.0]]], &device);
        let quantised = Tensor::<3>::from_floats([[[1.5, 1.0], [0.0, 1.0]]], &device);
        let means = Tensor::from_floats([2.0, 3.0], &device);
        assert_eq!(read(bias_correction_without_data(float, quantised, means).unwrap()), [-1.0 + 3.0]);
    }

    #[test]
    fn the_rectified_mean_is_the_integral() {
        let device = Device::flex();
        let (gamma, beta) = ([1.0_f32, 0.5, -2.0, 0.0], [0.0_f32, -0.7, 1.3, 0.4]);
        let got = read(mean_behind_rectifier(
            Tensor::from_floats(gamma, &device),
            Tensor::from_floats(beta, &device),
        ));
        for ((g, b), got) in gamma.iter().zip(&beta).zip(got) {
            let (g, b) = (f64::from(g.abs()), f64::from(*b));
            let steps = 20_000;
            let at = |i: i32| f64::from(i) / f64::from(steps) * 16.0 - 8.0;
            let density = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
            let sum: f64 = (0..steps).map(|i| (b + g * at(i)).max(0.0) * density(at(i))).sum();
            let wanted = sum * 16.0 / f64::from(steps);
            assert!((f64::from(got) - wanted).abs() < 1e-3, "{g} {b}: {got} {wanted}");
        }
    }
}
