//! L0 regularisation.

use burn::tensor::{Device, Tensor};
use kd_graph::{Graph, GraphModule};
use kd_prune::{
    ClampGates, GateRule, HardConcrete, L0Penalty, fold_gates, insert_gates, plan_zeros, stochastic_kernels,
};
use kd_train::{Hook, OptimizerKind};

use crate::common::{
    Net, apart, hard, logits, network, numbers, perceptron, residual, resumes_bit_for_bit, serial, settings,
    shaken, term, with_numbers,
};

/// Gates on the units of both hidden layers, where the next layer reads them.
fn gated(seed: u64) -> Graph {
    let mut graph = shaken(perceptron(seed));
    insert_gates(&mut graph, "fc2.weight", 0, HardConcrete::default(), 0.8).unwrap();
    insert_gates(&mut graph, "output.weight", 0, HardConcrete::default(), 0.8).unwrap();
    graph
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[test]
fn evaluation_is_what_folding_leaves_and_training_draws() {
    let _serial = serial();
    let graph = with_numbers(gated(1), "fc2.weight_log_alpha", |i, _| i as f32 - 6.0);
    let kernels = stochastic_kernels();
    let before = logits(&graph, &kernels);
    let mut folded = graph.clone();
    let closed = fold_gates(&mut folded, GateRule::Expected).unwrap();
    assert_eq!(closed["fc2.weight"], (4, 12));
    assert_eq!(folded.len(), shaken(perceptron(1)).len());
    assert!(apart(&before, &logits(&folded, &kernels)) <= 1e-6);

    let device = Device::flex().autodiff();
    let module = GraphModule::with_kernels(graph, &device, &kernels).unwrap();
    let x = Tensor::<4>::random([4, 1, 4, 4], burn::tensor::Distribution::Default, &device);
    let draw = || module.forward::<4, 2>(x.clone()).unwrap().into_data().try_to_vec::<f32>().unwrap();
    assert!(apart(&draw(), &draw()) > 1e-4);
}

#[test]
fn gates_of_a_convolution_start_open_with_the_probability_asked_for() {
    let _serial = serial();
    let mut graph = residual(2);
    let gates = HardConcrete::default();
    insert_gates(&mut graph, "conv1.weight", 0, gates, 0.9).unwrap();
    let log_alpha = numbers(&graph, "conv1.weight_log_alpha");
    let open = gates.open(Tensor::<1>::from_floats(log_alpha.as_slice(), &Device::flex()));
    for open in open.into_data().try_to_vec::<f32>().unwrap() {
        assert!((open - 0.9).abs() < 1e-5, "{open}");
    }
    assert_eq!(logits(&graph, &stochastic_kernels()).len(), 18);
    assert!(insert_gates(&mut graph, "conv2.weight", 4, gates, 0.9).is_err());
    assert!(insert_gates(&mut graph, "conv2.weight", 0, gates, 1.0).is_err());
    assert!(
        insert_gates(&mut graph, "conv2.wight", 0, gates, 0.5)
            .unwrap_err()
            .to_string()
            .contains("conv2.weight")
    );
    assert!(L0Penalty::new(&residual(2), 0.1, 0.0).unwrap_err().to_string().contains("insert_gates"));
}

#[test]
fn the_penalty_and_its_gradients_are_the_closed_form() {
    let _serial = serial();
    let graph = with_numbers(gated(3), "fc2.weight_log_alpha", |i, _| 0.4 * i as f32 - 2.0);
    let (lambda, decay) = (0.2, 0.7);
    let (value, found) = term(&graph, &stochastic_kernels(), &L0Penalty::new(&graph, lambda, decay).unwrap());
    let shift = 2.0 / 3.0 * (0.1f64 / 1.1).ln();
    let mut expected = 0.0;
    for (path, outputs) in [("fc2.weight", 10), ("output.weight", 3)] {
        let log_alpha = numbers(&graph, &format!("{path}_log_alpha"));
        let weight = numbers(&graph, path);
        for (unit, log_alpha) in log_alpha.iter().enumerate() {
            let row = &weight[unit * outputs..(unit + 1) * outputs];
            let squares: f64 = row.iter().map(|w| f64::from(*w).powi(2)).sum();
            let cost = 0.5 * decay * squares + lambda * outputs as f64;
            let open = logistic(f64::from(*log_alpha) - shift);
            expected += open * cost;
            let gradient = f64::from(found[&format!("{path}_log_alpha")][unit]);
            assert!((gradient - open * (1.0 - open) * cost).abs() < 1e-4, "{path} {unit}: {gradient}");
            let pull = f64::from(found[path][unit * outputs]);
            assert!((pull - open * decay * f64::from(row[0])).abs() < 1e-5, "{path} {unit}: {pull}");
        }
    }
    assert!((f64::from(value) - expected).abs() < 1e-3, "{value} {expected}");
}

#[test]
fn gates_close_in_a_run_that_continues_bit_for_bit_and_go_physically() {
    let _serial = serial();
    let graph = gated(4);
    let kernels = stochastic_kernels();
    let objective = || hard().with("l0", L0Penalty::new(&graph, 0.004, 0.0).unwrap(), 1.0);
    let hooks = || -> Vec<Box<dyn Hook<Net>>> { vec![Box::new(ClampGates::new(&graph).unwrap())] };
    let adam = kd_train::RunSettings {
        optimizer: kd_train::OptimizerSettings {
            learning_rate: 0.1,
            ..settings(OptimizerKind::Adam, 6).optimizer
        },
        ..settings(OptimizerKind::Adam, 12)
    };
    let outcome = resumes_bit_for_bit(&adam, objective, hooks, &network(&graph, &kernels));
    assert!(outcome.best_value > 0.9, "{}", outcome.best_value);
    let mut trained = outcome.last.module().to_graph().unwrap();
    for path in ["fc2.weight_log_alpha", "output.weight_log_alpha"] {
        let bound = 100f32.ln() + 1e-5;
        assert!(numbers(&trained, path).iter().all(|log_alpha| log_alpha.abs() <= bound));
    }
    let before = logits(&trained, &kernels);
    let closed = fold_gates(&mut trained, GateRule::Expected).unwrap();
    assert!(closed.values().map(|(closed, _)| closed).sum::<usize>() > 3, "{closed:?}");
    let (small, _) = plan_zeros(&trained).unwrap().absorb(&trained, &Device::flex()).unwrap();
    assert!(apart(&before, &logits(&small, &kernels)) <= 1e-5);
    assert!(small.cost(1).unwrap().parameters < perceptron(4).cost(1).unwrap().parameters);
}
