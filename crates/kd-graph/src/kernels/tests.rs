//! Every chain against burn's own operations: results and gradients.

#![allow(clippy::unwrap_used)]

use burn::backend::ops::ModuleOps;
use burn::backend::{Dispatch, DispatchTensor};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::module::{batch_norm_train, conv2d, linear};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Distribution, Gradients, Tensor};

use crate::GraphModule;

use super::ops::{Chains, Maybe, Norm, Pooling, Window};

/// A tensor with gradient, the same at every call of a seed.
fn leaf<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
    let device = Device::flex();
    device.seed(seed);
    let values = Tensor::random(shape, Distribution::Normal(0.1, 1.0), &device);
    values.autodiff().require_grad()
}

fn close<const D: usize>(what: &str, ours: Tensor<D>, burns: Tensor<D>, tolerance: f32) {
    assert_eq!(ours.dims(), burns.dims(), "{what}");
    let largest = burns.clone().abs().max().into_scalar::<f32>().max(1e-6);
    let distance = (ours - burns).abs().max().into_scalar::<f32>();
    assert!(distance <= tolerance * largest, "{what}: {distance} of {largest}");
}

/// Results within 1e-5 of the largest, and gradients of a weighted sum within 1e-4, at every leaf that the closure looks at.
fn same<const D: usize>(ours: Tensor<D>, burns: Tensor<D>, leaves: impl Fn(&str, &Gradients, &Gradients)) {
    close("result", ours.clone().inner(), burns.clone().inner(), 1e-5);
    let weights = leaf(ours.dims(), 99).detach();
    let gradients = [ours, burns].map(|y| (y * weights.clone()).sum().backward());
    let [a, b] = &gradients;
    leaves("gradient", a, b);
}

/// Compares the gradient of one leaf; each of the two runs has its own copy of it.
fn same_gradient<const D: usize>(name: &str, a: (&Tensor<D>, &Gradients), b: (&Tensor<D>, &Gradients)) {
    let [ours, burns] = [a, b].map(|(leaf, gradients)| leaf.grad(gradients).unwrap());
    close(name, ours, burns, 1e-4);
}

/// `x` as a kernel before would have written it.
fn channels_last(x: Tensor<4>) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::chain_relu(x.into_dispatch()))
}

const WINDOWS: [([usize; 4], [usize; 4], Window); 4] = [
    ([2, 3, 7, 6], [5, 3, 3, 3], Window { stride: [1, 1], padding: [1, 1], dilation: [1, 1], groups: 1 }),
    ([3, 4, 9, 8], [6, 2, 3, 3], Window { stride: [2, 2], padding: [1, 1], dilation: [1, 1], groups: 2 }),
    ([2, 6, 5, 5], [6, 1, 3, 3], Window { stride: [2, 1], padding: [0, 1], dilation: [1, 1], groups: 6 }),
    ([2, 3, 11, 10], [4, 3, 5, 1], Window { stride: [1, 2], padding: [2, 0], dilation: [2, 1], groups: 1 }),
];

fn options(window: Window) -> ConvOptions<2> {
    let Window { stride, padding, dilation, groups } = window;
    ConvOptions::new(stride, padding, dilation, groups)
}

#[test]
fn convolutions_are_burns() {
    for (shape, kernel, window) in WINDOWS {
        for (biased, rectified) in [(false, false), (true, true)] {
            let leaves = || (leaf(shape, 1), leaf(kernel, 2), leaf([kernel[0]], 3));
            let ((x, w, b), (x2, w2, b2)) = (leaves(), leaves());
            let bias = |b: &Tensor<1>| biased.then(|| b.clone());
            let ours = Dispatch::chain_conv(
                x.clone().into_dispatch(),
                w.clone().into_dispatch(),
                Maybe::of(bias(&b).map(Tensor::into_dispatch)),
                window,
                rectified,
            );
            let burns = conv2d(x2.clone(), w2.clone(), bias(&b2), options(window));
            let burns = if rectified { relu(burns) } else { burns };
            same(Tensor::<4>::from_dispatch(ours), burns, |_, g, g2| {
                same_gradient("x", (&x, g), (&x2, g2));
                same_gradient("weight", (&w, g), (&w2, g2));
                if biased {
                    same_gradient("bias", (&b, g), (&b2, g2));
                }
            });
        }
    }
}

