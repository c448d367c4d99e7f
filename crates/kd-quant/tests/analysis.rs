//! The report on a network's layers, and bits by measured loss.

#![allow(clippy::unwrap_used, clippy::panic)]

use burn::tensor::{Device, Tensor, TensorData};
use kd_graph::{Activation, Graph, GraphModule, Op, Role, Shape, TensorType, Value};
use kd_quant::QuantError;
use kd_quant::analysis::{analyse, flip_rates, mixed_bits};
use kd_quant::plan::{Ends, PlanSettings, QuantPlan, Quantizer};

/// Two linear layers, the second ten times more sensitive: its weights are larger.
fn graph() -> Graph {
    let wave = |count: usize, size: f32| -> Vec<f32> {
        (0..count).map(|i| size * ((i * i + 3 * i) as f32 * 0.7).sin()).collect()
    };
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::float(Shape::batched([8]))).unwrap();
    let a = graph.parameter("a.weight", Role::Weight, TensorData::new(wave(128, 0.05), [8, 16])).unwrap();
    let b = graph.parameter("b.weight", Role::Weight, TensorData::new(wave(64, 4.0), [16, 4])).unwrap();
    let a = graph.add("a", Op::Linear, &[x, a]).unwrap();
    let relu = graph.add("relu", Op::Activation(Activation::Relu), &[a]).unwrap();
    let b = graph.add("b", Op::Linear, &[relu, b]).unwrap();
    graph.set_outputs(&[b]).unwrap();
    graph
}

fn batch() -> Vec<Value> {
    let values: Vec<f32> = (0..80).map(|i| ((i * 11 % 37) as f32 / 10.0) - 1.8).collect();
    vec![Tensor::<2>::from_data(TensorData::new(values, [10, 8]), &Device::flex()).into()]
}

fn settings(bits: u32) -> PlanSettings {
    PlanSettings { ends: Ends::Same, ..PlanSettings::uniform(bits).unwrap() }
}

/// Mean squared difference to the float network.
fn loss(module: &GraphModule) -> Result<f64, QuantError> {
    let read =
        |module: &GraphModule| module.run(batch()).unwrap()[0].data().unwrap().try_to_vec::<f32>().unwrap();
    let float = read(&GraphModule::new(graph(), &Device::flex()).unwrap());
    let pairs = float.iter().zip(read(module)).map(|(a, b)| f64::from(a - b).powi(2));
    Ok(pairs.sum::<f64>() / float.len() as f64)
}

