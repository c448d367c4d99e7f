#![allow(clippy::unwrap_used)]
use super::super::tests::{batch, values};
use super::super::{Ends, PlanSettings, QuantHook, QuantPlan, initialise, kernels, sites};
use super::fold_trained;
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use kd_graph::{Activation, BatchNorm, Conv, Graph, GraphModule, Op, Role, Shape, TensorType};

/// Two convolutions and a linear layer, each with a batch normalisation and a rectifier behind, with biases or without; the statistics are those of some
/// training.
fn normalised(bias: bool) -> Graph {
    let mut graph = Graph::new();
    let mut x = graph.input("input", TensorType::float(Shape::batched([1, 8, 8]))).unwrap();
    let device = Device::flex();
    device.seed(8);
    let random = |shape: &[usize]| {
        let count = shape.iter().product::<usize>();
        let values = Tensor::<1>::random([count], Distribution::Normal(0.0, 0.5), &device).into_data();
        TensorData::new(values.try_to_vec::<f32>().unwrap(), shape.to_vec())
    };
    let conv = Conv { stride: vec![1; 2], padding: vec![(1, 1); 2], dilation: vec![1; 2], groups: 1 };
    let shapes = [vec![3, 1, 3, 3], vec![4, 3, 3, 3], vec![256, 5]];
    for (name, shape) in ["conv0", "conv1", "fc"].into_iter().zip(shapes) {
        let (op, to) = if name == "fc" { (Op::Linear, 5) } else { (Op::Conv(conv.clone()), shape[0]) };
        if name == "fc" {
            x = graph.add("flat", Op::Reshape { shape: Shape::batched([256]) }, &[x]).unwrap();
        }
        let mut read =
            vec![x, graph.parameter(&format!("{name}.weight"), Role::Weight, random(&shape)).unwrap()];
        if bias {
            read.push(graph.parameter(&format!("{name}.bias"), Role::Weight, random(&[to])).unwrap());
        }
        let h = graph.add(name, op, &read).unwrap();
        let mut inputs = vec![h];
        for (what, role, start) in [
            ("gamma", Role::Weight, 0.8_f32),
            ("beta", Role::Weight, -0.1),
            ("running_mean", Role::Buffer, 0.2),
            ("running_var", Role::Buffer, 0.6),
        ] {
            let values = (0..to).map(|i| start * (1.0 + i as f32)).collect::<Vec<_>>();
            let path = format!("{name}_bn.{what}");
            inputs.push(graph.parameter(&path, role, TensorData::new(values, [to])).unwrap());
        }
        let norm = Op::BatchNorm(BatchNorm { epsilon: 1e-5, momentum: Some(0.1) });
        let h = graph.add(&format!("{name}_bn"), norm, &inputs).unwrap();
        x = graph.add(&format!("{name}_relu"), Op::Activation(Activation::Relu), &[h]).unwrap();
    }
    graph.set_outputs(&[x]).unwrap();
    graph
}

/// What a graph gives for some images, in evaluation.
fn run(graph: &Graph) -> Vec<f32> {
    let device = Device::flex();
    let module = GraphModule::with_kernels(graph.clone(), &device, &kernels(graph).unwrap()).unwrap();
    values(&module.run(batch(4)).unwrap()[0])
}

/// The greatest difference, as a part of the greatest value.
fn apart(a: &[f32], b: &[f32]) -> f32 {
    let largest = a.iter().fold(0.0_f32, |max, v| max.max(v.abs()));
    a.iter().zip(b).fold(0.0_f32, |max, (a, b)| max.max((a - b).abs())) / largest
}

#[test]
fn a_folded_normalisation_quantises_what_is_deployed_and_goes_into_weights_and_biases() {
    let settings = [PlanSettings::uniform(4).unwrap(), PlanSettings::lsq(4).unwrap()];
    for (bias, settings) in [false, true].into_iter().flat_map(|bias| settings.clone().map(|of| (bias, of))) {
        let graph = normalised(bias);
        for activations in [settings.activations.clone(), None] {
            // Without quantised activations nothing amplifies rounding errors.
            let tolerance = if activations.is_some() { 1e-4 } else { 1e-5 };
            let settings =
                PlanSettings { fold_batch_norm: true, ends: Ends::Same, activations, ..settings.clone() };
            let plan = QuantPlan::new(&graph, &settings).unwrap();
            assert_eq!(plan.folded.len(), 3);
            let mut quantised = plan.apply(&graph).unwrap();
            initialise(&mut quantised, &Device::flex(), [batch(2)]).unwrap();
            let deployed = fold_trained(&quantised).unwrap();
            assert!(deployed.nodes().all(|(_, node)| !matches!(node.op(), Op::BatchNorm(_))));
            for layer in ["conv0", "conv1", "fc"] {
                // Under the name that it had, if there was one.
                let node = deployed.node(deployed.find(layer).unwrap()).unwrap();
                let bias = deployed.node(node.inputs()[2]).unwrap();
                assert_eq!(bias.name(), format!("{layer}.bias"));
            }
            let difference = apart(&run(&quantised), &run(&deployed));
            assert!(difference < tolerance, "{bias} {difference}");
            // Every weight lies on the grid of the folded weight's scale.
            for site in sites(&deployed).unwrap().into_iter().filter(|site| site.weight.is_some()) {
                assert!(site.lattice(&deployed).unwrap().is_some());
            }
        }
    }
}

