//! Post-training quantisation of small networks of the zoo.

#![allow(clippy::unwrap_used)]

use burn::tensor::{Device, Tensor, TensorData};
use kd_core::{Network, Taps};
use kd_graph::{Graph, GraphModule, Op, Role, Value, trace};
use kd_models::{InputShape, ModelSpec};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{AdaRoundFit, Calibration, PostReport, PostTraining, Rounding};
use crate::plan::{Ends, PlanSettings, QuantPlan, Quantizer, kernels, sites};
use crate::{Granularity, QuantError};

fn device() -> Device {
    Device::flex()
}

/// Nearly normal numbers, the same for the same seed. Not of the device, whose random numbers other tests draw meanwhile.
fn normal(seed: u64, count: usize) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| (0..12).map(|_| random.random::<f32>()).sum::<f32>() - 6.0).collect()
}

/// A network with batch normalisations, sums and pooling, whose statistics are those of normal inputs.
fn network() -> Graph {
    let device = device();
    let model: ModelSpec = "resnet8".parse().unwrap();
    let model = model.init(InputShape::new(3, 8, 8), 10, &device).unwrap();
    let mut graph = trace(&model, images(1, 2), |model, x| model.forward(x, &mut Taps::none())).unwrap();
    // As burn draws them, but the same every time.
    for (seed, (id, node)) in graph.clone().parameters().enumerate() {
        let shape = node.output().shape.at(1);
        let count: usize = shape.iter().product();
        let reads = match shape.as_slice() {
            // Of a linear layer's weight `[in, out]`, and of its bias.
            [inputs, _] => *inputs,
            [out, ..] if shape.len() > 2 => count / out,
            _ if node.name().ends_with("bias") => 32,
            _ => continue,
        };
        let bound = 1.0 / (reads as f32).sqrt();
        let mut random = ChaCha8Rng::seed_from_u64(seed as u64);
        let values = (0..count).map(|_| random.random_range(-bound..bound)).collect();
        graph.edit(|edit| edit.set_value(id, TensorData::new::<f32, _>(values, shape))).unwrap();
    }
    // A few passes in training, so that running statistics are those of the data.
    for (id, node) in graph.clone().nodes() {
        if let Op::BatchNorm(norm) = node.op() {
            let norm = kd_graph::BatchNorm { momentum: Some(0.5), ..*norm };
            graph.edit(|edit| edit.set_op(id, Op::BatchNorm(norm))).unwrap();
        }
    }
    let module = GraphModule::new(graph, &device.autodiff()).unwrap();
    for seed in 0..12 {
        module.run(vec![images(100 + seed, 32).autodiff().into()]).unwrap();
    }
    burn::module::Module::valid(&module).to_graph().unwrap()
}

/// Noise whose neighbours are alike, as pixels are: what a rounding does to one weight another one can take back.
fn images(seed: u64, count: usize) -> Tensor<4> {
    let noise =
        Tensor::<4>::from_data(TensorData::new(normal(seed, count * 363), [count, 3, 11, 11]), &device());
    let part = |y: usize, x: usize| noise.clone().slice([0..count, 0..3, y..y + 8, x..x + 8]);
    let places = (0..4).flat_map(|y| (0..4).map(move |x| (y, x)));
    places.map(|(y, x)| part(y, x)).fold(Tensor::zeros([count, 3, 8, 8], &device()), |sum, part| sum + part)
        / 4.0
}

fn run(graph: &Graph, x: &Tensor<4>) -> Tensor<2> {
    let module = GraphModule::with_kernels(graph.clone(), &device(), &kernels(graph).unwrap()).unwrap();
    module.forward(x.clone()).unwrap()
}

/// Signal to noise in decibel.
fn sqnr(float: &Graph, quantised: &Graph) -> f64 {
    let x = images(99, 64);
    let (y, q) = (run(float, &x), run(quantised, &x));
    let energy = |t: Tensor<2>| f64::from(t.square().sum().into_scalar::<f32>());
    10.0 * (energy(y.clone()) / energy(y - q)).log10()
}

