//! Which share of the connections is replaced in an update.

use serde::{Deserialize, Serialize};

use crate::PruneError;

/// How the share falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Anneal {
    /// It stays.
    Constant,
    /// $$\tfrac{\alpha}{2} (1 + \cos(\pi t / T))$$
    #[default]
    Cosine,
    /// $$\alpha (1 - t / T)^k$$
    Power {
        /// $k$.
        power: f64,
    },
}

/// The share of connections that is replaced at a step: $\alpha$ at the beginning, nothing at the end.
///
/// ```
/// use kd_prune::DropFraction;
///
/// let share = DropFraction { initial: 0.3, end: 1000, ..DropFraction::default() };
/// assert_eq!((share.at(0), share.at(1000)), (0.3, 0.0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DropFraction {
    /// At the beginning; 0.3 as in RigL.
    pub initial: f64,
    /// The step from which nothing is replaced any more.
    pub end: usize,
    /// How it falls.
    pub anneal: Anneal,
}

impl Default for DropFraction {
    fn default() -> Self {
        Self { initial: 0.3, end: 10_000, anneal: Anneal::Cosine }
    }
}

impl DropFraction {
    /// The share at a step.
    pub fn at(&self, step: usize) -> f64 {
        let progress = (step as f64 / self.end.max(1) as f64).min(1.0);
        match self.anneal {
            Anneal::Constant => self.initial,
            Anneal::Cosine => self.initial * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            Anneal::Power { power } => self.initial * (1.0 - progress).powf(power),
        }
    }

    /// Refuses settings out of range.
    ///
    /// # Errors
    /// [`PruneError::Setting`] for a share outside `(0, 1)` or an end at 0.
    pub fn validate(self) -> Result<Self, PruneError> {
        if !(self.initial > 0.0 && self.initial < 1.0) {
            return Err(PruneError::setting("initial", self.initial, "above 0 and below 1"));
        }
        if self.end == 0 {
            return Err(PruneError::setting("end", self.end, "1 or more"));
        }
        Ok(self)
    }
}
