//! Random: the control that every score has to beat.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use super::Score;
use crate::{Array, Arrays, Masks, PruneError, Subject};

/// Uniform in `[0, 1)`, a function of the seed and the parameter's path; 0 for what is pruned already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Random {
    /// The seed.
    pub seed: u64,
}

impl Random {
    /// Scores for a parameter of this path and shape.
    ///
    /// # Errors
    /// None for a shape whose number of elements fits the memory.
    pub fn of(&self, path: &str, shape: &[usize]) -> Result<Array, PruneError> {
        let mut hash = Sha256::new();
        hash.update(self.seed.to_le_bytes());
        hash.update(path.as_bytes());
        let mut random = ChaCha8Rng::from_seed(hash.finalize().into());
        let values = (0..shape.iter().product::<usize>()).map(|_| random.random::<f32>()).collect();
        Array::new(shape, values)
    }
}

impl Score for Random {
    fn name(&self) -> &'static str {
        "random"
    }

    fn score(&self, subject: &Subject<'_>, masks: &Masks) -> Result<Arrays, PruneError> {
        let weights = subject.weights()?;
        let score = |(path, weight): (String, Array)| {
            let scores = self.of(&path, weight.shape())?;
            let scores = masks.get(&path).map_or(Ok(scores.clone()), |mask| mask.apply(&scores))?;
            Ok((path, scores))
        };
        weights.into_iter().map(score).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn scores_follow_from_seed_and_path() {
        let random = Random { seed: 1 };
        assert_eq!(random.of("a", &[4]).unwrap(), random.of("a", &[2, 2]).unwrap().reshaped(&[4]));
        assert_ne!(random.of("a", &[4]).unwrap(), random.of("b", &[4]).unwrap());
        assert_ne!(random.of("a", &[4]).unwrap(), Random { seed: 2 }.of("a", &[4]).unwrap());
    }

    impl Array {
        fn reshaped(&self, shape: &[usize]) -> Self {
            Array::new(shape, self.values().to_vec()).unwrap()
        }
    }
}
