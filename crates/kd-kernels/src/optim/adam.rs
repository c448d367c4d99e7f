//! Adam and its relatives.

use super::update::{Update, update};
use crate::error::{KernelError, length, setting};
use crate::simd::Simd;

/// Where weight decay acts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Decay {
    /// Nowhere.
    #[default]
    None,
    /// On the gradient: $g + \lambda w$.
    Gradient(f32),
    /// On the weight, which shrinks by $1 - \eta\lambda$ before the step (AdamW).
    Weight(f32),
}

/// Settings of a step. With gradient $g$ and step number $t$:
/// $$m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad s \leftarrow \beta_2 s + (1 - \beta_2) g^2, \quad
/// w \leftarrow w - \eta \frac{m / (1 - \beta_1^t)}{\sqrt{s / (1 - \beta_2^t)} + \varepsilon}$$
///
/// Kingma and Ba, *Adam*, 2015, [arXiv:1412.6980](https://arxiv.org/abs/1412.6980); decoupled decay: Loshchilov and Hutter, 2019,
/// [arXiv:1711.05101](https://arxiv.org/abs/1711.05101); the maximum of second moments: Reddi et al., 2018,
/// [arXiv:1904.09237](https://arxiv.org/abs/1904.09237).
///
/// ```
/// use kd_kernels::optim::{Adam, AdamState};
///
/// let adam = Adam { learning_rate: 0.1, ..Adam::default() };
/// let (mut weight, mut first, mut second) = ([1.0], [0.0], [0.0]);
/// let state = AdamState { first: &mut first, second: &mut second, largest: None };
/// adam.step(1, &[5.0], &mut weight, state)?;
/// assert!((weight[0] - 0.9).abs() < 1e-6); // the first step is the learning rate, whatever the gradient
/// # Ok::<(), kd_kernels::KernelError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// $\eta$; 0.001 by default.
    pub learning_rate: f32,
    /// $\beta_1$, below 1; 0.9 by default.
    pub beta_1: f32,
    /// $\beta_2$, below 1; 0.999 by default.
    pub beta_2: f32,
    /// $\varepsilon$; 1e-8 by default (burn's default is 1e-5).
    pub epsilon: f32,
    /// None by default.
    pub decay: Decay,
}

impl Default for Adam {
    fn default() -> Self {
        Self { learning_rate: 1e-3, beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, decay: Decay::None }
    }
}

/// What is kept per weight from step to step: zeros before the first.
#[derive(Debug)]
pub struct AdamState<'a> {
    /// First moments $m$.
    pub first: &'a mut [f32],
    /// Second moments $s$.
    pub second: &'a mut [f32],
    /// The largest second moments so far: with them the step is divided by those (AMSGrad).
    pub largest: Option<&'a mut [f32]>,
}

impl Adam {
    /// Step number `time`, counted from 1.
    ///
    /// # Errors
    /// [`KernelError::Length`]; [`KernelError::Setting`] for a beta outside 0 to 1 (1 excluded) or a time of 0.
    pub fn step(
        &self,
        time: u32,
        gradient: &[f32],
        weight: &mut [f32],
        state: AdamState<'_>,
    ) -> Result<(), KernelError> {
        let AdamState { first, second, largest } = state;
        for (name, len) in
            [("gradient", gradient.len()), ("first moments", first.len()), ("second moments", second.len())]
        {
            length(name, len, weight.len())?;
        }
        for (name, beta) in [("beta_1", self.beta_1), ("beta_2", self.beta_2)] {
            setting((0.0..1.0).contains(&beta), name, beta.into(), "from 0 to below 1")?;
        }
        setting(time > 0, "time", time.into(), "at least 1")?;
        let step = Step::new(self, time);
        match largest {
            None => update(step, gradient, [weight, first, second]),
            Some(largest) => {
                length("largest second moments", largest.len(), weight.len())?;
                update(Largest(step), gradient, [weight, first, second, largest]);
            }
        }
        Ok(())
    }
}

/// The settings as factors: both corrections are taken into the step size and epsilon.
#[derive(Clone, Copy)]
struct Step {
    beta_1: f32,
    beta_2: f32,
    size: f32,
    epsilon: f32,
    gradient_decay: f32,
    keep: f32,
}

impl Step {
    fn new(adam: &Adam, time: u32) -> Self {
        let [eta, beta_1, beta_2, epsilon] =
            [adam.learning_rate, adam.beta_1, adam.beta_2, adam.epsilon].map(f64::from);
        let missing = |beta: f64| 1.0 - beta.powf(time.into());
        let root = missing(beta_2).sqrt();
        let (gradient_decay, keep) = match adam.decay {
            Decay::None => (0.0, 1.0),
            Decay::Gradient(decay) => (decay, 1.0),
            Decay::Weight(decay) => (0.0, (1.0 - eta * f64::from(decay)) as f32),
        };
        Self {
            beta_1: adam.beta_1,
            beta_2: adam.beta_2,
            size: (eta * root / missing(beta_1)) as f32,
            epsilon: (epsilon * root) as f32,
            gradient_decay,
            keep,
        }
    }

