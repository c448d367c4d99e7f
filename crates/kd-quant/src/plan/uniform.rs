//! Uniform quantisation whose range is observed.

use serde::{Deserialize, Serialize};

use crate::observer::{AnyObserver, Observer, Parameters, RangeMethod, Symmetry};
use crate::{Affine, Bound, Granularity, Grid, QuantError};

/// [`Affine`] with a scale and zero point that follow from an observed range.
///
/// | Setting | Default | Purpose |
/// |---|---|---|
/// | `grid` | | the codes |
/// | `granularity` | tensor | which elements share a scale; activations have one |
/// | `symmetry` | affine | whether the zero point is fixed |
/// | `range` | min-max | how the range is chosen |
/// | `bound` | inclusive | whether the gradient passes at a code at the grid's end: it is representable |
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uniform {
    /// The codes.
    pub grid: Grid,
    /// Which elements share a scale.
    #[serde(default)]
    pub granularity: Granularity,
    /// Whether zero is the middle code.
    #[serde(default)]
    pub symmetry: Symmetry,
    /// How the range is chosen.
    #[serde(default)]
    pub range: RangeMethod,
    /// Whether the gradient passes at a code at the grid's end.
    #[serde(default = "inclusive")]
    pub bound: Bound,
}

fn inclusive() -> Bound {
    Bound::Inclusive
}

impl Uniform {
    /// Weights of `bits` bits: symmetric, the greatest magnitude of every output channel.
    ///
    /// # Errors
    /// [`QuantError::Setting`] unless `bits` is from 2 to 8.
    pub fn weight(bits: u32) -> Result<Self, QuantError> {
        Ok(Self {
            grid: Grid::narrow(bits)?,
            granularity: Granularity::Channel { axis: 0 },
            symmetry: Symmetry::Symmetric,
            range: RangeMethod::MinMax {},
            bound: inclusive(),
        })
    }

    /// Activations of `bits` bits: affine, the moving average of the batches' extremes.
    ///
    /// # Errors
    /// [`QuantError::Setting`] unless `bits` is from 1 to 8.
    pub fn activation(bits: u32) -> Result<Self, QuantError> {
        Ok(Self {
            grid: Grid::unsigned(bits)?,
            granularity: Granularity::Tensor,
            symmetry: Symmetry::Affine,
            range: RangeMethod::MovingAverage { constant: 0.01 },
            bound: inclusive(),
        })
    }

    /// The quantiser behind.
    pub fn affine(&self) -> Affine {
        Affine { granularity: self.granularity, bound: self.bound, ..Affine::new(self.grid) }
    }

    /// An observer that has seen nothing.
    ///
    /// # Errors
    /// [`QuantError::Setting`] for what the observer refuses, and for blocks where it has but one range.
    pub fn observer(&self) -> Result<AnyObserver, QuantError> {
        self.range.observer(self.grid, self.granularity, self.symmetry)
    }

    /// Scale and zero point of what an observer saw.
    ///
    /// # Errors
    /// As [`Observer::ranges`] and [`Ranges::parameters`](crate::observer::Ranges::parameters).
    pub fn parameters(&self, observer: &AnyObserver) -> Result<Parameters, QuantError> {
        observer.ranges()?.parameters(self.grid, self.symmetry)
    }
}
