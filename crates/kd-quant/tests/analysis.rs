//! The report on a network's layers, and bits by measured loss.

#![allow(clippy::unwrap_used, clippy::panic)]

use burn::tensor::{Device, Tensor, TensorData};
use kd_graph::{Activation, BatchNorm, Graph, GraphModule, Op, Role, Shape, TensorType, Value};
use kd_quant::QuantError;
use kd_quant::analysis::{analyse, flip_rates, mixed_bits, packed_bytes};
use kd_quant::integer::IntegerNetwork;
use kd_quant::plan::{Ends, PlanSettings, QuantPlan, Quantizer, initialise, kernels};

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

type Net = IntegerNetwork<Tensor<2>>;

fn numbers(results: &[Value]) -> Vec<f32> {
    results[0].data().unwrap().try_to_vec::<f32>().unwrap()
}

/// Mean squared difference of some results to those of the float network.
fn difference(results: &[Value]) -> f64 {
    let float = GraphModule::new(graph(), &Device::flex()).unwrap();
    let float = numbers(&float.run(batch()).unwrap());
    let pairs = float.iter().zip(numbers(results)).map(|(a, b)| f64::from(a - b).powi(2));
    pairs.sum::<f64>() / float.len() as f64
}

fn loss(network: &Net) -> Result<f64, QuantError> {
    Ok(difference(&network.run(batch()).unwrap()))
}

#[test]
fn every_layer_is_measured_alone() {
    let (graph, device) = (graph(), Device::flex());
    let plan = QuantPlan::new(&graph, &settings(4)).unwrap();
    let analysis = analyse(&graph, &plan, &device, &[batch()], |network: &Net| Ok(-loss(network)?)).unwrap();
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
    // Bytes as planned, at 8, at 4 and at 2 bits.
    let row: Vec<&str> =
        text.lines().find(|line| line.contains("a.weight")).unwrap().split_whitespace().collect();
    assert!(row.ends_with(&["128", "192", "128", "96"]), "{text}");
    let sweeps = analysis.sweeps();
    assert_eq!(sweeps[0].lines[0].1.len(), 2);
    assert_eq!(sweeps[2].lines[0].1[3], (4.0, analysis.bytes() as f64));
    let each: Vec<(&str, f64)> =
        sweeps[3].lines.iter().map(|(name, points)| (&**name, points[0].1)).collect();
    assert_eq!(each, [("as planned", 128.0), ("8 bits", 192.0), ("4 bits", 128.0), ("2 bits", 96.0)]);
}

#[test]
fn scores_are_those_of_the_integer_form_and_its_distance_from_the_training_form_is_reported() {
    let (graph, device) = (graph(), Device::flex());
    let plan = QuantPlan::new(&graph, &settings(3)).unwrap();
    let mut integer_nodes = Vec::new();
    let analysis = analyse(&graph, &plan, &device, &[batch()], |network: &Net| {
        integer_nodes.push(network.integer_nodes());
        loss(network)
    })
    .unwrap();
    // The float network, the whole, and either layer: the image and the rectifier's result are codes, or one of them is.
    assert_eq!(integer_nodes, [0, 2, 1, 1]);

    let mut whole = plan.apply(&graph).unwrap();
    initialise(&mut whole, &device, [batch()]).unwrap();
    let network = Net::new(&whole, &device).unwrap();
    assert_eq!(analysis.quantised, loss(&network).unwrap());
    assert_eq!(analysis.agreement, network.agreement([batch()]).unwrap());
    assert_eq!(analysis.agreement.rows.0, 10);
    // Not to the last bit the training form's, which multiplies in float.
    let training = GraphModule::with_kernels(whole.clone(), &device, &kernels(&whole).unwrap()).unwrap();
    let training = difference(&training.run(batch()).unwrap());
    assert!((analysis.quantised - training).abs() < 1e-3 * training && analysis.quantised != training);
    assert!(analysis.to_string().contains("of 10 rows have their greatest value elsewhere"));
}

/// The two layers, each with a normalisation behind it.
fn normalised() -> Graph {
    let mut graph = graph();
    graph
        .edit(|edit| {
            for (layer, channels) in [("a", 16), ("b", 4)] {
                let id = edit.graph().find(layer)?;
                let mut inputs = vec![id];
                for (what, role, start) in [
                    ("gamma", Role::Weight, 1.5_f32),
                    ("beta", Role::Weight, -0.1),
                    ("running_mean", Role::Buffer, 0.02),
                    ("running_var", Role::Buffer, 0.3),
                ] {
                    let values = (0..channels).map(|i| start * (1.0 + 0.1 * i as f32)).collect::<Vec<_>>();
                    let data = TensorData::new(values, [channels]);
                    inputs.push(edit.add_parameter(&format!("{layer}_norm.{what}"), role, data)?);
                }
                let norm = Op::BatchNorm(BatchNorm { epsilon: 1e-5, momentum: Some(0.1) });
                edit.insert_after(id, &format!("{layer}_norm"), norm, &inputs)?;
            }
            Ok(())
        })
        .unwrap();
    graph
}

