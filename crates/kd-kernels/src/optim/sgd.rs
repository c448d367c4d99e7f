//! Stochastic gradient descent.

use super::update::{Update, update};
use crate::error::{KernelError, length};
use crate::simd::Simd;

/// Settings of a step. With gradient $g$, weights $w$ and velocity $v$:
/// $$g' = g + \lambda w, \quad v \leftarrow \mu v + (1 - d)\, g', \quad
/// w \leftarrow w - \eta \begin{cases} v \\\\ g' + \mu v & \text{Nesterov} \end{cases}$$
/// The first velocity is $g'$ itself. Without momentum the step is $-\eta g'$.
///
/// Sutskever et al., *On the importance of initialization and momentum in deep learning*, 2013.
///
/// ```
/// use kd_kernels::optim::Sgd;
///
/// let sgd = Sgd { learning_rate: 0.5, ..Sgd::default() };
/// let mut weight = [1.0, 2.0];
/// sgd.step(&[1.0, -1.0], &mut weight)?;
/// assert_eq!(weight, [0.5, 2.5]);
/// # Ok::<(), kd_kernels::KernelError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sgd {
    /// $\eta$.
    pub learning_rate: f32,
    /// $\lambda$: what of the weights is added to the gradient.
    pub weight_decay: f32,
    /// $\mu$.
    pub momentum: f32,
    /// $d$; 0 in PyTorch, 0.1 in burn unless set.
    pub dampening: f32,
    /// Whether the velocity is looked ahead.
    pub nesterov: bool,
}

impl Sgd {
    /// A step without momentum.
    ///
    /// # Errors
    /// [`KernelError::Length`].
    pub fn step(&self, gradient: &[f32], weight: &mut [f32]) -> Result<(), KernelError> {
        length("gradient", gradient.len(), weight.len())?;
        update(Plain(*self), gradient, [weight]);
        Ok(())
    }

    /// A step with momentum. If it is the `first`, `velocity` is written without being read.
    ///
    /// # Errors
    /// [`KernelError::Length`].
    pub fn step_with_momentum(
        &self,
        gradient: &[f32],
        weight: &mut [f32],
        velocity: &mut [f32],
        first: bool,
    ) -> Result<(), KernelError> {
        length("gradient", gradient.len(), weight.len())?;
        length("velocity", velocity.len(), weight.len())?;
        if first {
            update(Momentum::<true>(*self), gradient, [weight, velocity]);
        } else {
            update(Momentum::<false>(*self), gradient, [weight, velocity]);
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Plain(Sgd);

impl Update<1> for Plain {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, gradient: S::V, [weight]: [S::V; 1]) -> [S::V; 1] {
        let gradient = s.fma(weight, s.splat(self.0.weight_decay), gradient);
        [s.fma(gradient, s.splat(-self.0.learning_rate), weight)]
    }
}

#[derive(Clone, Copy)]
struct Momentum<const FIRST: bool>(Sgd);

impl<const FIRST: bool> Update<2> for Momentum<FIRST> {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, gradient: S::V, [weight, velocity]: [S::V; 2]) -> [S::V; 2] {
        let Sgd { learning_rate, weight_decay, momentum, dampening, nesterov } = self.0;
        let gradient = s.fma(weight, s.splat(weight_decay), gradient);
        let momentum = s.splat(momentum);
        let velocity = match FIRST {
            true => gradient,
            false => s.fma(velocity, momentum, s.mul(gradient, s.splat(1.0 - dampening))),
        };
        let step = if nesterov { s.fma(velocity, momentum, gradient) } else { velocity };
        [s.fma(step, s.splat(-learning_rate), weight), velocity]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::{assert_close, at_every_level, cases, numbers};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(cases(48))]

        #[test]
        fn three_steps_are_the_formulas(len in 0usize..200, large: bool, seed: u32, nesterov: bool, momentum in 0.5f32..0.95, dampening in 0f32..0.2) {
            let len = if large && !cfg!(miri) { len + 70_000 } else { len };
            let sgd = Sgd { learning_rate: 0.1, weight_decay: 0.01, momentum, dampening, nesterov };
            let start = &numbers(seed, len + 1)[1..];
            let gradients: Vec<_> = (1..4).map(|i| numbers(seed ^ i, len + 1)).collect();
            let (eta, lambda, mu, d) = (f64::from(0.1f32), f64::from(0.01f32), f64::from(momentum), f64::from(dampening));
            let mut plain: Vec<f64> = start.iter().map(|&w| w.into()).collect();
            let (mut weight, mut velocity) = (plain.clone(), vec![0.0; len]);
            for (step, gradient) in gradients.iter().enumerate() {
                for (i, &g) in gradient[1..].iter().enumerate() {
                    plain[i] -= eta * (f64::from(g) + lambda * plain[i]);
                    let g = f64::from(g) + lambda * weight[i];
                    velocity[i] = if step == 0 { g } else { mu * velocity[i] + (1.0 - d) * g };
                    weight[i] -= eta * if nesterov { g + mu * velocity[i] } else { velocity[i] };
                }
            }
            at_every_level(|| {
                let (mut p, mut w, mut v) = (start.to_vec(), start.to_vec(), vec![f32::NAN; len]);
                for (step, gradient) in gradients.iter().enumerate() {
                    sgd.step(&gradient[1..], &mut p).unwrap();
                    sgd.step_with_momentum(&gradient[1..], &mut w, &mut v, step == 0).unwrap();
                }
                assert_close("plain", &p, &plain, 1e-6);
                assert_close("weight", &w, &weight, 1e-6);
                assert_close("velocity", &v, &velocity, 1e-6);
            });
        }
    }

    #[test]
    fn a_velocity_of_another_length_is_refused() {
        let error =
            Sgd::default().step_with_momentum(&[0.0; 2], &mut [0.0; 2], &mut [0.0], true).unwrap_err();
        assert_eq!(error, KernelError::Length { name: "velocity", got: 1, wanted: 2 });
    }
}
