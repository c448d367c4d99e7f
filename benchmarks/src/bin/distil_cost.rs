//! What distillation costs: its step beside the student's own step and the teacher's inference, each measured alone.
//!
//! ```text
//! cargo run --release -p kd-bench --bin distil_cost
//! ```
//!
//! The steps are those of runs of kd-train, loader and optimizer included: the student by cross-entropy, the same with soft targets of the teacher,
//! and with its outputs from a cache on disk. The runs take turns step by step, with the teacher's inference on one batch between them, so that
//! whatever else the machine does falls on all alike; the first turn warms up. Images are random, 8-bit, not augmented. Prints a table of medians
//! and two ratios: the distillation step to the sum of its parts, and the step with cached outputs to the student's own.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use clap::Parser;
use kd_bench::{graph, input_shape, loader, log, print, summary};
use kd_core::losses::{CrossEntropySettings, SoftTargetsSettings};
use kd_core::{OUTPUT, Objective, Time, Traced};
use kd_data::{Augment, Dataset, ImageDataset, ImageShape, Images, Loader, Normalise, mix};
use kd_train::cache::{CacheKey, CacheSettings, CachedTeacher};
use kd_train::teacher::{NetworkTeacher, Teacher};
use kd_train::{Hook, HookError, HostBatch, Learner, Run, RunSettings, Start};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CLASSES: usize = 10;

/// Between turns, so that the loader of the run before is through with working ahead.
const REST: Duration = Duration::from_millis(20);

type Net = Traced<Tensor<4>>;

#[derive(Parser)]
struct Options {
    /// `TEACHER:STUDENT`, separated by spaces.
    #[arg(long, num_args = 1.., default_values = ["lenet5:lenet5", "lenet5:lenet5-tenth", "resnet20:resnet8"])]
    pairs: Vec<String>,
    #[arg(long, default_value_t = 128)]
    batch: usize,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Turns that count.
    #[arg(long, default_value_t = 25)]
    turns: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Alone,
    Distilled,
    Cached,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Alone => "student's step",
            Kind::Distilled => "distillation step",
            Kind::Cached => "distillation step, cached outputs",
        }
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    log();
    ensure!(options.turns > 0, "--turns is 0, but it must be 1 or more");
    rayon::ThreadPoolBuilder::new().num_threads(options.threads).build_global()?;
    print("| teacher → student | measured | ms, median | range |");
    print("|---|---|---|---|");
    for pair in &options.pairs {
        let (teacher, student) =
            pair.split_once(':').with_context(|| format!("`{pair}` is not TEACHER:STUDENT"))?;
        let times = measure(&options, teacher, student)?;
        let medians = times.each_ref().map(|(name, times)| {
            let [median, low, high] = summary(times);
            print(&format!("| {teacher} → {student} | {name} | {median:.3} | {low:.3} to {high:.3} |"));
            median
        });
        let [inference, alone, distilled, cached] = medians;
        let parts = distilled / (alone + inference);
        print(&format!("| {teacher} → {student} | distillation step to its parts | {parts:.3} | |"));
        print(&format!("| {teacher} → {student} | cached to the student's | {:.3} | |", cached / alone));
    }
    Ok(())
}

