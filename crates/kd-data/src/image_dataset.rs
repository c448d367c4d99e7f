//! Images as a dataset: a subset, normalised and augmented.

use std::sync::Arc;

use rand_distr::{Beta, Distribution};

use crate::seed::{Purpose, Stream};
use crate::{Augment, DataError, Dataset, ImageShape, Images, Normalise, Pass};

/// A subset of [`Images`] with normalisation and augmentation.
///
/// Augmentation goes by an image's index in [`Images`], not by its position in the subset, so that another hold-out
/// leaves an image's views as they are.
pub struct ImageDataset {
    images: Arc<Images>,
    indices: Vec<usize>,
    normalise: Normalise,
    augment: Augment,
    beta: Option<Beta<f64>>,
}

/// Normalised images.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageBatch {
    /// Values in (sample, channel, row, column) order.
    pub pixels: Vec<f32>,
    /// Samples, channels, rows, columns.
    pub shape: [usize; 4],
    /// The class of each sample.
    pub labels: Vec<u32>,
    /// The second classes, if mixup is on.
    pub mix: Option<Mix>,
}

/// What mixup added to each sample of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix {
    /// The class of the second image.
    pub labels: Vec<u32>,
    /// The weight λ of the sample's own image and label; the second has `1 - λ`.
    pub weight: Vec<f32>,
    /// Number of classes of the dataset.
    pub classes: usize,
}

impl ImageDataset {
    /// The images `indices`, in that order.
    ///
    /// # Errors
    /// [`DataError::Index`] if an image does not exist; [`DataError::Setting`] if `normalise` is for another number of
    /// channels or an augmentation is out of range.
    pub fn new(
        images: Arc<Images>,
        indices: Vec<usize>,
        normalise: Normalise,
        augment: Augment,
    ) -> Result<Self, DataError> {
        if let Some(&index) = indices.iter().find(|&&index| index >= images.len()) {
            return Err(DataError::Index { index, len: images.len() });
        }
        let channels = images.shape().channels;
        if normalise.channels() != channels {
            let allowed = format!("{channels}, as many as the images have");
            return Err(DataError::setting("normalise channels", normalise.channels(), allowed));
        }
        augment.validate(images.shape())?;
        let beta = (augment.mixup > 0.0)
            .then(|| Beta::new(augment.mixup, augment.mixup))
            .transpose()
            .map_err(|_| DataError::setting("augment.mixup", augment.mixup, "0 to 100"))?;
        Ok(Self { images, indices, normalise, augment, beta })
    }

    /// The images behind the dataset.
    pub fn images(&self) -> &Arc<Images> {
        &self.images
    }

    /// The index in [`ImageDataset::images`] of each sample.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// The normalisation.
    pub fn normalise(&self) -> &Normalise {
        &self.normalise
    }

    /// The augmentation.
    pub fn augment(&self) -> &Augment {
        &self.augment
    }

    /// Size of every image.
    pub fn shape(&self) -> ImageShape {
        self.images.shape()
    }

    /// The names of the classes.
    pub fn classes(&self) -> &[String] {
        self.images.classes()
    }

    fn index(&self, id: usize) -> Result<usize, DataError> {
        self.indices.get(id).copied().ok_or(DataError::Index { index: id, len: self.indices.len() })
    }

    /// Writes one image's view to `out` and returns its label.
    fn view(&self, index: usize, pass: Pass, out: &mut [f32]) -> Result<u32, DataError> {
        let missing = DataError::Index { index, len: self.images.len() };
        let (Some(pixels), Some(&label)) = (self.images.pixels(index), self.images.labels().get(index))
        else {
            return Err(missing);
        };
        let shape = self.images.shape();
        self.augment.draw(shape, index, pass).apply(shape, pixels, self.normalise.tables(), out);
        Ok(label)
    }

    /// Mixes a second image into each view.
    fn mix(&self, ids: &[usize], pass: Pass, pixels: &mut [f32], beta: &Beta<f64>) -> Result<Mix, DataError> {
        let volume = self.images.shape().volume();
        let mut second = vec![0.0; volume];
        let classes = self.images.classes().len();
        let mut mix =
            Mix { labels: Vec::with_capacity(ids.len()), weight: Vec::with_capacity(ids.len()), classes };
        for (&id, first) in ids.iter().zip(pixels.chunks_exact_mut(volume)) {
            let mut stream =
                Stream::new(&[Purpose::Mixup as u64, pass.seed, pass.view, self.index(id)? as u64]);
            let partner = self.index(stream.below(self.indices.len()))?;
            let weight = beta.sample(stream.generator()) as f32;
            mix.labels.push(self.view(partner, pass, &mut second)?);
            mix.weight.push(weight);
            for (value, other) in first.iter_mut().zip(&second) {
                *value = weight * *value + (1.0 - weight) * other;
            }
        }
        Ok(mix)
    }
}

impl Dataset for ImageDataset {
    type Batch = ImageBatch;

    fn len(&self) -> usize {
        self.indices.len()
    }

