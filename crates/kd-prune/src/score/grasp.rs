//! GraSP: pruning at initialisation that preserves the flow of the gradient.

use super::{Score, combined, divided, masked, total};
use crate::{Array, Arrays, Masks, PruneError, Subject};

/// $$\frac{w \cdot \partial/\partial w \, \langle \bar g, g \rangle}{|\sum w \cdot \partial/\partial w \, \langle \bar g, g \rangle| + 10^{-10}}$$
/// where $g$ is the gradient and $\bar g$ the same held constant. The scores keep their sign and the largest are kept, as in the public code
/// of the paper's authors.
///
/// Wang et al., *Picking Winning Tickets Before Training by Preserving Gradient Flow* (2020). The second derivative is a central
/// difference of gradients along $\bar g$:
/// $$H \bar g \approx \frac{g(w + \epsilon \bar g) - g(w - \epsilon \bar g)}{2 \epsilon}$$
/// with every ReLU held open or shut as it is at $w$, so that the difference is that of a smooth function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grasp {
    /// Divides the logits; 200.
    pub temperature: f64,
    /// How far the weights move for the difference, relative to their own length; 1e-2.
    pub step: f64,
}

impl Default for Grasp {
    fn default() -> Self {
        Self { temperature: 200.0, step: 1e-2 }
    }
}

impl Score for Grasp {
    fn name(&self) -> &'static str {
        "grasp"
    }

    fn score(&self, subject: &Subject<'_>, masks: &Masks) -> Result<Arrays, PruneError> {
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return Err(PruneError::setting("temperature", self.temperature, "a positive number"));
        }
        if !(self.step > 0.0 && self.step < 1.0) {
            return Err(PruneError::setting("step", self.step, "a number in (0, 1)"));
        }
        let weights = masked(subject, masks)?;
        // A ReLU that opens on the way would count as curvature, which the second derivative knows nothing of.
        let (graph, inputs) = subject.without_kinks(self.name(), &weights)?;
        let gradients =
            |weights: &Arrays| subject.gradients_on(self.name(), &graph, &inputs, weights, self.temperature);
        let direction = gradients(&weights)?;
        let length = norm(&direction);
        if length == 0.0 {
            return Ok(weights.into_iter().map(|(path, weight)| (path, weight.map(|_| 0.0))).collect());
        }
        let epsilon = self.step * norm(&weights) / length;
        let at = |epsilon: f64| -> Result<Arrays, PruneError> {
            let moved =
                combined(&weights, &direction, |w, g| (f64::from(w) + epsilon * f64::from(g)) as f32)?;
            gradients(&moved)
        };
        let difference = combined(&at(epsilon)?, &at(-epsilon)?, |a, b| a - b)?;
        let scores =
            combined(&weights, &difference, |w, d| (f64::from(w) * f64::from(d) / (2.0 * epsilon)) as f32)?;
        let sum = total(&scores).abs() + 1e-10;
        Ok(divided(scores, sum))
    }
}

fn norm(arrays: &Arrays) -> f64 {
    let squares = |array: &Array| array.values().iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
    arrays.values().map(squares).sum::<f64>().sqrt()
}
