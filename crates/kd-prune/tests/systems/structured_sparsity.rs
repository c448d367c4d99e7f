//! Structured sparsity learning: filters, channels, shapes, layers.

use burn::tensor::Device;
use kd_graph::Kernels;
use kd_prune::{
    Array, Exactness, GroupLasso, PruneError, SparsifyGroups, WeightGroup, has_shortcut, plan_zeros,
    remove_constant_branches, zero_positions, zero_small_groups,
};
use kd_train::{Hook, OptimizerKind};

use crate::common::{
    Net, apart, gradients, hard, logits, network, numbers, perceptron, residual, resumes_bit_for_bit, serial,
    settings, shaken, trained, with_numbers,
};

fn none() -> Kernels {
    Kernels::new()
}

#[test]
fn the_hook_adds_the_closed_form_of_the_penaltys_gradient_for_every_kind_of_group() {
    let _serial = serial();
    let graph = with_numbers(residual(1), "conv1.weight", |i, w| if i < 72 { 0.0 } else { w });
    let id = graph.find("conv1.weight").unwrap();
    let shape = graph.node(id).unwrap().output().shape.at(1);
    let weight = Array::new(shape, numbers(&graph, "conv1.weight")).unwrap();
    for group in [WeightGroup::Filter, WeightGroup::Channel, WeightGroup::Shape, WeightGroup::Layer] {
        let mut hook = SparsifyGroups::default();
        hook.add(&graph, "conv1.weight", group, 0.3).unwrap();
        let [before, after] = gradients(&graph, &none(), &mut hook);
        let lasso = GroupLasso { lambda: 0.3, structure: group.structure(4, true), epsilon: 0.0 };
        let (_, expected) = lasso.penalty(&weight).unwrap();
        assert!(expected.values().iter().any(|pull| *pull != 0.0));
        for (path, before) in &before {
            let pulls = before.iter().zip(&after[path]).map(|(before, after)| after - before);
            let pulls: Vec<f32> = pulls.collect();
            if path == "student.conv1.weight" {
                let worst =
                    pulls.iter().zip(expected.values()).fold(0.0f32, |w, (a, b)| w.max((a - b).abs()));
                assert!(worst < 2e-5, "{group:?}: {worst}");
            } else {
                assert!(pulls.iter().all(|pull| *pull == 0.0), "{group:?} {path}");
            }
        }
    }
}

#[test]
fn units_that_are_all_but_zero_go_and_the_network_computes_the_same() {
    let _serial = serial();
    let small = |i: usize, w: f32| if i % 12 < 5 { w * 1e-4 } else { w };
    let mut graph = with_numbers(shaken(perceptron(2)), "fc1.weight", small);
    let groups = [("fc1.weight".to_owned(), WeightGroup::Filter)];
    let counts = zero_small_groups(&mut graph, &groups, 0.1).unwrap();
    assert_eq!(counts["fc1.weight"], (5, 12));
    let plan = plan_zeros(&graph).unwrap();
    assert_eq!(plan.kept("fc1.weight", 1), Some(&[5, 6, 7, 8, 9, 10, 11][..]));
    let (removed, absorbed) = plan.absorb(&graph, &Device::flex()).unwrap();
    assert!(
        absorbed.iter().all(|layer| layer.exactness == Exactness::Exact && layer.shift > 0.0),
        "{absorbed:?}"
    );
    let difference = apart(&logits(&graph, &none()), &logits(&removed, &none()));
    assert!(difference <= 1e-5, "{difference}");
}

#[test]
fn a_channel_that_nobody_reads_goes_without_a_trace() {
    let _serial = serial();
    // Channels 0 and 3 of the block, as the second convolution reads them.
    let graph = with_numbers(shaken(residual(3)), "conv2.weight", |i, w| {
        if [0, 3].contains(&(i / 9 % 6)) { 0.0 } else { w }
    });
    let plan = plan_zeros(&graph).unwrap();
    assert_eq!(plan.kept("conv1.weight", 0), Some(&[1, 2, 4, 5][..]));
    let difference = apart(&logits(&graph, &none()), &logits(&plan.apply(&graph).unwrap(), &none()));
    assert!(difference <= 1e-5, "{difference}");
}

#[test]
fn a_group_of_zeros_keeps_one_position() {
    let _serial = serial();
    let graph = with_numbers(perceptron(4), "fc2.weight", |_, _| 0.0);
    let dependencies = graph.dependencies();
    let removed = zero_positions(&graph, &dependencies).unwrap();
    for group in dependencies.groups().iter().filter(|group| group.unprunable().is_none()) {
        let gone = removed.iter().filter(|position| position.group == group.index).count();
        assert_eq!(gone, group.len() - 1);
    }
}