#[test]
fn a_folded_network_computes_what_the_float_one_does_but_for_rounding() {
    for bias in [false, true] {
        let graph = normalised(bias);
        let settings = PlanSettings {
            fold_batch_norm: true,
            activations: None,
            ends: Ends::Same,
            ..PlanSettings::int8().unwrap()
        };
        let quantised = QuantPlan::new(&graph, &settings).unwrap().apply(&graph).unwrap();
        let difference = apart(&run(&graph), &run(&quantised));
        assert!(difference > 0.0 && difference < 0.02, "{difference}");
        let mut folded = graph.clone();
        folded.fold_batch_norm().unwrap();
        assert!(apart(&run(&graph), &run(&folded)) < 1e-5);
    }
}

#[test]
fn with_frozen_statistics_training_computes_what_is_deployed_and_moves_none() {
    use kd_train::{Hook, Learner};
    let graph = normalised(true);
    let settings = PlanSettings {
        fold_batch_norm: true,
        activations: None,
        ends: Ends::Same,
        ..PlanSettings::lsq(4).unwrap()
    };
    let quantised = QuantPlan::new(&graph, &settings).unwrap().apply(&graph).unwrap();
    let (hook, kernels) = QuantHook::new(&quantised).unwrap();
    let mut hook = hook.freeze_statistics(0);
    let device = Device::flex().autodiff();
    let module = GraphModule::with_kernels(quantised.clone(), &device, &kernels).unwrap();
    let variance = |module: &GraphModule| values(&module.weight("fc_bn.running_var").unwrap());
    let learner = Learner { student: module, adapters: kd_core::Params::default() };
    let time = kd_core::Time { step: 1, epoch: 0, total_steps: 2 };
    let module = hook.after_step(time, learner).unwrap().student;
    let before = variance(&module);
    let x: Tensor<4> = batch(4)[0].float().unwrap();
    let y: Tensor<2> = module.forward(x.autodiff()).unwrap();
    assert_eq!(variance(&module), before);
    let deployed = run(&fold_trained(&quantised).unwrap());
    assert!(apart(&deployed, &values(&y.into())) < 1e-5);
}

#[test]
fn in_training_a_folded_convolution_gives_what_the_plain_one_gives_but_for_rounding() {
    let graph = normalised(true);
    let settings = PlanSettings {
        fold_batch_norm: true,
        activations: None,
        ends: Ends::Same,
        ..PlanSettings::int8().unwrap()
    };
    let quantised = QuantPlan::new(&graph, &settings).unwrap().apply(&graph).unwrap();
    let (mut hook, kernels) = QuantHook::new(&quantised).unwrap();
    let device = Device::flex().autodiff();
    let module = GraphModule::with_kernels(quantised, &device, &kernels).unwrap();
    let plain = GraphModule::new(graph, &device).unwrap();
    let x: Tensor<4> = batch(5)[0].float().unwrap();
    let ours: Tensor<2> = module.forward(x.clone().autodiff()).unwrap();
    let theirs: Tensor<2> = plain.forward(x.autodiff()).unwrap();
    let difference = (ours.clone() - theirs.clone()).abs().mean() / theirs.abs().mean();
    assert!(difference.into_scalar::<f32>() < 0.02);
    let gradients = ours.sum().backward();
    let gamma: Tensor<1> = module.weight("conv0_bn.gamma").unwrap().float().unwrap();
    let gradient = gamma.grad(&gradients).unwrap().into_data().try_to_vec::<f32>().unwrap();
    assert!(gradient.iter().all(|g| g.is_finite()));

    // The scale follows the folded weight: the running variance has moved.
    use kd_train::{Hook, Learner};
    let before = values(&module.weight("conv0.weight_scale").unwrap());
    let learner = Learner { student: module, adapters: kd_core::Params::default() };
    let module = hook.after_step(kd_core::Time::default(), learner).unwrap().student;
    assert_ne!(values(&module.weight("conv0.weight_scale").unwrap()), before);
    for (layer, channels) in [("conv0", 3), ("fc", 5)] {
        let read = |name: &str| values(&module.weight(&format!("{layer}{name}")).unwrap());
        let (scale, weight) = (read(".weight_scale"), read(".weight"));
        let (gamma, variance) = (read("_bn.gamma"), read("_bn.running_var"));
        for (channel, scale) in scale.iter().enumerate() {
            let f = gamma[channel] / (variance[channel] + 1e-5).sqrt();
            let of_channel = |i: &usize| if layer == "fc" { i % channels } else { i / 9 } == channel;
            let magnitudes = (0..weight.len()).filter(of_channel).map(|i| (weight[i] * f).abs());
            let largest = magnitudes.fold(0.0_f32, f32::max);
            assert!((scale * 127.0 - largest).abs() < 1e-4 * largest, "{layer}: {scale} {largest}");
        }
    }
}
