//! How gradients flow through the chains.

use std::fmt::Debug;
use std::marker::PhantomData;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, TensorMetadata};

use super::ops::{ChainGradients, Chains, Maybe, Norm, Pooling, SavedNorm, Window};

/// An operation of `N` float inputs, some of which may be absent, and one result.
trait Rule<B: Backend, const N: usize>: Debug + Send + Sync + 'static {
    /// What the forward pass leaves for the backward pass.
    type Saved: Clone + Debug + Send + Sync + 'static;

    /// Gradients of the inputs that are wanted.
    fn gradients(saved: Self::Saved, dy: FloatTensor<B>, wanted: [bool; N]) -> [Option<FloatTensor<B>>; N];
}

#[derive(Debug)]
struct By<R>(PhantomData<R>);

impl<B: Backend, R: Rule<B, N>, const N: usize> Backward<B, N> for By<R> {
    type State = R::Saved;

    fn backward(self, ops: Ops<R::Saved, N>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let wanted = std::array::from_fn(|input| ops.parents.get(input).is_some_and(Option::is_some));
        let gradients = R::gradients(ops.state, dy, wanted);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(node), Some(gradient)) = (parent, gradient) {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

type Tracked<B, C> = FloatTensor<Autodiff<B, C>>;

/// Runs an operation and, if any of its inputs has a gradient, notes how to go back. The closure gives the result, what has to be saved for that,
/// and whatever else the caller wants.
fn record<B, C, R, E, const N: usize>(
    inputs: [Tracked<B, C>; N],
    forward: impl FnOnce([FloatTensor<B>; N]) -> (FloatTensor<B>, R::Saved, E),
) -> (Tracked<B, C>, E)
where
    B: Backend,
    C: CheckpointStrategy,
    R: Rule<B, N>,
{
    let nodes = inputs.each_ref().map(|input| input.node());
    let (y, saved, extra) = forward(inputs.map(|input| input.into_primitive()));
    let y = match By::<R>(PhantomData).prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(saved, y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    };
    (y, extra)
}

/// An absent input, as a tensor without gradient: the number of inputs of a rule is fixed.
fn or_absent<B: Backend, C: CheckpointStrategy>(
    tensor: Option<Tracked<B, C>>,
    like: &Tracked<B, C>,
) -> Tracked<B, C> {
    tensor.unwrap_or_else(|| {
        let primitive = like.primitive();
        Tracked::<B, C>::new(B::float_empty([0].into(), &primitive.device(), primitive.dtype().into()))
    })
}

#[derive(Debug)]
struct ConvRule;

#[derive(Clone, Debug)]
struct SavedConv<B: Backend> {
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    y: Option<FloatTensor<B>>,
    window: Window,
}

impl<B: ChainGradients> Rule<B, 3> for ConvRule {
    type Saved = SavedConv<B>;

    fn gradients(saved: SavedConv<B>, dy: FloatTensor<B>, wanted: [bool; 3]) -> [Option<FloatTensor<B>>; 3] {
        let SavedConv { x, weight, y, window } = saved;
        B::conv_gradients(x, weight, y, dy, window, wanted)
    }
}

/// Convolution and normalisation: `x`, `weight`, `gamma`, `beta`, `residual`.
#[derive(Debug)]
struct ConvNormRule;

#[derive(Clone, Debug)]
struct SavedConvNorm<B: Backend> {
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    window: Window,
    /// `norm.x` is the convolution's result, or, where that is computed again, `x` in its place.
    norm: SavedNorm<B>,
}

impl<B: ChainGradients> Rule<B, 5> for ConvNormRule {
    type Saved = SavedConvNorm<B>;

    fn gradients(saved: Self::Saved, dy: FloatTensor<B>, wanted: [bool; 5]) -> [Option<FloatTensor<B>>; 5] {
        let SavedConvNorm { x, weight, window, mut norm } = saved;
        if norm.norm.recompute {
            norm.x = B::conv_again(x.clone(), weight.clone(), window);
        }
        let [wants_x, wants_weight, .., wants_residual] = wanted;
        let [conv, gamma, beta, residual] = B::norm_gradients(norm, dy, wants_residual);
        let [dx, dw, _] = match conv {
            Some(conv) => B::conv_gradients(x, weight, None, conv, window, [wants_x, wants_weight, false]),
            None => [None, None, None],
        };
        [dx, dw, gamma, beta, residual]
    }
}

/// Normalisation alone: `x`, `gamma`, `beta`, `residual`.
#[derive(Debug)]
struct NormRule;

impl<B: ChainGradients> Rule<B, 4> for NormRule {
    type Saved = SavedNorm<B>;

    fn gradients(saved: SavedNorm<B>, dy: FloatTensor<B>, wanted: [bool; 4]) -> [Option<FloatTensor<B>>; 4] {
        let [.., wants_residual] = wanted;
        B::norm_gradients(saved, dy, wants_residual)
    }
}

#[derive(Debug)]
struct ReluRule;

impl<B: ChainGradients> Rule<B, 1> for ReluRule {
    type Saved = FloatTensor<B>;

    fn gradients(y: FloatTensor<B>, dy: FloatTensor<B>, _wanted: [bool; 1]) -> [Option<FloatTensor<B>>; 1] {
        [Some(B::relu_gradient(y, dy))]
    }
}

#[derive(Debug)]
struct AddRule;

impl<B: ChainGradients> Rule<B, 2> for AddRule {
    type Saved = Option<FloatTensor<B>>;

    fn gradients(
        y: Option<FloatTensor<B>>,
        dy: FloatTensor<B>,
        _wanted: [bool; 2],
    ) -> [Option<FloatTensor<B>>; 2] {
        let gradient = match y {
            Some(y) => B::relu_gradient(y, dy),
            None => dy,
        };
        [Some(gradient.clone()), Some(gradient)]
    }
}

#[derive(Debug)]
struct PoolRule;

#[derive(Clone, Debug)]
struct SavedPool {
    input: [usize; 4],
    pooling: Pooling,
    winners: Option<Vec<u16>>,
}

impl<B: ChainGradients> Rule<B, 1> for PoolRule {
    type Saved = SavedPool;

    fn gradients(saved: SavedPool, dy: FloatTensor<B>, _wanted: [bool; 1]) -> [Option<FloatTensor<B>>; 1] {
        [Some(B::pool_gradient(dy, saved.input, &saved.pooling, saved.winners.as_deref()))]
    }
}

#[derive(Debug)]
struct LinearRule;

#[derive(Clone, Debug)]
struct SavedLinear<B: Backend> {
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    y: Option<FloatTensor<B>>,
}

impl<B: ChainGradients> Rule<B, 3> for LinearRule {
    type Saved = SavedLinear<B>;

    fn gradients(
        saved: SavedLinear<B>,
        dy: FloatTensor<B>,
        wanted: [bool; 3],
    ) -> [Option<FloatTensor<B>>; 3] {
        B::linear_gradients(saved.x, saved.weight, saved.y, dy, wanted)
    }
}

impl<B: ChainGradients, C: CheckpointStrategy> Chains for Autodiff<B, C> {
    fn chain_conv(
        x: Tracked<B, C>,
        weight: Tracked<B, C>,
        bias: Maybe<Self>,
        window: Window,
        relu: bool,
    ) -> Tracked<B, C> {
        let bias = bias.given();
        let biased = bias.is_some();
        let bias = or_absent::<B, C>(bias, &x);
        record::<B, C, ConvRule, _, 3>([x, weight, bias], |[x, weight, bias]| {
            let y = B::chain_conv(x.clone(), weight.clone(), Maybe::of(biased.then_some(bias)), window, relu);
            let saved = SavedConv { x, weight, y: relu.then(|| y.clone()), window };
            (y, saved, ())
        })
        .0
    }

    fn chain_conv_norm(
        x: Tracked<B, C>,
        weight: Tracked<B, C>,
        gamma: Tracked<B, C>,
        beta: Tracked<B, C>,
        residual: Maybe<Self>,
        near: Tracked<B, C>,
        window: Window,
        norm: Norm,
    ) -> (Tracked<B, C>, Tracked<B, C>, Tracked<B, C>) {
        let residual = residual.given();
        let added = residual.is_some();
        let residual = or_absent::<B, C>(residual, &x);
        let near = near.into_primitive();
        let inputs = [x, weight, gamma, beta, residual];
        let (y, [mean, variance]) =
            record::<B, C, ConvNormRule, _, 5>(inputs, |[x, weight, gamma, beta, residual]| {
                let parts = [x.clone(), weight.clone(), gamma.clone(), beta.clone(), near];
                let residual = added.then_some(residual);
                let [y, conv, mean, variance] = B::conv_norm_forward(parts, residual, window, norm);
                let moments = [mean.clone(), variance.clone()];
                let kept = (added && norm.relu).then(|| y.clone());
                let conv = if norm.recompute { x.clone() } else { conv };
                let saved = SavedNorm { x: conv, gamma, beta, mean, variance, y: kept, norm };
                (y, SavedConvNorm { x, weight, window, norm: saved }, moments)
            });
        (y, Tracked::<B, C>::new(mean), Tracked::<B, C>::new(variance))
    }

    fn chain_norm(
        x: Tracked<B, C>,
        gamma: Tracked<B, C>,
        beta: Tracked<B, C>,
        residual: Maybe<Self>,
        norm: Norm,
    ) -> (Tracked<B, C>, Tracked<B, C>, Tracked<B, C>) {
        let residual = residual.given();
        let added = residual.is_some();
        let residual = or_absent::<B, C>(residual, &x);
        let inputs = [x, gamma, beta, residual];
        let (y, [mean, variance]) = record::<B, C, NormRule, _, 4>(inputs, |[x, gamma, beta, residual]| {
            let residual = Maybe::of(added.then_some(residual));
            let (y, mean, variance) = B::chain_norm(x.clone(), gamma.clone(), beta.clone(), residual, norm);
            let moments = [mean.clone(), variance.clone()];
            let kept = (added && norm.relu).then(|| y.clone());
            (y, SavedNorm { x, gamma, beta, mean, variance, y: kept, norm }, moments)
        });
        (y, Tracked::<B, C>::new(mean), Tracked::<B, C>::new(variance))
    }

    fn chain_relu(x: Tracked<B, C>) -> Tracked<B, C> {
        record::<B, C, ReluRule, _, 1>([x], |[x]| {
            let y = B::chain_relu(x);
            (y.clone(), y, ())
        })
        .0
    }

    fn chain_add(a: Tracked<B, C>, b: Tracked<B, C>, relu: bool) -> Tracked<B, C> {
        record::<B, C, AddRule, _, 2>([a, b], |[a, b]| {
            let y = B::chain_add(a, b, relu);
            let saved = relu.then(|| y.clone());
            (y, saved, ())
        })
        .0
    }

    fn chain_pool(x: Tracked<B, C>, pooling: Pooling) -> Tracked<B, C> {
        record::<B, C, PoolRule, _, 1>([x], |[x]| {
            let shape = x.shape();
            let input = std::array::from_fn(|axis| shape.get(axis).copied().unwrap_or(1));
            let (y, winners) = B::pool_with_winners(x, &pooling);
            (y, SavedPool { input, pooling, winners }, ())
        })
        .0
    }

    fn chain_linear(x: Tracked<B, C>, weight: Tracked<B, C>, bias: Maybe<Self>, relu: bool) -> Tracked<B, C> {
        let bias = bias.given();
        let biased = bias.is_some();
        let bias = or_absent::<B, C>(bias, &x);
        record::<B, C, LinearRule, _, 3>([x, weight, bias], |[x, weight, bias]| {
            let y = B::chain_linear(x.clone(), weight.clone(), Maybe::of(biased.then_some(bias)), relu);
            let saved = SavedLinear { x, weight, y: relu.then(|| y.clone()) };
            (y, saved, ())
        })
        .0
    }
}
