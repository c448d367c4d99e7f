//! Error, saturation, flips and size.

use burn::tensor::Tensor;
use serde::Serialize;

use crate::data::{check_finite, finite};
use crate::{Grid, QuantError};

/// How far a quantised tensor is from its original, in f64.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Distortion {
    /// Signal to quantisation noise in decibel, $10 \log_{10} (\sum x^2 / \sum (x - q)^2)$; infinite without noise.
    pub sqnr: f64,
    /// The cosine of the angle between both; 1 if both are zero, 0 if one is.
    pub cosine: f64,
    /// The greatest $|x - q|$.
    pub greatest: f64,
}

impl Distortion {
    /// Of a tensor and its quantised form.
    ///
    /// # Errors
    /// [`QuantError::Shape`] if the shapes differ; [`QuantError::Empty`] and [`QuantError::NonFinite`].
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use kd_quant::analysis::Distortion;
    ///
    /// let device = Device::flex();
    /// let x = Tensor::<1>::from_floats([3.0, -4.0], &device);
    /// let q = Tensor::<1>::from_floats([3.0, -4.5], &device);
    /// let distortion = Distortion::of(x, q)?;
    /// assert!((distortion.sqnr - 20.0).abs() < 1e-6);
    /// assert_eq!(distortion.greatest, 0.5);
    /// # Ok::<(), kd_quant::QuantError>(())
    /// ```
    pub fn of<const D: usize>(x: Tensor<D>, quantised: Tensor<D>) -> Result<Self, QuantError> {
        if quantised.dims() != x.dims() {
            let (got, wanted) = (quantised.dims().to_vec(), format!("the original's, {:?},", x.dims()));
            return Err(QuantError::Shape { what: "the quantised tensor", got, wanted });
        }
        let x = finite("the original", x.detach())?;
        Self::between(&x, &finite("the quantised tensor", quantised.detach())?)
    }

    /// Of numbers and what they became.
    ///
    /// # Errors
    /// [`QuantError::Length`] for lists of different lengths; [`QuantError::Empty`] and [`QuantError::NonFinite`].
    pub fn between(x: &[f32], quantised: &[f32]) -> Result<Self, QuantError> {
        if quantised.len() != x.len() {
            let (got, wanted) = (quantised.len(), x.len());
            return Err(QuantError::Length { what: "the quantised numbers", got, wanted });
        }
        check_finite("the original", x)?;
        check_finite("the quantised tensor", quantised)?;
        let pairs = || x.iter().zip(quantised).map(|(&x, &q)| (f64::from(x), f64::from(q)));
        let (mut signal, mut other, mut product, mut noise) = (0.0, 0.0, 0.0, 0.0);
        for (x, q) in pairs() {
            signal += x * x;
            other += q * q;
            product += x * q;
            noise += (x - q) * (x - q);
        }
        let norms = (signal * other).sqrt();
        let both_zero = signal == 0.0 && other == 0.0;
        Ok(Self {
            sqnr: if noise == 0.0 { f64::INFINITY } else { 10.0 * (signal / noise).log10() },
            cosine: if norms > 0.0 { product / norms } else { f64::from(u8::from(both_zero)) },
            greatest: pairs().map(|(x, q)| (x - q).abs()).fold(0.0, f64::max),
        })
    }
}

/// The part of codes at either end of the grid, from 0 to 1.
///
/// # Errors
/// [`QuantError::Empty`] without codes.
pub fn saturation(codes: &[i32], grid: Grid) -> Result<f64, QuantError> {
    rate(
        "the codes",
        codes.iter().filter(|&&code| code <= grid.min() || code >= grid.max()).count(),
        codes.len(),
    )
}

/// The part of codes that changed between two states of a weight, from 0 to 1: binary weights that flip back and forth do not learn.
///
/// # Errors
/// [`QuantError::Empty`] without codes; [`QuantError::Length`] for lists of different lengths.
pub fn flip_rate(before: &[i32], after: &[i32]) -> Result<f64, QuantError> {
    if before.len() != after.len() {
        return Err(QuantError::Length { what: "the later codes", got: after.len(), wanted: before.len() });
    }
    rate("the codes", before.iter().zip(after).filter(|(a, b)| a != b).count(), before.len())
}

fn rate(what: &'static str, count: usize, all: usize) -> Result<f64, QuantError> {
    if all == 0 { Err(QuantError::Empty { what }) } else { Ok(count as f64 / all as f64) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn zeros_and_exact_tensors_have_defined_measures() {
        let device = Device::flex();
        let zeros = Tensor::<1>::zeros([3], &device);
        let exact = Distortion::of(zeros.clone(), zeros.clone()).unwrap();
        assert_eq!((exact.sqnr, exact.cosine), (f64::INFINITY, 1.0));
        let lost = Distortion::of(Tensor::<1>::ones([3], &device), zeros).unwrap();
        assert_eq!((lost.sqnr, lost.cosine, lost.greatest), (0.0, 0.0, 1.0));
    }

    #[test]
    fn each_bit_is_worth_six_decibel() {
        let x = Tensor::<1>::from_floats(
            (0..4000).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>().as_slice(),
            &Device::flex(),
        );
        let sqnr = |bits| {
            let grid = Grid::signed(bits).unwrap();
            let scale = Tensor::from_floats([2.0 / (grid.steps() as f32)], &x.device());
            let rule = crate::Affine::new(grid);
            let q = rule.quantize(x.clone(), scale, Tensor::zeros([1], &x.device())).unwrap();
            Distortion::of(x.clone(), q).unwrap().sqnr
        };
        for bits in 4..8 {
            let gain = sqnr(bits + 1) - sqnr(bits);
            assert!((gain - 6.02).abs() < 1.0, "{bits}: {gain}");
        }
    }

    #[test]
    fn rates_count() {
        let grid = Grid::signed(2).unwrap();
        assert_eq!(saturation(&[-2, -1, 0, 1], grid).unwrap(), 0.5);
        assert_eq!(flip_rate(&[1, -1, 1, 1], &[1, 1, 1, 1]).unwrap(), 0.25);
        assert!(flip_rate(&[1], &[]).is_err());
        assert!(saturation(&[], grid).is_err());
    }
}