fn batches() -> Vec<Vec<Value>> {
    (200..204).map(|seed| vec![images(seed, 32).into()]).collect()
}

fn quantised(graph: &Graph, settings: &PostTraining, plan: &PlanSettings) -> (Graph, PostReport) {
    let prepared = settings.prepare(graph).unwrap();
    let plan = QuantPlan::new(prepared.graph(), plan).unwrap();
    settings.run(&prepared, &plan, Calibration::Batches(&batches()), &device()).unwrap()
}

/// So many bits in every weight, 8 in activations.
fn low(bits: u32) -> PlanSettings {
    let eight = PlanSettings::int8().unwrap();
    PlanSettings { weights: PlanSettings::uniform(bits).unwrap().weights, ends: Ends::Same, ..eight }
}

fn reconstructing(rounding: Rounding) -> PostTraining {
    PostTraining { rounding, places: 1024, ..PostTraining::default() }
}

#[test]
fn eight_bits_give_nearly_the_float_network() {
    let graph = network();
    let (int8, report) = quantised(&graph, &PostTraining::default(), &PlanSettings::int8().unwrap());
    assert!(sqnr(&graph, &int8) > 20.0, "{}\n{report}", sqnr(&graph, &int8));
    let layers = graph.nodes().filter(|(_, node)| matches!(node.op(), Op::Conv(_) | Op::Linear)).count();
    assert_eq!((report.layers.len(), report.kept.len()), (layers, 0));
    assert!(
        report.layers.iter().all(|layer| layer.weight_sqnr > 35.0 && layer.output_sqnr.unwrap() > 15.0),
        "{report}"
    );
    assert!(report.to_string().contains("linear"));
}

#[test]
fn reconstruction_beats_rounding_to_the_nearest_at_three_bits() {
    let graph = network();
    let output = |rounding| {
        let (quantised, report) = quantised(&graph, &reconstructing(rounding), &low(3));
        // Every weight lies on its grid.
        for site in sites(&quantised).unwrap().iter().filter(|site| site.weight.is_some()) {
            let value = |id| quantised.value(id).unwrap().iter::<f32>().collect::<Vec<_>>();
            let (weights, scale) = (value(site.weight.unwrap()), value(site.parameters[0]));
            if rounding != Rounding::default() && !site.turned {
                for (row, scale) in weights.chunks(weights.len() / scale.len()).zip(&scale) {
                    assert!(
                        row.iter()
                            .all(|w| (w / scale - (w / scale).round()).abs() < 1e-3
                                && (w / scale).abs() < 3.01)
                    );
                }
            }
        }
        (sqnr(&graph, &quantised), report)
    };
    let (nearest, _) = output(Rounding::default());
    let fit = AdaRoundFit { steps: 300, learning_rate: 0.02, ..AdaRoundFit::default() };
    let behind = AdaRoundFit { activation: true, ..fit };
    for rounding in [Rounding::AdaRound(fit), Rounding::AdaRound(behind), Rounding::BitSplit { epochs: 4 }] {
        let (learned, report) = output(rounding);
        // Few of these layers have a rectifier of their own behind them.
        let margin = if rounding == Rounding::AdaRound(behind) { 0.5 } else { 1.0 };
        assert!(learned > nearest + margin, "{}: {learned} against {nearest}\n{report}", rounding.name());
    }
}

#[test]
fn a_corrected_bias_takes_back_the_mean_error() {
    let graph = network();
    let error = |correct_bias| {
        let settings = PostTraining { correct_bias, ..PostTraining::default() };
        let (quantised, report) = quantised(&graph, &settings, &low(3));
        let means: Vec<Tensor<1>> = batches()
            .into_iter()
            .map(|batch| {
                let x = batch[0].float::<4>().unwrap();
                (run(&graph, &x) - run(&quantised, &x)).mean_dim(0).flatten(0, 1)
            })
            .collect();
        let mean = Tensor::stack::<2>(means, 0).mean_dim(0).abs().max().into_scalar::<f32>();
        (mean, report.layers.iter().all(|layer| layer.bias_shift.is_some()))
    };
    let ((with, moved), (without, left)) = (error(true), error(false));
    assert!(with < 1e-4 && without > 0.01, "{with} {without}");
    assert!(moved && !left);
}

