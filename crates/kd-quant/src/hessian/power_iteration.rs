//! The top eigenvalue of a Hessian, from gradients alone.

use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::QuantError;
use crate::error::in_range;

/// Power iteration with products $Hv$ by central differences of first-order gradients:
///
/// $$ v \leftarrow \frac{Hv}{\lVert Hv \rVert}, \qquad Hv \approx \frac{\nabla L(w + \epsilon v) - \nabla L(w - \epsilon v)}{2\epsilon}, \qquad \lambda =
/// v^\top H v $$
///
/// It finds the eigenvalue of greatest magnitude. The step is relative to the weights: $\epsilon$ is `step` times $\lVert w \rVert$. With gradients in f32 the
/// difference loses about as many digits as the step has zeros.
///
/// | Setting | Default | Range |
/// |---|---|---|
/// | `iterations` | 30 | 1 or more |
/// | `tolerance` | 0.001 | above 0: stops when $\lambda$ changes by less than this part of it |
/// | `step` | 0.01 | above 0 |
/// | `seed` | 0 | any: the direction to start from |
///
/// Yao et al., *Hessian-based Analysis of Large Batch Training and Robustness to Adversaries*, NeurIPS 2018; used by Shen et al., *Q-BERT: Hessian Based
/// Ultra Low Precision Quantization of BERT*, AAAI 2020.
///
/// ```
/// use kd_quant::QuantError;
/// use kd_quant::hessian::PowerIteration;
///
/// // L(w) = (3 w0² + w1²) / 2
/// let gradient = |w: &[f32]| Ok::<_, QuantError>(vec![3.0 * w[0], w[1]]);
/// let top = PowerIteration::default().top(&[0.5, -1.0], gradient)?;
/// assert!((top.value - 3.0).abs() < 1e-2);
/// # Ok::<(), QuantError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct PowerIteration {
    /// The most products.
    pub iterations: usize,
    /// When the eigenvalue counts as found.
    pub tolerance: f64,
    /// The difference's step, in parts of the weights' norm.
    pub step: f64,
    /// Of the first direction.
    pub seed: u64,
}

