//! Ranges of tensors, and the scales and zero points that follow from them.
//!
//! An observer sees batches ([`Observer::observe`]) and then states a range per block of its granularity ([`Observer::ranges`]). Values must be finite:
//! an infinite range would quantise everything to zero.
//!
//! | Observer | Range |
//! |---|---|
//! | [`MinMax`] | least to greatest value seen |
//! | [`MovingAverage`] | the same of each batch, averaged exponentially |
//! | [`Percentile`] | all but a fraction of the values at both ends |
//! | [`Histogram`] | cut at both ends while the squared error within the bins shrinks |
//! | [`Entropy`] | the cut whose quantised distribution has the least KL divergence from the original |
//! | [`LeastError`] | the shrunk range of least error $\sum \lvert x - q(x) \rvert^p$ |

mod entropy;
mod histogram;
mod least_error;
mod method;
mod min_max;
mod moving_average;
mod percentile;
mod ranges;

pub use entropy::Entropy;
pub use histogram::Histogram;
pub use least_error::LeastError;
pub use method::{AnyObserver, RangeMethod};
pub use min_max::MinMax;
pub use moving_average::MovingAverage;
pub use percentile::Percentile;
pub use ranges::{Parameters, Ranges, Symmetry};

use burn::tensor::Tensor;

use crate::data::finite;
use crate::{Granularity, QuantError};

/// What watches batches of a tensor and states its range.
pub trait Observer {
    /// Takes a batch in. All batches have the same number of blocks.
    ///
    /// # Errors
    /// [`QuantError::NonFinite`], [`QuantError::Empty`] and [`QuantError::Blocks`] for a batch that can't be used, [`QuantError::Length`] for one of another
    /// number of blocks; what was seen before stays.
    fn observe<const D: usize>(&mut self, batch: Tensor<D>) -> Result<(), QuantError>;

    /// The range of every block.
    ///
    /// # Errors
    /// [`QuantError::Empty`] if nothing was observed.
    fn ranges(&self) -> Result<Ranges, QuantError>;
}

/// A batch's finite numbers by block.
fn blocks<const D: usize>(batch: Tensor<D>, granularity: Granularity) -> Result<Vec<Vec<f32>>, QuantError> {
    let rows = granularity.split(batch.detach())?;
    let [_, elements] = rows.dims();
    let values = finite("the observed tensor", rows)?;
    Ok(values.chunks(elements.max(1)).map(<[f32]>::to_vec).collect())
}

/// A batch's numbers as one block.
fn all<const D: usize>(batch: Tensor<D>) -> Result<Vec<f32>, QuantError> {
    finite("the observed tensor", batch.detach())
}

/// Least and greatest of some finite numbers.
fn extremes(values: &[f32]) -> (f32, f32) {
    values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v)))
}

const NOTHING: QuantError = QuantError::Empty { what: "the observer" };
