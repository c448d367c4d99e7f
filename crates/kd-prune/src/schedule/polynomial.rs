//! Gradual pruning along a polynomial.

use serde::{Deserialize, Serialize};

use super::{ordered, positive, progress, share};
use crate::PruneError;

/// Where public implementations of [`Polynomial`] differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolynomialConvention {
    /// As in the paper: pruning at `begin`, `begin + every`, ... up to `end`, where the final sparsity is reached.
    #[default]
    Paper,
    /// The last multiple of `every` before `end` reaches the final sparsity; `end` itself is not a step any more (distiller).
    LastUpdate,
    /// Progress is that of the next step, and pruning is at multiples of `every`, whatever `begin` is (JaxPruner).
    NextStep,
}

/// $$s_t = s_f + (s_i - s_f) \left(1 - \frac{t - t_0}{t_1 - t_0}\right)^{\text{power}}$$
///
/// Zhu and Gupta, *To prune, or not to prune* (2017), with power 3; also known as AGP.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Polynomial {
    /// Sparsity at the beginning.
    pub initial: f64,
    /// Sparsity at the end.
    pub target: f64,
    /// First step.
    pub begin: usize,
    /// Last step.
    pub end: usize,
    /// Steps between two prunings.
    pub every: usize,
    /// 3 in the paper.
    #[serde(default = "cubic")]
    pub power: f64,
    /// Where implementations differ.
    #[serde(default)]
    pub convention: PolynomialConvention,
}

fn cubic() -> f64 {
    3.0
}

impl Polynomial {
    /// The sparsity at a step.
    pub fn sparsity(&self, step: usize) -> f64 {
        let every = self.every.max(1);
        let progress = match self.convention {
            PolynomialConvention::Paper => progress(step, self.begin, self.end),
            PolynomialConvention::LastUpdate => {
                let span = self.end.saturating_sub(self.begin + 1) / every * every;
                progress(step, self.begin, self.begin + span)
            }
            PolynomialConvention::NextStep => progress(step + 1, self.begin, self.end),
        };
        self.target + (self.initial - self.target) * (1.0 - progress).powf(self.power)
    }

    /// Whether masks are chosen anew at this step.
    pub fn is_due(&self, step: usize) -> bool {
        let every = self.every.max(1);
        match self.convention {
            PolynomialConvention::Paper => {
                (self.begin..=self.end).contains(&step) && (step - self.begin).is_multiple_of(every)
            }
            PolynomialConvention::LastUpdate => {
                (self.begin..self.end).contains(&step) && (step - self.begin).is_multiple_of(every)
            }
            PolynomialConvention::NextStep => {
                (self.begin..=self.end).contains(&step) && step.is_multiple_of(every)
            }
        }
    }

    pub(super) fn validate(&self) -> Result<(), PruneError> {
        share("initial", self.initial)?;
        share("target", self.target)?;
        ordered(self.begin, self.end)?;
        positive("every", self.every)?;
        if self.power > 0.0 && self.power.is_finite() {
            return Ok(());
        }
        Err(PruneError::setting("power", self.power, "a positive number"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_goes_at_first_and_the_end_is_exact() {
        let polynomial = Polynomial {
            initial: 0.0,
            target: 0.8,
            begin: 0,
            end: 100,
            every: 10,
            power: 3.0,
            convention: PolynomialConvention::Paper,
        };
        assert_eq!(polynomial.sparsity(100), 0.8);
        assert!((polynomial.sparsity(50) - 0.7).abs() < 1e-12);
        let last = Polynomial { convention: PolynomialConvention::LastUpdate, ..polynomial };
        assert_eq!(last.sparsity(90), 0.8);
        assert!(last.is_due(90) && !last.is_due(100));
    }
}
