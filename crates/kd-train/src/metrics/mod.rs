//! What a run measures on validation and test data: streaming, on the host, summed in `f64`.
//!
//! | name | type | better |
//! |---|---|---|
//! | `accuracy` | [`Accuracy`] | higher |
//! | `errors` | [`Errors`] | lower |
//! | `negative-log-likelihood` | [`NegativeLogLikelihood`] | lower |
//! | `calibration-error` | [`CalibrationError`] | lower |
//! | `mean-squared-error` | [`MeanSquaredError`] | lower |
//! | `mean-absolute-error` | [`MeanAbsoluteError`] | lower |
//!
//! [`Confusion`] is a matrix and [`Agreement`] compares two networks, so neither is a [`Metric`].

mod accuracy;
mod agreement;
mod calibration_error;
mod confusion;
mod errors;
mod mean_absolute_error;
mod mean_squared_error;
mod negative_log_likelihood;
mod read;

pub use accuracy::Accuracy;
pub use agreement::Agreement;
pub use calibration_error::CalibrationError;
pub use confusion::Confusion;
pub use errors::Errors;
pub use mean_absolute_error::MeanAbsoluteError;
pub use mean_squared_error::MeanSquaredError;
pub use negative_log_likelihood::NegativeLogLikelihood;

use kd_core::{TapError, Taps, Value, ValueError};

/// Rows with this label are not counted, as in the cross-entropy loss.
pub const IGNORED: i64 = -100;

/// A number that grows batch by batch.
///
/// A user's own metric needs its name, a sum and how a batch adds to it:
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use kd_core::{OUTPUT, Taps, Value};
/// use kd_train::metrics::{Metric, MetricError};
///
/// /// The largest output seen.
/// struct Peak(f64);
///
/// impl Metric for Peak {
///     fn name(&self) -> &str {
///         "peak"
///     }
///     fn higher_is_better(&self) -> bool {
///         false
///     }
///     fn update(&mut self, outputs: &Taps, _target: &Value) -> Result<(), MetricError> {
///         let scores = outputs.value(OUTPUT)?.flat_float()?;
///         self.0 = self.0.max(scores.max().into_scalar::<f64>());
///         Ok(())
///     }
///     fn value(&self) -> f64 {
///         self.0
///     }
///     fn reset(&mut self) {
///         self.0 = f64::NEG_INFINITY;
///     }
/// }
///
/// let device = Device::flex();
/// let mut taps = Taps::none();
/// taps.insert(OUTPUT, Tensor::<2>::from_floats([[1.0, 3.0]], &device));
/// let mut peak = Peak(f64::NEG_INFINITY);
/// peak.update(&taps, &Value::from(Tensor::<1, Int>::from_ints([1], &device)))?;
/// assert_eq!(peak.value(), 3.0);
/// # Ok::<(), MetricError>(())
/// ```
pub trait Metric: Send {
    /// What it is called in logs, tables and recipes.
    fn name(&self) -> &str;

    /// Whether a larger value is the better one: decides which epoch is the best.
    fn higher_is_better(&self) -> bool;

    /// Counts a batch in: the network's taps, its output among them under [`OUTPUT`](kd_core::OUTPUT), and the labels or regression targets.
    ///
    /// # Errors
    /// [`MetricError`]; what was counted before stays.
    fn update(&mut self, outputs: &Taps, target: &Value) -> Result<(), MetricError>;

    /// The value over everything since the last [`reset`](Self::reset). A mean over nothing is not a number.
    fn value(&self) -> f64;

    /// Forgets everything.
    fn reset(&mut self);
}

/// Why a batch could not be measured.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MetricError {
    /// The output is missing.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// Output or target have another kind or no such class axis.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// Output and target, or the outputs of two networks, do not belong together.
    #[error("output of shape {output:?} does not fit {other} of shape {shape:?}; they need {rule}")]
    Shape {
        /// Shape of the output.
        output: Vec<usize>,
        /// What it is compared with.
        other: &'static str,
        /// Shape of that.
        shape: Vec<usize>,
        /// What would fit.
        rule: &'static str,
    },
    /// A label names no class.
    #[error("label {label} at position {position} is none of the {classes} classes 0 to {}; -100 leaves a row out", classes.saturating_sub(1))]
    Label {
        /// The label.
        label: i64,
        /// Its position in the flattened target.
        position: usize,
        /// How many classes the output has.
        classes: usize,
    },
    /// A number of the output cannot be compared.
    #[error(
        "the output is {value} at position {position}; the network has diverged: lower its learning rate"
    )]
    NotFinite {
        /// The number.
        value: f64,
        /// Its position in the flattened scores.
        position: usize,
    },
    /// There are no metrics of this name.
    #[error("there is no metric `{name}`; choose from {}", NAMES.join(", "))]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// A setting is out of range.
    #[error(transparent)]
    Settings(#[from] kd_core::SettingsError),
    /// The device could not hand over its numbers.
    #[error("could not read a tensor from its device: {0}")]
    Device(String),
}

/// The names that [`by_name`] knows.
pub const NAMES: [&str; 6] = [
    "accuracy",
    "errors",
    "negative-log-likelihood",
    "calibration-error",
    "mean-squared-error",
    "mean-absolute-error",
];

/// A metric by its name, for recipes. Regression metrics do not look at `class_axis`.
///
/// # Errors
/// [`MetricError::Unknown`], which lists the names.
pub fn by_name(name: &str, class_axis: isize) -> Result<Box<dyn Metric>, MetricError> {
    Ok(match name {
        "accuracy" => Box::new(Accuracy::on_axis(class_axis)),
        "errors" => Box::new(Errors::on_axis(class_axis)),
        "negative-log-likelihood" => Box::new(NegativeLogLikelihood::on_axis(class_axis)),
        "calibration-error" => Box::new(CalibrationError::on_axis(class_axis)),
        "mean-squared-error" => Box::new(MeanSquaredError::default()),
        "mean-absolute-error" => Box::new(MeanAbsoluteError::default()),
        _ => return Err(MetricError::Unknown { name: name.to_owned() }),
    })
}

/// Sum over count; not a number for nothing.
fn mean(sum: f64, count: u64) -> f64 {
    sum / count as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_name_gives_the_metric_of_that_name() {
        for name in NAMES {
            assert_eq!(by_name(name, -1).unwrap().name(), name);
        }
        let error = by_name("acuracy", -1).err().unwrap().to_string();
        assert!(error.contains("`acuracy`") && error.contains("accuracy, errors"), "{error}");
    }

    #[test]
    fn a_reset_metric_is_as_new() {
        use burn::tensor::{Device, Int, Tensor};
        let device = Device::flex();
        let mut taps = Taps::none();
        taps.insert(kd_core::OUTPUT, Tensor::<2>::from_floats([[0.5, -1.0], [2.0, 3.0]], &device));
        let labels = Value::from(Tensor::<1, Int>::from_ints([1, 1], &device));
        let floats = Value::from(Tensor::<2>::zeros([2, 2], &device));
        for name in NAMES {
            let mut metric = by_name(name, -1).unwrap();
            let target = if name.starts_with("mean") { &floats } else { &labels };
            let new = metric.value();
            metric.update(&taps, target).unwrap();
            let once = metric.value();
            assert!(once > 0.0, "{name}");
            metric.reset();
            assert_eq!(metric.value().to_bits(), new.to_bits(), "{name}");
            metric.update(&taps, target).unwrap();
            assert_eq!(metric.value(), once, "{name}");
        }
    }
}
