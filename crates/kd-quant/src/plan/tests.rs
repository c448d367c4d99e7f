#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use kd_graph::{
    Activation, BatchNorm, Binary, Conv, Graph, GraphModule, Op, Pool, PoolKind, Role, Shape, TensorType,
    Value,
};

/// Convolution, rectifier, pooling, convolution, rectifier, linear, rectifier, linear.
pub(super) fn network() -> Graph {
    let device = Device::flex();
    device.seed(1);
    let random = |shape: &[usize]| {
        let count = shape.iter().product::<usize>();
        let values = Tensor::<1>::random([count], Distribution::Normal(0.0, 0.4), &device).into_data();
        TensorData::new(values.try_to_vec::<f32>().unwrap(), shape.to_vec())
    };
    let mut graph = Graph::new();
    let x = graph.input("input", TensorType::float(Shape::batched([1, 8, 8]))).unwrap();
    let conv = |size: usize| {
        Op::Conv(Conv { stride: vec![1; 2], padding: vec![(size, size); 2], dilation: vec![1; 2], groups: 1 })
    };
    let weight = |graph: &mut Graph, path: &str, shape: &[usize]| {
        graph.parameter(path, Role::Weight, random(shape)).unwrap()
    };
    let w = weight(&mut graph, "conv1.weight", &[4, 1, 3, 3]);
    let h = graph.add("conv1", conv(1), &[x, w]).unwrap();
    let h = graph.add("relu1", Op::Activation(Activation::Relu), &[h]).unwrap();
    let pool = Pool {
        kind: PoolKind::Max,
        kernel: vec![2; 2],
        stride: vec![2; 2],
        padding: vec![0; 2],
        dilation: vec![1; 2],
        ceil: false,
    };
    let h = graph.add("pool", Op::Pool(pool), &[h]).unwrap();
    let w = weight(&mut graph, "conv2.weight", &[6, 4, 3, 3]);
    let h = graph.add("conv2", conv(1), &[h, w]).unwrap();
    let h = graph.add("relu2", Op::Activation(Activation::Relu), &[h]).unwrap();
    let flat = Op::Reshape { shape: Shape::batched([96]) };
    let h = graph.add("flat", flat, &[h]).unwrap();
    let w = weight(&mut graph, "fc1.weight", &[96, 5]);
    let h = graph.add("fc1", Op::Linear, &[h, w]).unwrap();
    let h = graph.add("relu3", Op::Activation(Activation::Relu), &[h]).unwrap();
    let w = weight(&mut graph, "fc2.weight", &[5, 3]);
    let h = graph.add("fc2", Op::Linear, &[h, w]).unwrap();
    graph.set_outputs(&[h]).unwrap();
    graph
}

/// Two convolutions whose results are added.
pub(super) fn residual() -> Graph {
    let mut graph = Graph::new();
    let x = graph.input("input", TensorType::float(Shape::batched([2, 4, 4]))).unwrap();
    let conv =
        || Op::Conv(Conv { stride: vec![1; 2], padding: vec![(0, 0); 2], dilation: vec![1; 2], groups: 1 });
    let w = TensorData::new(vec![0.5f32, -0.5, 0.25, 1.0], [2, 2, 1, 1]);
    let a = graph.parameter("a.weight", Role::Weight, w.clone()).unwrap();
    let b = graph.parameter("b.weight", Role::Weight, w).unwrap();
    let h = graph.add("a", conv(), &[x, a]).unwrap();
    let h = graph.add("relu", Op::Activation(Activation::Relu), &[h]).unwrap();
    let g = graph.add("b", conv(), &[h, b]).unwrap();
    let sum = graph.add("add", Op::Binary(Binary::Add), &[h, g]).unwrap();
    graph.set_outputs(&[sum]).unwrap();
    graph
}

pub(super) fn batch(seed: u64) -> Vec<Value> {
    let device = Device::flex();
    device.seed(seed);
    vec![Tensor::<4>::random([6, 1, 8, 8], Distribution::Normal(0.3, 1.0), &device).into()]
}