impl Default for PowerIteration {
    fn default() -> Self {
        Self { iterations: 30, tolerance: 1e-3, step: 0.01, seed: 0 }
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Eigenvalue {
    /// $\lambda$.
    pub value: f64,
    /// Its unit vector.
    pub vector: Vec<f64>,
    /// How many products it took.
    pub iterations: usize,
    /// Whether it settled before the iterations were used up.
    pub converged: bool,
}

fn norm(v: &[f64]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

impl PowerIteration {
    /// Checks every value.
    ///
    /// # Errors
    /// [`QuantError::Setting`].
    pub fn validate(&self) -> Result<(), QuantError> {
        in_range("iterations", self.iterations, self.iterations > 0, "1 or more")?;
        let positive = |value: f64| value > 0.0 && value.is_finite();
        in_range("tolerance", self.tolerance, positive(self.tolerance), "above 0")?;
        in_range("step", self.step, positive(self.step), "above 0")
    }

    /// The top eigenvalue at `w`, where `gradient` gives $\nabla L$ for any weights.
    ///
    /// # Errors
    /// What `gradient` returns; [`QuantError::Setting`]; [`QuantError::Empty`] and [`QuantError::NonFinite`] for weights or gradients that can't be used;
    /// [`QuantError::Length`] for gradients of another length.
    pub fn top<E: From<QuantError>>(
        &self,
        w: &[f32],
        mut gradient: impl FnMut(&[f32]) -> Result<Vec<f32>, E>,
    ) -> Result<Eigenvalue, E> {
        self.validate()?;
        crate::data::check_finite("the weight", w)?;
        let size = norm(&w.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
        let epsilon = self.step * if size > 0.0 { size } else { 1.0 };
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut v: Vec<f64> = w.iter().map(|_| rng.random::<f64>() - 0.5).collect();
        let length = norm(&v);
        v.iter_mut().for_each(|x| *x /= length.max(f64::MIN_POSITIVE));
        let mut at = |v: &[f64], sign: f64| -> Result<Vec<f32>, E> {
            let moved: Vec<f32> =
                w.iter().zip(v).map(|(&w, v)| (f64::from(w) + sign * epsilon * v) as f32).collect();
            let g = gradient(&moved)?;
            crate::data::check_finite("the gradient", &g)?;
            if g.len() != w.len() {
                return Err(QuantError::Length { what: "the gradient", got: g.len(), wanted: w.len() }.into());
            }
            Ok(g)
        };
        let mut value = 0.0;
        for iteration in 1..=self.iterations {
            let (up, down) = (at(&v, 1.0)?, at(&v, -1.0)?);
            let product: Vec<f64> = up
                .iter()
                .zip(&down)
                .map(|(u, d)| (f64::from(*u) - f64::from(*d)) / (2.0 * epsilon))
                .collect();
            let next: f64 = product.iter().zip(&v).map(|(h, v)| h * v).sum();
            let length = norm(&product);
            let settled = iteration > 1 && (next - value).abs() <= self.tolerance * next.abs();
            value = next;
            // A flat loss has no direction to go on in.
            if settled || length == 0.0 {
                return Ok(Eigenvalue { value, vector: v, iterations: iteration, converged: true });
            }
            v = product.into_iter().map(|h| h / length).collect();
        }
        Ok(Eigenvalue { value, vector: v, iterations: self.iterations, converged: false })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The gradient $Aw$ of a quadratic form.
    fn quadratic<const N: usize>(a: [[f64; N]; N]) -> impl Fn(&[f32]) -> Result<Vec<f32>, QuantError> {
        move |w| {
            Ok(a.iter()
                .map(|row| row.iter().zip(w).map(|(a, w)| a * f64::from(*w)).sum::<f64>() as f32)
                .collect())
        }
    }

    #[test]
    fn a_quadratic_loss_has_the_eigenvalue_of_its_matrix() {
        // Eigenvalues 5 and 1, vectors (1, 1) and (1, -1).
        let found = PowerIteration::default().top(&[0.3, -0.7], quadratic([[3.0, 2.0], [2.0, 3.0]])).unwrap();
        assert!(found.converged && (found.value - 5.0).abs() < 5e-3, "{found:?}");
        assert!((found.vector[0] - found.vector[1]).abs() < 0.05, "{found:?}");
    }

    #[test]
    fn the_greatest_magnitude_wins_with_its_sign() {
        let a = [[1.0, 0.0, 0.0], [0.0, -4.0, 0.0], [0.0, 0.0, 2.0]];
        let found = PowerIteration { iterations: 100, ..Default::default() }
            .top(&[1.0, 1.0, 1.0], quadratic(a))
            .unwrap();
        assert!((found.value + 4.0).abs() < 1e-2, "{found:?}");
    }

    #[test]
    fn curvature_that_changes_is_that_at_the_weights() {
        // L = Σ w⁴ / 12, so H = diag(w²).
        let gradient = |w: &[f32]| Ok::<_, QuantError>(w.iter().map(|w| w * w * w / 3.0).collect());
        let found = PowerIteration::default().top(&[0.5, 2.0, -1.0], gradient).unwrap();
        assert!((found.value - 4.0).abs() < 0.02, "{found:?}");
    }

    #[test]
    fn a_flat_loss_and_broken_gradients() {
        let flat = |w: &[f32]| Ok::<_, QuantError>(vec![0.0; w.len()]);
        let found = PowerIteration::default().top(&[1.0, 2.0], flat).unwrap();
        assert_eq!((found.value, found.converged), (0.0, true));
        let broken = |w: &[f32]| Ok::<_, QuantError>(vec![f32::NAN; w.len()]);
        assert!(matches!(PowerIteration::default().top(&[1.0], broken), Err(QuantError::NonFinite { .. })));
        assert!(PowerIteration { step: 0.0, ..Default::default() }.top(&[1.0], flat).is_err());
    }
}
