//! How much of which layer goes: the third part of every method.

mod erdos_renyi;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use erdos_renyi::{ErdosRenyi, LayerShape};

use crate::{PruneError, Rounding, Ties, top_k};

/// Scores of the units of one layer, with the layer's shape.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerScores {
    /// One score for every unit.
    pub scores: Vec<f32>,
    /// The layer's weight, for rules that look at shapes.
    pub shape: LayerShape,
}

/// Where sparsity goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Allocation {
    /// The same sparsity everywhere.
    #[default]
    Uniform,
    /// One ranking over all layers.
    Global,
    /// By the shapes of layers.
    ErdosRenyi(ErdosRenyi),
    /// Given for every layer by the path of its weight; the target is ignored.
    PerLayer(BTreeMap<String, f64>),
}

/// How counts are rounded, and what every layer keeps at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Number kept at a sparsity.
    pub rounding: Rounding,
    /// Equal scores.
    pub ties: Ties,
    /// Units that every layer keeps; 1. A layer of fewer keeps all.
    pub least: usize,
    /// The number kept is rounded down to a multiple of this; 1. A layer never goes below one multiple, or all it has.
    pub multiple: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rounding: Rounding::default(), ties: Ties::default(), least: 1, multiple: 1 }
    }
}

impl Limits {
    /// A number of kept units that respects the limits, for a layer of `size`.
    pub fn within(&self, kept: usize, size: usize) -> usize {
        let multiple = self.multiple.max(1);
        (kept / multiple * multiple).max(self.least).max(if multiple > 1 { multiple } else { 0 }).min(size)
    }
}

impl Allocation {
    /// Which units of every layer are kept at a sparsity of the whole, 0 to 1.
    ///
    /// # Errors
    /// [`PruneError::Setting`] for a sparsity outside `[0, 1]`, [`PruneError::NotFinite`] for a score that is not a number, and
    /// [`PruneError::Missing`] for a layer that a table doesn't name.
    pub fn keep(
        &self,
        layers: &BTreeMap<String, LayerScores>,
        sparsity: f64,
        limits: &Limits,
    ) -> Result<BTreeMap<String, Vec<bool>>, PruneError> {
        checked(layers, sparsity)?;
        if *self == Self::Global {
            return Ok(global(layers, sparsity, limits));
        }
        let sparsities = self.sparsities(layers, sparsity)?;
        let keep = |(path, layer): (&String, &LayerScores)| {
            let size = layer.scores.len();
            let sparsity = sparsities.get(path).copied().unwrap_or(sparsity);
            let kept = limits.within(limits.rounding.kept(size, sparsity), size);
            (path.clone(), guarded(&layer.scores, kept, limits))
        };
        Ok(layers.iter().map(keep).collect())
    }

    fn sparsities(
        &self,
        layers: &BTreeMap<String, LayerScores>,
        sparsity: f64,
    ) -> Result<BTreeMap<String, f64>, PruneError> {
        match self {
            Self::Uniform | Self::Global => Ok(layers.keys().map(|path| (path.clone(), sparsity)).collect()),
            Self::ErdosRenyi(rule) => {
                let shapes = layers.iter().map(|(path, layer)| (path.clone(), layer.shape.clone())).collect();
                rule.sparsities(&shapes, sparsity, &BTreeMap::new())
            }
            Self::PerLayer(table) => {
                if let Some((path, value)) = table.iter().find(|(_, value)| !(0.0..=1.0).contains(*value)) {
                    return Err(PruneError::setting(path, value, "0 to 1"));
                }
                let unnamed = layers.keys().find(|path| !table.contains_key(*path));
                unnamed.map_or(Ok(table.clone()), |path| {
                    let known = table.keys().cloned().collect();
                    Err(PruneError::Missing { what: "sparsity", parameter: path.clone(), known })
                })
            }
        }
    }
}

fn checked(layers: &BTreeMap<String, LayerScores>, sparsity: f64) -> Result<(), PruneError> {
    if !(0.0..=1.0).contains(&sparsity) {
        return Err(PruneError::setting("sparsity", sparsity, "0 to 1"));
    }
    for (parameter, layer) in layers {
        if let Some(&value) = layer.scores.iter().find(|score| score.is_nan()) {
            return Err(PruneError::NotFinite { parameter: parameter.clone(), value });
        }
    }
    Ok(())
}