#[test]
fn a_folded_plan_is_measured_as_it_is_deployed() {
    let (graph, device) = (normalised(), Device::flex());
    let folding = PlanSettings { fold_batch_norm: true, ..settings(8) };
    let plan = QuantPlan::new(&graph, &folding).unwrap();
    assert_eq!(plan.folded.len(), 2);
    let analysis = analyse(&graph, &plan, &device, &[batch()], |_: &Net| Ok(0.0)).unwrap();
    // The same as folding first: weights, what is compared, and where.
    let mut first = graph.clone();
    first.fold_batch_norm().unwrap();
    first.remove_dead().unwrap();
    let apart = QuantPlan::new(&first, &settings(8)).unwrap();
    let apart = analyse(&first, &apart, &device, &[batch()], |_: &Net| Ok(0.0)).unwrap();
    for (folded, apart) in analysis.layers.iter().zip(&apart.layers) {
        assert_eq!((&folded.weight, &folded.layer, folded.bytes), (&apart.weight, &apart.layer, apart.bytes));
        assert!((folded.weight_error.sqnr - apart.weight_error.sqnr).abs() < 0.01, "{analysis}\n{apart:?}");
        assert!((folded.output_error.sqnr - apart.output_error.sqnr).abs() < 0.5, "{analysis}\n{apart:?}");
        assert!(folded.output_error.sqnr > 30.0, "{analysis}");
    }
    let mixed = mixed_bits(&graph, &plan, &device, &[batch()], &[8, 4], 100_000, |_: &Net| Ok(0.0)).unwrap();
    assert_eq!(mixed.plan.folded, plan.folded);
    assert_eq!(mixed.bytes(), analysis.bytes());
    // A state that is not settled yet has codes too.
    let state = plan.apply(&graph).unwrap();
    let mut ready = state.clone();
    initialise(&mut ready, &device, [batch()]).unwrap();
    assert!(flip_rates(&ready, &ready, &device).unwrap().values().all(|rate| *rate == 0.0));
    // Weights and scales, biases in the place of normalisations, the scale and zero point of two activations.
    assert_eq!(packed_bytes(&state).unwrap(), analysis.bytes() + 4 * 20 + 2 * 8);
}

#[test]
fn a_layer_alone_keeps_its_map_of_scales() {
    let (graph, device) = (graph(), Device::flex());
    let xnor = PlanSettings { scale_map: true, ends: Ends::Same, ..PlanSettings::xnor() };
    let plan = QuantPlan::new(&graph, &xnor).unwrap();
    assert_eq!(plan.scaled.iter().collect::<Vec<_>>(), ["b"]);
    let mut mapped = Vec::new();
    let analysis = analyse(&graph, &plan, &device, &[batch()], |network: &Net| {
        mapped.push(network.float_nodes().iter().any(|node| node.name == "b.scaled"));
        Ok(0.0)
    })
    .unwrap();
    // The float network, the whole, the first layer and the second.
    assert_eq!(mapped, [false, true, false, true]);
    // What the map gives is compared, not the bare sum of signs, which is many times as large as the float layer's result.
    assert!(analysis.layers[1].output_error.sqnr > -3.0, "{analysis}");
}

#[test]
fn shared_hashed_and_adder_layers_have_rows_and_their_bytes_count() {
    let (graph, device) = (graph(), Device::flex());
    let of = |settings: PlanSettings, widths: &[u32], budget: usize| {
        let plan = QuantPlan::new(&graph, &PlanSettings { ends: Ends::Same, ..settings }).unwrap();
        let analysis =
            analyse(&graph, &plan, &device, &[batch()], |network: &Net| Ok(-loss(network)?)).unwrap();
        let mixed = mixed_bits(&graph, &plan, &device, &[batch()], widths, budget, loss);
        let rows: Vec<(String, u32, usize)> =
            analysis.layers.iter().map(|layer| (layer.layer.clone(), layer.bits, layer.bytes)).collect();
        (analysis, rows, mixed)
    };
    let row = |layer: &str, bits, bytes| (layer.to_owned(), bits, bytes);

    // Four centroids and, of the first element of either wave, a code for zero.
    let (analysis, rows, mixed) = of(PlanSettings::shared(2).unwrap(), &[4, 2], 200);
    assert_eq!(rows, [row("a", 3, 128 * 3 / 8 + 4 * 4), row("b", 3, 64 * 3 / 8 + 4 * 4)]);
    assert!(analysis.layers.iter().all(|layer| (3.0..30.0).contains(&layer.weight_error.sqnr)), "{analysis}");
    let mixed = mixed.unwrap();
    assert!(mixed.bytes() <= 200 && mixed.bytes() > 64 + 40, "{mixed:?}");
    // Seventeen levels take five bits.
    assert_eq!(mixed.choices[0].1[0].bytes, 128 * 5 / 8 + 16 * 4);

    // Buckets are floats, and have no other width.
    let (analysis, rows, mixed) = of(PlanSettings::hashed(4).unwrap(), &[8, 4], 32 * 4 + 16 * 4);
    assert_eq!(rows, [row("a", 32, 32 * 4), row("b", 32, 16 * 4)]);
    assert!(analysis.layers.iter().all(|layer| layer.weight_error.sqnr < 10.0), "{analysis}");
    assert_eq!(mixed.unwrap().bytes(), 32 * 4 + 16 * 4);
    let (.., mixed) = of(PlanSettings::hashed(4).unwrap(), &[8, 4], 32 * 4 + 16 * 4 - 1);
    assert!(mixed.unwrap_err().to_string().contains("at least 192 bytes"));

    let (analysis, rows, _) = of(PlanSettings::adder(), &[8], 1000);
    assert_eq!(rows, [row("a", 32, 128 * 4), row("b", 32, 64 * 4)]);
    assert!(analysis.layers.iter().all(|layer| layer.weight_error.cosine == 1.0), "{analysis}");
}

