//! Network slimming in runs, and what becomes of the shifts of removed channels.

use crate::common::{
    apart, fit, hard, logits, network, perceptron, residual, serial, settings, shaken, trained,
};
use burn::tensor::{Device, TensorData};
use kd_graph::{Graph, Kernels, Op};
use kd_prune::{
    Budget, Exactness, NetworkSlimming, PruneError, PrunePlan, SlimStage, SlimTarget, SparsifyScales,
    Stopwatch, batch_norm_scales, slim, slim_within,
};
use kd_train::OptimizerKind;

/// The network with zero scales, and shifts as they are, where the plan removes channels.
fn silent(mut graph: Graph, plan: &PrunePlan) -> Graph {
    let mut scales = Vec::new();
    for (_, node) in graph.nodes().filter(|(_, node)| matches!(node.op(), Op::BatchNorm(_))) {
        let gamma = node.inputs()[1];
        let kept = plan.kept(graph.node(gamma).unwrap().name(), 0);
        let old = graph.value(gamma).unwrap().clone();
        let numbers = old.as_slice::<f32>().unwrap().iter().enumerate();
        let new =
            numbers.map(|(i, scale)| if kept.is_none_or(|kept| kept.contains(&i)) { *scale } else { 0.0 });
        scales.push((gamma, TensorData::new(new.collect::<Vec<_>>(), old.shape().to_vec())));
    }
    graph.edit(|edit| scales.into_iter().try_for_each(|(id, data)| edit.set_value(id, data))).unwrap();
    graph
}

#[test]
fn a_perceptron_takes_the_shifts_of_removed_units_into_biases_and_means_exactly() {
    let _serial = serial();
    let graph = shaken(perceptron(1));
    let (plan, report) = slim(&graph, 0.5).unwrap();
    assert!(report.lost_shift > 0.1, "{report:?}");
    let (small, absorbed) = plan.absorb(&graph, &Device::flex()).unwrap();
    let layers: Vec<_> = absorbed.iter().map(|layer| (layer.layer.as_str(), layer.exactness)).collect();
    assert_eq!(layers, [("fc2", Exactness::Exact), ("output", Exactness::Exact)]);
    assert!(absorbed.iter().all(|layer| layer.shift > 0.01), "{absorbed:?}");
    let none = Kernels::new();
    let expected = logits(&silent(graph.clone(), &plan), &none);
    let with = apart(&expected, &logits(&small, &none));
    let without = apart(&expected, &logits(&plan.apply(&graph).unwrap(), &none));
    assert!(with <= 1e-5 && without > 1e-2, "{with} with, {without} without");
}

#[test]
fn a_residual_network_says_where_padding_hides_a_shift_and_is_exact_where_it_does_not() {
    let _serial = serial();
    let graph = shaken(residual(2));
    let (plan, _) = slim(&graph, 0.6).unwrap();
    let (small, absorbed) = plan.absorb(&graph, &Device::flex()).unwrap();
    let exactness = |name: &str| absorbed.iter().find(|layer| layer.layer == name).map(|l| l.exactness);
    assert_eq!(exactness("conv2"), Some(Exactness::Interior), "{absorbed:?}");
    assert_eq!(exactness("output"), Some(Exactness::Exact), "{absorbed:?}");
    assert!(small.cost(1).unwrap().macs < graph.cost(1).unwrap().macs);
    let none = Kernels::new();
    let expected = logits(&silent(graph.clone(), &plan), &none);
    let with = apart(&expected, &logits(&small, &none));
    let without = apart(&expected, &logits(&plan.apply(&graph).unwrap(), &none));
    assert!(with < without, "{with} with, {without} without");
}

#[test]
fn a_channel_that_is_still_alive_is_reported_as_lost() {
    let _serial = serial();
    // Without normalisation there is no scale: what a removed unit gave varies with the input.
    let graph = perceptron(3);
    let unit = graph.dependencies().groups_of("fc1.weight", 1).unwrap()[0].position(0);
    let plan = PrunePlan::new(&graph, [unit]).unwrap();
    let mut other = graph.clone();
    let [norm, first] = ["bn1", "fc1"].map(|name| other.find(name).unwrap());
    other.edit(|edit| edit.replace_uses(norm, first)).unwrap();
    other.remove_dead().unwrap();
    let unit = other.dependencies().groups_of("fc1.weight", 1).unwrap()[0].position(0);
    let plan_without = PrunePlan::new(&other, [unit]).unwrap();
    let (_, absorbed) = plan.absorb(&graph, &Device::flex()).unwrap();
    assert!(absorbed.iter().all(|layer| layer.exactness == Exactness::Exact), "{absorbed:?}");
    let (_, absorbed) = plan_without.absorb(&other, &Device::flex()).unwrap();
    assert_eq!(absorbed[0].exactness, Exactness::Lost, "{absorbed:?}");
}

