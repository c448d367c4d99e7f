//! From ranges to scales and zero points.

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::tensor;
use crate::{Grid, QuantError};

/// Least and greatest value of every block.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ranges {
    /// The least values.
    pub min: Vec<f32>,
    /// The greatest values.
    pub max: Vec<f32>,
}

/// Whether zero lies in the grid's middle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Symmetry {
    /// The range $[-m, m]$, $m$ the greatest magnitude: a zero point of 0 (signed codes), or of the unsigned codes' middle.
    Symmetric,
    /// The range widened to contain zero, which is then a code.
    #[default]
    Affine,
}

/// A scale and an integral zero point for every block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// The scales, at least [`crate::LEAST_STEP`].
    pub scale: Vec<f32>,
    /// The codes of zero.
    pub zero_point: Vec<i32>,
}

impl Parameters {
    /// Scale and zero point as tensors of `[blocks]`.
    pub fn tensors(&self, device: &Device) -> (Tensor<1>, Tensor<1>) {
        let zero_points: Vec<f32> = self.zero_point.iter().map(|&z| z as f32).collect();
        (
            tensor(self.scale.clone(), [self.scale.len()], device),
            tensor(zero_points, [self.zero_point.len()], device),
        )
    }
}

impl Ranges {
    /// One range for all.
    pub fn single(min: f32, max: f32) -> Self {
        Self { min: vec![min], max: vec![max] }
    }

    /// Every range widened to $[-m, m]$, $m$ its greatest magnitude, unless it holds no negative value: then to $[0, m]$.
    pub fn mirrored(&self) -> Self {
        let ends = self.min.iter().zip(&self.max);
        let mirror = |(&min, &max): (&f32, &f32)| {
            let m = max.max(-min);
            (if min < 0.0 { -m } else { 0.0 }, m)
        };
        let (min, max) = ends.map(mirror).unzip();
        Self { min, max }
    }

    /// Every range, widened to contain zero and then multiplied: below 1 it saturates outliers.
    pub fn scaled(&self, factor: f32) -> Self {
        Self {
            min: self.min.iter().map(|min| min.min(0.0) * factor).collect(),
            max: self.max.iter().map(|max| max.max(0.0) * factor).collect(),
        }
    }

    /// Scales and zero points for a grid.
    ///
    /// Affine: $s = (\max - \min)/(q_{\max} - q_{\min})$ and $z = q_{\min} - \mathrm{round}(\min/s)$, clamped to the grid. Symmetric: $s = 2m/(q_{\max} -
    /// q_{\min})$. Scales are at least [`crate::LEAST_STEP`]: a range of zeros alone quantises exactly.
    ///
    /// # Errors
    /// [`QuantError::Empty`] without blocks, [`QuantError::Length`] for lists of different lengths, [`QuantError::NonFinite`].
    pub fn parameters(&self, grid: Grid, symmetry: Symmetry) -> Result<Parameters, QuantError> {
        crate::data::check_finite("the range's lower end", &self.min)?;
        crate::data::check_finite("the range's upper end", &self.max)?;
        if self.min.len() != self.max.len() {
            let (got, wanted) = (self.max.len(), self.min.len());
            return Err(QuantError::Length { what: "the range's upper ends", got, wanted });
        }
        let one = |(&min, &max): (&f32, &f32)| parameters(min.min(0.0), max.max(0.0), grid, symmetry);
        let (scale, zero_point) = self.min.iter().zip(&self.max).map(one).unzip();
        Ok(Parameters { scale, zero_point })
    }
}

/// Scale and zero point of a range that contains zero.
pub(super) fn parameters(min: f32, max: f32, grid: Grid, symmetry: Symmetry) -> (f32, i32) {
    let steps = grid.steps() as f32;
    match symmetry {
        Symmetry::Affine => {
            let scale = ((max - min) / steps).max(crate::LEAST_STEP);
            let zero_point = grid.min() - (min / scale).round_ties_even() as i32;
            (scale, zero_point.clamp(grid.min(), grid.max()))
        }
        Symmetry::Symmetric => {
            let scale = ((-min).max(max) / (steps / 2.0)).max(crate::LEAST_STEP);
            let middle = if grid.min() < 0 { 0 } else { (grid.min() + grid.max() + 1) / 2 };
            (scale, middle)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_always_a_code() {
        let grid = Grid::unsigned(8).unwrap();
        let p = Ranges { min: vec![0.5, -2.0, -3.0], max: vec![3.0, -1.0, 5.0] }
            .parameters(grid, Symmetry::Affine)
            .unwrap();
        assert_eq!(p.zero_point[0], 0);
        assert_eq!(p.zero_point[1], 255);
        assert!(p.zero_point.iter().all(|z| (0..=255).contains(z)));
    }

    #[test]
    fn a_range_of_zeros_has_a_scale() {
        let p = Ranges::single(0.0, 0.0).parameters(Grid::signed(8).unwrap(), Symmetry::Symmetric).unwrap();
        assert_eq!((p.scale[0], p.zero_point[0]), (crate::LEAST_STEP, 0));
    }

    #[test]
    fn infinite_ranges_are_refused() {
        let error = Ranges::single(f32::NEG_INFINITY, 1.0)
            .parameters(Grid::signed(8).unwrap(), Symmetry::Affine)
            .unwrap_err();
        assert!(error.to_string().contains("lower end holds -inf at index 0"), "{error}");
        assert!(Ranges::default().parameters(Grid::signed(8).unwrap(), Symmetry::Affine).is_err());
    }
}
