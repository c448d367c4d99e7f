//! When how much goes: the fourth part of every method.
//!
//! A schedule is a function of the step alone, so that a run that was stopped goes on where it was.

mod polynomial;

use serde::{Deserialize, Serialize};

pub use polynomial::{Polynomial, PolynomialConvention};

use crate::PruneError;

/// The sparsity at every step of a run. A step may be an epoch as well: the unit is the caller's.
///
/// ```
/// use kd_prune::Schedule;
///
/// let schedule = Schedule::Iterative { target: 0.9, rounds: 3, every: 10 };
/// let at = |step| (schedule.sparsity(step) * 1000.0).round() / 1000.0;
/// assert_eq!([at(0), at(9), at(10), at(20), at(500)], [0.536, 0.536, 0.785, 0.9, 0.9]);
/// assert!(schedule.is_due(20) && !schedule.is_due(21) && !schedule.is_due(30));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// All at one step.
    OneShot {
        /// The sparsity.
        target: f64,
        /// The step.
        at: usize,
    },
    /// The same share of what is left, in every round: after round $k$ of $n$ the density is $(1-s)^{k/n}$. The first round is at step 0.
    Iterative {
        /// The sparsity after the last round.
        target: f64,
        /// Number of rounds.
        rounds: usize,
        /// Steps between rounds.
        every: usize,
    },
    /// Fast at first, slow at the end.
    Polynomial(Polynomial),
    /// $$s_f + (s_i - s_f) \cdot \tfrac12 (1 + \cos \pi p)$$ at progress $p$ between two steps.
    Cosine {
        /// Sparsity before.
        initial: f64,
        /// Sparsity after.
        target: f64,
        /// First step.
        begin: usize,
        /// Last step.
        end: usize,
        /// Steps between two prunings.
        every: usize,
    },
}

impl Schedule {
    /// The sparsity from this step on, until the next at which the schedule [is due](Self::is_due).
    pub fn sparsity(&self, step: usize) -> f64 {
        match *self {
            Self::OneShot { target, at } => {
                if step >= at {
                    target
                } else {
                    0.0
                }
            }
            Self::Iterative { target, rounds, every } => {
                let round = (step / every.max(1) + 1).min(rounds);
                1.0 - (1.0 - target).powf(round as f64 / rounds.max(1) as f64)
            }
            Self::Polynomial(polynomial) => polynomial.sparsity(step),
            Self::Cosine { initial, target, begin, end, .. } => {
                let progress = progress(step, begin, end);
                target + (initial - target) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
            }
        }
    }

    /// Whether masks are chosen anew at this step.
    pub fn is_due(&self, step: usize) -> bool {
        match *self {
            Self::OneShot { at, .. } => step == at,
            Self::Iterative { rounds, every, .. } => {
                step.is_multiple_of(every.max(1)) && step / every.max(1) < rounds
            }
            Self::Polynomial(polynomial) => polynomial.is_due(step),
            Self::Cosine { begin, end, every, .. } => {
                step == end || (begin..=end).contains(&step) && (step - begin).is_multiple_of(every.max(1))
            }
        }
    }

    /// Refuses settings out of range.
    ///
    /// # Errors
    /// [`PruneError::Setting`] for a sparsity outside `[0, 1)`, an interval of 0, no rounds, or an end before the beginning.
    pub fn validate(self) -> Result<Self, PruneError> {
        match self {
            Self::OneShot { target, .. } => share("target", target)?,
            Self::Iterative { target, rounds, every } => {
                share("target", target)?;
                positive("rounds", rounds)?;
                positive("every", every)?;
            }
            Self::Polynomial(polynomial) => polynomial.validate()?,
            Self::Cosine { initial, target, begin, end, every } => {
                share("initial", initial)?;
                share("target", target)?;
                positive("every", every)?;
                ordered(begin, end)?;
            }
        }
        Ok(self)
    }
}

fn progress(step: usize, begin: usize, end: usize) -> f64 {
    let length = end.saturating_sub(begin).max(1) as f64;
    (step.saturating_sub(begin) as f64 / length).clamp(0.0, 1.0)
}

fn share(key: &str, value: f64) -> Result<(), PruneError> {
    if (0.0..1.0).contains(&value) {
        Ok(())
    } else {
        Err(PruneError::setting(key, value, "0 or more and below 1"))
    }
}

fn positive(key: &str, value: usize) -> Result<(), PruneError> {
    if value > 0 { Ok(()) } else { Err(PruneError::setting(key, value, "1 or more")) }
}

fn ordered(begin: usize, end: usize) -> Result<(), PruneError> {
    if begin < end { Ok(()) } else { Err(PruneError::setting("end", end, &format!("above begin = {begin}"))) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_cosine_goes_from_one_sparsity_to_the_other() {
        let cosine = Schedule::Cosine { initial: 0.1, target: 0.9, begin: 10, end: 30, every: 7 };
        let close = |step, wanted: f64| assert!((cosine.sparsity(step) - wanted).abs() < 1e-12);
        close(0, 0.1);
        close(20, 0.5);
        close(99, 0.9);
        let due: Vec<_> = (0..99).filter(|step| cosine.is_due(*step)).collect();
        assert_eq!(due, [10, 17, 24, 30]);
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        let error = Schedule::OneShot { target: 1.0, at: 0 }.validate().unwrap_err();
        assert_eq!(error.to_string(), "`target` is 1; allowed is 0 or more and below 1");
        assert!(Schedule::Iterative { target: 0.5, rounds: 0, every: 1 }.validate().is_err());
        let ends = Schedule::Cosine { initial: 0.0, target: 0.5, begin: 5, end: 5, every: 1 };
        assert!(ends.validate().is_err());
    }
}
