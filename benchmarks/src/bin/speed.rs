//! A training step and inference: our kernels, burn alone, PyTorch and ONNX Runtime, one after the other in every round.
//!
//! ```text
//! scripts/python_env.sh ENV
//! cargo run --release -p kd-bench --bin speed -- --python ENV/bin/python
//! ```
//!
//! A training step is: forward, mean cross-entropy, backward, SGD with momentum 0.9 and decay 1e-4, on one batch that stays in memory. Every round runs each
//! program's steps in turn, so that whatever else the machine does falls on all alike; the first round warms up. Prints a table of medians over
//! all steps, and their ratios to PyTorch eager. Without `--python` only ours and burn's are run.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Int, Tensor};
use clap::{Parser, ValueEnum};
use kd_bench::{Peer, log, print};
use kd_core::{Network, Taps};
use kd_graph::{Engine, GraphModule, trace};
use kd_models::{InputShape, ModelSpec, Zoo};
use kd_train::OptimizerSettings;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CLASSES: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    Train,
    Infer,
}

#[derive(Parser)]
struct Options {
    /// `MODEL:MODE:BATCH`, separated by spaces.
    #[arg(long, num_args = 1.., default_values = [
        "lenet5:train:128", "resnet20:train:128", "mobilenetv2:train:128", "wrn16-2:train:64", "mlp:1200,1200:train:128",
        "lenet5:infer:128", "resnet20:infer:128", "mobilenetv2:infer:128",
        "lenet5:infer:1", "resnet20:infer:1", "mobilenetv2:infer:1",
    ])]
    cases: Vec<String>,
    /// The interpreter of an environment with PyTorch and ONNX Runtime.
    #[arg(long)]
    python: Option<PathBuf>,
    /// Where the peers' programs are.
    #[arg(long, default_value = "scripts/peers")]
    peers: PathBuf,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Rounds that count.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Steps of each program in a round; for inference of one image, ten times as many.
    #[arg(long, default_value_t = 3)]
    steps: usize,
    /// Leave burn's own operations out: they take most of the time.
    #[arg(long)]
    without_burn: bool,
}

/// A program to be timed, and what it took so far.
struct Contender {
    name: &'static str,
    program: Program,
    times: Vec<f64>,
}

enum Program {
    Ours(Box<dyn FnMut() -> Result<()>>),
    Peer(Peer),
}

impl Contender {
    fn round(&mut self, steps: usize, counts: bool) -> Result<()> {
        let times = match &mut self.program {
            Program::Peer(peer) => peer.steps(steps)?,
            Program::Ours(step) => (0..steps)
                .map(|_| {
                    let start = Instant::now();
                    step()?;
                    Ok(start.elapsed().as_secs_f64() * 1e3)
                })
                .collect::<Result<_>>()?,
        };
        if counts {
            self.times.extend(times);
        }
        Ok(())
    }

    /// Median, smallest and largest.
    fn summary(&self) -> [f64; 3] {
        let mut times = self.times.clone();
        times.sort_by(f64::total_cmp);
        let at = |index: usize| times.get(index).copied().unwrap_or(f64::NAN);
        [at(times.len() / 2), at(0), at(times.len().saturating_sub(1))]
    }
}

/// What is timed of one network, whoever computes it.
trait Net: Module + 'static {
    fn logits(&self, images: Tensor<4>) -> Result<Tensor<2>>;
}

impl Net for Zoo {
    fn logits(&self, images: Tensor<4>) -> Result<Tensor<2>> {
        Ok(self.forward(images, &mut Taps::none()))
    }
}

impl Net for GraphModule {
    fn logits(&self, images: Tensor<4>) -> Result<Tensor<2>> {
        Ok(GraphModule::forward(self, images)?)
    }
}

fn training<N: Net>(
    model: N,
    images: Tensor<4>,
    labels: Tensor<1, Int>,
    kernels: bool,
) -> Result<Box<dyn FnMut() -> Result<()>>> {
    let device = images.device().autodiff();
    let (images, labels) = (images.autodiff(), labels.autodiff());
    let loss = CrossEntropyLossConfig::new().init(&device);
    let settings = OptimizerSettings {
        weight_decay: 1e-4,
        decay_norms_and_biases: true,
        kernels,
        ..OptimizerSettings::default()
    };
    let mut optimizer = settings.optimizer()?;
    let mut model = Some(model.train());
    Ok(Box::new(move || {
        let current = model.take().context("a step failed before")?;
        let gradients = loss.forward(current.logits(images.clone())?, labels.clone()).backward();
        let gradients = GradientsParams::from_grads(gradients, &current);
        model = Some(optimizer.step(0.01, current, gradients));
        Ok(())
    }))
}

fn inference<N: Net>(model: N, images: Tensor<4>) -> Box<dyn FnMut() -> Result<()>> {
    let model = model.valid();
    Box::new(move || {
        // Reading the numbers is part of it: nobody infers without looking.
        model.logits(images.clone())?.try_into_data().map_err(|error| anyhow::anyhow!("{error:?}"))?;
        Ok(())
    })
}

