//! LASSO channel pruning with least-squares reconstruction, on a graph.

use burn::tensor::{Device, Tensor, TensorData};
use kd_graph::{Graph, Kernels, Value};
use kd_prune::{LassoPruned, LassoPruning};

use crate::common::{apart, logits, perceptron, residual, serial, shaken, with_numbers};

fn batches(count: usize) -> Vec<Vec<Value>> {
    let batch = |batch: usize| {
        let pixels: Vec<f32> =
            (0..8 * 16).map(|i| (((i + 131 * batch) * (i + 7)) as f32 * 0.23).sin()).collect();
        let x = Tensor::<4>::from_data(TensorData::new(pixels, [8, 1, 4, 4]), &Device::flex());
        vec![Value::from(x)]
    };
    (0..count).map(batch).collect()
}

fn run(graph: &Graph, settings: LassoPruning) -> LassoPruned {
    settings.run(graph, &Device::flex(), &batches(12), None).unwrap()
}

#[test]
fn channels_that_repeat_others_go_and_the_responses_are_reproduced() {
    let _serial = serial();
    // The last three units of the block are copies of the first three: 3 filters of 8·9 weights, and their normalisation.
    let mut graph = shaken(residual(1));
    let copy = |graph: Graph, path: &str, size: usize| {
        let old = crate::common::numbers(&graph, path);
        with_numbers(graph, path, |i, _| old[i % (3 * size)])
    };
    graph = copy(graph, "conv1.weight", 72);
    for part in ["gamma", "beta", "running_mean", "running_var"] {
        graph = copy(graph, &format!("bn1.{part}"), 1);
    }
    let only = ["conv2".to_owned()];
    let settings = LassoPruning::default();
    let LassoPruned { graph: small, layers: report, plans } =
        settings.run(&graph, &Device::flex(), &batches(12), Some(&only)).unwrap();
    assert_eq!(plans[0].apply(&graph).unwrap().cost(1).unwrap(), small.cost(1).unwrap());
    assert_eq!((report[0].before, report[0].after), (6, 3), "{report:?}");
    assert!(report[0].refitted < 1e-8, "{report:?}");
    assert!(small.cost(1).unwrap().macs < graph.cost(1).unwrap().macs);
    let none = Kernels::new();
    let difference = apart(&logits(&graph, &none), &logits(&small, &none));
    assert!(difference < 1e-3, "{difference}");
}

#[test]
fn every_layer_that_alone_reads_its_channels_is_pruned_and_refitting_is_better_than_dropping() {
    let _serial = serial();
    for (graph, expected) in
        [(shaken(residual(2)), vec!["conv2", "output"]), (shaken(perceptron(2)), vec!["fc2", "output"])]
    {
        let LassoPruned { graph: small, layers: report, .. } =
            run(&graph, LassoPruning { keep: 0.6, ..Default::default() });
        let names: Vec<_> = report.iter().map(|layer| layer.layer.as_str()).collect();
        assert_eq!(names, expected);
        for layer in &report {
            assert!(layer.after < layer.before && layer.refitted < layer.dropped, "{layer:?}");
        }
        assert!(small.cost(1).unwrap().parameters < graph.cost(1).unwrap().parameters);
        assert_eq!(logits(&small, &Kernels::new()).len(), 18);
        assert_eq!(run(&graph, LassoPruning { keep: 0.6, ..Default::default() }).graph, small);
    }
}

#[test]
fn layers_that_cannot_be_pruned_and_settings_out_of_range_are_refused() {
    let _serial = serial();
    let graph = residual(3);
    let refused = |settings: LassoPruning, layer: &str| {
        let layers = [layer.to_owned()];
        settings.run(&graph, &Device::flex(), &batches(1), Some(&layers)).unwrap_err().to_string()
    };
    assert!(refused(LassoPruning::default(), "conv22").contains("`conv2`"));
    let shared = refused(LassoPruning::default(), "conv1");
    assert!(shared.contains("`conv1`") && shared.contains("conv2, output"), "{shared}");
    assert!(refused(LassoPruning { keep: 1.0, ..Default::default() }, "conv2").contains("`keep` is 1"));
    assert!(refused(LassoPruning { positions: 0, ..Default::default() }, "conv2").contains("positions"));
}
