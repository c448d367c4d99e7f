//! `digits`: handwritten-looking digits, drawn by the program itself.
//!
//! The default where nothing is on disk and no network is there: 28×28 grey images of ten classes, like MNIST. Each
//! digit is written in one of a few ways, its strokes wobble, and the whole is slanted, turned, stretched, shifted and
//! elastically displaced, then drawn with a pen of random width. A sample is a function of (seed, index) only and has the
//! same bits on every platform and for any number of threads.
//!
//! The variation is set so that the task is worth a network: softmax regression reaches 87 % test accuracy on the default
//! split, LeNet-5 (20-50-500, momentum SGD, 10 epochs, no augmentation) 99.1 %.

mod render;
mod strokes;
mod warp;

use rayon::prelude::*;

use crate::seed::{Purpose, Stream};
use crate::{ImageShape, Images};
use warp::{Variation, Warp};

/// Rows and columns of an image.
pub const SIDE: usize = 28;
/// Images of the default training split.
pub const TRAIN: usize = 12_000;
/// Images of the default test split.
pub const TEST: usize = 2_000;

const VARIATION: Variation = Variation {
    wobble: 0.06,
    rotation: 0.13,
    shear: 0.3,
    width: [12.0, 21.0],
    height: [15.0, 22.0],
    shift: 1.2,
    elastic: 3.5,
    pen: [0.6, 1.9],
    noise: 30.0,
};

/// The default split in two: [`TRAIN`] and [`TEST`] images.
pub fn splits() -> (Images, Images) {
    (generate(TRAIN, 0), generate(TEST, 1))
}

/// Draws `count` digits; sample `i` shows the digit `i mod 10`.
///
/// # Example
/// ```
/// let images = kd_data::digits::generate(20, 7);
/// assert_eq!(images.labels()[..3], [0, 1, 2]);
/// assert_eq!(images.pixels(0).map(<[u8]>::len), Some(28 * 28));
/// ```
pub fn generate(count: usize, seed: u64) -> Images {
    let shape = ImageShape { channels: 1, height: SIDE, width: SIDE };
    let mut pixels = vec![0; count * shape.volume()];
    pixels.par_chunks_exact_mut(shape.volume()).enumerate().for_each(|(index, out)| draw(seed, index, out));
    let labels = (0..count).map(|index| (index % strokes::CLASSES) as u32).collect();
    let classes = (0..strokes::CLASSES).map(|digit| digit.to_string()).collect();
    Images::of_equal_parts(shape, pixels, labels, classes)
}

fn draw(seed: u64, index: usize, out: &mut [u8]) {
    let mut stream = Stream::new(&[Purpose::Digits as u64, seed, index as u64]);
    let mut written = strokes::written(index % strokes::CLASSES, VARIATION.wobble, &mut stream);
    let warp = Warp::draw(SIDE, &VARIATION, &mut stream);
    written.iter_mut().flatten().for_each(|point| *point = warp.apply(*point));
    let radius = stream.between(VARIATION.pen[0], VARIATION.pen[1]);
    for (pixel, ink) in out.iter_mut().zip(render::ink(&written, radius, SIDE)) {
        let noise = stream.between(-VARIATION.noise, VARIATION.noise);
        *pixel = if ink > 0.0 { (255.0 * ink + noise).clamp(0.0, 255.0) as u8 } else { 0 };
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::checksum::sha256;

    /// Test accuracy in percent of softmax regression by plain SGD.
    fn linear_accuracy(train: &Images, test: &Images, epochs: u64) -> f64 {
        let scores = |weights: &[f32], pixels: &[u8]| -> Vec<f32> {
            let rows = weights.chunks_exact(785);
            let dot = |row: &[f32]| {
                row.iter().zip(pixels).map(|(w, &p)| w * f32::from(p) / 255.0).sum::<f32>() + row[784]
            };
            rows.map(dot).collect()
        };
        let mut weights = vec![0.0f32; 10 * 785];
        for epoch in 0..epochs {
            let rate = 0.05 * (1.0 - epoch as f32 / epochs as f32);
            let mut order: Vec<usize> = (0..train.len()).collect();
            Stream::new(&[epoch]).shuffle(&mut order);
            for i in order {
                let pixels = train.pixels(i).unwrap();
                let scores = scores(&weights, pixels);
                let top = scores.iter().copied().fold(f32::MIN, f32::max);
                let exps: Vec<f32> = scores.iter().map(|s| (s - top).exp()).collect();
                let total: f32 = exps.iter().sum();
                for (class, row) in weights.chunks_exact_mut(785).enumerate() {
                    let target = if class as u32 == train.labels()[i] { 1.0 } else { 0.0 };
                    let step = rate * (target - exps[class] / total);
                    row.iter_mut().zip(pixels).for_each(|(w, &p)| *w += step * f32::from(p) / 255.0);
                    row[784] += step;
                }
            }
        }
        let right = (0..test.len()).filter(|&i| {
            let scores = scores(&weights, test.pixels(i).unwrap());
            let best = (0..10).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap();
            best as u32 == test.labels()[i]
        });
        100.0 * right.count() as f64 / test.len() as f64
    }

    #[test]
    fn a_linear_classifier_is_neither_lost_nor_enough() {
        let (train, test) = splits();
        let accuracy = linear_accuracy(&train, &test, 15);
        assert!((70.0..93.0).contains(&accuracy), "{accuracy} %");
    }

    #[test]
    fn the_pixels_are_the_same_on_every_platform_and_for_any_number_of_threads() {
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let images = one.install(|| generate(50, 0));
        assert_eq!(images, generate(50, 0));
        assert_eq!(sha256(images.all_pixels()), GOLDEN);
    }

    const GOLDEN: &str = "4f58744a15e48501f9a269a680959ea0a2e89967a962fe1ed05d33e7dcc010de";

    #[test]
    fn splits_are_balanced_and_disjoint() {
        let (train, test) = splits();
        assert_eq!((train.len(), test.len()), (TRAIN, TEST));
        for class in 0..10 {
            assert_eq!(train.labels().iter().filter(|&&label| label == class).count(), TRAIN / 10);
        }
        assert_ne!(train.pixels(0), test.pixels(0));
    }

    #[test]
    fn every_digit_has_ink_and_paper() {
        let images = generate(500, 3);
        for i in 0..500 {
            let inked = images.pixels(i).unwrap().iter().filter(|&&p| p > 127).count();
            assert!((15..400).contains(&inked), "sample {i}: {inked} pixels of ink");
        }
    }
}