fn program<N: Net>(
    mode: Mode,
    model: N,
    images: &Tensor<4>,
    labels: &Tensor<1, Int>,
    kernels: bool,
) -> Result<Program> {
    Ok(Program::Ours(match mode {
        Mode::Train => training(model, images.clone(), labels.clone(), kernels)?,
        Mode::Infer => inference(model, images.clone()),
    }))
}

fn contenders(options: &Options, name: &str, mode: Mode, batch: usize) -> Result<Vec<Contender>> {
    let spec: ModelSpec = name.parse()?;
    let shape = if name.starts_with("lenet") || name.starts_with("mlp") {
        InputShape::MNIST
    } else {
        InputShape::CIFAR
    };
    let device = Device::flex();
    device.seed(0);
    let sizes = [shape.channels, shape.height, shape.width];
    let [channels, height, width] = sizes;
    let image = |batch| {
        Tensor::<4>::random([batch, channels, height, width], Distribution::Normal(0.0, 1.0), &device)
    };
    let images = image(batch);
    let labels = Tensor::<1, Int>::random([batch], Distribution::Uniform(0.0, CLASSES as f64), &device);
    let zoo = spec.init(shape, CLASSES, &device)?;
    let graph = trace(&zoo, image(2), |model, x| model.forward(x, &mut Taps::none()))?;

    let mut contenders = Vec::new();
    let mut add = |name, program| contenders.push(Contender { name, program, times: Vec::new() });
    let kernels = GraphModule::new(graph, &device)?.with_engine(Engine::Kernels);
    add("kd", program(mode, kernels, &images, &labels, true)?);
    if !options.without_burn {
        add("burn", program(mode, zoo, &images, &labels, false)?);
    }
    if let Some(python) = &options.python {
        let peer = |script: &str, more: &[&str]| {
            let common =
                ["--model", name, "--batch", &batch.to_string(), "--threads", &options.threads.to_string()]
                    .map(str::to_owned);
            let arguments: Vec<_> = common.into_iter().chain(more.iter().map(|s| s.to_string())).collect();
            Peer::start(python, &options.peers.join(script), &arguments).map(Program::Peer)
        };
        let torch = if mode == Mode::Train { "train" } else { "infer" };
        for layout in ["eager", "channels_last"] {
            let label = if layout == "eager" { "PyTorch eager" } else { "PyTorch channels_last" };
            add(label, peer("pytorch_step.py", &["--mode", torch, "--layout", layout])?);
        }
        if mode == Mode::Infer {
            add("ONNX Runtime", peer("onnxruntime_infer.py", &[])?);
        }
    }
    Ok(contenders)
}

/// `MODEL:MODE:BATCH`; a model's name may hold colons.
fn parse(case: &str) -> Result<(&str, Mode, usize)> {
    let mut parts = case.rsplitn(3, ':');
    let (batch, mode, name) = (parts.next(), parts.next(), parts.next());
    let [Some(batch), Some(mode), Some(name)] = [batch, mode, name] else {
        bail!("`{case}` is not MODEL:MODE:BATCH, as in resnet20:train:128");
    };
    let mode = Mode::from_str(mode, false)
        .map_err(|_| anyhow::anyhow!("mode `{mode}` is neither train nor infer"))?;
    Ok((name, mode, batch.parse().with_context(|| format!("batch `{batch}` is no number"))?))
}

fn main() -> Result<()> {
    log();
    let options = Options::parse();
    check(options.python.as_deref())?;
    burn_threads(options.threads)?;
    print("| case | program | ms, median | range | to PyTorch eager |");
    print("|---|---|---|---|---|");
    for case in &options.cases {
        let (name, mode, batch) = parse(case)?;
        let mut contenders = contenders(&options, name, mode, batch)?;
        let steps = if batch == 1 { options.steps * 10 } else { options.steps };
        for round in 0..=options.rounds {
            for contender in &mut contenders {
                contender.round(steps, round > 0)?;
            }
        }
        let reference = contenders.iter().find(|contender| contender.name == "PyTorch eager");
        let reference = reference.map(|contender| contender.summary()[0]);
        for contender in &contenders {
            let [median, low, high] = contender.summary();
            let ratio = reference.map_or(String::new(), |reference| format!("{:.2}", median / reference));
            print(&format!(
                "| {case} | {} | {median:.3} | {low:.3} to {high:.3} | {ratio} |",
                contender.name
            ));
        }
    }
    Ok(())
}

/// Fails early when there is no such interpreter.
fn check(python: Option<&Path>) -> Result<()> {
    match python {
        Some(python) if !python.exists() => {
            bail!("there is no {}; scripts/python_env.sh makes an environment", python.display())
        }
        _ => Ok(()),
    }
}

/// One pool of threads for burn and the kernels.
fn burn_threads(threads: usize) -> Result<()> {
    Ok(rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?)
}
