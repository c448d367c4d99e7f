//! Adam and AdamW.

use burn::optim::decay::WeightDecayConfig;
use burn::optim::{
    AdamConfig, AdamState, AdamWConfig, AdamWState, AdaptiveMomentumState, LearningRate, Optimizer,
};
use burn::tensor::{Device, Tensor};
use kd_kernels::optim;

use super::fused::update;

/// Where weight decay $\lambda$ acts; 0 for none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AdamDecay {
    /// On the gradient: $g + \lambda w$ (Adam).
    Gradient(f64),
    /// On the weight, which shrinks by $1 - \eta\lambda$ before the step (AdamW).
    Weight(f64),
}

/// Adam as an optimizer of burn, in one pass over memory on flex.
///
/// With gradient $g$, weights $w$ and step number $t$:
/// $$m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad s \leftarrow \beta_2 s + (1 - \beta_2) g^2, \quad
/// w \leftarrow w - \eta \frac{m / (1 - \beta_1^t)}{\sqrt{s / (1 - \beta_2^t)} + \varepsilon}$$
/// Its records are those of burn's [`AdamConfig`] and [`AdamWConfig`], and may be exchanged with them.
///
/// Kingma and Ba, *Adam*, 2015, [arXiv:1412.6980](https://arxiv.org/abs/1412.6980); decay of the weights: Loshchilov and Hutter, 2019,
/// [arXiv:1711.05101](https://arxiv.org/abs/1711.05101); the largest second moments: Reddi et al., 2018,
/// [arXiv:1904.09237](https://arxiv.org/abs/1904.09237).
///
/// ```
/// use burn::optim::ModuleOptimizer;
/// use kd_train::{Adam, AdamDecay};
///
/// let adam_w = ModuleOptimizer::from(Adam { decay: AdamDecay::Weight(0.01), ..Adam::default() });
/// # let _ = adam_w;
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// $\beta_1$, from 0 to below 1; 0.9 by default.
    pub beta_1: f64,
    /// $\beta_2$, from 0 to below 1; 0.999 by default.
    pub beta_2: f64,
    /// $\varepsilon$, above 0; 1e-8 by default (burn's own default is 1e-5).
    pub epsilon: f64,
    /// Whether the step is divided by the largest second moments so far (AMSGrad); not by default.
    pub amsgrad: bool,
    /// None by default.
    pub decay: AdamDecay,
    /// Whether our kernels make the step where the device has them; by default they do.
    pub kernels: bool,
}

impl Default for Adam {
    fn default() -> Self {
        let decay = AdamDecay::Gradient(0.0);
        Self { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, amsgrad: false, decay, kernels: true }
    }
}

impl Optimizer for Adam {
    type State<const D: usize> = AdamState<D>;

    fn step<const D: usize>(
        &self,
        rate: LearningRate,
        weight: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<AdamState<D>>,
    ) -> (Tensor<D>, Option<AdamState<D>>) {
        if !self.kernels {
            return self.by_burn(rate, weight, gradient, state.map(|state| state.momentum));
        }
        let (time, first, second, largest) = match state {
            Some(AdamState { momentum }) => {
                (momentum.time, momentum.moment_1, momentum.moment_2, momentum.max_moment_2)
            }
            None => (0, gradient.zeros_like(), gradient.zeros_like(), None),
        };
        let kernel = self.kernel(rate);
        // A step count that no training reaches: the corrections have long been 1.
        let now = u32::try_from(time + 1).unwrap_or(u32::MAX);
        let done = if self.amsgrad {
            let largest = largest.unwrap_or_else(|| second.clone());
            let done = update(
                gradient,
                [weight, first, second, largest],
                |gradient, [weight, first, second, largest]| {
                    let state = optim::AdamState { first, second, largest: Some(largest) };
                    kernel.step(now, gradient, weight, state)
                },
            );
            done.map(|[weight, first, second, largest]| (weight, first, second, Some(largest))).map_err(
                |(gradient, [weight, first, second, largest])| {
                    (gradient, weight, first, second, Some(largest))
                },
            )
        } else {
            let done = update(gradient, [weight, first, second], |gradient, [weight, first, second]| {
                kernel.step(now, gradient, weight, optim::AdamState { first, second, largest: None })
            });
            done.map(|[weight, first, second]| (weight, first, second, None))
                .map_err(|(gradient, [weight, first, second])| (gradient, weight, first, second, None))
        };
        match done {
            Ok((weight, first, second, largest)) => {
                (weight, Some(AdamState::new(moments(time + 1, first, second, largest))))
            }
            Err((gradient, weight, first, second, largest)) => {
                let state = (time > 0).then(|| moments(time, first, second, largest));
                self.by_burn(rate, weight, gradient, state)
            }
        }
    }

    fn to_device<const D: usize>(state: AdamState<D>, device: &Device) -> AdamState<D> {
        AdamState::new(state.momentum.to_device(device))
    }
}

fn moments<const D: usize>(
    time: usize,
    moment_1: Tensor<D>,
    moment_2: Tensor<D>,
    max_moment_2: Option<Tensor<D>>,
) -> AdaptiveMomentumState<D> {
    AdaptiveMomentumState { time, moment_1, moment_2, max_moment_2 }
}

impl Adam {
    fn kernel(&self, rate: LearningRate) -> optim::Adam {
        optim::Adam {
            learning_rate: rate as f32,
            beta_1: self.beta_1 as f32,
            beta_2: self.beta_2 as f32,
            epsilon: self.epsilon as f32,
            decay: match self.decay {
                AdamDecay::Gradient(decay) => optim::Decay::Gradient(decay as f32),
                AdamDecay::Weight(decay) => optim::Decay::Weight(decay as f32),
            },
        }
    }

    fn by_burn<const D: usize>(
        &self,
        rate: LearningRate,
        weight: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<AdaptiveMomentumState<D>>,
    ) -> (Tensor<D>, Option<AdamState<D>>) {
        let (beta_1, beta_2, epsilon) = (self.beta_1 as f32, self.beta_2 as f32, self.epsilon as f32);
        match self.decay {
            AdamDecay::Gradient(decay) => AdamConfig::new()
                .with_beta_1(beta_1)
                .with_beta_2(beta_2)
                .with_epsilon(epsilon)
                .with_amsgrad(self.amsgrad)
                .with_weight_decay((decay > 0.0).then(|| WeightDecayConfig::new(decay as f32)))
                .build()
                .step(rate, weight, gradient, state.map(AdamState::new)),
            AdamDecay::Weight(decay) => {
                let (weight, state) = AdamWConfig::new()
                    .with_beta_1(beta_1)
                    .with_beta_2(beta_2)
                    .with_epsilon(epsilon)
                    .with_amsgrad(self.amsgrad)
                    .with_weight_decay(decay as f32)
                    .build()
                    .step(rate, weight, gradient, state.map(AdamWState::new));
                (weight, state.map(|state| AdamState::new(state.momentum)))
            }
        }
    }
}