#[test]
fn a_block_whose_layers_are_zero_becomes_a_constant_beside_its_shortcut() {
    let _serial = serial();
    let zero = |graph, path| with_numbers(graph, path, |_, _| 0.0);
    let mut graph = zero(zero(shaken(residual(5)), "conv1.weight"), "conv2.weight");
    let (before, macs) = (logits(&graph, &none()), graph.cost(1).unwrap().macs);
    let sums = remove_constant_branches(&mut graph, &Device::flex()).unwrap();
    assert_eq!(sums, ["add"]);
    assert!(graph.find("conv1").is_err() && graph.find("bn2").is_err() && graph.find("add.constant").is_ok());
    assert!(graph.cost(1).unwrap().macs < macs / 2);
    let difference = apart(&before, &logits(&graph, &none()));
    assert!(difference <= 1e-5, "{difference}");
    assert!(remove_constant_branches(&mut graph, &Device::flex()).unwrap().is_empty());
}

#[test]
fn layers_beside_a_shortcut_are_found_and_small_ones_among_them_go_as_a_whole() {
    let _serial = serial();
    let graph = shaken(residual(8));
    for (weight, expected) in [("conv1.weight", true), ("conv2.weight", true), ("output.weight", false)] {
        assert_eq!(has_shortcut(&graph, weight).unwrap(), expected, "{weight}");
    }
    assert!(has_shortcut(&graph, "conv3.weight").unwrap_err().to_string().contains("conv1.weight"));
    let mut graph = with_numbers(graph, "conv2.weight", |_, w| w / 100.0);
    let groups = ["conv1.weight", "conv2.weight"].map(|path| (path.to_owned(), WeightGroup::Layer));
    let counts = zero_small_groups(&mut graph, &groups, 0.1).unwrap();
    assert_eq!((counts["conv1.weight"], counts["conv2.weight"]), ((0, 1), (1, 1)));
    let before = logits(&graph, &none());
    assert_eq!(remove_constant_branches(&mut graph, &Device::flex()).unwrap(), ["add"]);
    assert!(apart(&before, &logits(&graph, &none())) <= 1e-5);
    assert!(graph.find("conv1.weight").is_err());
}

#[test]
fn groups_shrink_in_a_run_that_continues_bit_for_bit_and_what_is_left_still_learns() {
    let _serial = serial();
    let graph = perceptron(6);
    let hooks = || -> Vec<Box<dyn Hook<Net>>> {
        let mut hook = SparsifyGroups::default();
        hook.add(&graph, "fc1.weight", WeightGroup::Filter, 0.05).unwrap();
        hook.add(&graph, "fc2.weight", WeightGroup::Filter, 0.05).unwrap();
        vec![Box::new(hook)]
    };
    let sgd = settings(OptimizerKind::Sgd, 6);
    let outcome = resumes_bit_for_bit(&sgd, hard, hooks, &network(&graph, &none()));
    let mut sparse = outcome.last.module().to_graph().unwrap();
    let groups = ["fc1.weight", "fc2.weight"].map(|path| (path.to_owned(), WeightGroup::Filter));
    let counts = zero_small_groups(&mut sparse, &groups, 0.3).unwrap();
    assert!(counts.values().map(|(gone, _)| gone).sum::<usize>() > 2, "{counts:?}");
    let plain = trained(sgd.clone(), hard(), Vec::new(), network(&graph, &none()));
    let none_gone = zero_small_groups(&mut plain.clone(), &groups, 0.3).unwrap();
    assert!(
        none_gone["fc1.weight"].0 < counts["fc1.weight"].0,
        "{none_gone:?} without the penalty, {counts:?} with"
    );

    let (small, _) = plan_zeros(&sparse).unwrap().absorb(&sparse, &Device::flex()).unwrap();
    assert!(apart(&logits(&sparse, &none()), &logits(&small, &none())) <= 1e-5);
    assert!(small.cost(1).unwrap().parameters < graph.cost(1).unwrap().parameters);
    let folder = tempfile::tempdir().unwrap();
    let net = network(&small, &none());
    let tuned = crate::common::fit(&folder.path().join("run"), sgd, hard(), Vec::new(), net, None).unwrap();
    assert!(tuned.best_value > 0.9, "{}", tuned.best_value);
}

#[test]
fn unknown_weights_and_shares_out_of_range_are_refused() {
    let _serial = serial();
    let mut graph = perceptron(7);
    let error = SparsifyGroups::default().add(&graph, "fc1.wieght", WeightGroup::Filter, 0.1).unwrap_err();
    assert!(error.to_string().contains("`fc1.weight`"), "{error}");
    let zero = SparsifyGroups::default().add(&graph, "fc1.weight", WeightGroup::Filter, 0.0);
    assert!(matches!(zero, Err(PruneError::Setting { .. })));
    assert!(zero_small_groups(&mut graph, &[], 1.5).is_err());
}
