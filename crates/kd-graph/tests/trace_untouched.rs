//! Tracing leaves the model, its statistics and the device's random numbers as they are.
//!
//! In a program of its own: the generator is one for the whole process.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Linear, LinearConfig};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use kd_graph::{Graph, Op, trace};

/// One test at a time draws random numbers.
fn alone() -> MutexGuard<'static, ()> {
    static RANDOM: Mutex<()> = Mutex::new(());
    RANDOM.lock().unwrap_or_else(PoisonError::into_inner)
}

fn device() -> Device {
    Device::flex()
}

/// Operations of the nodes that compute.
fn ops(graph: &Graph) -> Vec<Op> {
    graph.nodes().map(|(_, node)| node.op().clone()).filter(|op| !op.is_leaf()).collect()
}

#[derive(Module, Debug)]
struct Net {
    conv: Conv2d,
    norm: BatchNorm,
    slow: BatchNorm,
    dropout: Dropout,
    output: Linear,
}

impl Net {
    fn new(device: &Device) -> Self {
        Self {
            conv: Conv2dConfig::new([2, 4], [3, 3]).init(device),
            norm: BatchNormConfig::new(4).init(device),
            slow: BatchNormConfig::new(4).with_momentum(0.0125).init(device),
            dropout: DropoutConfig::new(0.5).init(),
            output: LinearConfig::new(4, 3).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.dropout.forward(relu(self.norm.forward(self.conv.forward(x))));
        // Called twice: its statistics move twice.
        let x = self.slow.forward(self.slow.forward(x));
        self.output.forward(x.mean_dim(3).mean_dim(2).reshape([-1, 4]))
    }
}

fn image(device: &Device) -> Tensor<4> {
    Tensor::random([4, 2, 6, 6], Distribution::Default, device)
}

fn traced(net: &Net, device: &Device) -> Graph {
    trace(net, Tensor::zeros([1, 2, 6, 6], device), |net: &Net, x| net.forward(x)).unwrap()
}

/// Outputs of everything that a training program does, with or without a trace at two places.
fn history(tracing: bool) -> Vec<TensorData> {
    let device = device().autodiff();
    device.seed(3);
    let mut net = Net::new(&device);
    let x = image(&device);
    let mut seen = vec![net.forward(x.clone()).into_data()];
    let mut optimizer = SgdConfig::new().init();
    for _ in 0..3 {
        if tracing {
            traced(&net, &device);
        }
        let output = net.forward(x.clone());
        seen.push(output.clone().into_data());
        let gradients = GradientsParams::from_grads(output.powf_scalar(2.0).sum().backward(), &net);
        net = optimizer.step(0.1, net, gradients);
    }
    seen.push(net.valid().forward(x.inner()).into_data());
    seen.push(net.conv.weight.val().into_data());
    seen
}

#[test]
fn training_goes_on_bit_for_bit() {
    let _alone = alone();
    assert_eq!(history(true), history(false));
}

#[test]
fn momenta_are_recovered_also_of_a_layer_that_is_called_twice() {
    let _alone = alone();
    for device in [device(), device().autodiff()] {
        let net = Net::new(&device);
        let momenta: Vec<_> = ops(&traced(&net, &device))
            .into_iter()
            .filter_map(|op| match op {
                Op::BatchNorm(norm) => Some(norm.momentum),
                _ => None,
            })
            .collect();
        assert_eq!(momenta, [Some(0.1), Some(0.0125), Some(0.0125)]);
    }
}

#[test]
fn frozen_statistics_have_no_momentum_and_evaluation_form_is_no_matter() {
    let _alone = alone();
    let momentum = |net: &Net| match ops(&traced(net, &device()))[1].clone() {
        Op::BatchNorm(norm) => norm.momentum,
        other => panic!("{other:?}"),
    };
    let net = Net::new(&device());
    assert_eq!(momentum(&net.valid()), Some(0.1));
    let frozen = Net { norm: net.norm.clone().freeze(), ..net };
    assert_eq!(momentum(&frozen), None);
}

#[test]
fn running_statistics_stay_on_their_device_and_in_the_graph_as_they_were() {
    let _alone = alone();
    let device = device().autodiff();
    let net = Net::new(&device);
    net.forward(image(&device));
    let graph = traced(&net, &device);
    let mean = graph.value(graph.find("norm.running_mean").unwrap()).unwrap();
    assert_eq!(**mean, net.valid().norm.running_mean.value().into_data());
    assert!(mean.iter::<f32>().any(|value| value != 0.0));
    assert!(net.devices().iter().all(|found| *found == device), "{:?}", net.devices());
}
