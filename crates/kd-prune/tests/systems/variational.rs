//! Sparse variational dropout.

use burn::tensor::{Device, Tensor, TensorData};
use kd_core::Schedule;
use kd_graph::{Graph, GraphModule, Op, Role, Shape, TensorType};
use kd_prune::{KeepMasks, VariationalPenalty, fold_noise, insert_noise, stochastic_kernels};
use kd_train::{Hook, OptimizerKind};

use crate::common::{
    Net, apart, hard, logits, network, numbers, perceptron, residual, resumes_bit_for_bit, serial, settings,
    term, with_numbers,
};

fn noisy(seed: u64, log_variance: f64) -> Graph {
    let mut graph = perceptron(seed);
    for weight in ["fc1.weight", "fc2.weight", "output.weight"] {
        insert_noise(&mut graph, weight, log_variance).unwrap();
    }
    graph
}

#[test]
fn responses_are_drawn_with_the_mean_and_the_variance_of_the_weights() {
    let _serial = serial();
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::float(Shape::batched([2]))).unwrap();
    let weight = graph.parameter("fc.weight", Role::Weight, TensorData::from([[3.0f32], [-1.0]])).unwrap();
    let bias = graph.parameter("fc.bias", Role::Weight, TensorData::from([0.5f32])).unwrap();
    let y = graph.add("fc", Op::Linear, &[x, weight, bias]).unwrap();
    graph.set_outputs(&[y]).unwrap();
    insert_noise(&mut graph, "fc.weight", 0.25f64.ln()).unwrap();
    let device = Device::flex().autodiff();
    device.seed(1);
    let module = GraphModule::with_kernels(graph, &device, &stochastic_kernels()).unwrap();
    let x = Tensor::<2>::from_data([[2.0f32, 1.0]], &device).repeat(&[40_000, 1]);
    let y = module.forward::<2, 2>(x).unwrap().into_data().try_to_vec::<f32>().unwrap();
    let mean = y.iter().sum::<f32>() / y.len() as f32;
    let variance = y.iter().map(|y| (y - mean).powi(2)).sum::<f32>() / y.len() as f32;
    // 2·3 - 1 + 0.5, and (4 + 1)·0.25.
    assert!((mean - 5.5).abs() < 0.03 && (variance - 1.25).abs() < 0.05, "{mean} {variance}");
}

#[test]
fn evaluation_is_without_noise_and_folding_removes_it_from_convolutions_too() {
    let _serial = serial();
    for (plain, mut graph) in [(perceptron(2), noisy(2, -3.0)), (residual(2), residual(2))] {
        if plain == graph {
            insert_noise(&mut graph, "conv2.weight", -3.0).unwrap();
        }
        assert!(
            apart(&logits(&plain, &stochastic_kernels()), &logits(&graph, &stochastic_kernels())) <= 1e-6
        );
        // No weight is all noise at this threshold: the network is the old one again.
        fold_noise(&mut graph, 100.0).unwrap();
        assert_eq!(graph.len(), plain.len());
        assert_eq!(logits(&plain, &stochastic_kernels()), logits(&graph, &stochastic_kernels()));
    }
}

#[test]
fn weights_that_are_mostly_noise_become_zero() {
    let _serial = serial();
    let mut graph = with_numbers(noisy(3, -4.0), "fc1.weight", |i, _| if i % 2 == 0 { 0.01 } else { 0.5 });
    let masks = fold_noise(&mut graph, 3.0).unwrap();
    // -4 - ln(0.01²) is 5.2; -4 - ln(0.5²) is -2.6.
    for (i, keep) in masks["fc1.weight"].keep().iter().enumerate() {
        assert_eq!(*keep, i % 2 == 1);
    }
    for (i, weight) in numbers(&graph, "fc1.weight").into_iter().enumerate() {
        assert_eq!(weight, if i % 2 == 0 { 0.0 } else { 0.5 });
    }
}

#[test]
fn the_penaltys_gradient_is_a_finite_difference() {
    let _serial = serial();
    let graph = noisy(4, -3.0);
    let penalty = VariationalPenalty::new(&graph).unwrap();
    let (_, found) = term(&graph, &stochastic_kernels(), &penalty);
    for path in ["fc1.weight", "fc1.weight_log_variance"] {
        let at = |by: f32| {
            let moved = with_numbers(graph.clone(), path, |i, w| if i == 5 { w + by } else { w });
            f64::from(term(&moved, &stochastic_kernels(), &penalty).0)
        };
        let (step, gradient) = (1e-2, f64::from(found[path][5]));
        let expected = (at(step) - at(-step)) / (2.0 * f64::from(step));
        assert!(
            (gradient - expected).abs() < 0.02 * expected.abs().max(0.5),
            "{path}: {gradient} {expected}"
        );
    }
    assert!(VariationalPenalty::new(&perceptron(4)).is_err());
    assert!(insert_noise(&mut perceptron(4), "bn1.gamma", -3.0).is_err());
}

#[test]
fn noise_grows_in_a_run_that_continues_bit_for_bit_and_most_weights_go() {
    let _serial = serial();
    let graph = noisy(5, -6.0);
    let kernels = stochastic_kernels();
    let objective = || {
        let weight = Schedule::WarmUp { to: 1.0 / 64.0, share: 0.3 };
        hard().with("kl", VariationalPenalty::new(&graph).unwrap(), weight)
    };
    let mut adam = settings(OptimizerKind::Adam, 8);
    adam.optimizer.learning_rate = 0.1;
    let outcome = resumes_bit_for_bit(&adam, objective, Vec::new, &network(&graph, &kernels));
    let mut trained = outcome.last.module().to_graph().unwrap();
    let masks = fold_noise(&mut trained, 3.0).unwrap();
    let (zeros, all) = masks.values().fold((0, 0), |(zeros, all), mask| {
        (zeros + mask.keep().iter().filter(|keep| !**keep).count(), all + mask.keep().len())
    });
    assert!(zeros > all / 4, "{zeros} of {all}");
    let folder = tempfile::tempdir().unwrap();
    let hooks: Vec<Box<dyn Hook<Net>>> = vec![Box::new(KeepMasks::new(masks))];
    let net = network(&trained, &kernels);
    let tuned = crate::common::fit(
        &folder.path().join("run"),
        settings(OptimizerKind::Sgd, 3),
        hard(),
        hooks,
        net,
        None,
    );
    let tuned = tuned.unwrap();
    assert!(tuned.best_value > 0.9, "{}", tuned.best_value);
}
