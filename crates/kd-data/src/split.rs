//! Choosing images by class: those held out for validation, and a smaller training split.

use crate::seed::{Purpose, Stream};
use crate::{DataError, Images};

impl Images {
    /// Splits the images in two: those to train on, and `n` held out for validation.
    ///
    /// Stratified: every class gives its share of `n`, rounded by largest remainder. Which images of a class are held
    /// out depends on `seed` only. Both lists are in ascending order.
    ///
    /// # Errors
    /// [`DataError::Setting`] unless `n` is below the number of images.
    ///
    /// # Example
    /// ```
    /// # fn main() -> Result<(), kd_data::DataError> {
    /// let images = kd_data::digits::generate(100, 0);
    /// let (train, validation) = images.hold_out(20, 0)?;
    /// assert_eq!((train.len(), validation.len()), (80, 20));
    /// # Ok(())
    /// # }
    /// ```
    pub fn hold_out(&self, n: usize, seed: u64) -> Result<(Vec<usize>, Vec<usize>), DataError> {
        if n >= self.len() {
            return Err(DataError::setting("hold_out", n, format!("less than the {} images", self.len())));
        }
        let (held, train) = self.divide(0..self.len(), n, seed);
        Ok((train, held))
    }

    /// `n` of the images named by `ids`, or all of them if there are no more: every class keeps its share, whatever the order in which images lie.
    /// Which images of a class are kept depends on `seed` only. In ascending order.
    ///
    /// ```
    /// let images = kd_data::digits::generate(100, 0);
    /// let all: Vec<_> = (0..100).collect();
    /// assert_eq!(images.keep(&all, 10, 0).len(), 10);
    /// assert_eq!(images.keep(&all, 1000, 0), all);
    /// ```
    #[must_use]
    pub fn keep(&self, ids: &[usize], n: usize, seed: u64) -> Vec<usize> {
        self.divide(ids.iter().copied(), n.min(ids.len()), seed).0
    }

    /// `n` of the images, by class in proportion, and the others. `n` is at most their number.
    fn divide(&self, ids: impl Iterator<Item = usize>, n: usize, seed: u64) -> (Vec<usize>, Vec<usize>) {
        let mut members = vec![Vec::new(); self.classes().len()];
        for index in ids {
            let label = self.labels().get(index).copied().unwrap_or_default();
            if let Some(class) = members.get_mut(label as usize) {
                class.push(index);
            }
        }
        let sizes: Vec<usize> = members.iter().map(Vec::len).collect();
        let (mut chosen, mut others) = (Vec::new(), Vec::new());
        for (class, (mut indices, share)) in members.into_iter().zip(shares(&sizes, n)).enumerate() {
            Stream::new(&[Purpose::HoldOut as u64, seed, class as u64]).shuffle(&mut indices);
            chosen.extend(indices.drain(..share));
            others.extend(indices);
        }
        chosen.sort_unstable();
        others.sort_unstable();
        (chosen, others)
    }
}

/// Divides `n` in proportion to `sizes` by largest remainder; `n` is at most their sum.
fn shares(sizes: &[usize], n: usize) -> Vec<usize> {
    let total = sizes.iter().sum::<usize>().max(1) as u128;
    let exact = |size: usize| size as u128 * n as u128;
    let mut shares: Vec<usize> = sizes.iter().map(|&size| (exact(size) / total) as usize).collect();
    let mut by_remainder: Vec<usize> = (0..sizes.len()).collect();
    by_remainder.sort_by_key(|&class| std::cmp::Reverse(exact(sizes[class]) % total));
    let missing = n - shares.iter().sum::<usize>();
    for &class in by_remainder.iter().take(missing) {
        shares[class] += 1;
    }
    shares
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::ImageShape;

    fn images(counts: &[usize]) -> Images {
        let labels: Vec<u32> = counts.iter().enumerate().flat_map(|(c, &n)| vec![c as u32; n]).collect();
        let shape = ImageShape { channels: 1, height: 1, width: 1 };
        let names = counts.iter().map(usize::to_string).collect();
        Images::new(shape, vec![0; labels.len()], labels, names).unwrap()
    }

    #[test]
    fn every_class_gives_its_share() {
        let images = images(&[60, 30, 10]);
        let (train, held) = images.hold_out(10, 1).unwrap();
        let of = |class| held.iter().filter(|&&i| images.labels()[i] == class).count();
        assert_eq!([of(0), of(1), of(2)], [6, 3, 1]);
        let mut all = [train, held].concat();
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_smaller_split_of_images_sorted_by_class_has_every_class() {
        let images = images(&[60, 30, 10]);
        let (train, _) = images.hold_out(10, 1).unwrap();
        let kept = images.keep(&train, 20, 1);
        let of = |class| kept.iter().filter(|&&i| images.labels()[i] == class).count();
        assert_eq!([of(0), of(1), of(2)], [12, 6, 2]);
        assert!(kept.iter().all(|id| train.contains(id)));
    }

    #[test]
    fn remainders_go_to_the_classes_that_lose_most() {
        assert_eq!(shares(&[5, 3, 2], 5), [3, 1, 1]);
        assert_eq!(shares(&[1, 1, 1], 2), [1, 1, 0]);
        assert_eq!(shares(&[7, 0, 7], 14), [7, 0, 7]);
        assert!(shares(&[], 0).is_empty());
    }

    #[test]
    fn the_seed_decides_which_images() {
        let images = images(&[50, 50]);
        assert_eq!(images.hold_out(20, 1).unwrap(), images.hold_out(20, 1).unwrap());
        assert_ne!(images.hold_out(20, 1).unwrap(), images.hold_out(20, 2).unwrap());
        assert_eq!(images.hold_out(0, 1).unwrap().0.len(), 100);
    }

    #[test]
    fn something_must_be_left_to_train_on() {
        let error = images(&[3]).hold_out(3, 0).unwrap_err();
        assert_eq!(error.to_string(), "hold_out = 3 is not allowed; use less than the 3 images");
    }
}
