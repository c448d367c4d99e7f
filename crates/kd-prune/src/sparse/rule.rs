//! The rules that say which connections are dropped and which are grown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{DropGrow, DsrThreshold, redistribute, regrow};
use crate::{Array, Arrays, Mask, Masks, PruneError, Random};

/// Which connections go and which come in an update of sparse training. All keep the number of connections of the whole network; SET and RigL that
/// of every layer too.
///
/// | Rule | Drops | Grows |
/// |---|---|---|
/// | SET | the smallest share of every layer | as many in the layer, at random |
/// | RigL | the smallest share of every layer | as many in the layer, where the dense gradient is largest |
/// | SNFS | the smallest share of every layer | in layers by the mean momentum of their connections, where the momentum is largest |
/// | DSR | what is below one threshold for all layers | in layers by the connections they have left, at random |
///
/// Mocanu et al., *Scalable Training of Artificial Neural Networks with Adaptive Sparse Connectivity* (2018); Evci et al., *Rigging the Lottery*
/// (2020); Dettmers and Zettlemoyer, *Sparse Networks from Scratch* (2019); Mostafa and Wang, *Dynamic Sparse Reparameterization* (2019).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SparseRule {
    /// Sparse evolutionary training.
    Set,
    /// Rigged lottery.
    Rigl,
    /// Sparse networks from scratch.
    Snfs {
        /// How much of the smoothed gradient stays in a step; 0.9 in the paper.
        momentum: f64,
    },
    /// Dynamic sparse reparameterisation; the share of [`DropFraction`](crate::DropFraction) is not used.
    Dsr(DsrThreshold),
}

/// What a rule looks at, by the path of every sparse weight.
#[derive(Clone, Copy, Debug)]
pub struct SparseView<'a> {
    /// The weights, zero where there is no connection.
    pub weights: &'a Arrays,
    /// The connections.
    pub masks: &'a Masks,
    /// The dense gradient for RigL, the smoothed one for SNFS; the others do not look at it.
    pub gradients: &'a Arrays,
    /// The share of connections to replace.
    pub share: f64,
    /// Seed of random growth.
    pub seed: u64,
}

impl SparseRule {
    /// Refuses settings out of range.
    ///
    /// # Errors
    /// [`PruneError::Setting`].
    pub fn validate(self) -> Result<Self, PruneError> {
        match self {
            Self::Snfs { momentum } if !(0.0..1.0).contains(&momentum) => {
                Err(PruneError::setting("momentum", momentum, "0 or more and below 1"))
            }
            Self::Dsr(threshold) => threshold.validate().map(Self::Dsr),
            other => Ok(other),
        }
    }

    /// The next connections. DSR adapts its threshold.
    ///
    /// # Errors
    /// [`PruneError::Missing`] for a mask without weight or gradient, [`PruneError::Shape`] when shapes differ.
    pub fn update(&mut self, view: &SparseView<'_>) -> Result<Masks, PruneError> {
        match self {
            Self::Set => view.layer_by_layer(|path, _, mask| view.random(path, mask)),
            Self::Rigl => view.layer_by_layer(|_, gradient, _| Ok(gradient.map(f32::abs))),
            Self::Snfs { .. } => snfs(view),
            Self::Dsr(threshold) => {
                let (masks, pruned) = dsr(view, threshold.threshold)?;
                *threshold = threshold.adapted(pruned);
                Ok(masks)
            }
        }
    }

    /// Whether growth looks at the gradient of the step of an update.
    pub(super) fn wants_gradient(self) -> bool {
        self == Self::Rigl
    }
}

impl SparseView<'_> {
    /// As many connections in every layer as before, grown by a score.
    fn layer_by_layer(
        &self,
        score: impl Fn(&str, &Array, &Mask) -> Result<Array, PruneError>,
    ) -> Result<Masks, PruneError> {
        let empty = Array::empty();
        let next = |(path, mask): (&String, &Mask)| {
            let gradient = self.gradients.get(path).unwrap_or(&empty);
            let grow = score(path, gradient, mask)?;
            let next = DropGrow::Truncated.update(self.weight(path)?, mask, &grow, self.share)?;
            Ok((path.clone(), next))
        };
        self.masks.iter().map(next).collect()
    }

    fn weight(&self, path: &str) -> Result<&Array, PruneError> {
        found("weight", self.weights, path)
    }

    fn random(&self, path: &str, mask: &Mask) -> Result<Array, PruneError> {
        Random { seed: self.seed }.of(path, mask.shape())
    }
}

fn found<'a>(what: &'static str, arrays: &'a Arrays, path: &str) -> Result<&'a Array, PruneError> {
    arrays.get(path).ok_or_else(|| PruneError::Missing {
        what,
        parameter: path.to_owned(),
        known: arrays.keys().cloned().collect(),
    })
}

/// The mean magnitude over the connections of a layer.
fn mean(array: &Array, mask: &Mask) -> f64 {
    let kept = array.values().iter().zip(mask.keep()).filter(|(_, keep)| **keep);
    kept.map(|(value, _)| f64::from(value.abs())).sum::<f64>() / mask.kept().max(1) as f64
}

