//! FPGM: filters near the others can be replaced by them.

use super::{Score, masked};
use crate::{Array, Arrays, Masks, PruneError, Subject};

/// The sum of a filter's distances to all others of its layer; the filter with the smallest is nearest to the geometric median:
///
/// $$s_i = \sum_j \lVert F_i - F_j \rVert_2$$
///
/// He et al., *Filter Pruning via Geometric Median* (2019). Every weight of a filter gets the filter's score divided by the number of its
/// weights, so that their sum over the filter is the score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fpgm;

impl Fpgm {
    /// The scores of the slices of a weight along an axis; none if there is no such axis.
    pub fn of(weight: &Array, axis: usize) -> Option<Vec<f64>> {
        let mut filters = vec![Vec::new(); *weight.shape().get(axis)?];
        for (index, value) in weight.along(axis)?.zip(weight.values()) {
            if let Some(filter) = filters.get_mut(index) {
                filter.push(f64::from(*value));
            }
        }
        let distance =
            |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
        Some(filters.iter().map(|a| filters.iter().map(|b| distance(a, b)).sum()).collect())
    }
}

impl Score for Fpgm {
    fn name(&self) -> &'static str {
        "fpgm"
    }

    fn score(&self, subject: &Subject<'_>, masks: &Masks) -> Result<Arrays, PruneError> {
        let weights = masked(subject, masks)?;
        let score = |(path, weight): (String, Array)| {
            let axis = output_axis(subject, &path)?;
            let scores = Self::of(&weight, axis).unwrap_or_default();
            let each = (weight.len() / scores.len().max(1)).max(1) as f64;
            let mut filters = weight.along(axis).into_iter().flatten();
            let spread = weight.map_in_order(|_| {
                let filter = filters.next().and_then(|filter| scores.get(filter));
                filter.map_or(0.0, |score| (score / each) as f32)
            });
            Ok((path, spread))
        };
        weights.into_iter().map(score).collect()
    }
}

/// The axis of a weight along which its layer's outputs lie.
pub(crate) fn output_axis(subject: &Subject<'_>, path: &str) -> Result<usize, PruneError> {
    use kd_graph::Op;
    let graph = subject.graph();
    let readers = crate::subject::readers(graph, graph.find(path)?);
    let last = readers
        .iter()
        .any(|(op, _)| matches!(op, Op::Linear | Op::Matmul | Op::Embedding | Op::ConvTranspose(_)));
    Ok(usize::from(last))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_filter_in_the_middle_scores_lowest() {
        let weight = Array::new([3, 1], vec![0.0, 1.0, 5.0]).unwrap();
        assert_eq!(Fpgm::of(&weight, 0).unwrap(), [6.0, 5.0, 9.0]);
    }
}