#[test]
fn a_budget_is_met_with_the_smallest_scales() {
    let _serial = serial();
    let graph = shaken(perceptron(1));
    let (plan, report) =
        slim_within(&graph, Budget::Parameters(0.4.into()), &Stopwatch::new(&Device::flex())).unwrap();
    let (before, after) = (graph.cost(1).unwrap(), plan.apply(&graph).unwrap().cost(1).unwrap());
    assert!(after.parameters <= before.parameters * 2 / 5);
    for (path, scales) in batch_norm_scales(&graph).unwrap() {
        for (channel, scale) in scales.values().iter().enumerate() {
            let kept = plan.kept(&path, 0).is_none_or(|kept| kept.contains(&channel));
            assert_eq!(kept, *scale > report.threshold, "{path} {channel}");
        }
    }
    assert!(matches!(
        slim_within(&graph, Budget::Parameters(0.001.into()), &Stopwatch::new(&Device::flex())),
        Err(PruneError::Unreachable { .. })
    ));
}

#[test]
fn the_penalty_drives_scales_down_and_a_killed_run_continues_bit_for_bit() {
    let _serial = serial();
    let graph = perceptron(4);
    let paths = || batch_norm_scales(&graph).unwrap().into_keys();
    let settings = settings(OptimizerKind::Sgd, 2);
    let hook = || -> Vec<Box<dyn kd_train::Hook<crate::common::Net>>> {
        vec![Box::new(SparsifyScales::new(0.05, paths()).unwrap())]
    };
    let net = network(&graph, &Kernels::new());
    let sparse = crate::common::resumes_bit_for_bit(&settings, hard, hook, &net);
    let sum = |graph: &Graph| -> f32 {
        batch_norm_scales(graph).unwrap().values().flat_map(|scales| scales.values().to_vec()).sum()
    };
    let sparse = sum(&sparse.last.module().to_graph().unwrap());
    let plain = sum(&trained(settings, hard(), Vec::new(), net));
    // 16 steps of 0.05 · 0.05 against each of 22 scales, and momentum on top.
    assert!(sparse < plain - 22.0 * 16.0 * 0.0025, "{sparse} with, {plain} without");
}

#[test]
fn two_passes_make_a_network_smaller_twice_and_it_still_learns() {
    let _serial = serial();
    let slimming = NetworkSlimming {
        lambda: 0.01,
        targets: vec![SlimTarget::Channels(0.4), SlimTarget::Budget(Budget::Macs(0.6.into()))],
        ..Default::default()
    };
    let dense = residual(5);
    let mut stages = Vec::new();
    let mut sizes = vec![dense.cost(1).unwrap().macs];
    let (small, passes) = slimming
        .validate()
        .unwrap()
        .run(dense, &Device::flex(), |stage, graph, hook| {
            stages.push(stage);
            assert_eq!(hook.is_some(), matches!(stage, SlimStage::Sparse { .. }));
            sizes.push(graph.cost(1).unwrap().macs);
            let folder = tempfile::tempdir().unwrap();
            let hooks: Vec<Box<dyn kd_train::Hook<crate::common::Net>>> = hook
                .map(|hook| Box::new(hook) as Box<dyn kd_train::Hook<crate::common::Net>>)
                .into_iter()
                .collect();
            let net = network(&graph, &Kernels::new());
            let outcome =
                fit(&folder.path().join("run"), settings(OptimizerKind::Sgd, 4), hard(), hooks, net, None);
            let outcome = outcome.unwrap();
            assert!(outcome.best_value > 0.9, "{stage:?}: {}", outcome.best_value);
            Ok::<_, PruneError>(outcome.last.module().to_graph().unwrap())
        })
        .unwrap();
    use SlimStage::{Recover, Sparse};
    assert_eq!(stages, [Sparse { pass: 0 }, Recover { pass: 0 }, Sparse { pass: 1 }, Recover { pass: 1 }]);
    assert_eq!(passes.len(), 2);
    let last = small.cost(1).unwrap().macs;
    assert!(
        sizes[0] == sizes[1] && sizes[1] > sizes[2] && sizes[2] == sizes[3] && sizes[3] > last,
        "{sizes:?}"
    );
}
