//! How much a weight is worth: the first part of every method. Large is worth keeping.

mod batch_norm;
mod fpgm;
mod grasp;
mod lamp;
mod magnitude;
mod random;
mod snip;
mod synflow;
mod taylor;

pub use batch_norm::batch_norm_scales;
pub use fpgm::Fpgm;
pub use grasp::Grasp;
pub use lamp::Lamp;
pub use magnitude::Magnitude;
pub use random::Random;
pub use snip::Snip;
pub use synflow::SynFlow;
pub use taylor::Taylor;

use crate::{Arrays, Masks, PruneError, Subject};

/// A number for every prunable weight, in the shape of the weight.
///
/// ```
/// use kd_prune::{Array, Arrays, Masks, PruneError, Score, Subject};
///
/// /// The distance from one.
/// struct FromOne;
///
/// impl Score for FromOne {
///     fn name(&self) -> &'static str {
///         "from-one"
///     }
///     fn score(&self, subject: &Subject<'_>, masks: &Masks) -> Result<Arrays, PruneError> {
///         let weights = kd_prune::masked(subject, masks)?;
///         Ok(weights.into_iter().map(|(path, weight)| (path, weight.map(|w| (w - 1.0).abs()))).collect())
///     }
/// }
/// ```
pub trait Score {
    /// Its name in the field.
    fn name(&self) -> &'static str;

    /// Scores of every prunable weight. Weights that `masks` prunes already count as zero; a parameter without mask is dense.
    ///
    /// # Errors
    /// [`PruneError::NoLoss`] when gradients are needed and there is nothing to take them of.
    fn score(&self, subject: &Subject<'_>, masks: &Masks) -> Result<Arrays, PruneError>;
}

/// The prunable weights with zeros where masks prune.
///
/// # Errors
/// [`PruneError::Shape`] for a mask of another shape.
pub fn masked(subject: &Subject<'_>, masks: &Masks) -> Result<Arrays, PruneError> {
    let mut weights = subject.weights()?;
    for (path, mask) in masks {
        if let Some(weight) = weights.get_mut(path) {
            *weight = mask.apply(weight)?;
        }
    }
    Ok(weights)
}

/// Weights and their gradients, combined element by element.
pub(crate) fn combined(
    weights: &Arrays,
    gradients: &Arrays,
    combine: impl Fn(f32, f32) -> f32,
) -> Result<Arrays, PruneError> {
    let missing = |path: &String| PruneError::Missing {
        what: "gradient",
        parameter: path.clone(),
        known: gradients.keys().cloned().collect(),
    };
    let pair = |(path, weight): (&String, &crate::Array)| {
        let gradient = gradients.get(path).ok_or_else(|| missing(path))?;
        Ok((path.clone(), weight.zip(gradient, &combine)?))
    };
    weights.iter().map(pair).collect()
}

/// Every score divided by one number, in double precision.
pub(crate) fn divided(scores: Arrays, by: f64) -> Arrays {
    let divide = |score: f32| (f64::from(score) / by) as f32;
    scores.into_iter().map(|(path, scores)| (path, scores.map(divide))).collect()
}

/// The sum over all scores.
pub(crate) fn total(scores: &Arrays) -> f64 {
    scores.values().flat_map(|scores| scores.values()).map(|score| f64::from(*score)).sum()
}
