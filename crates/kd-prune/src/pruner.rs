//! A method: the parts put together.

use std::collections::BTreeMap;

use kd_graph::{Graph, Op};
use serde::{Deserialize, Serialize};

use crate::{Allocation, LayerScores, LayerShape, Limits, Masks, PruneError, Score, Structure, Subject};

/// A score, what goes as one, where it goes, and the limits. A method of the literature is a few words:
///
/// ```
/// use kd_prune::{Allocation, ErdosRenyi, Lamp, Limits, Magnitude, Pooling, Pruner, Snip, Structure};
///
/// let global_magnitude = Pruner::new(Magnitude::L1).allocation(Allocation::Global);
/// let lamp = Pruner::new(Lamp).allocation(Allocation::Global);
/// let snip = Pruner::new(Snip).allocation(Allocation::Global);
/// let erk = Pruner::new(Magnitude::L1).allocation(Allocation::ErdosRenyi(ErdosRenyi::default()));
/// let filters = Structure::Slices { axes: vec![0], pooling: Pooling::Sum };
/// let l1_filters = Pruner::new(Magnitude::L1).structure(filters);
/// ```
#[derive(Clone, Debug)]
pub struct Pruner<S> {
    /// What a weight is worth.
    pub score: S,
    /// What goes as one.
    pub structure: Structure,
    /// Where it goes.
    pub allocation: Allocation,
    /// Rounding, ties, and what every layer keeps at least.
    pub limits: Limits,
}

impl<S: Score> Pruner<S> {
    /// Single weights, the same share of every layer.
    pub fn new(score: S) -> Self {
        let (structure, allocation, limits) = Default::default();
        Self { score, structure, allocation, limits }
    }

    /// What goes as one.
    #[must_use]
    pub fn structure(self, structure: Structure) -> Self {
        Self { structure, ..self }
    }

    /// Where it goes.
    #[must_use]
    pub fn allocation(self, allocation: Allocation) -> Self {
        Self { allocation, ..self }
    }

    /// Rounding, ties, and what every layer keeps at least.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Masks at a sparsity of the whole, 0 to 1. What `masks` prunes already counts as zero when weights are scored; it is chosen again only
    /// if nothing better is left.
    ///
    /// # Errors
    /// What the score, the structure or the allocation refuses.
    pub fn masks(&self, subject: &Subject<'_>, masks: &Masks, sparsity: f64) -> Result<Masks, PruneError> {
        let scores = self.score.score(subject, masks)?;
        let mut layers = BTreeMap::new();
        let mut units = BTreeMap::new();
        for (path, scores) in &scores {
            let of = self.structure.units(scores.shape())?;
            let shape = layer_shape(subject.graph(), path)?;
            layers.insert(path.clone(), LayerScores { scores: of.pool(scores), shape });
            units.insert(path.clone(), of);
        }
        let keep = self.allocation.keep(&layers, sparsity, &self.limits)?;
        let mask = |(path, units): (String, crate::Units)| {
            let keep = keep.get(&path).map_or(&[][..], Vec::as_slice);
            let mask = units.mask(keep)?;
            Ok((path, mask))
        };
        units.into_iter().map(mask).collect()
    }
}

/// How sparsity grows over rounds that score anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounds {
    /// The density falls by the same factor every round.
    Exponential(usize),
    /// The density falls by the same amount every round.
    Linear(usize),
}

impl Rounds {
    /// The sparsity after every round.
    pub fn sparsities(self, target: f64) -> Vec<f64> {
        let (Self::Exponential(rounds) | Self::Linear(rounds)) = self;
        let share = |round: usize| round as f64 / rounds as f64;
        let after = |round| match self {
            Self::Exponential(_) => 1.0 - (1.0 - target).powf(share(round)),
            Self::Linear(_) => target * share(round),
        };
        (1..=rounds).map(after).collect()
    }
}

/// Prunes in rounds without training between them, scoring the masked network anew every time.
///
/// # Errors
/// As [`Pruner::masks`].
pub fn iterate<S: Score>(
    pruner: &Pruner<S>,
    subject: &Subject<'_>,
    sparsity: f64,
    rounds: Rounds,
) -> Result<Masks, PruneError> {
    let mut masks = subject.dense()?;
    for sparsity in rounds.sparsities(sparsity) {
        masks = pruner.masks(subject, &masks, sparsity)?;
    }
    Ok(masks)
}

/// The shape of a weight with the sizes of its input and output axes.
fn layer_shape(graph: &Graph, path: &str) -> Result<LayerShape, PruneError> {
    let id = graph.find(path)?;
    let sizes = graph.node(id)?.output().shape.at(1);
    let outputs_first = outputs_first(graph, path)?;
    let (first, second) = (sizes.first().copied().unwrap_or(1), sizes.get(1).copied().unwrap_or(1));
    let (inputs, outputs) = if outputs_first { (second, first) } else { (first, second) };
    Ok(LayerShape { sizes, inputs, outputs })
}

/// Whether the output axis of a weight comes before the input axis, as in convolutions.
pub(crate) fn outputs_first(graph: &Graph, path: &str) -> Result<bool, PruneError> {
    let readers = crate::subject::readers(graph, graph.find(path)?);
    Ok(readers.iter().any(|(op, _)| matches!(op, Op::Conv(_))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_end_at_the_target() {
        for rounds in [Rounds::Exponential(3), Rounds::Linear(4)] {
            let sparsities = rounds.sparsities(0.875);
            assert!((sparsities.last().copied().unwrap_or(0.0) - 0.875).abs() < 1e-12);
            assert!(sparsities.is_sorted());
        }
        assert_eq!(Rounds::Exponential(3).sparsities(0.875)[0], 0.5);
    }
}
