//! `method = "magnitude"`: single weights by their size, masked and kept at zero.

use kd_prune::{Allocation, Magnitude, Mask, Masks, PruneError, Pruner, StoredSize, Subject};
use serde::{Deserialize, Serialize};

use super::channels::setting;
use super::{AllocationSettings, Method, Pruned, ToPrune};
use crate::experiment::StudyError;

/// Magnitude pruning with retraining. Han et al., *Learning both Weights and Connections for Efficient Neural Networks* (2015).
///
/// | key | default | range |
/// |---|---|---|
/// | `sparsity` | 0.9 | above 0, below 1: share of all weights that go in the end |
/// | `allocation` | `global` | [`AllocationSettings`] |
/// | `passes` | 1 | 1 or more: prune and recover so many times, the density falling by the same factor |
///
/// Several passes with `recovery = { rewind = 0 }` are the lottery ticket: after every pass what is left goes back to its initial values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct MagnitudePruning {
    /// Share of weights that go.
    pub sparsity: f64,
    /// Where they go.
    pub allocation: AllocationSettings,
    /// Rounds of pruning and recovery.
    pub passes: usize,
}

impl Default for MagnitudePruning {
    fn default() -> Self {
        Self { sparsity: 0.9, allocation: AllocationSettings::Global, passes: 1 }
    }
}

impl Method for MagnitudePruning {
    fn validate(&self) -> Result<(), PruneError> {
        setting(
            "sparsity",
            self.sparsity,
            self.sparsity > 0.0 && self.sparsity < 1.0,
            "above 0 and below 1",
        )?;
        self.allocation.validate()?;
        setting("passes", self.passes, self.passes > 0, "1 or more")
    }

    fn passes(&self) -> usize {
        self.passes
    }

    fn by_sensitivity(&self) -> bool {
        self.allocation.by_sensitivity()
    }

    fn prune(&self, network: &ToPrune<'_>) -> Result<Pruned, StudyError> {
        let mut subject = Subject::new(network.graph, &network.stopwatch.device);
        let part = network.pass as f64 / self.passes as f64;
        let allocation = self.allocation.allocation(network, part)?;
        if let Allocation::PerLayer(table) = &allocation {
            subject = subject.only(table.keys())?;
        }
        let sparsity = 1.0 - (1.0 - self.sparsity).powf(part);
        let pruner = Pruner::new(Magnitude::L1).allocation(allocation);
        // What an earlier pass has set to zero is smallest, and goes again.
        let masks = pruner.masks(&subject, &subject.dense()?, sparsity)?;
        let notes = vec![stored(network.pass, &masks)];
        Ok(Pruned { masks, notes, ..Default::default() })
    }
}

/// What masked weights take in a file, for the report.
pub(super) fn stored(pass: usize, masks: &Masks) -> String {
    let size = masks.values().map(|mask| StoredSize::of(mask, gap_bits(mask)));
    let size = size.fold(StoredSize::default(), StoredSize::plus);
    let all: usize = masks.values().map(|mask| mask.keep().len()).sum();
    let bytes = |bits: u64| bits.div_ceil(8);
    format!(
        "Pass {pass}: {} of {all} weights stay; in a file they take {} bytes dense, {} with a bit mask, {} as compressed rows, {} with gaps.",
        size.kept,
        bytes(size.dense),
        bytes(size.bitmask),
        bytes(size.csr),
        bytes(size.gaps)
    )
}

/// Bits of a gap between kept weights, as Deep Compression has them.
fn gap_bits(mask: &Mask) -> u32 {
    if mask.shape().len() > 2 { 8 } else { 5 }
}
