//! Where a run is, as `state.json` holds it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where a run is, and everything that is not a tensor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Format of this file.
    pub version: u32,
    /// Hash of everything that must be the same for a resume.
    pub settings: String,
    /// The epoch in progress, from 0.
    pub epoch: usize,
    /// Optimizer steps done in it.
    pub step_in_epoch: usize,
    /// Optimizer steps done in all.
    pub step: usize,
    /// Sums of the epoch in progress.
    pub sums: Sums,
    /// The best epoch so far.
    pub best: Option<Best>,
    /// Gradient-balancing scales of the objective.
    pub scales: Vec<Exact>,
    /// State of every hook, by name.
    pub hooks: BTreeMap<String, serde_json::Value>,
    /// sha256 of the other files.
    pub files: BTreeMap<String, String>,
}

/// Loss sums over the steps of an epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    /// Batches so far.
    pub batches: usize,
    /// Sum of the weighted loss.
    pub loss: Exact,
    /// Sum of every term.
    pub terms: BTreeMap<String, Exact>,
    /// Weights at the first step.
    pub weights: BTreeMap<String, Exact>,
    /// Gradient norms on the first batch.
    pub gradient_norms: BTreeMap<String, Exact>,
    /// Learning rate of the latest step.
    pub learning_rate: Exact,
}

/// The epoch that validation chose.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The epoch.
    pub epoch: usize,
    /// Value of the run's first validation metric.
    pub value: Exact,
}

/// A float that comes back bit for bit, also when it is infinite or not a number: its bits, in hexadecimal.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exact(pub f64);

impl PartialEq for Exact {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Serialize for Exact {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{:016x}", self.0.to_bits()))
    }
}

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bits = u64::from_str_radix(&text, 16).map_err(serde::de::Error::custom)?;
        Ok(Exact(f64::from_bits(bits)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_exact_float_keeps_every_bit() {
        for value in [0.1 + 0.2, -0.0, f64::MIN_POSITIVE / 3.0, f64::INFINITY, f64::NAN] {
            let text = serde_json::to_string(&Exact(value)).unwrap();
            assert_eq!(serde_json::from_str::<Exact>(&text).unwrap(), Exact(value));
        }
    }
}