    /// New moments.
    #[inline(always)]
    fn moments<S: Simd>(self, s: S, gradient: S::V, [weight, first, second]: [S::V; 3]) -> [S::V; 2] {
        let gradient = s.fma(weight, s.splat(self.gradient_decay), gradient);
        let first = s.fma(first, s.splat(self.beta_1), s.mul(gradient, s.splat(1.0 - self.beta_1)));
        let square = s.mul(s.mul(gradient, gradient), s.splat(1.0 - self.beta_2));
        [first, s.fma(second, s.splat(self.beta_2), square)]
    }

    /// The new weight.
    #[inline(always)]
    fn weight<S: Simd>(self, s: S, weight: S::V, first: S::V, second: S::V) -> S::V {
        let step = s.div(s.mul(first, s.splat(self.size)), s.add(s.sqrt(second), s.splat(self.epsilon)));
        s.sub(s.mul(weight, s.splat(self.keep)), step)
    }
}

impl Update<3> for Step {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, gradient: S::V, values: [S::V; 3]) -> [S::V; 3] {
        let [first, second] = self.moments(s, gradient, values);
        [self.weight(s, values[0], first, second), first, second]
    }
}

#[derive(Clone, Copy)]
struct Largest(Step);

impl Update<4> for Largest {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, gradient: S::V, [weight, first, second, largest]: [S::V; 4]) -> [S::V; 4] {
        let [first, second] = self.0.moments(s, gradient, [weight, first, second]);
        let largest = s.max(largest, second);
        [self.0.weight(s, weight, first, largest), first, second, largest]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::{assert_close, at_every_level, cases, numbers};
    use proptest::prelude::*;

    /// One weight through all gradients, in f64.
    fn reference(adam: &Adam, weight: f32, gradients: &[f32], amsgrad: bool) -> f64 {
        let [eta, beta_1, beta_2, epsilon] =
            [adam.learning_rate, adam.beta_1, adam.beta_2, adam.epsilon].map(f64::from);
        let (mut w, mut m, mut v, mut largest) = (f64::from(weight), 0.0, 0.0, 0.0f64);
        for (t, &g) in (1..).zip(gradients) {
            let mut g = f64::from(g);
            match adam.decay {
                Decay::None => {}
                Decay::Gradient(decay) => g += f64::from(decay) * w,
                Decay::Weight(decay) => w *= 1.0 - eta * f64::from(decay),
            }
            m = beta_1 * m + (1.0 - beta_1) * g;
            v = beta_2 * v + (1.0 - beta_2) * g * g;
            largest = largest.max(v);
            let second = if amsgrad { largest } else { v };
            w -= eta * (m / (1.0 - beta_1.powi(t))) / ((second / (1.0 - beta_2.powi(t))).sqrt() + epsilon);
        }
        w
    }

    proptest! {
        #![proptest_config(cases(48))]

        #[test]
        fn four_steps_are_the_formulas(len in 0usize..200, large: bool, seed: u32, amsgrad: bool, kind in 0..3) {
            let len = if large && !cfg!(miri) { len + 70_000 } else { len };
            let decay = [Decay::None, Decay::Gradient(0.01), Decay::Weight(0.1)][kind as usize];
            let adam = Adam { learning_rate: 0.05, epsilon: 1e-5, decay, ..Adam::default() };
            let start = &numbers(seed, len + 1)[1..];
            let gradients: Vec<_> = (1..5).map(|i| numbers(seed ^ i, len + 1)).collect();
            let of = |i: usize| gradients.iter().map(|g| g[1 + i]).collect::<Vec<_>>();
            let wanted: Vec<f64> = (0..len).map(|i| reference(&adam, start[i], &of(i), amsgrad)).collect();
            at_every_level(|| {
                let (mut weight, mut state) = (start.to_vec(), vec![vec![0.0; len]; 3]);
                for (time, gradient) in (1..).zip(&gradients) {
                    let [first, second, largest] = state.as_mut_slice() else { unreachable!() };
                    let state = AdamState { first, second, largest: amsgrad.then_some(largest) };
                    adam.step(time, &gradient[1..], &mut weight, state).unwrap();
                }
                assert_close("weight", &weight, &wanted, 1e-5);
            });
        }
    }

    #[test]
    fn impossible_settings_are_refused() {
        let step = |adam: Adam, time| {
            let state = AdamState { first: &mut [0.0], second: &mut [0.0], largest: None };
            adam.step(time, &[1.0], &mut [1.0], state).unwrap_err().to_string()
        };
        assert!(step(Adam { beta_2: 1.0, ..Adam::default() }, 1).contains("beta_2 is 1"));
        assert!(step(Adam::default(), 0).contains("time is 0"));
    }
}