#[test]
fn a_frozen_weight_gets_no_gradient_and_the_input_still_does() {
    let (shape, kernel, window) = WINDOWS[0];
    let (x, w) = (leaf(shape, 1), leaf(kernel, 2).inner().autodiff());
    let y = Dispatch::chain_conv(
        x.clone().into_dispatch(),
        w.clone().into_dispatch(),
        Maybe::Absent,
        window,
        false,
    );
    let gradients = Tensor::<4>::from_dispatch(y).sum().backward();
    assert!(x.grad(&gradients).is_some());
    assert!(w.grad(&gradients).is_none());
}

#[test]
fn convolution_normalisation_sum_and_rectifier_in_one_are_burns_four() {
    for (shape, kernel, window) in WINDOWS {
        for (added, rectified, recompute) in [
            (false, false, false),
            (false, true, true),
            (true, false, false),
            (true, true, false),
            (true, true, true),
        ] {
            let size = Tensor::<4>::from_dispatch(Dispatch::chain_conv(
                leaf(shape, 1).into_dispatch(),
                leaf(kernel, 2).into_dispatch(),
                Maybe::Absent,
                window,
                false,
            ))
            .dims();
            let channels = [kernel[0]];
            let leaves =
                || (leaf(shape, 1), leaf(kernel, 2), leaf(channels, 3), leaf(channels, 4), leaf(size, 5));
            let ((x, w, g, b, r), (x2, w2, g2, b2, r2)) = (leaves(), leaves());
            let norm = Norm { epsilon: 1e-5, relu: rectified, recompute };
            let (y, mean, variance) = Dispatch::chain_conv_norm(
                x.clone().into_dispatch(),
                w.clone().into_dispatch(),
                g.clone().into_dispatch(),
                b.clone().into_dispatch(),
                Maybe::of(added.then(|| channels_last(r.clone()).into_dispatch())),
                leaf(channels, 6).detach().into_dispatch(),
                window,
                norm,
            );
            let conv = conv2d(x2.clone(), w2.clone(), None, options(window));
            let normed = batch_norm_train(conv, g2.clone(), b2.clone(), 1e-5);
            let burns = normed.output;
            let burns = if added { burns + relu(r2.clone()) } else { burns };
            let burns = if rectified { relu(burns) } else { burns };
            close("mean", Tensor::<1>::from_dispatch(mean).inner(), normed.mean.inner(), 1e-5);
            close("variance", Tensor::<1>::from_dispatch(variance).inner(), normed.variance.inner(), 1e-5);
            same(Tensor::<4>::from_dispatch(y), burns, |_, grads, grads2| {
                same_gradient("x", (&x, grads), (&x2, grads2));
                same_gradient("weight", (&w, grads), (&w2, grads2));
                same_gradient("gamma", (&g, grads), (&g2, grads2));
                same_gradient("beta", (&b, grads), (&b2, grads2));
                if added {
                    same_gradient("residual", (&r, grads), (&r2, grads2));
                }
            });
        }
    }
}

#[test]
fn normalisation_alone_is_burns() {
    let leaves = || (leaf([3, 5, 4, 6], 1), leaf([5], 2), leaf([5], 3));
    let ((x, g, b), (x2, g2, b2)) = (leaves(), leaves());
    let (y, ..) = Dispatch::chain_norm(
        x.clone().into_dispatch(),
        g.clone().into_dispatch(),
        b.clone().into_dispatch(),
        Maybe::Absent,
        Norm { epsilon: 1e-5, relu: true, recompute: false },
    );
    let burns = relu(batch_norm_train(x2.clone(), g2.clone(), b2.clone(), 1e-5).output);
    same(Tensor::<4>::from_dispatch(y), burns, |_, grads, grads2| {
        same_gradient("x", (&x, grads), (&x2, grads2));
        same_gradient("gamma", (&g, grads), (&g2, grads2));
        same_gradient("beta", (&b, grads), (&b2, grads2));
    });
}

#[test]
fn sums_and_rectifiers_are_burns_whatever_the_order_in_memory() {
    for (first, rectified) in [(false, false), (true, false), (false, true), (true, true)] {
        let leaves = || (leaf([2, 3, 4, 5], 1), leaf([2, 3, 4, 5], 2));
        let ((a, b), (a2, b2)) = (leaves(), leaves());
        let left = if first { channels_last(a.clone()) } else { relu(a.clone()) };
        let y = Dispatch::chain_add(left.into_dispatch(), b.clone().into_dispatch(), rectified);
        let burns = relu(a2.clone()) + b2.clone();
        let burns = if rectified { relu(burns) } else { burns };
        same(Tensor::<4>::from_dispatch(y), burns, |_, g, g2| {
            same_gradient("a", (&a, g), (&a2, g2));
            same_gradient("b", (&b, g), (&b2, g2));
        });
    }
}