#[test]
fn statistics_alone_do_nearly_as_well_as_data() {
    let graph = network();
    let settings = PostTraining { equalise: true, absorb_bias: true, ..PostTraining::default() };
    let prepared = settings.prepare(&graph).unwrap();
    assert!(!prepared.pairs().is_empty());
    let int8 = PlanSettings::int8().unwrap();
    let per_tensor = match int8.weights.clone() {
        Quantizer::Uniform(uniform) => {
            Quantizer::Uniform(crate::plan::Uniform { granularity: Granularity::Tensor, ..uniform })
        }
        other => other,
    };
    let plan = QuantPlan::new(prepared.graph(), &PlanSettings { weights: per_tensor, ..int8 }).unwrap();
    let (quantised, report) = settings.run(&prepared, &plan, Calibration::Statistics, &device()).unwrap();
    assert!(sqnr(&graph, &quantised) > 15.0, "{}\n{report}", sqnr(&graph, &quantised));
    assert!(report.layers.iter().all(|layer| layer.output_sqnr.is_none()));
    assert!(report.layers.iter().any(|layer| layer.bias_shift.is_some()));

    let learned = reconstructing(Rounding::AdaRound(AdaRoundFit::default()));
    let error = learned.run(&prepared, &plan, Calibration::Statistics, &device()).unwrap_err();
    assert!(error.to_string().contains("`rounding` is ada-round"), "{error}");
}

#[test]
fn a_quantised_network_is_saved_and_computes_the_same_when_loaded() {
    let (graph, _) = quantised(&network(), &PostTraining::default(), &PlanSettings::int8().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("int8.kdg");
    graph.save(&file).unwrap();
    let x = images(5, 5);
    assert_eq!(run(&Graph::load(&file).unwrap(), &x).into_data(), run(&graph, &x).into_data());
}

#[test]
fn pruned_weights_stay_zero() {
    let mut graph = network();
    graph.fold_batch_norm().unwrap();
    let id = graph.find("linear.weight").unwrap();
    let pruned = |values: Vec<f32>| {
        values.iter().enumerate().map(|(i, w)| if i % 3 == 0 { 0.0 } else { *w }).collect()
    };
    let values: Vec<f32> = pruned(graph.value(id).unwrap().iter::<f32>().collect());
    let shape = graph.value(id).unwrap().shape().clone();
    graph.edit(|edit| edit.set_value(id, TensorData::new(values, shape))).unwrap();
    let fit = AdaRoundFit { steps: 100, ..AdaRoundFit::default() };
    let (quantised, _) = quantised(&graph, &reconstructing(Rounding::AdaRound(fit)), &low(3));
    let rounded: Vec<f32> = quantised.value(id).unwrap().iter::<f32>().collect();
    assert!(rounded.iter().step_by(3).all(|w| *w == 0.0));
    assert!(rounded.iter().any(|w| *w != 0.0));
}

/// What is wrong with a graph, by the settings' default run.
fn refused(graph: &Graph, batches: &[Vec<Value>]) -> String {
    let settings = PostTraining::default();
    let prepared = settings.prepare(graph).unwrap();
    let plan = QuantPlan::new(prepared.graph(), &PlanSettings::int8().unwrap()).unwrap();
    let before = prepared.graph().clone();
    let error = settings.run(&prepared, &plan, Calibration::Batches(batches), &device()).unwrap_err();
    assert_eq!(*prepared.graph(), before);
    error.to_string()
}

#[test]
fn what_can_not_be_calibrated_is_named() {
    let mut graph = network();
    graph.fold_batch_norm().unwrap();
    assert_eq!(refused(&graph, &[]), "the calibration set is empty: give it at least one value");
    let broken = Tensor::<4>::full([1, 3, 8, 8], f32::NAN, &device());
    assert!(refused(&graph, &[vec![broken.into()]]).contains("NaN"));
    let zeros = Tensor::<4>::zeros([1, 3, 8, 8], &device());
    let error = refused(&graph, &[vec![zeros.into()]]);
    assert!(error.contains("is constant: zero in all that was seen"), "{error}");

    let id = graph.find("linear.weight").unwrap();
    let shape = graph.value(id).unwrap().shape().clone();
    for (value, words) in [(f32::INFINITY, "inf at index 0"), (0.5, "is constant, 0.5 everywhere")] {
        let mut graph = graph.clone();
        let data = TensorData::new(vec![value; shape.num_elements()], shape.clone());
        graph.edit(|edit| edit.set_value(id, data)).unwrap();
        let settings = PostTraining::default();
        let outcome = settings.prepare(&graph).and_then(|prepared| {
            let plan = QuantPlan::new(prepared.graph(), &PlanSettings::int8()?)?;
            settings.run(&prepared, &plan, Calibration::Batches(&batches()), &device())
        });
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains("`linear.weight`") && error.contains(words), "{error}");
    }
}

