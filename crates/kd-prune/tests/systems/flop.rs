//! FLOP: factorised layers with gates and an augmented Lagrangian.

use burn::tensor::Device;
use kd_graph::Graph;
use kd_prune::{
    AscendMultipliers, GateRule, HardConcrete, SizeLagrangian, factorise, fold_gates, insert_gates,
    plan_zeros, stochastic_kernels,
};
use kd_train::{Hook, OptimizerKind, ParameterGroup};

use crate::common::{
    Net, apart, hard, logits, network, perceptron, residual, resumes_bit_for_bit, serial, settings, shaken,
};

fn split(seed: u64) -> Graph {
    let mut graph = shaken(perceptron(seed));
    for weight in ["fc1.weight", "fc2.weight"] {
        factorise(&mut graph, weight).unwrap();
        insert_gates(&mut graph, &format!("{weight}_left"), 1, HardConcrete::default(), 0.9).unwrap();
    }
    graph
}

#[test]
fn a_layer_split_in_two_computes_the_same() {
    let _serial = serial();
    let dense = shaken(perceptron(1));
    let mut graph = dense.clone();
    factorise(&mut graph, "fc1.weight").unwrap();
    factorise(&mut graph, "fc2.weight").unwrap();
    assert!(graph.find("fc1.weight").is_err());
    let none = kd_graph::Kernels::new();
    assert!(apart(&logits(&dense, &none), &logits(&graph, &none)) <= 1e-5);
    assert!(factorise(&mut residual(1), "conv1.weight").unwrap_err().to_string().contains("linear"));
    assert!(factorise(&mut graph, "fc3.weight").unwrap_err().to_string().contains("fc2.weight"));
}

#[test]
fn the_multipliers_drive_the_size_to_its_target_in_a_run_that_continues_bit_for_bit() {
    let _serial = serial();
    let graph = split(2);
    let kernels = stochastic_kernels();
    let lagrangian = || SizeLagrangian::new(&graph, 0.6, 0.3).unwrap();
    // Full rank is larger than the layer itself: 12 of 16 + 12, and 10 of 12 + 10, nine tenths of them open.
    let share = 0.9 * (12.0 * 28.0 + 10.0 * 22.0) / (192.0 + 120.0);
    assert!((lagrangian().expected_share(&graph).unwrap() - share).abs() < 1e-5);
    let mut adam = settings(OptimizerKind::Adam, 20);
    adam.optimizer.learning_rate = 0.05;
    adam.optimizer.groups = vec![ParameterGroup {
        pattern: r"^adapters\..*\.multipliers$".to_owned(),
        learning_rate: Some(0.1),
        weight_decay: Some(0.0),
    }];
    let objective = || hard().with("size", lagrangian(), 1.0);
    let hooks = || -> Vec<Box<dyn Hook<Net>>> { vec![Box::new(AscendMultipliers::new("size"))] };
    let outcome = resumes_bit_for_bit(&adam, objective, hooks, &network(&graph, &kernels));
    let mut trained = outcome.last.module().to_graph().unwrap();
    let share = lagrangian().expected_share(&trained).unwrap();
    assert!((share - 0.4).abs() < 0.15, "{share}");

    let closed = fold_gates(&mut trained, GateRule::Count { factor: 0.8 }).unwrap();
    assert!(closed.values().all(|(closed, _)| *closed > 0), "{closed:?}");
    let plan = plan_zeros(&trained).unwrap();
    let (small, _) = plan.absorb(&trained, &Device::flex()).unwrap();
    assert!(apart(&logits(&trained, &kernels), &logits(&small, &kernels)) <= 1e-5);
    assert!(small.cost(1).unwrap().parameters < perceptron(2).cost(1).unwrap().parameters);
}

#[test]
fn a_target_out_of_range_and_a_graph_without_gates_are_refused() {
    let _serial = serial();
    let graph = split(3);
    assert!(SizeLagrangian::new(&graph, 1.0, 0.5).unwrap_err().to_string().contains("`sparsity` is 1"));
    assert!(SizeLagrangian::new(&graph, 0.5, 0.0).is_err());
    assert!(SizeLagrangian::new(&perceptron(3), 0.5, 0.5).unwrap_err().to_string().contains("insert_gates"));
}