    fn batch(&self, ids: &[usize], pass: Pass) -> Result<ImageBatch, DataError> {
        let ImageShape { channels, height, width } = self.images.shape();
        let volume = self.images.shape().volume();
        let mut pixels = vec![0.0; ids.len() * volume];
        let mut labels = Vec::with_capacity(ids.len());
        for (&id, out) in ids.iter().zip(pixels.chunks_exact_mut(volume)) {
            labels.push(self.view(self.index(id)?, pass, out)?);
        }
        let mix = match &self.beta {
            Some(beta) => Some(self.mix(ids, pass, &mut pixels, beta)?),
            None => None,
        };
        Ok(ImageBatch { pixels, shape: [ids.len(), channels, height, width], labels, mix })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PASS: Pass = Pass { seed: 1, view: 2 };

    fn images() -> Arc<Images> {
        let shape = ImageShape { channels: 1, height: 4, width: 4 };
        let pixels = (0..5u8).flat_map(|i| (0..16).map(move |p| 16 * i + p)).collect();
        let classes = (0..5).map(|i| format!("class {i}")).collect();
        Arc::new(Images::new(shape, pixels, vec![0, 1, 2, 3, 4], classes).unwrap())
    }

    fn dataset(indices: Vec<usize>, augment: Augment) -> ImageDataset {
        ImageDataset::new(images(), indices, Normalise::unit(1).unwrap(), augment).unwrap()
    }

    #[test]
    fn a_batch_holds_the_samples_asked_for_in_order() {
        let batch = dataset(vec![4, 2, 0], Augment::default()).batch(&[2, 0], PASS).unwrap();
        assert_eq!((batch.shape, &batch.labels[..], batch.mix), ([2, 1, 4, 4], &[0, 4][..], None));
        assert_eq!(batch.pixels[17], 65.0 / 255.0);
    }

    #[test]
    fn a_view_does_not_depend_on_batch_or_subset() {
        let augment = Augment { pad_crop: 2, jitter: 1, flip: true, cutout: 2, mixup: 0.0 };
        let alone = dataset(vec![3], augment.clone()).batch(&[0], PASS).unwrap();
        let together = dataset(vec![0, 1, 2, 3, 4], augment.clone()).batch(&[4, 3], PASS).unwrap();
        assert_eq!(alone.pixels, together.pixels[16..]);
        let other_view = Pass { view: 3, ..PASS };
        assert_ne!(alone.pixels, dataset(vec![3], augment).batch(&[0], other_view).unwrap().pixels);
    }

    #[test]
    fn mixup_is_the_weighted_mean_of_two_views() {
        let mixed = dataset(vec![0, 1, 2, 3, 4], Augment { mixup: 0.4, ..Default::default() });
        let plain = dataset(vec![0, 1, 2, 3, 4], Augment::default()).batch(&[0, 1, 2, 3, 4], PASS).unwrap();
        let batch = mixed.batch(&[3, 1], PASS).unwrap();
        let mix = batch.mix.unwrap();
        assert_eq!(batch.labels, [3, 1]);
        for (i, own) in [3usize, 1].into_iter().enumerate() {
            let (weight, other) = (mix.weight[i], mix.labels[i] as usize);
            assert!((0.0..=1.0).contains(&weight));
            for p in 0..16 {
                let expected =
                    weight * plain.pixels[16 * own + p] + (1.0 - weight) * plain.pixels[16 * other + p];
                assert!((batch.pixels[16 * i + p] - expected).abs() < 1e-6);
            }
        }
        let again = mixed.batch(&[1], PASS).unwrap();
        assert_eq!(again.pixels, batch.pixels[16..], "mixup depends on the batch");
    }

    #[test]
    fn mixup_weights_are_beta_distributed() {
        let mixed = dataset(vec![0; 4000], Augment { mixup: 0.4, ..Default::default() });
        // One image has one weight a view, so views give the sample.
        let weights: Vec<f64> = (0..4000)
            .map(|view| f64::from(mixed.batch(&[0], Pass { seed: 0, view }).unwrap().mix.unwrap().weight[0]))
            .collect();
        let mean = weights.iter().sum::<f64>() / 4000.0;
        let variance = weights.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / 4000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
        // the variance of Beta(a, a) is 1 / (4 (2a + 1))
        assert!((variance - 1.0 / (4.0 * 1.8)).abs() < 0.01, "{variance}");
    }

    #[test]
    fn what_does_not_exist_is_refused() {
        let unit = |n| Normalise::unit(n).unwrap();
        let new =
            |indices, n| ImageDataset::new(images(), indices, unit(n), Augment::default()).err().unwrap();
        assert!(matches!(new(vec![5], 1), DataError::Index { index: 5, len: 5 }));
        assert!(matches!(new(vec![0], 3), DataError::Setting { .. }));
        let short = dataset(vec![0, 1], Augment::default());
        assert!(matches!(short.batch(&[2], PASS), Err(DataError::Index { index: 2, len: 2 })));
    }
}