type Pool = fn(DispatchTensor) -> DispatchTensor;

#[test]
fn pooling_is_burns() {
    let window = ([3, 2], [2, 1], [1, 1]);
    let (kernel, stride, padding) = window;
    let cases: [(Pooling, Pool); 4] = [
        (Pooling::Max { kernel, stride, padding, dilation: [1, 1] }, |x| {
            Dispatch::max_pool2d(x, [3, 2], [2, 1], [1, 1], [1, 1], false)
        }),
        (Pooling::Average { kernel, stride, padding, count_padding: true }, |x| {
            Dispatch::avg_pool2d(x, [3, 2], [2, 1], [1, 1], true, false)
        }),
        (Pooling::Average { kernel, stride, padding, count_padding: false }, |x| {
            Dispatch::avg_pool2d(x, [3, 2], [2, 1], [1, 1], false, false)
        }),
        (Pooling::Adaptive { size: [2, 3] }, |x| Dispatch::adaptive_avg_pool2d(x, [2, 3])),
    ];
    for (pooling, native) in cases {
        let (x, x2) = (leaf([2, 5, 7, 8], 1), leaf([2, 5, 7, 8], 1));
        let ours = Dispatch::chain_pool(x.clone().into_dispatch(), pooling);
        let burns = native(x2.clone().into_dispatch());
        same(Tensor::<4>::from_dispatch(ours), Tensor::from_dispatch(burns), |_, g, g2| {
            same_gradient("x", (&x, g), (&x2, g2));
        });
    }
}

#[test]
fn linear_layers_are_burns() {
    for (biased, rectified) in [(false, false), (true, true)] {
        let leaves = || (leaf([4, 6], 1), leaf([6, 3], 2), leaf([3], 3));
        let ((x, w, b), (x2, w2, b2)) = (leaves(), leaves());
        let bias = |b: &Tensor<1>| biased.then(|| b.clone());
        let ours = Dispatch::chain_linear(
            x.clone().into_dispatch(),
            w.clone().into_dispatch(),
            Maybe::of(bias(&b).map(Tensor::into_dispatch)),
            rectified,
        );
        let burns = linear(x2.clone(), w2.clone(), bias(&b2));
        let burns = if rectified { relu(burns) } else { burns };
        same(Tensor::<2>::from_dispatch(ours), burns, |_, g, g2| {
            same_gradient("x", (&x, g), (&x2, g2));
            same_gradient("weight", (&w, g), (&w2, g2));
            if biased {
                same_gradient("bias", (&b, g), (&b2, g2));
            }
        });
    }
}

#[test]
fn a_convolution_that_does_not_fit_has_no_positions() {
    let x = leaf([1, 1, 2, 2], 1).inner();
    let weight = leaf([1, 1, 5, 5], 2).inner();
    let window = Window { stride: [1, 1], padding: [0, 0], dilation: [1, 1], groups: 1 };
    let y = Dispatch::chain_conv(x.into_dispatch(), weight.into_dispatch(), Maybe::Absent, window, false);
    assert_eq!(Tensor::<4>::from_dispatch(y).dims(), [1, 1, 0, 0]);
}

#[test]
fn several_threads_evaluate_one_module_at_a_time() {
    let device = Device::flex();
    let conv = Conv2dConfig::new([8, 16], [3, 3]).with_padding(PaddingConfig2d::Same).init(&device);
    let norm = BatchNormConfig::new(16).init(&device);
    let x = leaf([4, 8, 33, 31], 1).inner();
    let forward = |(conv, norm): &(Conv2d, BatchNorm), x| relu(norm.forward(conv.forward(x)));
    let graph = crate::trace(&(conv, norm), x.clone(), forward).unwrap();
    // Folded by whoever comes first, the others at the same time.
    for _ in 0..20 {
        let module = GraphModule::new(graph.clone(), &device).unwrap();
        let results: Vec<_> = std::thread::scope(|scope| {
            let run = || module.forward::<4, 4>(x.clone()).unwrap().into_data();
            let threads: Vec<_> = (0..6).map(|_| scope.spawn(run)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(results.iter().all(|result| *result == results[0]));
    }
}