pub(super) fn every() -> Vec<(&'static str, PlanSettings)> {
    vec![
        ("int8", PlanSettings::int8().unwrap()),
        ("lsq", PlanSettings::lsq(3).unwrap()),
        ("dorefa", PlanSettings::dorefa(2, 2, None).unwrap()),
        ("pact", PlanSettings::pact(4).unwrap()),
        ("bnn", PlanSettings::bnn()),
        ("binary-connect", PlanSettings::binary_connect()),
        ("bwn", PlanSettings::bwn()),
        ("xnor", PlanSettings::xnor()),
        ("abc-net", PlanSettings::abc_net(3, 3).unwrap()),
        ("sibnn", PlanSettings::sibnn()),
        ("sttn", PlanSettings::sttn()),
        ("twn", PlanSettings::twn()),
        ("ttq", PlanSettings::ttq()),
        ("power-of-two", PlanSettings::power_of_two(4).unwrap()),
        ("apot", PlanSettings::apot(4).unwrap()),
    ]
}

/// Methods that put something else in the place of weights.
fn sharing() -> [(&'static str, PlanSettings); 2] {
    [("centroids", PlanSettings::shared(3).unwrap()), ("buckets", PlanSettings::hashed(4).unwrap())]
}

/// The network quantised, its scales set.
pub(super) fn quantised(settings: &PlanSettings) -> Graph {
    let graph = network();
    let plan = QuantPlan::new(&graph, settings).unwrap();
    let mut graph = plan.apply(&graph).unwrap();
    initialise(&mut graph, &Device::flex(), [batch(2)]).unwrap();
    graph
}

pub(super) fn values(value: &Value) -> Vec<f32> {
    value.data().unwrap().iter::<f32>().collect()
}

#[test]
fn every_methods_values_lie_on_its_lattice_or_are_few() {
    let device = Device::flex();
    for (name, settings) in every() {
        let graph = quantised(&settings);
        let module = GraphModule::with_kernels(graph.clone(), &device, &kernels(&graph).unwrap()).unwrap();
        let sites = sites(&graph).unwrap();
        assert!(!sites.is_empty(), "{name}");
        let nodes: Vec<_> = sites.iter().map(|site| site.node).collect();
        let (_, outputs) = module.run_tapped(batch(3), &nodes).unwrap();
        for (site, output) in sites.iter().zip(outputs) {
            let at = graph.node(site.node).unwrap().name().to_owned();
            let numbers = values(&output);
            assert!(numbers.iter().all(|v| v.is_finite()), "{name} {at}");
            match site.lattice(&graph).unwrap() {
                Some(lattice) => {
                    // Turned weights have their channels behind.
                    let blocks = lattice.scale.len();
                    let per = numbers.len() / blocks;
                    for (i, v) in numbers.iter().enumerate() {
                        let block = if site.turned { i % blocks } else { i / per };
                        let block = if blocks == 1 { 0 } else { block };
                        let code = v / lattice.scale[block] + lattice.zero_point[block] as f32;
                        assert!((code - code.round()).abs() < 1e-3, "{name} {at}: {v} is code {code}");
                        let inside =
                            f64::from(lattice.grid.min()) - 1e-3..=f64::from(lattice.grid.max()) + 1e-3;
                        assert!(inside.contains(&f64::from(code)), "{name} {at}: code {code}");
                    }
                }
                None if site.quantizer.bits() > 8 => {}
                None => {
                    let mut distinct = numbers.clone();
                    distinct.sort_by(f32::total_cmp);
                    distinct.dedup_by(|a, b| (*a - *b).abs() < 1e-6);
                    assert!(
                        distinct.len() <= 1 << (site.quantizer.bits().max(2) + 1),
                        "{name} {at}: {distinct:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn weights_that_share_values_are_replaced_by_what_they_are_made_of() {
    let device = Device::flex();
    for (name, settings) in sharing() {
        let graph = quantised(&settings);
        let module = GraphModule::with_kernels(graph.clone(), &device, &kernels(&graph).unwrap()).unwrap();
        assert!(values(&module.run(batch(3)).unwrap()[0]).iter().all(|v| v.is_finite()), "{name}");
        for (path, elements) in [("conv2.weight", 216), ("fc1.weight", 480)] {
            assert!(graph.find(path).is_err(), "{name}");
            let parameter = graph.node(graph.find(&format!("{path}_{name}")).unwrap()).unwrap();
            let wanted = if name == "centroids" { 8 } else { elements / 4 };
            assert_eq!(parameter.output().shape.elements(1), wanted, "{name} {path}");
        }
        // As evaluated in integers, where it is a table of levels.
        let network = crate::integer::IntegerNetwork::<Tensor<4>>::new(&graph, &device).unwrap();
        let integer = values(&network.run(batch(3)).unwrap()[0]);
        let training = values(&module.run(batch(3)).unwrap()[0]);
        assert!(integer.iter().zip(&training).all(|(a, b)| (a - b).abs() < 1e-4), "{name}");
    }
}

#[test]
fn a_saved_quantised_graph_runs_without_the_plan() {
    let graph = quantised(&PlanSettings::lsq(4).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("graph.kdg");
    graph.save(&path).unwrap();
    let back = Graph::load(&path).unwrap();
    let device = Device::flex();
    let run = |graph: &Graph| {
        let module = GraphModule::with_kernels(graph.clone(), &device, &kernels(graph).unwrap()).unwrap();
        values(&module.run(batch(4)).unwrap()[0])
    };
    assert_eq!(run(&graph), run(&back));
}

#[test]
fn plans_survive_json_and_toml() {
    let graph = network();
    for (name, settings) in every().into_iter().chain(sharing()) {
        let plan = QuantPlan::new(&graph, &settings).unwrap();
        let json = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<QuantPlan>(&json).unwrap(), plan, "{name}");
        let text = toml::to_string(&plan).unwrap();
        assert_eq!(toml::from_str::<QuantPlan>(&text).unwrap(), plan, "{name}");
    }
}

#[test]
fn a_plan_for_another_network_and_an_unknown_layer_are_refused() {
    let plan = QuantPlan::new(&network(), &PlanSettings::lsq(4).unwrap()).unwrap();
    let error = plan.apply(&residual()).unwrap_err().to_string();
    assert!(error.contains("conv1.weight"), "{error}");
    let mut unknown = plan.clone();
    unknown.weights.insert("conv3.weight".into(), Quantizer::lsq_weight(2).unwrap());
    let error = unknown.apply(&network()).unwrap_err().to_string();
    assert!(error.contains("`conv3.weight`") && error.contains("`conv2.weight`"), "{error}");
    let mut wrong = plan.clone();
    wrong.weights.insert("conv2.weight".into(), PlanSettings::xnor().activations.unwrap());
    assert!(wrong.apply(&network()).unwrap_err().to_string().contains("not for weights"));
    let mut bits = plan;
    bits.gradients.insert("conv2".into(), crate::DorefaGradient { bits: 9 });
    assert!(bits.apply(&network()).unwrap_err().to_string().contains("`bits` is 9"));
}

#[test]
fn the_first_and_the_last_layer_have_eight_bits_and_excluded_ones_none() {
    let settings = PlanSettings { exclude: vec!["conv*".into()], ..PlanSettings::lsq(2).unwrap() };
    let plan = QuantPlan::new(&network(), &settings).unwrap();
    let bits: Vec<_> = plan.weights.iter().map(|(path, q)| (path.as_str(), q.bits())).collect();
    assert_eq!(bits, [("fc1.weight", 2), ("fc2.weight", 8)]);
    let none = PlanSettings { exclude: vec!["cnov2*".into()], ..PlanSettings::lsq(2).unwrap() };
    let error = QuantPlan::new(&network(), &none).unwrap_err().to_string();
    assert!(error.contains("`cnov2*` excludes no layer; the nearest are conv2, "), "{error}");
}

#[test]
fn what_is_added_shares_one_scale() {
    let graph = residual();
    let plan = QuantPlan::new(&graph, &PlanSettings::lsq(8).unwrap()).unwrap();
    let relu = &plan.activations["relu"];
    assert_eq!(relu, &plan.activations["b"]);
    assert!(relu.group.is_some());
    let mut graph = plan.apply(&graph).unwrap();
    let x = Tensor::<4>::ones([1, 2, 4, 4], &Device::flex());
    initialise(&mut graph, &Device::flex(), [vec![x.into()]]).unwrap();
    let sites = sites(&graph).unwrap();
    let of = |name: &str| {
        let id = graph.find(name).unwrap();
        sites.iter().find(|site| site.node == id).unwrap()
    };
    assert_eq!(of("relu.quantised").parameters, of("b.quantised").parameters);
    assert_eq!(of("relu.quantised").point, of("b.quantised").point);
}

#[test]
fn a_binary_activation_has_a_norm_in_front_and_no_rectifier() {
    let graph = quantised(&PlanSettings::xnor());
    assert!(graph.find("relu2").is_err() && graph.find("relu1").is_err());
    // Not quantised, not touched: what the last layer reads stays as it was.
    assert!(graph.find("relu3").is_ok());
    let sign = graph.node(graph.find("relu2.quantised").unwrap()).unwrap();
    let norm = graph.node(sign.inputs()[0]).unwrap();
    assert!(matches!(norm.op(), Op::BatchNorm(BatchNorm { momentum: Some(_), .. })));
    let bnn = quantised(&PlanSettings::bnn());
    let behind = bnn.node(bnn.outputs()[0]).unwrap();
    assert!(matches!(behind.op(), Op::BatchNorm(_)), "weights without magnitude: {}", behind.name());
}

#[test]
fn an_uninitialised_graph_makes_no_kernels() {
    let graph = network();
    let plan = QuantPlan::new(&graph, &PlanSettings::lsq(4).unwrap()).unwrap();
    let mut graph = plan.apply(&graph).unwrap();
    let error = kernels(&graph).unwrap_err().to_string();
    assert!(error.contains("input.scale") && error.contains("initialise"), "{error}");
    let none: [Vec<Value>; 0] = [];
    assert!(matches!(initialise(&mut graph, &Device::flex(), none), Err(crate::QuantError::Empty { .. })));
}

#[test]
fn an_adder_network_computes_with_adder_layers_and_normalises_behind_them() {
    let graph = quantised(&PlanSettings::adder());
    assert!(sites(&graph).unwrap().is_empty());
    let device = Device::flex();
    let module = GraphModule::with_kernels(graph.clone(), &device, &kernels(&graph).unwrap()).unwrap();
    let nodes = ["pool", "conv2", "conv2.batch_norm", "fc1"].map(|name| graph.find(name).unwrap());
    let (_, taps) = module.run_tapped(batch(3), &nodes).unwrap();
    let weight: Tensor<4> = module.weight("conv2.weight").unwrap().float().unwrap();
    let conv = crate::adder::AdderConv { padding: 1, ..Default::default() };
    let direct = conv.forward(taps[0].float().unwrap(), weight).unwrap();
    assert_eq!(values(&taps[1]), direct.into_data().try_to_vec::<f32>().unwrap());
    assert!(values(&taps[3]).iter().all(|v| *v <= 0.0));
    // First and last layer multiply.
    assert!(matches!(graph.node(graph.find("conv1").unwrap()).unwrap().op(), Op::Conv(_)));
}

/// The network with a third of `fc1.weight` masked, the first of every column among it, and the mask.
fn masked() -> (Graph, Vec<f32>) {
    let mut graph = network();
    let keep: Vec<f32> = (0..480).map(|i| if i < 5 || i % 3 == 0 { 0.0 } else { 1.0 }).collect();
    graph
        .edit(|edit| {
            let weight = edit.graph().find("fc1.weight")?;
            // What is masked is far larger than what is kept.
            let mut values: Vec<f32> = edit.graph().value(weight).unwrap().iter::<f32>().collect();
            values.iter_mut().zip(&keep).filter(|(_, keep)| **keep == 0.0).for_each(|(v, _)| *v *= 100.0);
            edit.set_value(weight, TensorData::new(values, [96, 5]))?;
            let mask = TensorData::new(keep.clone(), [96, 5]);
            let mask = edit.add_parameter("fc1.weight_mask", Role::Buffer, mask)?;
            edit.insert_after(weight, "fc1.weight_masked", Op::Binary(Binary::Mul), &[weight, mask])
        })
        .unwrap();
    (graph, keep)
}

/// The greatest magnitude of what is kept in every column of `fc1.weight`.
fn kept_extremes(graph: &Graph, keep: &[f32]) -> Vec<f32> {
    let weight: Vec<f32> = graph.value(graph.find("fc1.weight").unwrap()).unwrap().iter::<f32>().collect();
    let product: Vec<f32> = weight.iter().zip(keep).map(|(w, k)| (w * k).abs()).collect();
    (0..5).map(|column| product.iter().skip(column).step_by(5).fold(0.0, |a: f32, &b| a.max(b))).collect()
}

#[test]
fn scales_start_and_are_observed_from_what_a_mask_leaves() {
    use kd_train::{Hook, Learner};
    let (graph, keep) = masked();
    let wanted = kept_extremes(&graph, &keep);
    let settings = PlanSettings { activations: None, ..PlanSettings::int8().unwrap() };
    let quantised = QuantPlan::new(&graph, &settings).unwrap().apply(&graph).unwrap();
    let scales = |values: Vec<f32>| values.iter().map(|scale| scale * 127.0).collect::<Vec<_>>();
    let near = |got: Vec<f32>| got.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-5 * b);
    let start = quantised.value(quantised.find("fc1.weight_scale").unwrap()).unwrap();
    assert!(near(scales(start.iter::<f32>().collect())), "{start:?} {wanted:?}");

    let (mut hook, kernels) = QuantHook::new(&quantised).unwrap();
    let device = Device::flex().autodiff();
    let student = GraphModule::with_kernels(quantised, &device, &kernels).unwrap();
    let learner = Learner { student, adapters: kd_core::Params::default() };
    let time = kd_core::Time { step: 1, epoch: 0, total_steps: 2 };
    let student = hook.after_step(time, learner).unwrap().student;
    assert!(near(scales(values(&student.weight("fc1.weight_scale").unwrap()))));
}

#[test]
fn clusters_are_fitted_to_what_a_mask_leaves() {
    let (graph, keep) = masked();
    let greatest = kept_extremes(&graph, &keep).into_iter().fold(0.0, f32::max);
    let settings = PlanSettings::shared(3).unwrap();
    let shared = QuantPlan::new(&graph, &settings).unwrap().apply(&graph).unwrap();
    let centroids = shared.value(shared.find("fc1.weight_centroids").unwrap()).unwrap();
    assert!(centroids.iter::<f32>().all(|centroid| centroid.abs() <= greatest), "{centroids:?}");
}

#[test]
fn a_masked_weight_is_refused_to_methods_without_a_zero() {
    let (graph, _) = masked();
    for settings in
        [PlanSettings::bwn(), PlanSettings::binary_connect(), PlanSettings::dorefa(2, 2, None).unwrap()]
    {
        let plan = QuantPlan::new(&graph, &PlanSettings { ends: Ends::Same, ..settings }).unwrap();
        let error = plan.apply(&graph).unwrap_err().to_string();
        assert!(error.contains("`fc1.weight` is masked") && error.contains("no zero"), "{error}");
    }
}

#[test]
fn weights_and_activations_that_can_not_be_quantised_are_named() {
    for (value, words) in [(f32::NAN, "holds NaN at index 0"), (0.5, "is constant, 0.5 everywhere")] {
        for (name, settings) in every().into_iter().chain(sharing()) {
            let mut graph = network();
            let settings = PlanSettings { ends: Ends::Same, ..settings };
            let plan = QuantPlan::new(&graph, &settings).unwrap();
            let wrong = TensorData::new(vec![value; 480], [96, 5]);
            graph.edit(|edit| edit.set_value(edit.graph().find("fc1.weight")?, wrong)).unwrap();
            let error = plan.apply(&graph).unwrap_err().to_string();
            assert!(error.contains("`fc1.weight`") && error.contains(words), "{name}: {error}");
        }
    }
    for settings in [PlanSettings::lsq(4).unwrap(), PlanSettings::int8().unwrap()] {
        let float = network();
        let mut graph = QuantPlan::new(&float, &settings).unwrap().apply(&float).unwrap();
        for (value, words) in [(0.0, "is constant"), (f32::INFINITY, "inf")] {
            let x = Tensor::<4>::full([2, 1, 8, 8], value, &Device::flex());
            let error = initialise(&mut graph, &Device::flex(), [vec![x.into()]]).unwrap_err().to_string();
            assert!(error.contains("`input`") && error.contains(words), "{error}");
        }
    }
}

#[test]
fn entries_that_are_no_activations_or_have_several_scales_are_refused() {
    let graph = network();
    let plan = QuantPlan::new(&graph, &PlanSettings::int8().unwrap()).unwrap();
    let mut other = plan.clone();
    let point = other.activations["pool"].clone();
    other.activations.insert("conv1.weight".into(), point);
    assert!(other.apply(&graph).unwrap_err().to_string().contains("is no activation"));
    let mut other = plan;
    if let Some(Point { quantizer: Quantizer::Uniform(uniform), .. }) = other.activations.get_mut("pool") {
        uniform.granularity = crate::Granularity::Channel { axis: 1 };
    }
    assert!(other.apply(&graph).unwrap_err().to_string().contains("an activation has one scale"));
}

#[test]
fn ranges_of_volumes_are_watched_in_training() {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::float(Shape::batched([1, 3, 3, 3]))).unwrap();
    let w = TensorData::new(vec![0.5_f32, -1.0], [2, 1, 1, 1, 1]);
    let w = graph.parameter("conv.weight", Role::Weight, w).unwrap();
    let conv = Conv { stride: vec![1; 3], padding: vec![(0, 0); 3], dilation: vec![1; 3], groups: 1 };
    let conv = graph.add("conv", Op::Conv(conv), &[x, w]).unwrap();
    graph.set_outputs(&[conv]).unwrap();
    let volumes = |value: f32| Tensor::<5>::full([2, 1, 3, 3, 3], value, &Device::flex());

    let mut graph = QuantPlan::new(&graph, &PlanSettings::int8().unwrap()).unwrap().apply(&graph).unwrap();
    initialise(&mut graph, &Device::flex(), [vec![volumes(1.0).into()]]).unwrap();
    let (mut hook, kernels) = QuantHook::new(&graph).unwrap();
    let student = GraphModule::with_kernels(graph, &Device::flex().autodiff(), &kernels).unwrap();
    student.run(vec![volumes(11.0).autodiff().into()]).unwrap();
    let learner = kd_train::Learner { student, adapters: kd_core::Params::default() };
    let time = kd_core::Time { step: 1, epoch: 0, total_steps: 2 };
    let student = kd_train::Hook::after_step(&mut hook, time, learner).unwrap().student;
    // A hundredth of the way from 1 to 11, in 255 steps.
    let scale = values(&student.weight("x.scale").unwrap())[0];
    assert!((scale * 255.0 - 1.1).abs() < 1e-4, "{scale}");
}

#[test]
fn a_soft_threshold_ternary_weight_starts_at_zero_where_it_is_small() {
    let w = Tensor::<2>::from_floats([[1.0, -0.1, 0.2, -0.9]], &Device::flex());
    let quantizer = PlanSettings::sttn().weights;
    let second = quantizer.initial(w.clone()).unwrap();
    // The mean magnitude is 0.55: two of four are below 0.385.
    let y = values(&quantizer.quantize(w, &second).unwrap().into());
    assert_eq!(y, [1.1, 0.0, 0.0, -1.1]);
}

#[test]
fn pruned_weights_stay_zero_through_a_quantiser_that_has_a_zero() {
    let methods = [
        PlanSettings::lsq(3).unwrap(),
        PlanSettings::int8().unwrap(),
        PlanSettings::twn(),
        PlanSettings::ttq(),
        PlanSettings::power_of_two(4).unwrap(),
    ];
    for settings in methods {
        let (graph, keep) = masked();
        let plan = QuantPlan::new(&graph, &settings).unwrap();
        let mut graph = plan.apply(&graph).unwrap();
        initialise(&mut graph, &Device::flex(), [batch(2)]).unwrap();
        let device = Device::flex();
        let module = GraphModule::with_kernels(graph.clone(), &device, &kernels(&graph).unwrap()).unwrap();
        let node = graph.find("fc1.weight_quantised").unwrap();
        let (_, taps) = module.run_tapped(batch(3), &[node]).unwrap();
        let quantised = values(&taps[0]);
        let kept = quantised.iter().zip(&keep).filter(|(_, keep)| **keep == 1.0);
        assert!(kept.clone().any(|(v, _)| *v != 0.0), "{}", settings.weights);
        let pruned = quantised.iter().zip(&keep).filter(|(_, keep)| **keep == 0.0);
        assert!(pruned.clone().all(|(v, _)| *v == 0.0), "{}", settings.weights);
    }
}

/// The gradient of `fc1.weight` under a loss of which the layer's result has the gradient one everywhere.
#[test]
fn the_gradient_of_a_linear_weight_is_the_methods_with_output_channels_in_front() {
    let device = Device::flex().autodiff();
    for (name, settings) in every() {
        let (Quantizer::Xnor(_) | Quantizer::DorefaWeight(_) | Quantizer::Twn(_) | Quantizer::Lsq(_)) =
            settings.weights
        else {
            continue;
        };
        let settings = PlanSettings { activations: None, ends: Ends::Same, ..settings };
        let mut graph = Graph::new();
        let x = graph.input("x", TensorType::float(Shape::batched([3]))).unwrap();
        let w = TensorData::from([[0.5f32, -1.5], [0.02, 0.4], [-0.7, 0.9]]);
        let weight = graph.parameter("fc.weight", Role::Weight, w.clone()).unwrap();
        let fc = graph.add("fc", Op::Linear, &[x, weight]).unwrap();
        graph.set_outputs(&[fc]).unwrap();
        let graph = QuantPlan::new(&graph, &settings).unwrap().apply(&graph).unwrap();
        let kernels = kernels(&graph).unwrap();
        let module = GraphModule::with_kernels(graph.clone(), &device, &kernels).unwrap();
        let x = Tensor::<2>::from_data([[1.0, 2.0, -1.0], [0.5, -3.0, 0.25]], &device);
        let y: Tensor<2> = module.forward(x.clone()).unwrap();
        let gradients = y.sum().backward();
        let ours: Tensor<2> = module.weight("fc.weight").unwrap().float().unwrap();
        let ours = ours.grad(&gradients).unwrap().into_data().try_to_vec::<f32>().unwrap();

        // As the method keeps its real weights.
        let own = settings.weights.project(Tensor::<2>::from_data(w, &device).transpose());
        let own = own.transpose().detach().require_grad();
        let sites = sites(&graph).unwrap();
        let paths = sites[0].parameters.iter().map(|id| graph.node(*id).unwrap().name());
        let parameters: Vec<_> = paths.map(|path| module.weight(path).unwrap()).collect();
        let quantised = settings.weights.quantize(own.clone().transpose(), &parameters).unwrap();
        let gradients = x.matmul(quantised.transpose()).sum().backward();
        let theirs = own.grad(&gradients).unwrap().into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(ours, theirs, "{name}");
    }
}