#[test]
fn more_bits_make_less_noise() {
    let (graph, device) = (graph(), Device::flex());
    let noise = |bits| {
        let plan = QuantPlan::new(&graph, &settings(bits)).unwrap();
        let analysis =
            analyse(&graph, &plan, &device, &[batch()], |network: &Net| Ok(-loss(network)?)).unwrap();
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
    let plan = QuantPlan::new(&before, &PlanSettings { activations: None, ..settings(8) }).unwrap();
    let mut after = before.clone();
    let id = after.find("a.weight").unwrap();
    let mut values = after.value(id).unwrap().try_to_vec::<f32>().unwrap();
    values[..32].iter_mut().for_each(|value| *value = -*value);
    after.edit(|edit| edit.set_value(id, TensorData::new(values, [8, 16]))).unwrap();
    let quantised = |graph: &Graph| plan.apply(graph).unwrap();
    let rates = flip_rates(&quantised(&before), &quantised(&after), &device).unwrap();
    // All but the wave's zero have another sign.
    assert_eq!(rates["a.weight"], 31.0 / 128.0);
    assert_eq!(rates["b.weight"], 0.0);

    let mut analysis = analyse(&before, &plan, &device, &[batch()], |_: &Net| Ok(0.0)).unwrap();
    assert!(
        !analysis.to_string().contains("flips")
            && analysis.sweeps().iter().all(|sweep| sweep.title != "Flips")
    );
    analysis.set_flips(&rates);
    assert_eq!(analysis.layers[0].flips, Some(rates["a.weight"]));
    let text = analysis.to_string();
    assert!(text.contains("flips") && text.contains(" 0.00 %"), "{text}");
    let sweeps = analysis.sweeps();
    let flips = sweeps.iter().find(|sweep| sweep.title == "Flips").unwrap();
    assert_eq!(flips.lines[0].1, [(1.0, rates["a.weight"]), (2.0, 0.0)]);
    let json = serde_json::to_value(&analysis).unwrap();
    assert_eq!(json["layers"][0]["flips"], rates["a.weight"]);
    assert_eq!(json["layers"][0]["weight-error"]["cosine"], analysis.layers[0].weight_error.cosine);
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let (graph, device) = (graph(), Device::flex());
    let plan = QuantPlan::new(&graph, &settings(8)).unwrap();
    let error = analyse(&graph, &plan, &device, &[], |_: &Net| Ok(0.0)).unwrap_err().to_string();
    assert!(error.contains("calibrate with is empty"), "{error}");
    let error = analyse(&graph, &plan, &device, &[batch()], |_: &Net| Ok(f64::NAN)).unwrap_err().to_string();
    assert!(error.contains("`score` is NaN"), "{error}");
    let nan = Tensor::<2>::full([2, 8], f32::NAN, &device);
    let error =
        analyse(&graph, &plan, &device, &[vec![nan.into()]], |_: &Net| Ok(0.0)).unwrap_err().to_string();
    assert!(error.contains("NaN"), "{error}");

    let mut other = plan.clone();
    other.network.insert("c.weight".into(), vec![2, 2]);
    let error = analyse(&graph, &other, &device, &[batch()], |_: &Net| Ok(0.0)).unwrap_err().to_string();
    assert!(error.contains("another network"), "{error}");
    let mut unknown = plan;
    let quantizer = unknown.weights.remove("a.weight").unwrap();
    unknown.weights.insert("a.wieght".into(), quantizer);
    let error = analyse(&graph, &unknown, &device, &[batch()], |_: &Net| Ok(0.0)).unwrap_err().to_string();
    assert!(error.contains("`a.weight`"), "{error}");
}
