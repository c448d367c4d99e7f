//! Small nets, images they can learn, and runs that are stopped and taken up again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::optim::GradientsParams;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor, TensorData};
use kd_core::losses::CrossEntropySettings;
use kd_core::{Network, Objective, Params, Step, Taps, Term, TermParams, Time, Traced, Value};
use kd_data::{Augment, ImageDataset, ImageShape, Images, Loader, LoaderSettings, Normalise};
use kd_graph::{Graph, GraphModule, Kernels, Op};
use kd_train::{
    Gradients, Hook, HookError, Learner, LearnerState, OptimizerKind, OptimizerSettings, Outcome, Run,
    RunError, RunSettings, Start, TensorMap,
};

/// A traced network as runs train it.
pub type Net = Traced<Tensor<4>>;

/// The flex device has one random stream for the whole process: tests take turns, for all of them draw weights.
pub fn serial() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Module, Debug)]
pub struct Perceptron {
    fc1: Linear,
    bn1: BatchNorm,
    fc2: Linear,
    bn2: BatchNorm,
    output: Linear,
}

impl Perceptron {
    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.bn1.forward(self.fc1.forward(x.flatten::<2>(1, 3))));
        self.output.forward(relu(self.bn2.forward(self.fc2.forward(x))))
    }
}

/// 16 pixels, 12 and 10 hidden units with batch normalisation, 3 classes; the second layer without bias.
pub fn perceptron(seed: u64) -> Graph {
    let device = Device::flex();
    device.seed(seed);
    let net = Perceptron {
        fc1: LinearConfig::new(16, 12).init(&device),
        bn1: BatchNormConfig::new(12).init(&device),
        fc2: LinearConfig::new(12, 10).with_bias(false).init(&device),
        bn2: BatchNormConfig::new(10).init(&device),
        output: LinearConfig::new(10, 3).init(&device),
    };
    kd_graph::trace(&net, Tensor::<4>::zeros([1, 1, 4, 4], &device), Perceptron::forward).unwrap()
}

#[derive(Module, Debug)]
pub struct Residual {
    stem: Conv2d,
    bn0: BatchNorm,
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    last: Conv2d,
    bn3: BatchNorm,
    output: Linear,
}

impl Residual {
    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.bn0.forward(self.stem.forward(x)));
        let inner = relu(self.bn1.forward(self.conv1.forward(x.clone())));
        let x = relu(self.bn2.forward(self.conv2.forward(inner)) + x);
        let x = relu(self.bn3.forward(self.last.forward(x)));
        self.output.forward(x.flatten::<2>(1, 3))
    }
}

/// A padded stem of 8 channels, a block around a shortcut with 6 channels inside, a convolution to 6 channels without padding, 3 classes.
pub fn residual(seed: u64) -> Graph {
    let device = Device::flex();
    device.seed(seed);
    let conv = |from, to, padding| {
        Conv2dConfig::new([from, to], [3, 3])
            .with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding))
            .with_bias(false)
            .init(&device)
    };
    let norm = |channels| BatchNormConfig::new(channels).init(&device);
    let net = Residual {
        stem: conv(1, 8, 1),
        bn0: norm(8),
        conv1: conv(8, 6, 1),
        bn1: norm(6),
        conv2: conv(6, 8, 1),
        bn2: norm(8),
        last: conv(8, 6, 0),
        bn3: norm(6),
        output: LinearConfig::new(6 * 4, 3).init(&device),
    };
    kd_graph::trace(&net, Tensor::<4>::zeros([1, 1, 4, 4], &device), Residual::forward).unwrap()
}

/// The network with other scales, shifts and statistics in its normalisations, as training leaves them.
pub fn shaken(mut graph: Graph) -> Graph {
    let mut values = Vec::new();
    for (_, node) in graph.nodes().filter(|(_, node)| matches!(node.op(), Op::BatchNorm(_))) {
        for (input, &id) in node.inputs().iter().enumerate().skip(1) {
            let shape = graph.node(id).unwrap().output().shape.at(1);
            let numbers = (0..shape[0]).map(|i| {
                let wave = ((i * 7 + input * 3) as f32 * 0.7).sin();
                if input == 4 { 1.0 + 0.5 * wave } else { wave }
            });
            values.push((id, TensorData::new(numbers.collect::<Vec<_>>(), shape)));
        }
    }
    graph.edit(|edit| values.into_iter().try_for_each(|(id, data)| edit.set_value(id, data))).unwrap();
    graph
}

/// Logits of 6 images that have nothing to do with training.
pub fn logits(graph: &Graph, kernels: &Kernels) -> Vec<f32> {
    let device = Device::flex();
    let pixels: Vec<f32> = (0..96).map(|i| ((i * i) as f32 * 0.37).sin()).collect();
    let x = Tensor::<4>::from_data(TensorData::new(pixels, [6, 1, 4, 4]), &device);
    let module = GraphModule::with_kernels(graph.clone(), &device, kernels).unwrap();
    module.forward::<4, 2>(x).unwrap().into_data().try_to_vec().unwrap()
}

