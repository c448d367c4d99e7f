//! A small network on drawn digits, and runs that are stopped and resumed.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use kd_core::losses::CrossEntropySettings;
use kd_core::{Objective, Time, Traced};
use kd_data::{Augment, ImageDataset, Loader, LoaderSettings, Normalise};
use kd_graph::{Graph, GraphModule};
use kd_prune::{Arrays, Masks};
use kd_train::{
    Hook, HookError, Learner, OptimizerKind, OptimizerSettings, Outcome, Run, RunError, RunSettings, Start,
};

pub type Network = Traced<Tensor<4>>;

/// Steps of an epoch, and of a run.
pub const EPOCH: usize = 8;
pub const STEPS: usize = 3 * EPOCH;

/// The flex device has one random stream for the whole process: tests that train take turns.
pub fn serial() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Module, Debug)]
struct Net {
    hidden: Linear,
    output: Linear,
}

impl Net {
    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        self.output.forward(relu(self.hidden.forward(x.flatten::<2>(1, 3))))
    }
}

pub fn graph() -> Graph {
    let device = Device::flex();
    device.seed(3);
    let net = Net {
        hidden: LinearConfig::new(784, 12).init(&device),
        output: LinearConfig::new(12, 10).init(&device),
    };
    kd_graph::trace(&net, Tensor::<4>::zeros([1, 1, 28, 28], &device), Net::forward).unwrap()
}

pub fn network(graph: Graph) -> Network {
    GraphModule::with_kernels(graph, &Device::flex(), &kd_prune::mask_kernels()).unwrap().into()
}

pub fn loader(shuffle: bool) -> Loader<ImageDataset> {
    let images = Arc::new(kd_data::digits::generate(128, 0));
    let normalise = Normalise::new(&[0.5], &[0.5]).unwrap();
    let dataset = ImageDataset::new(images, (0..128).collect(), normalise, Augment::default()).unwrap();
    let settings = LoaderSettings { batch_size: 128 / EPOCH, shuffle, seed: 3, ..Default::default() };
    Loader::new(Arc::new(dataset), settings).unwrap()
}

pub fn hard() -> Objective {
    Objective::new().with("hard", CrossEntropySettings::default().build().unwrap(), 1.0)
}

/// Optimizers that would move pruned weights if they could.
pub fn optimizers() -> [OptimizerSettings; 3] {
    let base = OptimizerSettings { weight_decay: 0.01, learning_rate: 0.05, ..Default::default() };
    [
        OptimizerSettings { clip_norm: Some(1.0), ..base.clone() },
        OptimizerSettings { kind: OptimizerKind::Adam, learning_rate: 0.005, ..base.clone() },
        OptimizerSettings { kind: OptimizerKind::Adamw, learning_rate: 0.005, ..base },
    ]
}

/// Trains with a hook, stopped after so many steps if any.
pub fn fit(
    folder: &Path,
    optimizer: &OptimizerSettings,
    student: Network,
    hook: impl Hook<Network> + 'static,
    after: Option<usize>,
) -> Result<Outcome<Network>, RunError> {
    let stop = Arc::new(AtomicBool::new(false));
    let settings = RunSettings {
        seed: 7,
        epochs: STEPS / EPOCH,
        checkpoint_steps: Some(5),
        optimizer: optimizer.clone(),
    };
    let run = Run::new(folder, settings, hard(), &Device::flex()).hook(hook);
    let run = run.hook(StopAfter { after, stop: stop.clone() }).stop_flag(stop);
    run.fit(student, &loader(true), &loader(false), Start::Resume)
}

struct StopAfter {
    after: Option<usize>,
    stop: Arc<AtomicBool>,
}

impl Hook<Network> for StopAfter {
    fn name(&self) -> &str {
        "stop-after"
    }
    fn after_step(&mut self, time: Time, learner: Learner<Network>) -> Result<Learner<Network>, HookError> {
        self.stop.store(self.after.is_some_and(|after| time.step + 1 >= after), Ordering::SeqCst);
        Ok(learner)
    }
}

/// Runs once without a stop and once with many, and compares every byte of what is left.
pub fn resumes_bit_for_bit<H: Hook<Network> + 'static>(
    optimizer: &OptimizerSettings,
    student: impl Fn() -> Network,
    hook: impl Fn() -> H,
) -> Outcome<Network> {
    let folder = tempfile::tempdir().unwrap();
    let (whole, broken) = (folder.path().join("run"), folder.path().join("again/run"));
    let outcome = fit(&whole, optimizer, student(), hook(), None).unwrap();
    for steps in [3, EPOCH, 11, 19] {
        let error = fit(&broken, optimizer, student(), hook(), Some(steps)).unwrap_err();
        assert!(matches!(error, RunError::Interrupted { step, .. } if step == steps), "{error}");
    }
    fit(&broken, optimizer, student(), hook(), None).unwrap();
    let newest = newest_checkpoint(&whole);
    let files = ["model.bpk", "optimizer.bpk", "state.json"].map(|file| format!("{newest}/{file}"));
    for file in files.into_iter().chain(["metrics.jsonl".to_owned(), "student.safetensors".to_owned()]) {
        let read = |run: &Path| std::fs::read(run.join(&file)).unwrap();
        assert!(read(&whole) == read(&broken), "{file} differs");
    }
    outcome
}

fn newest_checkpoint(run: &Path) -> String {
    let entries = std::fs::read_dir(run.join("checkpoints")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    format!("checkpoints/{}", names.filter(|name| name.starts_with("step-")).max().unwrap())
}

/// The weights of these paths.
pub fn weights(network: &Network, masks: &Masks) -> Arrays {
    let module = network.module();
    let read = |path: &String| {
        let data = module.weight(path).unwrap().float::<2>().unwrap().into_data();
        (path.clone(), kd_prune::Array::from_data(&data).unwrap())
    };
    masks.keys().map(read).collect()
}