#[test]
fn a_plan_for_another_network_is_refused() {
    let settings = PostTraining::default();
    let prepared = settings.prepare(&network()).unwrap();
    let mut plan = QuantPlan::new(prepared.graph(), &PlanSettings::int8().unwrap()).unwrap();
    plan.network.insert("other.weight".to_owned(), vec![1]);
    let error = settings.run(&prepared, &plan, Calibration::Statistics, &device()).unwrap_err();
    assert!(
        matches!(error, QuantError::Plan { .. }) && error.to_string().contains("another network"),
        "{error}"
    );
}

#[test]
fn without_statistics_the_node_is_named() {
    let mut graph = Graph::new();
    let ty = kd_graph::TensorType::float(kd_graph::Shape::batched([2]));
    let x = graph.input("x", ty).unwrap();
    let weight = TensorData::from([[0.5f32, -1.0], [0.25, 0.75]]);
    let w = graph.parameter("a.weight", Role::Weight, weight.clone()).unwrap();
    let v = graph.parameter("b.weight", Role::Weight, weight).unwrap();
    let a = graph.add("a", Op::Linear, &[x, w]).unwrap();
    let tanh = graph.add("tanh", Op::Activation(kd_graph::Activation::Tanh), &[a]).unwrap();
    let b = graph.add("b", Op::Linear, &[tanh, v]).unwrap();
    graph.set_outputs(&[b]).unwrap();
    let settings = PostTraining::default();
    let prepared = settings.prepare(&graph).unwrap();
    let plan = QuantPlan::new(prepared.graph(), &PlanSettings::int8().unwrap()).unwrap();
    let error = settings.run(&prepared, &plan, Calibration::Statistics, &device()).unwrap_err().to_string();
    assert!(error.contains("`tanh` has no statistics that are known without data"), "{error}");
}

#[test]
fn settings_are_read_from_toml_and_checked() {
    let text = "equalise = true\nplaces = 512\n[rounding]\nmethod = \"ada-round\"\nsteps = 50\n[data-free]\ndeviations = 4.0\n";
    let settings: PostTraining = toml::from_str(text).unwrap();
    assert_eq!(settings.rounding, Rounding::AdaRound(AdaRoundFit { steps: 50, ..Default::default() }));
    assert_eq!(toml::from_str::<PostTraining>(&toml::to_string(&settings).unwrap()).unwrap(), settings);
    assert!(toml::from_str::<PostTraining>("equalize = true").is_err());
    let error = PostTraining { places: 0, ..settings }.validate().unwrap_err().to_string();
    assert_eq!(error, "`places` is 0, but it must be 1 or more");
}
