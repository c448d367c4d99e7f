//! How a term's weight changes over a run.

use serde::{Deserialize, Serialize};

use crate::settings::{SettingsError, in_range};

/// Where a run is: what schedules and losses may depend on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Time {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Optimizer step since the start of the run, from 0.
    pub step: usize,
    /// Steps in the whole run, at least 1.
    pub total_steps: usize,
}

impl Time {
    /// Share of the run that is over, 0 at the first step and below 1 at the last.
    pub fn progress(&self) -> f64 {
        self.step as f64 / self.total_steps.max(1) as f64
    }
}

/// A weight as a function of time. In a recipe: a number, or a table with `kind`.
///
/// | kind | weight |
/// |---|---|
/// | a number | constant |
/// | `linear` | from `from` to `to` over the run |
/// | `cosine` | from `from` to `to` along half a cosine |
/// | `warm-up` | linearly from 0 to `to` in the first `share` of the run, then constant |
/// | `steps` | `values[i]` from epoch `epochs[i - 1]` on; `values[0]` before the first |
///
/// ```
/// use kd_core::{Schedule, Time};
///
/// let halfway = Time { epoch: 0, step: 50, total_steps: 100 };
/// assert_eq!(Schedule::Linear { from: 1.0, to: 0.0 }.at(halfway), 0.5);
/// assert_eq!(Schedule::from(0.9).at(halfway), 0.9);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Repr", into = "Repr")]
pub enum Schedule {
    /// The same weight always.
    Constant(f64),
    /// A straight line over the run.
    Linear {
        /// Weight at the first step.
        from: f64,
        /// Weight at the end.
        to: f64,
    },
    /// Half a cosine over the run.
    Cosine {
        /// Weight at the first step.
        from: f64,
        /// Weight at the end.
        to: f64,
    },
    /// A linear rise from zero, then constant.
    WarmUp {
        /// Weight after the rise.
        to: f64,
        /// Share of the run that the rise takes, in (0, 1].
        share: f64,
    },
    /// Constant between the given epochs.
    Steps {
        /// Epochs at which the weight changes, rising.
        epochs: Vec<usize>,
        /// Weights: one more than `epochs`.
        values: Vec<f64>,
    },
}

/// How a [`Schedule`] is written in a recipe.
#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Repr {
    Number(f64),
    Shaped(Shaped),
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum Shaped {
    Linear { from: f64, to: f64 },
    Cosine { from: f64, to: f64 },
    WarmUp { to: f64, share: f64 },
    Steps { epochs: Vec<usize>, values: Vec<f64> },
}

impl TryFrom<Repr> for Schedule {
    type Error = SettingsError;
    fn try_from(repr: Repr) -> Result<Self, SettingsError> {
        let schedule = match repr {
            Repr::Number(weight) => Schedule::Constant(weight),
            Repr::Shaped(Shaped::Linear { from, to }) => Schedule::Linear { from, to },
            Repr::Shaped(Shaped::Cosine { from, to }) => Schedule::Cosine { from, to },
            Repr::Shaped(Shaped::WarmUp { to, share }) => Schedule::WarmUp { to, share },
            Repr::Shaped(Shaped::Steps { epochs, values }) => Schedule::Steps { epochs, values },
        };
        schedule.validate().map(|()| schedule)
    }
}

impl From<Schedule> for Repr {
    fn from(schedule: Schedule) -> Self {
        match schedule {
            Schedule::Constant(weight) => Repr::Number(weight),
            Schedule::Linear { from, to } => Repr::Shaped(Shaped::Linear { from, to }),
            Schedule::Cosine { from, to } => Repr::Shaped(Shaped::Cosine { from, to }),
            Schedule::WarmUp { to, share } => Repr::Shaped(Shaped::WarmUp { to, share }),
            Schedule::Steps { epochs, values } => Repr::Shaped(Shaped::Steps { epochs, values }),
        }
    }
}

impl From<f64> for Schedule {
    fn from(weight: f64) -> Self {
        Schedule::Constant(weight)
    }
}

impl Schedule {
    /// Checks the values.
    ///
    /// # Errors
    /// [`SettingsError`] for a weight that is not finite, a share outside (0, 1], epochs that do not rise, or a wrong number of values.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let finite = |key, value: f64| in_range(key, value, value.is_finite(), "a finite number");
        match self {
            Schedule::Constant(weight) => finite("weight", *weight),
            Schedule::Linear { from, to } | Schedule::Cosine { from, to } => {
                finite("from", *from)?;
                finite("to", *to)
            }
            Schedule::WarmUp { to, share } => {
                finite("to", *to)?;
                in_range("share", *share, *share > 0.0 && *share <= 1.0, "above 0, at most 1")
            }
            Schedule::Steps { epochs, values } => {
                let one_more = values.len() == epochs.len() + 1;
                in_range("values", values.len(), one_more, "one weight more than `epochs`")?;
                let rising = epochs.windows(2).all(|pair| pair[0] < pair[1]);
                in_range("epochs", format!("{epochs:?}"), rising, "rising epoch numbers")?;
                values.iter().try_for_each(|&value| finite("values", value))
            }
        }
    }

    /// The weight at `time`.
    pub fn at(&self, time: Time) -> f64 {
        let progress = time.progress();
        match self {
            Schedule::Constant(weight) => *weight,
            Schedule::Linear { from, to } => from + (to - from) * progress,
            Schedule::Cosine { from, to } => {
                to + (from - to) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
            }
            Schedule::WarmUp { to, share } => to * (progress / share).min(1.0),
            Schedule::Steps { epochs, values } => {
                let passed = epochs.iter().filter(|&&epoch| epoch <= time.epoch).count();
                values.get(passed).or(values.last()).copied().unwrap_or_default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(schedule: &Schedule, epoch: usize, step: usize) -> f64 {
        schedule.at(Time { epoch, step, total_steps: 100 })
    }

    #[test]
    fn cosine_starts_and_ends_where_it_says_and_is_halfway_in_the_middle() {
        let schedule = Schedule::Cosine { from: 3.0, to: 1.0 };
        assert_eq!(at(&schedule, 0, 0), 3.0);
        assert!((at(&schedule, 0, 50) - 2.0).abs() < 1e-12);
        assert!((at(&schedule, 0, 100) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn warm_up_rises_and_stays() {
        let schedule = Schedule::WarmUp { to: 2.0, share: 0.5 };
        assert_eq!([0, 25, 50, 99].map(|step| at(&schedule, 0, step)), [0.0, 1.0, 2.0, 2.0]);
    }

    #[test]
    fn steps_change_at_their_epochs() {
        let schedule = Schedule::Steps { epochs: vec![2, 4], values: vec![1.0, 0.5, 0.0] };
        assert_eq!([0, 1, 2, 3, 4, 9].map(|epoch| at(&schedule, epoch, 0)), [1.0, 1.0, 0.5, 0.5, 0.0, 0.0]);
    }

    #[test]
    fn a_bad_share_is_an_error_with_key_value_and_range() {
        let error = Schedule::WarmUp { to: 1.0, share: 1.5 }.validate().unwrap_err().to_string();
        assert_eq!(error, "`share` is 1.5, but it must be above 0, at most 1");
    }
}