#[test]
fn every_layer_is_measured_alone() {
    let (graph, device) = (graph(), Device::flex());
    let plan = QuantPlan::new(&graph, &settings(4)).unwrap();
    let analysis = analyse(&graph, &plan, &device, &[batch()], |module| Ok(-loss(module)?)).unwrap();
    let names: Vec<&str> = analysis.layers.iter().map(|layer| layer.layer.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(analysis.float, 0.0);
    for layer in &analysis.layers {
        assert!((10.0..35.0).contains(&layer.weight_error.sqnr), "{analysis}");
        assert!(layer.output_error.cosine > 0.9 && layer.output_error.cosine < 1.0, "{analysis}");
        assert!(layer.alone < 0.0 && layer.alone > analysis.quantised * 1.5, "{analysis}");
        // At least the greatest weight of a channel is at the end of its grid.
        assert!(layer.saturated_weights.unwrap() > 0.0 && layer.saturated_inputs.is_some(), "{analysis}");
    }
    // 4 bits each and a scale per output.
    assert_eq!(analysis.layers[0].bytes, 128 / 2 + 16 * 4);
    assert_eq!(analysis.layers[0].bytes_at[7], 128 + 16 * 4);
    assert_eq!(analysis.bytes(), 128 / 2 + 16 * 4 + 64 / 2 + 4 * 4);
    let text = analysis.to_string();
    assert!(text.contains("a.weight") && text.contains("costs most"), "{text}");
    let sweeps = analysis.sweeps();
    assert_eq!(sweeps[0].lines[0].1.len(), 2);
    assert_eq!(sweeps[2].lines[0].1[3], (4.0, analysis.bytes() as f64));
}

#[test]
fn more_bits_make_less_noise() {
    let (graph, device) = (graph(), Device::flex());
    let noise = |bits| {
        let plan = QuantPlan::new(&graph, &settings(bits)).unwrap();
        let analysis = analyse(&graph, &plan, &device, &[batch()], |module| Ok(-loss(module)?)).unwrap();
        analysis.layers[1].output_error.sqnr
    };
    assert!(noise(8) > noise(4) + 15.0, "{} {}", noise(8), noise(4));
}

#[test]
fn bits_go_where_the_loss_is() {
    let (graph, device) = (graph(), Device::flex());
    let plan = QuantPlan::new(&graph, &settings(8)).unwrap();
    let chosen = |budget| {
        let mixed = mixed_bits(&graph, &plan, &device, &[batch()], &[8, 4, 2], budget, loss).unwrap();
        mixed.plan.check(&graph).unwrap();
        let bits: Vec<u32> = mixed.plan.weights.values().map(Quantizer::bits).collect();
        (mixed, bits)
    };
    assert_eq!(chosen(100_000).1, [8, 8]);
    // Room for 8 bits in one of them and 2 in the other, whichever: scales take 64 and 16 bytes.
    let budget = 128 + 64 + 64 / 4 + 16;
    let (mixed, bits) = chosen(budget);
    let [(_, a, of_a), (_, b, of_b)] = mixed.choices.as_slice() else { panic!("{mixed:?}") };
    let pairs = a.iter().flat_map(|a| b.iter().map(move |b| (a.bytes + b.bytes, a.loss + b.loss)));
    let least =
        pairs.filter(|(bytes, _)| *bytes <= budget).map(|(_, loss)| loss).fold(f64::INFINITY, f64::min);
    assert_eq!(a[*of_a].loss + b[*of_b].loss, least, "{mixed:?}");
    assert_eq!(bits, [a[*of_a].bits, b[*of_b].bits]);
    assert!(mixed.bytes() <= budget && bits != [8, 8], "{mixed:?}");
    // More bits, less loss, in either layer.
    for choices in [a, b] {
        assert!(choices.windows(2).all(|pair| pair[0].loss < pair[1].loss), "{mixed:?}");
    }
    let error = mixed_bits(&graph, &plan, &device, &[batch()], &[8, 4], 100, loss).unwrap_err().to_string();
    assert!(error.contains("`budget` is 100") && error.contains("at least"), "{error}");
    let error = mixed_bits(&graph, &plan, &device, &[batch()], &[9], 1000, loss).unwrap_err().to_string();
    assert!(error.contains("`bits` is 9"), "{error}");
}

#[test]
fn flips_are_counted_between_two_states() {
    let (before, device) = (graph(), Device::flex());
    let plan = QuantPlan::new(&before, &PlanSettings { ends: Ends::Same, ..PlanSettings::bwn() }).unwrap();
    let mut after = before.clone();
    let id = after.find("a.weight").unwrap();
    let mut values = after.value(id).unwrap().try_to_vec::<f32>().unwrap();
    values[..32].iter_mut().for_each(|value| *value = -*value);
    after.edit(|edit| edit.set_value(id, TensorData::new(values, [8, 16]))).unwrap();
    let quantised = |graph: &Graph| plan.apply(graph).unwrap();
    let rates = flip_rates(&quantised(&before), &quantised(&after), &device).unwrap();
    // The wave's zero has the sign of plus on either side.
    assert!((rates["a.weight"] - 0.25).abs() < 0.01, "{rates:?}");
    assert_eq!(rates["b.weight"], 0.0);
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let (graph, device) = (graph(), Device::flex());
    let plan = QuantPlan::new(&graph, &settings(8)).unwrap();
    let error = analyse(&graph, &plan, &device, &[], |_| Ok(0.0)).unwrap_err().to_string();
    assert!(error.contains("calibrate with is empty"), "{error}");
    let error = analyse(&graph, &plan, &device, &[batch()], |_| Ok(f64::NAN)).unwrap_err().to_string();
    assert!(error.contains("`score` is NaN"), "{error}");
    let nan = Tensor::<2>::full([2, 8], f32::NAN, &device);
    let error = analyse(&graph, &plan, &device, &[vec![nan.into()]], |_| Ok(0.0)).unwrap_err().to_string();
    assert!(error.contains("NaN"), "{error}");

    let mut other = plan.clone();
    other.network.insert("c.weight".into(), vec![2, 2]);
    let error = analyse(&graph, &other, &device, &[batch()], |_| Ok(0.0)).unwrap_err().to_string();
    assert!(error.contains("another network"), "{error}");
    let mut unknown = plan;
    let quantizer = unknown.weights.remove("a.weight").unwrap();
    unknown.weights.insert("a.wieght".into(), quantizer);
    let error = analyse(&graph, &unknown, &device, &[batch()], |_| Ok(0.0)).unwrap_err().to_string();
    assert!(error.contains("`a.weight`"), "{error}");
}
