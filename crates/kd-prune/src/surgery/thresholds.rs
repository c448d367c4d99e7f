//! When a mask changes: two thresholds, and how likely an update is.

use serde::{Deserialize, Serialize};

use crate::{Array, Mask, PruneError};

/// Two thresholds on the magnitude, so that a weight near one of them does not flicker: a weight is pruned below the lower, spliced above the
/// upper, and left as it is between them. Masked weights go on being trained with the gradient of the dense network.
///
/// Guo et al., *Dynamic Network Surgery for Efficient DNNs* (2016).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Pruned up to here.
    pub lower: f32,
    /// Spliced from here.
    pub upper: f32,
    /// Whether a weight at a threshold itself changes as in the authors' code (pruned at the lower, not spliced at the upper) or as in distiller
    /// (the reverse).
    pub authors: bool,
}

impl Thresholds {
    /// The thresholds around `max(mean + c · deviation, 0)`: 0.9 and 1.1 times that.
    pub fn around(moments: Moments, c: f64, authors: bool) -> Self {
        let centre = (moments.mean + c * moments.deviation).max(0.0);
        Self { lower: (0.9 * centre) as f32, upper: (1.1 * centre) as f32, authors }
    }

    /// The next mask.
    ///
    /// # Errors
    /// [`PruneError::Shape`] when the shapes differ.
    pub fn update(&self, weight: &Array, mask: &Mask) -> Result<Mask, PruneError> {
        let next = weight.zip(&mask.to_array(), |w, m| {
            let size = w.abs();
            let (pruned, spliced) = if self.authors {
                (size <= self.lower, size > self.upper)
            } else {
                (size < self.lower, size >= self.upper)
            };
            if pruned {
                0.0
            } else if spliced {
                1.0
            } else {
                m
            }
        })?;
        Ok(Mask::of_nonzeros(&next))
    }
}

/// Mean and standard deviation of magnitudes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments {
    /// The mean.
    pub mean: f64,
    /// The standard deviation.
    pub deviation: f64,
}

impl Moments {
    /// Of the magnitudes that are not zero, the variance divided by their number: the authors' rule, which takes masked weights and biases
    /// together, once, before the first update.
    pub fn of_nonzeros<'a>(values: impl IntoIterator<Item = &'a f32>) -> Self {
        let sizes: Vec<f64> =
            values.into_iter().filter(|value| **value != 0.0).map(|value| f64::from(value.abs())).collect();
        Self::with(&sizes, sizes.len() as f64)
    }

    /// Of all magnitudes, the variance divided by one less than their number: distiller's rule.
    pub fn unbiased(values: &[f32]) -> Self {
        let sizes: Vec<f64> = values.iter().map(|value| f64::from(value.abs())).collect();
        Self::with(&sizes, sizes.len() as f64 - 1.0)
    }

    fn with(sizes: &[f64], divisor: f64) -> Self {
        let mean = sizes.iter().sum::<f64>() / (sizes.len() as f64).max(1.0);
        let squares: f64 = sizes.iter().map(|size| (size - mean).powi(2)).sum();
        Self { mean, deviation: (squares / divisor.max(1.0)).sqrt() }
    }
}

/// How likely an update is at a step: $$(1 + \gamma t)^{-\text{power}}$$ until `stop`, then 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateProbability {
    /// How fast it falls.
    pub gamma: f64,
    /// With which power.
    pub power: f64,
    /// The first step without updates.
    pub stop: usize,
}

impl UpdateProbability {
    /// The probability at a step.
    pub fn at(&self, step: usize) -> f64 {
        if step < self.stop { (1.0 + self.gamma * step as f64).powf(-self.power) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn between_the_thresholds_the_mask_stays() {
        let weight = Array::new([6], vec![0.5, -0.5, 1.0, -1.0, 2.0, -2.0]).unwrap();
        let mask = Mask::new([6], vec![true, false, true, false, true, false]).unwrap();
        let thresholds = Thresholds { lower: 0.9, upper: 1.1, authors: true };
        let next = thresholds.update(&weight, &mask).unwrap();
        assert_eq!(next.keep(), [false, false, true, false, true, true]);
    }

    #[test]
    fn updates_stop() {
        let probability = UpdateProbability { gamma: 1.0, power: 1.0, stop: 3 };
        assert_eq!([probability.at(0), probability.at(1), probability.at(3)], [1.0, 0.5, 0.0]);
    }
}
