//! The trait that every dataset implements.

use crate::DataError;

/// Which view of its samples an epoch sees.
///
/// Augmentation is a function of (seed, view, sample id) only: the same pass gives the same batch, whatever ran before
/// and on whatever thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pass {
    /// The run's seed.
    pub seed: u64,
    /// The epoch, or the number of one of several fixed views through which epochs cycle.
    pub view: u64,
}

/// A finite, indexable source of batches, of any sample type.
///
/// # Example
/// ```
/// use kd_data::{DataError, Dataset, Pass};
///
/// /// y = 2x at the integers.
/// struct Line(usize);
///
/// impl Dataset for Line {
///     type Batch = Vec<(f32, f32)>;
///
///     fn len(&self) -> usize {
///         self.0
///     }
///
///     fn batch(&self, ids: &[usize], _pass: Pass) -> Result<Self::Batch, DataError> {
///         Ok(ids.iter().map(|&id| (id as f32, 2.0 * id as f32)).collect())
///     }
/// }
/// # assert_eq!(Line(3).batch(&[2], Pass { seed: 0, view: 0 }).unwrap(), [(2.0, 4.0)]);
/// ```
pub trait Dataset: Send + Sync + 'static {
    /// Several samples, assembled on the host.
    type Batch: Send + 'static;

    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether there is no sample.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Assembles the samples `ids` (positions in `0..len`) as one batch on the host.
    ///
    /// # Errors
    /// [`DataError::Index`] if a position does not exist; [`DataError::Other`] for the implementor's own reasons.
    fn batch(&self, ids: &[usize], pass: Pass) -> Result<Self::Batch, DataError>;
}
