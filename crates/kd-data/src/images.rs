//! Labelled images in memory.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{DataError, Normalise};

/// Size of every image of a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageShape {
    /// 1 for grey, 3 for red, green, blue.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl ImageShape {
    /// Bytes an image; `usize::MAX` if that is too large a number.
    pub fn volume(&self) -> usize {
        self.channels.saturating_mul(self.height).saturating_mul(self.width)
    }

    /// Pixels a channel.
    pub fn area(&self) -> usize {
        self.height.saturating_mul(self.width)
    }
}

/// Labelled images: 8-bit pixels in (sample, channel, row, column) order, one class a sample.
#[derive(Clone, PartialEq, Eq)]
pub struct Images {
    shape: ImageShape,
    pixels: Vec<u8>,
    labels: Vec<u32>,
    classes: Vec<String>,
}

impl Images {
    /// Images from their parts.
    ///
    /// # Errors
    /// [`DataError::Count`] if `pixels` is not as long as `labels` images; [`DataError::Label`] if a label is not below
    /// the number of `classes`; [`DataError::Setting`] if `shape` has an empty side.
    pub fn new(
        shape: ImageShape,
        pixels: Vec<u8>,
        labels: Vec<u32>,
        classes: Vec<String>,
    ) -> Result<Self, DataError> {
        Self::from_file(Path::new("(memory)"), shape, pixels, labels, classes)
    }

    /// As [`Images::new`], with the file that errors name.
    pub(crate) fn from_file(
        path: &Path,
        shape: ImageShape,
        pixels: Vec<u8>,
        labels: Vec<u32>,
        classes: Vec<String>,
    ) -> Result<Self, DataError> {
        if shape.volume() == 0 || shape.volume() == usize::MAX {
            return Err(DataError::setting("shape", format!("{shape:?}"), "sides of 1 or more"));
        }
        if pixels.len() != labels.len().saturating_mul(shape.volume()) {
            let (found, expected) = (pixels.len(), labels.len().saturating_mul(shape.volume()));
            return Err(DataError::Count { path: path.into(), what: "bytes of pixels", found, expected });
        }
        if let Some((index, &label)) =
            labels.iter().enumerate().find(|(_, label)| **label as usize >= classes.len())
        {
            return Err(DataError::Label { path: path.into(), index, label, classes: classes.len() });
        }
        Ok(Self { shape, pixels, labels, classes })
    }

    /// Images whose parts agree by construction.
    pub(crate) fn of_equal_parts(
        shape: ImageShape,
        pixels: Vec<u8>,
        labels: Vec<u32>,
        classes: Vec<String>,
    ) -> Self {
        debug_assert_eq!(pixels.len(), labels.len() * shape.volume());
        Self { shape, pixels, labels, classes }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Size of every image.
    pub fn shape(&self) -> ImageShape {
        self.shape
    }

    /// The pixels of image `index` in (channel, row, column) order, or `None` if there is no such image.
    pub fn pixels(&self, index: usize) -> Option<&[u8]> {
        let volume = self.shape.volume();
        let start = index.checked_mul(volume)?;
        self.pixels.get(start..start.checked_add(volume)?)
    }

    /// All pixels, image after image.
    pub fn all_pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The class of every image, below the number of [`Images::classes`].
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The names of the classes.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Mean and standard deviation of each channel over the images `indices`, in units of full intensity (0 to 1).
    ///
    /// Sums are integers, so the result does not depend on the order of the images.
    ///
    /// # Errors
    /// [`DataError::Index`] if an image does not exist; [`DataError::Setting`] if there is no image.
    pub fn statistics(&self, indices: &[usize]) -> Result<ChannelStatistics, DataError> {
        if indices.is_empty() {
            return Err(DataError::setting("indices", "[]", "at least one image"));
        }
        let mut sums = vec![(0u64, 0u64); self.shape.channels];
        for &index in indices {
            let pixels = self.pixels(index).ok_or(DataError::Index { index, len: self.len() })?;
            for (sum, channel) in sums.iter_mut().zip(pixels.chunks_exact(self.shape.area())) {
                let plain: u64 = channel.iter().map(|&p| u64::from(p)).sum();
                let squared: u64 = channel.iter().map(|&p| u64::from(p) * u64::from(p)).sum();
                *sum = (sum.0 + plain, sum.1 + squared);
            }
        }
        let count = (indices.len() * self.shape.area()) as f64;
        let moments = sums.iter().map(|&(plain, squared)| {
            let mean = plain as f64 / count;
            (mean / 255.0, (squared as f64 / count - mean * mean).max(0.0).sqrt() / 255.0)
        });
        let (mean, std) = moments.unzip();
        Ok(ChannelStatistics { mean, std })
    }
}

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Images({} of {:?}, {} classes)", self.len(), self.shape, self.classes.len())
    }
}

/// Mean and standard deviation of each channel, in units of full intensity (0 to 1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChannelStatistics {
    /// Mean of each channel.
    pub mean: Vec<f64>,
    /// Standard deviation of each channel (of the population).
    pub std: Vec<f64>,
}

impl ChannelStatistics {
    /// The normalisation that gives these images mean 0 and standard deviation 1.
    ///
    /// # Errors
    /// [`DataError::Setting`] if a channel is constant.
    pub fn normalise(&self) -> Result<Normalise, DataError> {
        Normalise::new(&self.mean, &self.std)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SHAPE: ImageShape = ImageShape { channels: 2, height: 1, width: 2 };

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| i.to_string()).collect()
    }

    #[test]
    fn pixels_are_planar() {
        let images = Images::new(SHAPE, (0..8).collect(), vec![0, 1], names(2)).unwrap();
        assert_eq!(images.pixels(1), Some(&[4, 5, 6, 7][..]));
        assert_eq!(images.pixels(2), None);
        assert_eq!(images.pixels(usize::MAX), None);
        assert_eq!(images.len(), 2);
    }

    #[test]
    fn parts_that_disagree_are_refused() {
        let error = Images::new(SHAPE, vec![0; 7], vec![0, 1], names(2)).unwrap_err();
        assert!(matches!(error, DataError::Count { found: 7, expected: 8, .. }), "{error}");
        let error = Images::new(SHAPE, vec![0; 8], vec![0, 2], names(2)).unwrap_err();
        assert!(matches!(error, DataError::Label { index: 1, label: 2, classes: 2, .. }), "{error}");
        let empty = ImageShape { width: 0, ..SHAPE };
        assert!(matches!(Images::new(empty, vec![], vec![], names(2)), Err(DataError::Setting { .. })));
    }

    #[test]
    fn statistics_are_those_of_the_images_asked_for() {
        let images = Images::new(SHAPE, vec![0, 255, 51, 51, 9, 9, 9, 9], vec![0, 1], names(2)).unwrap();
        let found = images.statistics(&[0]).unwrap();
        assert_eq!(found, ChannelStatistics { mean: vec![0.5, 0.2], std: vec![0.5, 0.0] });
        assert!(matches!(found.normalise(), Err(DataError::Setting { .. })), "channel 1 is constant");
        assert!(matches!(images.statistics(&[2]), Err(DataError::Index { index: 2, len: 2 })));
        assert!(images.statistics(&[]).is_err());
    }
}
