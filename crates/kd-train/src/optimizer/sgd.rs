//! Stochastic gradient descent with momentum.

use burn::optim::{LearningRate, Optimizer, RecordState, StateSink, StateSource, join_path};
use burn::tensor::{Device, Tensor};
use kd_kernels::optim;

use super::fused::update;

/// Stochastic gradient descent as an optimizer of burn, in one pass over memory on flex.
///
/// With gradient $g$, weights $w$ and velocity $v$:
/// $$g' = g + \lambda w, \quad v \leftarrow \mu v + (1 - d)\, g', \quad
/// w \leftarrow w - \eta \begin{cases} v \\\\ g' + \mu v & \text{Nesterov} \end{cases}$$
/// where the first velocity is $g'$ itself, as in PyTorch. Without momentum the step is $-\eta g'$. Its records are those of burn's
/// [`SgdConfig`](burn::optim::SgdConfig), and may be exchanged with them.
///
/// Sutskever et al., *On the importance of initialization and momentum in deep learning*, 2013.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::optim::{GradientsParams, ModuleOptimizer};
/// use burn::tensor::{Device, Tensor};
/// use kd_train::Sgd;
///
/// let device = Device::flex().autodiff();
/// let layer = LinearConfig::new(4, 2).init(&device);
/// let mut optimizer = ModuleOptimizer::from(Sgd { momentum: 0.9, ..Sgd::default() });
/// let loss = layer.forward(Tensor::<2>::ones([1, 4], &device)).sum();
/// let gradients = GradientsParams::from_grads(loss.backward(), &layer);
/// let layer = optimizer.step(0.1, layer, gradients);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// $\mu$, from 0 to below 1; 0 by default: no velocity is kept.
    pub momentum: f64,
    /// $d$; 0 by default (burn's own default is 0.1).
    pub dampening: f64,
    /// Whether the velocity is looked ahead; not by default.
    pub nesterov: bool,
    /// $\lambda$, 0 or more; 0 by default.
    pub weight_decay: f64,
    /// Whether our kernels make the step where the device has them; by default they do.
    pub kernels: bool,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { momentum: 0.0, dampening: 0.0, nesterov: false, weight_decay: 0.0, kernels: true }
    }
}

/// What [`Sgd`] keeps of a parameter.
#[derive(Clone, Debug)]
pub struct SgdState<const D: usize> {
    /// $v$; none without momentum.
    pub velocity: Option<Tensor<D>>,
}

/// Where burn's optimizer has the velocity in its records.
const GROUP: &str = "momentum";
const VELOCITY: &str = "velocity";

impl<const D: usize> RecordState for SgdState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        if let Some(velocity) = &self.velocity {
            out.push_tensor(&join_path(prefix, GROUP), VELOCITY, velocity.clone().into_data());
        }
    }

    fn state_unflatten(prefix: &str, source: &mut StateSource, device: &Device) -> Option<Self> {
        let velocity = source.take_tensor(&join_path(prefix, GROUP), VELOCITY);
        Some(Self { velocity: velocity.map(|data| Tensor::from_data(data, device)) })
    }
}

impl Optimizer for Sgd {
    type State<const D: usize> = SgdState<D>;

    fn step<const D: usize>(
        &self,
        rate: LearningRate,
        weight: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<SgdState<D>>,
    ) -> (Tensor<D>, Option<SgdState<D>>) {
        let velocity = state.and_then(|state| state.velocity);
        let (weight, velocity) = match (self.momentum > 0.0, self.kernels) {
            (false, true) => (self.plain(rate, weight, gradient), None),
            (true, true) => self.with_momentum(rate, weight, gradient, velocity),
            (_, false) => self.by_burn(rate, weight, gradient, velocity),
        };
        (weight, Some(SgdState { velocity }))
    }

    fn to_device<const D: usize>(state: SgdState<D>, device: &Device) -> SgdState<D> {
        SgdState { velocity: state.velocity.map(|velocity| velocity.to_device(device)) }
    }
}

impl Sgd {
    fn kernel(&self, rate: LearningRate) -> optim::Sgd {
        optim::Sgd {
            learning_rate: rate as f32,
            weight_decay: self.weight_decay as f32,
            momentum: self.momentum as f32,
            dampening: self.dampening as f32,
            nesterov: self.nesterov,
        }
    }

    fn plain<const D: usize>(&self, rate: LearningRate, weight: Tensor<D>, gradient: Tensor<D>) -> Tensor<D> {
        let kernel = self.kernel(rate);
        match update(gradient, [weight], |gradient, [weight]| kernel.step(gradient, weight)) {
            Ok([weight]) => weight,
            Err((gradient, [weight])) => self.by_burn(rate, weight, gradient, None).0,
        }
    }

    fn with_momentum<const D: usize>(
        &self,
        rate: LearningRate,
        weight: Tensor<D>,
        gradient: Tensor<D>,
        velocity: Option<Tensor<D>>,
    ) -> (Tensor<D>, Option<Tensor<D>>) {
        let (kernel, first) = (self.kernel(rate), velocity.is_none());
        let velocity = velocity.unwrap_or_else(|| gradient.zeros_like());
        let done = update(gradient, [weight, velocity], |gradient, [weight, velocity]| {
            kernel.step_with_momentum(gradient, weight, velocity, first)
        });
        match done {
            Ok([weight, velocity]) => (weight, Some(velocity)),
            Err((gradient, [weight, velocity])) => {
                self.by_burn(rate, weight, gradient, (!first).then_some(velocity))
            }
        }
    }

    /// The formula in the order of burn's own optimizer, for the same results to the last bit.
    fn by_burn<const D: usize>(
        &self,
        rate: LearningRate,
        weight: Tensor<D>,
        mut gradient: Tensor<D>,
        velocity: Option<Tensor<D>>,
    ) -> (Tensor<D>, Option<Tensor<D>>) {
        if self.weight_decay > 0.0 {
            gradient = weight.clone().mul_scalar(self.weight_decay as f32) + gradient;
        }
        if self.momentum <= 0.0 {
            return (weight - gradient.mul_scalar(rate), None);
        }
        let momentum = self.momentum as f32;
        let velocity = match velocity {
            Some(velocity) => {
                gradient.clone().mul_scalar(1.0 - self.dampening) + velocity.mul_scalar(momentum)
            }
            None => gradient.clone(),
        };
        let step =
            if self.nesterov { velocity.clone().mul_scalar(momentum) + gradient } else { velocity.clone() };
        (weight - step.mul_scalar(rate), Some(velocity))
    }
}
