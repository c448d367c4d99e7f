//! Observers by name, for settings.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Entropy, Histogram, LeastError, MinMax, MovingAverage, Observer, Percentile, Ranges, Symmetry};
use crate::{Granularity, Grid, QuantError};

/// Which observer states a range. In a file: `{ method = "percentile", tail = 0.001 }`.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_quant::observer::{Observer, RangeMethod, Symmetry};
/// use kd_quant::{Granularity, Grid};
///
/// let mut observer = RangeMethod::default().observer(Grid::signed(8)?, Granularity::Tensor, Symmetry::Affine)?;
/// observer.observe(Tensor::<1>::from_floats([-1.0, 3.0], &Device::flex()))?;
/// assert_eq!(observer.ranges()?.max, [3.0]);
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RangeMethod {
    /// [`MinMax`].
    // Braces, so that serde refuses keys that it doesn't have.
    MinMax {},
    /// [`MovingAverage`].
    MovingAverage {
        /// The averaging constant; default 0.01.
        #[serde(default = "constant")]
        constant: f32,
    },
    /// [`Percentile`]; one range for the whole tensor.
    Percentile {
        /// What is left out at either end; default 0.001.
        #[serde(default = "tail")]
        tail: f64,
    },
    /// [`Histogram`]; one range for the whole tensor.
    Histogram {
        /// Number of bins; default 2048.
        #[serde(default = "bins")]
        bins: usize,
    },
    /// [`Entropy`]; one range for the whole tensor.
    Entropy {
        /// Number of bins; default 2048.
        #[serde(default = "bins")]
        bins: usize,
    },
    /// [`LeastError`].
    LeastError {
        /// $p$; default 2, the mean squared error.
        #[serde(default = "power")]
        power: f32,
    },
}

impl Default for RangeMethod {
    fn default() -> Self {
        Self::MinMax {}
    }
}

fn constant() -> f32 {
    0.01
}

fn tail() -> f64 {
    0.001
}

fn bins() -> usize {
    2048
}

fn power() -> f32 {
    2.0
}

impl RangeMethod {
    /// An observer that has seen nothing, for a quantiser of this grid, granularity and symmetry.
    ///
    /// # Errors
    /// [`QuantError::Setting`] for a setting out of range, or blocks for an observer that has one range for the whole tensor.
    pub fn observer(
        self,
        grid: Grid,
        granularity: Granularity,
        symmetry: Symmetry,
    ) -> Result<AnyObserver, QuantError> {
        let whole = matches!(self, Self::Percentile { .. } | Self::Histogram { .. } | Self::Entropy { .. });
        let fits = !whole || granularity == Granularity::Tensor;
        crate::error::in_range("granularity", granularity, fits, "tensor for this observer")?;
        Ok(match self {
            Self::MinMax {} => AnyObserver::MinMax(MinMax::new(granularity)),
            Self::MovingAverage { constant } => {
                AnyObserver::MovingAverage(MovingAverage::new(granularity, constant)?)
            }
            Self::Percentile { tail } => AnyObserver::Percentile(Percentile::new(tail)?),
            Self::Histogram { bins } => AnyObserver::Histogram(Histogram::new(grid, bins)?),
            Self::Entropy { bins } => AnyObserver::Entropy(Entropy::new(grid, bins)?),
            Self::LeastError { power } => {
                crate::error::in_range("power", power, power > 0.0 && power.is_finite(), "above 0")?;
                let observer = LeastError::new(grid, granularity).with_symmetry(symmetry);
                AnyObserver::LeastError(observer.with_power(power))
            }
        })
    }
}

/// Any of the observers.
#[derive(Clone, Debug, PartialEq)]
pub enum AnyObserver {
    /// Least to greatest.
    MinMax(MinMax),
    /// The batches' ranges, averaged.
    MovingAverage(MovingAverage),
    /// All but the outliers.
    Percentile(Percentile),
    /// Cut where the squared error is least.
    Histogram(Histogram),
    /// Cut where the KL divergence is least.
    Entropy(Entropy),
    /// Shrunk to the least error.
    LeastError(LeastError),
}

/// Runs `$body` with the observer inside.
macro_rules! with {
    ($any:expr, $observer:ident => $body:expr) => {
        match $any {
            AnyObserver::MinMax($observer) => $body,
            AnyObserver::MovingAverage($observer) => $body,
            AnyObserver::Percentile($observer) => $body,
            AnyObserver::Histogram($observer) => $body,
            AnyObserver::Entropy($observer) => $body,
            AnyObserver::LeastError($observer) => $body,
        }
    };
}

impl Observer for AnyObserver {
    fn observe<const D: usize>(&mut self, batch: Tensor<D>) -> Result<(), QuantError> {
        with!(self, observer => observer.observe(batch))
    }

    fn ranges(&self) -> Result<Ranges, QuantError> {
        with!(self, observer => observer.ranges())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn every_method_states_a_range_and_is_read_back_from_text() {
        let methods = [
            r#"{"method": "min-max"}"#,
            r#"{"method": "moving-average"}"#,
            r#"{"method": "percentile", "tail": 0.01}"#,
            r#"{"method": "histogram"}"#,
            r#"{"method": "entropy"}"#,
            r#"{"method": "least-error"}"#,
        ];
        let values: Vec<f32> = (0..1000).map(|i| (i as f32 / 100.0).sin()).collect();
        for text in methods {
            let method: RangeMethod = serde_json::from_str(text).unwrap();
            let grid = Grid::signed(8).unwrap();
            let mut observer = method.observer(grid, Granularity::Tensor, Symmetry::Affine).unwrap();
            assert!(observer.ranges().is_err());
            observer.observe(Tensor::<1>::from_floats(values.as_slice(), &Device::flex())).unwrap();
            let ranges = observer.ranges().unwrap();
            assert!(ranges.min[0] < -0.8 && ranges.max[0] > 0.8, "{text}: {ranges:?}");
            let again = serde_json::to_string(&method).unwrap();
            assert_eq!(serde_json::from_str::<RangeMethod>(&again).unwrap(), method);
        }
    }

    #[test]
    fn a_histogram_per_channel_is_refused() {
        let channels = Granularity::Channel { axis: 0 };
        let grid = Grid::signed(8).unwrap();
        let error = RangeMethod::Entropy { bins: 2048 }.observer(grid, channels, Symmetry::Symmetric);
        assert!(error.unwrap_err().to_string().contains("channel (axis 0)"));
        assert!(serde_json::from_str::<RangeMethod>(r#"{"method": "min-max", "tail": 1}"#).is_err());
    }
}