/// The largest difference, as a share of the largest number.
pub fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let largest = a.iter().fold(1e-9f32, |largest, value| largest.max(value.abs()));
    a.iter().zip(b).fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs())) / largest
}

/// 4x4 images whose class is the brightest third.
fn images(samples: usize) -> Arc<Images> {
    let pixels = (0..samples * 16).map(|i| {
        let (sample, position) = (i / 16, i % 16);
        let noise = (i * 7919 + sample * 104_729) % 97;
        (if position / 6 == sample % 3 { 150 + noise } else { noise }) as u8
    });
    let labels = (0..samples).map(|sample| (sample % 3) as u32).collect();
    let classes = ["top", "middle", "bottom"].map(str::to_owned).to_vec();
    let shape = ImageShape { channels: 1, height: 4, width: 4 };
    Arc::new(Images::new(shape, pixels.collect(), labels, classes).unwrap())
}

fn loader(samples: usize, shuffle: bool) -> Loader<ImageDataset> {
    let normalise = Normalise::new(&[0.5], &[0.5]).unwrap();
    let ids = (0..samples).collect();
    let dataset = ImageDataset::new(images(samples), ids, normalise, Augment::default()).unwrap();
    let settings = LoaderSettings { batch_size: 8, shuffle, seed: 3, ..Default::default() };
    Loader::new(Arc::new(dataset), settings).unwrap()
}

pub fn settings(kind: OptimizerKind, epochs: usize) -> RunSettings {
    let learning_rate = if kind == OptimizerKind::Sgd { 0.05 } else { 0.01 };
    let optimizer = OptimizerSettings { kind, learning_rate, ..Default::default() };
    RunSettings { seed: 7, epochs, checkpoint_steps: Some(5), optimizer }
}

/// Cross-entropy alone.
pub fn hard() -> Objective {
    Objective::new().with("hard", CrossEntropySettings::default().build().unwrap(), 1.0)
}

/// A graph on the way into a run.
pub fn network(graph: &Graph, kernels: &Kernels) -> Net {
    GraphModule::with_kernels(graph.clone(), &Device::flex(), kernels).unwrap().into()
}

/// A training run: 8 steps are an epoch. `after` stops it after so many steps.
pub fn fit(
    folder: &Path,
    settings: RunSettings,
    objective: Objective,
    hooks: Vec<Box<dyn Hook<Net>>>,
    net: Net,
    after: Option<usize>,
) -> Result<Outcome<Net>, RunError> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut run = Run::new(folder, settings, objective, &Device::flex());
    for hook in hooks {
        run = run.hook(Boxed(hook));
    }
    let run = run.hook(StopAfter { after, stop: stop.clone() }).stop_flag(stop);
    run.fit(net, &loader(64, true), &loader(32, false), Start::Resume)
}

/// Trains to the end and gives back the graph of the last epoch.
pub fn trained(
    settings: RunSettings,
    objective: Objective,
    hooks: Vec<Box<dyn Hook<Net>>>,
    net: Net,
) -> Graph {
    let folder = tempfile::tempdir().unwrap();
    let outcome = fit(&folder.path().join("run"), settings, objective, hooks, net, None).unwrap();
    outcome.last.module().to_graph().unwrap()
}

/// Runs once without a stop and once with many, and compares every byte of what is left.
pub fn resumes_bit_for_bit(
    settings: &RunSettings,
    objective: impl Fn() -> Objective,
    hooks: impl Fn() -> Vec<Box<dyn Hook<Net>>>,
    net: &Net,
) -> Outcome<Net> {
    let folder = tempfile::tempdir().unwrap();
    let (whole, broken) = (folder.path().join("run"), folder.path().join("again/run"));
    let run = |folder: &Path, after| fit(folder, settings.clone(), objective(), hooks(), net.clone(), after);
    let outcome = run(&whole, None).unwrap();
    for steps in [3, 8, 11] {
        let error = run(&broken, Some(steps)).map(|_| ()).unwrap_err();
        assert!(matches!(error, RunError::Interrupted { step, .. } if step == steps), "{error}");
    }
    run(&broken, None).unwrap();
    for ((name, whole), (_, broken)) in left(&whole).into_iter().zip(left(&broken)) {
        assert!(!whole.is_empty() && whole == broken, "{name} differs");
    }
    outcome
}

/// Everything a run leaves that must not depend on when it was stopped.
fn left(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder.join("checkpoints")).unwrap();
    let checkpoints = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let newest = checkpoints.filter(|name| name.starts_with("step-")).max().unwrap();
    let files = ["model.bpk", "optimizer.bpk", "schedule.bpk", "best.bpk", "state.json"];
    let files = files.map(|file| format!("checkpoints/{newest}/{file}"));
    let names = ["metrics.jsonl".to_owned(), "student.safetensors".to_owned()].into_iter().chain(files);
    names.map(|name| (name.clone(), fs::read(folder.join(name)).unwrap())).collect()
}

