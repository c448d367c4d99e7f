//! Group lasso: a penalty that drives whole groups of weights to zero.

use crate::{Array, PruneError, Structure};

/// $$\lambda \sum_g \lVert w_g \rVert_2$$ over the units of a [`Structure`], with its gradient $$\lambda w / \lVert w_g \rVert_2$$, 0 for a group
/// of zeros.
///
/// Wen et al., *Learning Structured Sparsity in Deep Neural Networks* (2016). There is no factor for the size of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupLasso {
    /// $\lambda$.
    pub lambda: f64,
    /// What goes as one.
    pub structure: Structure,
    /// Added to the sum of squares under the root; 0, or what keeps the gradient finite where an implementation differentiates it.
    pub epsilon: f64,
}

impl GroupLasso {
    /// The penalty of a weight, and its gradient.
    ///
    /// # Errors
    /// [`PruneError::Setting`] for a structure that does not fit the weight.
    pub fn penalty(&self, weight: &Array) -> Result<(f64, Array), PruneError> {
        let units = self.structure.units(weight.shape())?;
        let mut norms = vec![0.0; units.count];
        for (unit, value) in units.of.iter().zip(weight.values()) {
            if let Some(norm) = norms.get_mut(*unit) {
                *norm += f64::from(*value).powi(2);
            }
        }
        norms.iter_mut().for_each(|norm| *norm = (*norm + self.epsilon).sqrt());
        let mut of = units.of.iter().map(|unit| norms.get(*unit).copied().unwrap_or(0.0));
        let gradient = weight.map_in_order(|value| match of.next() {
            Some(norm) if norm > 0.0 => (self.lambda * f64::from(value) / norm) as f32,
            _ => 0.0,
        });
        Ok((self.lambda * norms.iter().sum::<f64>(), gradient))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Pooling;

    #[test]
    fn a_group_of_zeros_has_no_gradient_and_others_point_outwards() {
        let rows = Structure::Slices { axes: vec![0], pooling: Pooling::Sum };
        let lasso = GroupLasso { lambda: 0.5, structure: rows, epsilon: 0.0 };
        let weight = Array::new([2, 2], vec![3.0, -4.0, 0.0, 0.0]).unwrap();
        let (penalty, gradient) = lasso.penalty(&weight).unwrap();
        assert_eq!(penalty, 2.5);
        assert_eq!(gradient.values(), [0.3, -0.4, 0.0, 0.0]);
    }
}
