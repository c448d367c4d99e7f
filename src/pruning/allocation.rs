//! Where sparsity goes, as a recipe says it.

use std::collections::BTreeMap;

use kd_prune::{Allocation, ErdosRenyi, PruneError};
use serde::{Deserialize, Serialize};

use super::ToPrune;
use super::channels::setting;

/// `allocation` of `magnitude` and `channels`: the library's [`Allocation`], or what a sensitivity analysis of the trained network says.
///
/// | `allocation` | |
/// |---|---|
/// | `global` | one ranking over all layers |
/// | `uniform` | the same share everywhere |
/// | `{ erdos-renyi = {} }` | by the shapes of layers |
/// | `{ per-layer = { "fc1.weight" = 0.95 } }` | these shares, whatever the target |
/// | `{ sensitivity = { max-drop = 0.01 } }` | of every layer the largest share of `prune.sensitivity` that costs at most so much accuracy when this layer alone is pruned, whatever the target |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AllocationSettings {
    /// One ranking over all layers.
    Global,
    /// The same share everywhere.
    Uniform,
    /// By the shapes of layers.
    ErdosRenyi(ErdosRenyi),
    /// These shares.
    PerLayer(BTreeMap<String, f64>),
    /// What every layer bears.
    Sensitivity(BySensitivity),
}

/// How much a layer may cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BySensitivity {
    /// The largest drop in validation accuracy, 0 to 1.
    pub max_drop: f64,
}

impl AllocationSettings {
    /// Refuses settings out of range.
    ///
    /// # Errors
    /// [`PruneError::Setting`] with key, value and range.
    pub fn validate(&self) -> Result<(), PruneError> {
        match self {
            Self::PerLayer(table) => {
                let wrong = table.iter().find(|(_, share)| !(**share > 0.0 && **share < 1.0));
                wrong.map_or(Ok(()), |(layer, share)| setting(layer, share, false, "above 0 and below 1"))
            }
            Self::Sensitivity(BySensitivity { max_drop }) => {
                setting("max-drop", max_drop, (0.0..1.0).contains(max_drop), "0 or more, below 1")
            }
            _ => Ok(()),
        }
    }

    /// Whether the trained network has to be analysed.
    pub fn by_sensitivity(&self) -> bool {
        matches!(self, Self::Sensitivity(_))
    }

    /// The allocation for a network. A share of a layer becomes `1 - (1 - share)^power`: what goes when it goes in several passes.
    ///
    /// # Errors
    /// [`PruneError::Setting`] when no layer bears anything.
    pub(super) fn allocation(&self, network: &ToPrune<'_>, power: f64) -> Result<Allocation, PruneError> {
        let given = match self {
            Self::Global => Allocation::Global,
            Self::Uniform => Allocation::Uniform,
            Self::ErdosRenyi(rule) => Allocation::ErdosRenyi(*rule),
            Self::PerLayer(table) => Allocation::PerLayer(table.clone()),
            Self::Sensitivity(BySensitivity { max_drop }) => {
                let found = network.sensitivity.map(|analysis| analysis.allocation(*max_drop));
                let found = found.unwrap_or(Allocation::PerLayer(BTreeMap::new()));
                let bears =
                    matches!(&found, Allocation::PerLayer(table) if table.values().any(|share| *share > 0.0));
                let allowed =
                    "a larger drop, or smaller shares in `prune.sensitivity`: no layer bears the smallest";
                setting("max-drop", max_drop, bears, allowed)?;
                found
            }
        };
        Ok(match given {
            Allocation::PerLayer(table) => {
                let part = |(layer, share): (String, f64)| (layer, 1.0 - (1.0 - share).powf(power));
                Allocation::PerLayer(table.into_iter().map(part).collect())
            }
            given => given,
        })
    }
}