fn snfs(view: &SparseView<'_>) -> Result<Masks, PruneError> {
    let (mut layers, mut stay, mut total) = (BTreeMap::new(), BTreeMap::new(), 0);
    for (path, mask) in view.masks {
        let momentum = found("smoothed gradient", view.gradients, path)?;
        let dropped = (mask.kept() as f64 * view.share) as usize;
        let left = mask.kept() - dropped;
        layers.insert(path.clone(), (mean(momentum, mask), mask.keep().len() - left));
        stay.insert(path.clone(), left);
        total += dropped;
    }
    grown(view, &stay, &redistribute(&layers, total)?, |path, _| {
        Ok(found("smoothed gradient", view.gradients, path)?.map(f32::abs))
    })
}

/// The next connections, and how many were dropped.
fn dsr(view: &SparseView<'_>, threshold: f64) -> Result<(Masks, usize), PruneError> {
    let (mut layers, mut stay, mut total) = (BTreeMap::new(), BTreeMap::new(), 0);
    for (path, mask) in view.masks {
        let kept = view.weight(path)?.values().iter().zip(mask.keep()).filter(|(_, keep)| **keep);
        let above = kept.filter(|(weight, _)| f64::from(weight.abs()) >= threshold).count();
        // A layer without connections would stay so.
        let left = above.max(1).min(mask.kept());
        layers.insert(path.clone(), (left as f64, mask.keep().len() - left));
        stay.insert(path.clone(), left);
        total += mask.kept() - left;
    }
    let masks = grown(view, &stay, &redistribute(&layers, total)?, |path, mask| view.random(path, mask))?;
    Ok((masks, total))
}

/// The largest connections of every layer with so many more.
fn grown(
    view: &SparseView<'_>,
    stay: &BTreeMap<String, usize>,
    more: &BTreeMap<String, usize>,
    score: impl Fn(&str, &Mask) -> Result<Array, PruneError>,
) -> Result<Masks, PruneError> {
    let count = |counts: &BTreeMap<String, usize>, path: &str| counts.get(path).copied().unwrap_or(0);
    let next = |(path, mask): (&String, &Mask)| {
        let left = count(stay, path);
        let next = regrow(view.weight(path)?, mask, &score(path, mask)?, left, left + count(more, path))?;
        Ok((path.clone(), next))
    };
    view.masks.iter().map(next).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn array(values: &[f32]) -> Array {
        Array::new([values.len()], values.to_vec()).unwrap()
    }

    fn two(a: &[f32], b: &[f32]) -> Arrays {
        Arrays::from([("a".to_owned(), array(a)), ("b".to_owned(), array(b))])
    }

    fn update(rule: &mut SparseRule, share: f64) -> Masks {
        let weights = two(&[4.0, 0.1, 0.0, 0.0, 0.0, 0.0], &[0.2, 0.3, 3.0, 5.0, 0.0, 0.0]);
        let masks = weights.iter().map(|(path, w)| (path.clone(), Mask::of_nonzeros(w))).collect();
        let gradients = two(&[9.0, 9.0, 0.1, 0.2, 0.9, 0.3], &[1.0, 1.0, 1.0, 1.0, 0.1, 0.2]);
        let view = SparseView { weights: &weights, masks: &masks, gradients: &gradients, share, seed: 5 };
        rule.update(&view).unwrap()
    }

    #[test]
    fn rigl_connects_where_the_gradient_is_largest_and_every_layer_keeps_its_number() {
        let masks = update(&mut SparseRule::Rigl, 0.5);
        // The smallest of layer a goes, and is the best place of all.
        assert_eq!(masks["a"].keep(), [true, true, false, false, false, false]);
        assert_eq!(masks["b"].keep(), [true, true, true, true, false, false]);
        assert_eq!((masks["a"].kept(), masks["b"].kept()), (2, 4));
    }

    #[test]
    fn set_keeps_the_largest_of_every_layer_and_its_number() {
        let masks = update(&mut SparseRule::Set, 0.5);
        assert!(masks["a"].keep()[0] && masks["b"].keep()[2] && masks["b"].keep()[3]);
        assert_eq!((masks["a"].kept(), masks["b"].kept()), (2, 4));
    }

    #[test]
    fn snfs_grows_where_the_mean_momentum_of_connections_is() {
        let masks = update(&mut SparseRule::Snfs { momentum: 0.9 }, 0.5);
        // Three go; nine tenths of the momentum is layer a's.
        assert_eq!(masks["a"].keep(), [true, true, false, false, true, true]);
        assert_eq!((masks["a"].kept(), masks["b"].kept()), (4, 2));
    }

    #[test]
    fn dsr_drops_below_one_threshold_grows_by_what_is_left_and_adapts() {
        let mut rule = SparseRule::Dsr(DsrThreshold { threshold: 0.25, target: 1, tolerance: 0.1 });
        let masks = update(&mut rule, 0.0);
        assert!(masks["a"].keep()[0] && masks["b"].keep()[1..4].iter().all(|keep| *keep));
        assert_eq!(masks["a"].kept() + masks["b"].kept(), 6);
        assert!(masks["b"].kept() > masks["a"].kept());
        // Two went instead of one.
        let halved = DsrThreshold { threshold: 0.125, target: 1, tolerance: 0.1 };
        assert_eq!(rule, SparseRule::Dsr(halved));
    }
}
