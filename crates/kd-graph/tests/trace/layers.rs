//! Every sequence that burn makes of a layer becomes one node.

use burn::module::Module;
use burn::nn::{
    GroupNormConfig, InstanceNormConfig, LayerNormConfig, LinearConfig, PReluConfig, RmsNormConfig,
};
use burn::tensor::{Tensor, activation};
use kd_graph::{Activation, Op, Tensors, TraceError, trace};

use crate::{device, ops};

/// The only operation of a forward pass that has one.
fn only<M: Module, I: Tensors, O: Tensors>(model: &M, sample: I, forward: impl Fn(&M, I) -> O) -> Op {
    let graph = trace(model, sample, forward).unwrap();
    graph.validate().unwrap();
    let ops = ops(&graph);
    assert_eq!(ops.len(), 1, "{ops:#?}");
    ops.into_iter().next().unwrap()
}

#[test]
fn activations_are_one_node_each() {
    type Function = fn(Tensor<2>) -> Tensor<2>;
    let cases: [(Function, Activation); 19] = [
        (|x| activation::relu(x), Activation::Relu),
        (|x| activation::leaky_relu(x, 0.2), Activation::LeakyRelu { slope: 0.2 }),
        (|x| activation::gelu(x), Activation::Gelu),
        (|x| activation::gelu_approximate(x), Activation::GeluTanh),
        (|x| activation::sigmoid(x), Activation::Sigmoid),
        (|x| activation::hard_sigmoid(x, 0.2, 0.5), Activation::HardSigmoid { alpha: 0.2, beta: 0.5 }),
        (|x| activation::log_sigmoid(x), Activation::LogSigmoid),
        (|x| activation::silu(x), Activation::Silu),
        (|x| activation::hard_swish(x), Activation::HardSwish),
        (|x| activation::softplus(x, 1.0), Activation::Softplus { beta: 1.0 }),
        (|x| activation::softplus(x, 2.5), Activation::Softplus { beta: 2.5 }),
        (|x| activation::softsign(x), Activation::Softsign),
        (|x| activation::mish(x), Activation::Mish),
        (|x| activation::elu(x, 1.0), Activation::Elu { alpha: 1.0 }),
        (|x| activation::elu(x, 0.3), Activation::Elu { alpha: 0.3 }),
        (|x| activation::celu(x, 0.3), Activation::Celu { alpha: 0.3 }),
        (activation::selu, Activation::Selu),
        (|x| activation::tanh(x), Activation::Tanh),
        (|x| x.tanh(), Activation::Tanh),
    ];
    for (function, wanted) in cases {
        let nothing = Tensor::<1>::zeros([1], &device());
        let found = only(&nothing, Tensor::<2>::zeros([1, 4], &device()), |_, x| function(x));
        assert_eq!(found, Op::Activation(wanted));
    }
}

#[test]
fn a_prelu_keeps_its_slope() {
    let prelu = PReluConfig::new().init(&device());
    let graph = trace(&prelu, Tensor::<2>::zeros([1, 4], &device()), |prelu, x| prelu.forward(x)).unwrap();
    assert!(ops(&graph).contains(&Op::Activation(Activation::Prelu)), "{:?}", ops(&graph));
}

#[test]
fn a_linear_layer_is_one_node_at_every_rank_and_every_size() {
    for (inputs, outputs, bias) in [(3, 4, true), (4, 8, false), (64, 10, true), (1, 1, true)] {
        let linear = LinearConfig::new(inputs, outputs).with_bias(bias).init(&device());
        assert_eq!(
            only(&linear, Tensor::<2>::zeros([1, inputs], &device()), |l, x| l.forward(x)),
            Op::Linear
        );
        // burn folds the batch into the rows or not, by their number: 1, 4, 8, 10 and 64 differ.
        for rows in [1, 4, 8, 10, 64] {
            let x = Tensor::<3>::zeros([1, rows, inputs], &device());
            assert_eq!(only(&linear, x, |l, x| l.forward(x)), Op::Linear);
            let x = Tensor::<4>::zeros([1, 2, rows, inputs], &device());
            assert_eq!(only(&linear, x, |l, x| l.forward(x)), Op::Linear);
        }
    }
}

#[test]
fn a_product_of_two_computed_tensors_is_no_linear_layer() {
    let nothing = Tensor::<1>::zeros([1], &device());
    let x = Tensor::<3>::zeros([1, 4, 4], &device());
    assert_eq!(only(&nothing, x, |_, x| x.clone().matmul(x)), Op::Matmul);
}

#[test]
fn normalisations_are_one_node_each() {
    let image = || Tensor::<4>::zeros([1, 6, 4, 4], &device());
    for affine in [true, false] {
        let group = GroupNormConfig::new(3, 6).with_affine(affine).with_epsilon(1e-4).init(&device());
        assert_eq!(only(&group, image(), |n, x| n.forward(x)), Op::GroupNorm { groups: 3, epsilon: 1e-4 });
        let instance = InstanceNormConfig::new(6).with_affine(affine).init(&device());
        assert_eq!(only(&instance, image(), |n, x| n.forward(x)), Op::InstanceNorm { epsilon: 1e-5 });
    }
    let rows = || Tensor::<3>::zeros([1, 5, 8], &device());
    let layer = LayerNormConfig::new(8).init(&device());
    assert_eq!(only(&layer, rows(), |n, x| n.forward(x)), Op::LayerNorm { epsilon: 1e-5 });
    let rms = RmsNormConfig::new(8).with_epsilon(1e-6).init(&device());
    assert_eq!(only(&rms, rows(), |n, x| n.forward(x)), Op::RmsNorm { epsilon: 1e-6 });
}

#[test]
fn what_something_else_reads_is_not_swallowed() -> Result<(), TraceError> {
    let nothing = Tensor::<1>::zeros([1], &device());
    // The gate is also a result: the SiLU stays as burn computes it.
    let graph = trace(&nothing, Tensor::<2>::zeros([1, 4], &device()), |_, x| {
        let gate = activation::sigmoid(x.clone());
        (x * gate.clone(), gate)
    })?;
    assert_eq!(ops(&graph)[0], Op::Activation(Activation::Sigmoid));
    assert_eq!(ops(&graph).len(), 2);
    Ok(())
}

#[test]
fn what_only_looks_like_a_layer_is_left_as_it_is() {
    type Function = fn(Tensor<2>, Tensor<2>) -> Tensor<2>;
    let cases: [(Function, usize); 5] = [
        (|x, y| x * activation::sigmoid(y), 2),
        (|x, _| activation::softplus_with_threshold(x, 1.0, 5.0), 7),
        (|x, y| x * activation::softplus(y, 1.0).tanh(), 3),
        (|x, y| x / (y.abs() + 1.0), 3),
        (|x, _| x.clone() / (x.abs() + 2.0), 3),
    ];
    for (function, nodes) in cases {
        let nothing = Tensor::<1>::zeros([1], &device());
        let x = || Tensor::<2>::zeros([1, 4], &device());
        let graph = trace(&nothing, (x(), x()), |_, (x, y)| function(x, y)).unwrap();
        assert_eq!(ops(&graph).len(), nodes, "{:#?}", ops(&graph));
    }
}