/// Milliseconds of every turn, by what was measured.
fn measure(options: &Options, teacher: &str, student: &str) -> Result<[(&'static str, Vec<f64>); 4]> {
    let device = Device::flex();
    let folder = tempfile::tempdir()?;
    // One step to get ready, one turn to warm up.
    let train = images(teacher, options.batch, options.turns + 2)?;
    let mut network = NetworkTeacher::new("teacher", Net::from(graph(teacher, &device)?), &device);
    let batch = train.epoch(0, 0).next().context("no batch")??;
    let (input, _) = batch.batch.to_device(&device);

    let mut runs = Vec::new();
    for kind in [Kind::Alone, Kind::Distilled, Kind::Cached] {
        runs.push(Turns::start(kind, &network, student, &train, folder.path(), &device)?);
    }
    let mut times: [_; 4] = std::array::from_fn(|_| Vec::with_capacity(options.turns));
    for turn in 0..=options.turns {
        std::thread::sleep(REST);
        let start = Instant::now();
        network.taps(&input, &batch.ids, 0, &[OUTPUT.to_owned()])?;
        let mut row = vec![start.elapsed().as_secs_f64() * 1e3];
        for run in &runs {
            row.push(run.step()?);
        }
        if turn > 0 {
            times.iter_mut().zip(row).for_each(|(times, time)| times.push(time));
        }
    }
    for run in runs {
        run.end()?;
    }
    let [inference, alone, distilled, cached] = times;
    Ok([
        ("teacher's inference", inference),
        (Kind::Alone.name(), alone),
        (Kind::Distilled.name(), distilled),
        (Kind::Cached.name(), cached),
    ])
}

/// Random images for so many steps.
fn images(model: &str, batch: usize, steps: usize) -> Result<Loader<ImageDataset>> {
    let shape = input_shape(model);
    let shape = ImageShape { channels: shape.channels, height: shape.height, width: shape.width };
    let count = batch * steps;
    let volume = shape.channels * shape.height * shape.width;
    let pixels = (0..count * volume).map(|index| mix(&[index as u64]) as u8).collect();
    let labels = (0..count).map(|index| (index % CLASSES) as u32).collect();
    let classes = (0..CLASSES).map(|class| class.to_string()).collect();
    let images = Arc::new(Images::new(shape, pixels, labels, classes)?);
    let ids: Vec<_> = (0..count).collect();
    let normalise = Normalise::unit(shape.channels)?;
    loader(&images, &ids, &normalise, Augment::default(), batch, true, 0)
}

/// A run on a thread of its own that makes a step when it is told to.
struct Turns {
    turn: Sender<()>,
    done: Receiver<Option<f64>>,
    thread: std::thread::JoinHandle<Result<()>>,
}

impl Turns {
    fn start(
        kind: Kind,
        teacher: &NetworkTeacher<Net>,
        student: &str,
        train: &Loader<ImageDataset>,
        folder: &Path,
        device: &Device,
    ) -> Result<Self> {
        let mut objective = Objective::new();
        if kind != Kind::Alone {
            objective = objective.with("soft", SoftTargetsSettings::default().build()?, 0.9);
        }
        let objective = objective.with("hard", CrossEntropySettings::default().build()?, 0.1);
        let settings = RunSettings { epochs: 1, ..RunSettings::default() };
        let mut run = Run::new(folder.join(format!("run-{}", kind.name())), settings, objective, device);
        match kind {
            Kind::Alone => {}
            Kind::Distilled => run = run.teacher(teacher.clone()),
            Kind::Cached => run = run.teacher(filled(teacher, train, folder, device)?),
        }
        let ((turn, turns), (report, done)) = (channel(), channel());
        let run = run.hook(Wait { turns, report, started: None });
        let student = Net::from(graph(student, device)?);
        let validation = first_batch(train)?;
        let train = Loader::new(train.dataset().clone(), train.settings().clone())?;
        let thread = std::thread::spawn(move || -> Result<()> {
            run.fit(student, &train, &validation, Start::New)?;
            Ok(())
        });
        let turns = Self { turn, done, thread };
        // One run after the other gets ready.
        match turns.done.recv() {
            Ok(_) => Ok(turns),
            Err(_) => Err(turns.end().err().unwrap_or_else(|| anyhow!("a run without a step"))),
        }
    }

    /// Milliseconds of the next step.
    fn step(&self) -> Result<f64> {
        std::thread::sleep(REST);
        let ended = "a run has ended before its turn";
        self.turn.send(()).context(ended)?;
        self.done.recv().ok().flatten().context(ended)
    }

    fn end(self) -> Result<()> {
        drop(self.turn);
        self.thread.join().map_err(|_| anyhow!("a run has panicked"))?
    }
}

/// The smallest data to validate on, which is not measured: one batch of what is trained on.
fn first_batch(train: &Loader<ImageDataset>) -> Result<Loader<ImageDataset>> {
    let data = train.dataset();
    let ids: Vec<_> = data.indices().iter().copied().take(train.settings().batch_size).collect();
    loader(data.images(), &ids, data.normalise(), Augment::default(), ids.len(), false, 0)
}

/// The teacher with all its outputs on disk.
fn filled(
    teacher: &NetworkTeacher<Net>,
    train: &Loader<ImageDataset>,
    folder: &Path,
    device: &Device,
) -> Result<CachedTeacher<NetworkTeacher<Net>>> {
    let key = CacheKey {
        dataset: "random images".into(),
        augmentation: "none".into(),
        samples: train.dataset().len(),
        output: vec![CLASSES],
    };
    let cache = folder.join("cache");
    let mut teacher = CachedTeacher::open(teacher.clone(), &cache, key, &CacheSettings::default(), device)?;
    for loaded in train.epoch(0, 0) {
        let loaded = loaded?;
        teacher.taps(&loaded.batch.to_device(device).0, &loaded.ids, 0, &[OUTPUT.to_owned()])?;
    }
    Ok(teacher)
}

/// Waits for a turn after every step, and says what the step took.
struct Wait {
    turns: Receiver<()>,
    report: Sender<Option<f64>>,
    started: Option<Instant>,
}

impl<N: Module> Hook<N> for Wait {
    fn name(&self) -> &str {
        "wait"
    }

    fn after_step(&mut self, _time: Time, learner: Learner<N>) -> Result<Learner<N>, HookError> {
        let took = self.started.map(|started| started.elapsed().as_secs_f64() * 1e3);
        let alone = || HookError("the program that waits for this run has ended".to_owned());
        self.report.send(took).map_err(|_| alone())?;
        // Without a next turn the run goes on to its end, unmeasured.
        let _ = self.turns.recv();
        self.started = Some(Instant::now());
        Ok(learner)
    }
}