fn global(
    layers: &BTreeMap<String, LayerScores>,
    sparsity: f64,
    limits: &Limits,
) -> BTreeMap<String, Vec<bool>> {
    let all: Vec<f32> = layers.values().flat_map(|layer| layer.scores.iter().copied()).collect();
    let mut keep = top_k(&all, limits.rounding.kept(all.len(), sparsity), limits.ties).into_iter();
    let mut kept = BTreeMap::new();
    for (path, layer) in layers {
        let chosen: Vec<bool> = keep.by_ref().take(layer.scores.len()).collect();
        let count = chosen.iter().filter(|keep| **keep).count();
        let within = limits.within(count, layer.scores.len());
        let chosen = if within == count { chosen } else { top_k(&layer.scores, within, exact(limits.ties)) };
        kept.insert(path.clone(), chosen);
    }
    kept
}

/// The best `count`, or more by the limits where a strict threshold would leave fewer.
fn guarded(scores: &[f32], count: usize, limits: &Limits) -> Vec<bool> {
    let keep = top_k(scores, count, limits.ties);
    let kept = keep.iter().filter(|keep| **keep).count();
    let within = limits.within(kept, scores.len());
    if within == kept { keep } else { top_k(scores, within, exact(limits.ties)) }
}

/// A rule that keeps exactly as many as asked for.
fn exact(ties: Ties) -> Ties {
    if ties == Ties::Strict { Ties::LowerIndex } else { ties }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn layers(all: &[(&str, &[f32])]) -> BTreeMap<String, LayerScores> {
        let layer = |scores: &[f32]| LayerScores {
            scores: scores.to_vec(),
            shape: LayerShape { sizes: vec![scores.len(), 1], inputs: scores.len(), outputs: 1 },
        };
        all.iter().map(|(path, scores)| ((*path).to_owned(), layer(scores))).collect()
    }

    #[test]
    fn a_layer_of_small_scores_keeps_its_best_unit_under_a_global_threshold() {
        let layers = layers(&[("a", &[0.1, 0.2]), ("b", &[1.0, 2.0, 3.0, 4.0])]);
        let keep = Allocation::Global.keep(&layers, 0.5, &Limits::default()).unwrap();
        assert_eq!(keep["a"], [false, true]);
        assert_eq!(keep["b"], [false, true, true, true]);
        let none = Limits { least: 0, ..Limits::default() };
        assert_eq!(Allocation::Global.keep(&layers, 0.5, &none).unwrap()["a"], [false, false]);
    }

    #[test]
    fn counts_are_rounded_down_to_a_multiple_but_not_to_nothing() {
        let layers = layers(&[("a", &[1.0, 2.0, 3.0]), ("b", &[1.0; 10])]);
        let limits = Limits { multiple: 4, ..Limits::default() };
        let keep = Allocation::Uniform.keep(&layers, 0.3, &limits).unwrap();
        let count = |path: &str| keep[path].iter().filter(|keep| **keep).count();
        assert_eq!((count("a"), count("b")), (3, 4));
    }

    #[test]
    fn a_score_that_is_not_a_number_and_a_sparsity_out_of_range_are_refused() {
        let bad = layers(&[("a", &[f32::NAN, 1.0])]);
        assert!(Allocation::Global.keep(&bad, 0.5, &Limits::default()).is_err());
        let fine = layers(&[("a", &[1.0])]);
        let error = Allocation::Uniform.keep(&fine, 1.5, &Limits::default()).unwrap_err();
        assert_eq!(error.to_string(), "`sparsity` is 1.5; allowed is 0 to 1");
    }

    #[test]
    fn a_table_must_name_every_layer() {
        let layers = layers(&[("a", &[1.0, 2.0]), ("b", &[1.0, 2.0])]);
        let table =
            |paths: &[&str]| Allocation::PerLayer(paths.iter().map(|p| ((*p).to_owned(), 0.5)).collect());
        assert!(table(&["a"]).keep(&layers, 0.0, &Limits::default()).is_err());
        let keep = table(&["a", "b"]).keep(&layers, 0.0, &Limits::default()).unwrap();
        assert_eq!(keep["b"], [false, true]);
    }
}