struct StopAfter {
    after: Option<usize>,
    stop: Arc<AtomicBool>,
}

impl Hook<Net> for StopAfter {
    fn name(&self) -> &str {
        "stop-after"
    }
    fn after_step(&mut self, time: Time, learner: Learner<Net>) -> Result<Learner<Net>, HookError> {
        self.stop.store(self.after.is_some_and(|after| time.step + 1 >= after), Ordering::SeqCst);
        Ok(learner)
    }
}

/// A hook of any kind.
struct Boxed(Box<dyn Hook<Net>>);

impl Hook<Net> for Boxed {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn before_step(
        &mut self,
        time: Time,
        learner: &Learner<Net>,
        gradients: &mut Gradients<'_, Learner<Net>>,
    ) -> Result<(), HookError> {
        self.0.before_step(time, learner, gradients)
    }
    fn after_step(&mut self, time: Time, learner: Learner<Net>) -> Result<Learner<Net>, HookError> {
        self.0.after_step(time, learner)
    }
    fn end_epoch(&mut self, time: Time, state: LearnerState<Net>) -> Result<LearnerState<Net>, HookError> {
        self.0.end_epoch(time, state)
    }
    fn save(&self) -> Result<serde_json::Value, HookError> {
        self.0.save()
    }
    fn restore(&mut self, state: serde_json::Value) -> Result<(), HookError> {
        self.0.restore(state)
    }
    fn rebuild(&mut self, learner: Learner<Net>) -> Result<Learner<Net>, HookError> {
        self.0.rebuild(learner)
    }
}

/// What a hook makes of the gradients of a loss in its first step: by path, before and after.
pub fn gradients(
    graph: &Graph,
    kernels: &Kernels,
    hook: &mut dyn Hook<Net>,
) -> [BTreeMap<String, Vec<f32>>; 2] {
    let device = Device::flex().autodiff();
    let student: Net = GraphModule::with_kernels(graph.clone(), &device, kernels).unwrap().into();
    let x = Tensor::<4>::ones([2, 1, 4, 4], &device) * 0.3;
    let loss = student.module().forward::<4, 2>(x).unwrap().square().sum();
    let learner = Learner { student, adapters: kd_core::Params::default() };
    let mut grads = GradientsParams::from_grads(loss.backward(), &learner);
    let mut gradients = Gradients::new(&learner, &mut grads);
    let (mut before, mut after) = (Collect::default(), Collect::default());
    gradients.map(&mut before);
    hook.before_step(Time::default(), &learner, &mut gradients).unwrap();
    gradients.map(&mut after);
    [before.0, after.0]
}

#[derive(Default)]
struct Collect(BTreeMap<String, Vec<f32>>);

impl TensorMap for Collect {
    fn map<const D: usize>(&mut self, path: &str, gradient: Tensor<D>) -> Tensor<D> {
        self.0.insert(path.to_owned(), gradient.clone().into_data().try_to_vec().unwrap());
        gradient
    }
}

/// The value of a term on a graph, and its gradients by the path of the parameter.
pub fn term(graph: &Graph, kernels: &Kernels, term: &dyn Term) -> (f32, BTreeMap<String, Vec<f32>>) {
    let device = Device::flex().autodiff();
    let student: Net = GraphModule::with_kernels(graph.clone(), &device, kernels).unwrap().into();
    let x = Tensor::<4>::ones([2, 1, 4, 4], &device);
    let taps = student.run(x, Taps::only(&term.wants().student));
    let target: Value = Tensor::<1, Int>::zeros([2], &device).into();
    let mut params = Params::default();
    let mut step = Step {
        student: &taps,
        teachers: &[],
        target: &target,
        ids: &[0, 1],
        time: Time::default(),
        params: TermParams::new(&mut params, "term"),
        replay: None,
    };
    let value = term.forward(&mut step).unwrap();
    let mut grads = GradientsParams::from_grads(value.clone().sum().backward(), &student);
    let mut found = Collect::default();
    Gradients::new(&student, &mut grads).map(&mut found);
    (value.sum().into_scalar::<f32>(), found.0)
}

/// The numbers of a parameter.
pub fn numbers(graph: &Graph, path: &str) -> Vec<f32> {
    graph.value(graph.find(path).unwrap()).unwrap().as_slice::<f32>().unwrap().to_vec()
}

/// The graph with other numbers in a parameter.
pub fn with_numbers(mut graph: Graph, path: &str, change: impl Fn(usize, f32) -> f32) -> Graph {
    let id = graph.find(path).unwrap();
    let shape = graph.node(id).unwrap().output().shape.at(1);
    let new: Vec<f32> = numbers(&graph, path).into_iter().enumerate().map(|(i, w)| change(i, w)).collect();
    graph.edit(|edit| edit.set_value(id, TensorData::new(new, shape))).unwrap();
    graph
}
