//! Network slimming of a model that knows nothing of pruning, from training to a smaller file: a plain convolution, a residual block, and a
//! classifier, on the digits that the program draws itself.
#![allow(clippy::unwrap_used)]

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::optim::{GradientsParams, SgdConfig, momentum::MomentumConfig};
use burn::tensor::activation::{log_softmax, relu};
use burn::tensor::{Device, Int, Tensor, TensorData};
use kd_core::{Params, Time};
use kd_graph::{Graph, GraphModule};
use kd_prune::{PrunePlan, SparsifyScales, batch_norm_scales, slim};
use kd_train::{Gradients, Hook, Learner};

#[derive(Module, Debug)]
struct Net {
    stem: Conv2d,
    stem_norm: BatchNorm,
    inner: Conv2d,
    inner_norm: BatchNorm,
    outer: Conv2d,
    outer_norm: BatchNorm,
    head: Linear,
}

impl Net {
    fn new(device: &Device) -> Self {
        let conv = |from, to, stride| {
            Conv2dConfig::new([from, to], [3, 3])
                .with_stride([stride, stride])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .with_bias(false)
                .init(device)
        };
        let norm = |channels| BatchNormConfig::new(channels).init(device);
        Self {
            stem: conv(1, 8, 2),
            stem_norm: norm(8),
            inner: conv(8, 16, 2),
            inner_norm: norm(16),
            outer: conv(16, 16, 1),
            outer_norm: norm(16),
            head: LinearConfig::new(16 * 49, 10).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.stem_norm.forward(self.stem.forward(x)));
        let x = relu(self.inner_norm.forward(self.inner.forward(x)));
        let x = relu(self.outer_norm.forward(self.outer.forward(x.clone())) + x);
        let [batch, ..] = x.dims();
        self.head.forward(x.reshape([batch, 16 * 49]))
    }
}

struct Digits {
    pixels: Vec<f32>,
    labels: Vec<i64>,
}

impl Digits {
    fn draw(count: usize, seed: u64) -> Self {
        let images = kd_data::digits::generate(count, seed);
        let pixels = (0..count).flat_map(|i| images.pixels(i).unwrap().to_vec());
        Self {
            pixels: pixels.map(|pixel| f32::from(pixel) / 255.0).collect(),
            labels: images.labels().iter().map(|label| i64::from(*label)).collect(),
        }
    }

    fn batch(&self, start: usize, size: usize, device: &Device) -> (Tensor<4>, Tensor<1, Int>) {
        let pixels = self.pixels[start * 784..(start + size) * 784].to_vec();
        let labels = self.labels[start..start + size].to_vec();
        let x = Tensor::from_data(TensorData::new(pixels, [size, 1, 28, 28]), device);
        (x, Tensor::from_data(TensorData::new(labels, [size]), device))
    }

    fn accuracy(&self, graph: &Graph) -> f64 {
        let device = Device::flex();
        let module = GraphModule::new(graph.clone(), &device).unwrap();
        let (x, y) = self.batch(0, self.labels.len(), &device);
        let logits: Tensor<2> = module.forward(x).unwrap();
        let right = logits.argmax(1).flatten::<1>(0, 1).equal(y).int().sum().into_scalar::<i64>();
        right as f64 / self.labels.len() as f64
    }
}

/// Some epochs of SGD with momentum, with the scales driven to zero if asked for.
fn trained(graph: Graph, data: &Digits, epochs: usize, lambda: Option<f64>) -> Graph {
    let device = Device::flex().autodiff();
    let scales = batch_norm_scales(&graph).unwrap();
    let mut hook = lambda.map(|lambda| SparsifyScales::new(lambda, scales.into_keys()).unwrap());
    let mut module = GraphModule::new(graph, &device).unwrap();
    let mut optimizer =
        SgdConfig::new().with_momentum(Some(MomentumConfig::new().with_dampening(0.0))).init();
    for _ in 0..epochs {
        for start in (0..data.labels.len()).step_by(50) {
            let (x, y) = data.batch(start, 50, &device);
            let logits: Tensor<2> = module.forward(x).unwrap();
            let loss = log_softmax(logits, 1).gather(1, y.unsqueeze_dim(1)).mean().neg();
            let learner = Learner { student: module, adapters: Params::default() };
            let mut grads = GradientsParams::from_grads(loss.backward(), &learner);
            if let Some(hook) = &mut hook {
                let mut gradients = Gradients::new(&learner, &mut grads);
                hook.before_step(Time::default(), &learner, &mut gradients).unwrap();
            }
            module = optimizer.step(0.02, learner, grads).student;
        }
    }
    module.valid().to_graph().unwrap()
}

fn logits(graph: &Graph, x: Tensor<4>) -> Vec<f32> {
    let module = GraphModule::new(graph.clone(), &Device::flex()).unwrap();
    module.forward::<4, 2>(x).unwrap().into_data().try_to_vec().unwrap()
}

#[test]
fn a_model_is_slimmed_trained_on_and_stored_smaller() {
    let device = Device::flex();
    device.seed(3);
    let (train, test) = (Digits::draw(2000, 0), Digits::draw(500, 1));
    let graph =
        kd_graph::trace(&Net::new(&device), Tensor::<4>::zeros([1, 1, 28, 28], &device), Net::forward);
    let dense = trained(graph.unwrap(), &train, 4, Some(3e-3));
    let plain = test.accuracy(&dense);
    assert!(plain > 0.8, "{plain}");

    let share = 0.4;
    let (plan, report) = slim(&dense, share).unwrap();
    assert!(report.channels > 0);
    let small = plan.apply(&dense).unwrap();
    let (before, after) = (dense.cost(1).unwrap(), small.cost(1).unwrap());
    assert!(after.macs < before.macs && after.parameters < before.parameters);
    assert!(small.parameters().all(|(_, node)| node.output().shape.at(1).iter().all(|size| *size > 0)));

    // Removed is the same as masked, exactly as far as sums in another order go.
    let (x, _) = test.batch(0, 20, &device);
    let masked = logits(&plan.mask(&dense).unwrap(), x.clone());
    let removed = logits(&small, x.clone());
    let largest = masked.iter().fold(0.0f32, |largest, logit| largest.max(logit.abs()));
    for (a, b) in masked.iter().zip(&removed) {
        assert!((a - b).abs() <= 1e-5 * largest, "{a} {b}");
    }

    // The plan is a file, and replays on any checkpoint of the architecture.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.json");
    std::fs::write(&path, serde_json::to_vec(&plan).unwrap()).unwrap();
    let read: PrunePlan = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(logits(&read.apply(&dense).unwrap(), x.clone()), removed);
    assert!(read.apply(&small).is_err());

    // What is left trains on as a network of its own, and comes back from its file.
    let tuned = trained(small.clone(), &train, 2, None);
    let recovered = test.accuracy(&tuned);
    assert!(recovered > plain - 0.05, "{plain} before, {recovered} after");
    let file = folder.path().join("small");
    tuned.save(&file).unwrap();
    assert_eq!(logits(&Graph::load(&file).unwrap(), x.clone()), logits(&tuned, x));

    // A second pass makes it smaller still.
    let (plan, _) = slim(&tuned, share).unwrap();
    assert!(plan.apply(&tuned).unwrap().cost(1).unwrap().macs < after.macs);
}
