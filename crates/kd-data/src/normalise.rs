//! From 8-bit pixels to numbers that a network likes.

use crate::DataError;

/// Maps pixels to `(p / 255 - mean) / std`, each channel with its own mean and standard deviation.
///
/// Made by [`ChannelStatistics::normalise`](crate::ChannelStatistics::normalise) from the training split. All 256 values
/// are computed once, so applying it is a table look-up.
#[derive(Clone, PartialEq)]
pub struct Normalise {
    tables: Vec<[f32; 256]>,
    mean: Vec<f64>,
    std: Vec<f64>,
}

impl Normalise {
    /// Normalisation by given means and standard deviations, in units of full intensity (0 to 1).
    ///
    /// # Errors
    /// [`DataError::Setting`] if the two lists differ in length, are empty, or if a value is not finite or a standard
    /// deviation not positive.
    pub fn new(mean: &[f64], std: &[f64]) -> Result<Self, DataError> {
        if mean.len() != std.len() || mean.is_empty() {
            let lengths = format!("{} and {}", mean.len(), std.len());
            return Err(DataError::setting("mean and std", lengths, "one value a channel each"));
        }
        if let Some(value) = mean.iter().find(|value| !value.is_finite()) {
            return Err(DataError::setting("mean", value, "finite numbers"));
        }
        if let Some(value) = std.iter().find(|value| !(value.is_finite() && **value > 0.0)) {
            return Err(DataError::setting("std", value, "numbers above 0; the channel is constant"));
        }
        let table = |(m, s): (&f64, &f64)| std::array::from_fn(|p| ((p as f64 / 255.0 - m) / s) as f32);
        Ok(Self { tables: mean.iter().zip(std).map(table).collect(), mean: mean.to_vec(), std: std.to_vec() })
    }

    /// Only scales to `0..=1`: mean 0 and standard deviation 1 for each of `channels`.
    ///
    /// # Errors
    /// [`DataError::Setting`] for no channel.
    pub fn unit(channels: usize) -> Result<Self, DataError> {
        Self::new(&vec![0.0; channels], &vec![1.0; channels])
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.tables.len()
    }

    /// Mean of each channel.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// Standard deviation of each channel.
    pub fn std(&self) -> &[f64] {
        &self.std
    }

    /// The values of the 256 intensities, a table a channel.
    pub(crate) fn tables(&self) -> &[[f32; 256]] {
        &self.tables
    }
}

impl std::fmt::Debug for Normalise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Normalise").field("mean", &self.mean).field("std", &self.std).finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_formula() {
        let normalise = Normalise::new(&[0.2, 0.5], &[0.5, 0.25]).unwrap();
        assert_eq!(normalise.tables()[0][0], -0.4);
        assert_eq!(normalise.tables()[0][51], 0.0);
        assert_eq!(normalise.tables()[1][255], 2.0);
        assert_eq!(Normalise::unit(1).unwrap().tables()[0][255], 1.0);
    }

    #[test]
    fn values_without_meaning_are_refused() {
        assert!(Normalise::new(&[0.1], &[0.0]).is_err());
        assert!(Normalise::new(&[f64::NAN], &[1.0]).is_err());
        assert!(Normalise::new(&[0.1, 0.2], &[1.0]).is_err());
        assert!(Normalise::unit(0).is_err());
    }
}
