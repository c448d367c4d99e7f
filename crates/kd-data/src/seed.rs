//! Randomness that depends on nothing but its seed.
//!
//! Every random decision of this crate is drawn from a [`Stream`] whose key is [`mix`]ed from what the decision may
//! depend on: a seed, a view, a sample's number. No stream is shared, so neither the order of evaluation nor the number
//! of threads changes a value, and integers are the same on every platform.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a stream is for; keeps streams of equal seeds apart.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub(crate) enum Purpose {
    Order = 1,
    Augment = 2,
    Mixup = 3,
    HoldOut = 4,
    Digits = 5,
}

/// Folds numbers into one 64-bit key.
///
/// A chain of SplitMix64 finalisers (Steele, Lea and Flood, *Fast splittable pseudorandom number generators*, OOPSLA
/// 2014): `key = 0; for each part: key = finalise((key + part + 1) · golden ratio)`. The order of the parts counts.
///
/// ```
/// assert_ne!(kd_data::mix(&[1, 2]), kd_data::mix(&[2, 1]));
/// ```
pub fn mix(parts: &[u64]) -> u64 {
    parts.iter().fold(0, |key: u64, part| {
        let mut z = key.wrapping_add(*part).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// A stream of random numbers (ChaCha with 8 rounds), with the few distributions that this crate needs.
///
/// The distributions are written out here because their values must not change with a dependency's version.
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream of a key, which is [`mix`]ed from `parts`.
    pub fn new(parts: &[u64]) -> Self {
        Self(ChaCha8Rng::seed_from_u64(mix(parts)))
    }

    /// Uniform in `0..n`; 0 for `n` = 0. The bias is below `n / 2^64`.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// Uniform in `-n..=n`.
    pub fn around(&mut self, n: usize) -> isize {
        self.below(2 * n + 1) as isize - n as isize
    }

    /// Uniform in `[0, 1)`, a multiple of `2^-53`.
    pub fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in `[low, high)`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Puts `items` in a uniformly random order (Fisher–Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last + 1);
            items.swap(last, other);
        }
    }

    /// The generator itself, for distributions of other crates.
    pub(crate) fn generator(&mut self) -> &mut ChaCha8Rng {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_same_on_every_platform_and_version() {
        assert_eq!(mix(&[]), 0);
        // the first output of SplitMix64 with seed 0
        assert_eq!(mix(&[0]), 0xe220_a839_7b1d_cdaf);
        assert_ne!(mix(&[0, 0]), mix(&[0]));
    }

    #[test]
    fn streams_are_the_same_on_every_platform_and_version() {
        let mut stream = Stream::new(&[7, 8]);
        let drawn: Vec<usize> = (0..6).map(|_| stream.below(1000)).collect();
        assert_eq!(drawn, GOLDEN);
    }

    const GOLDEN: [usize; 6] = [546, 528, 150, 45, 348, 477];

    #[test]
    fn distributions_keep_their_ranges() {
        let mut stream = Stream::new(&[3]);
        let mut seen = [0usize; 5];
        for _ in 0..2000 {
            seen[(stream.around(2) + 2) as usize] += 1;
            assert!((-1.0..3.0).contains(&stream.between(-1.0, 3.0)));
        }
        assert!(seen.iter().all(|&n| n > 300), "{seen:?}");
        assert_eq!(stream.below(0), 0);
    }

    #[test]
    fn shuffle_permutes() {
        let mut items: Vec<usize> = (0..100).collect();
        Stream::new(&[4]).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
