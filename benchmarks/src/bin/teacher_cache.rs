//! What the cache of teacher outputs saves: seconds of a distillation epoch with and without it, beside the student alone.
//!
//! ```text
//! KD_DATA_DIR=DIR cargo run --release -p kd-bench --bin teacher_cache -- --out runs/teacher-cache
//! ```
//!
//! LeNet-5, untrained, teaches a student of a tenth of its size by soft targets on 5,000 images of MNIST, batch 128, no augmentation. Every round
//! runs one epoch of each kind in turn, so that whatever else the machine does falls on all alike; the first round warms up and is not counted.
//! Times are `train` of `timing.jsonl`: loader, teacher, student and optimizer, without diagnostics and validation. Prints one line of JSON per
//! epoch and a table of medians with the smallest and largest value.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use clap::Parser;
use kd_bench::{loader, log, open, print};
use kd_core::Objective;
use kd_core::losses::{CrossEntropySettings, SoftTargetsSettings};
use kd_data::{Augment, Dataset, ImageDataset, Loader};
use kd_models::{InputShape, ModelSpec, Zoo};
use kd_train::cache::{CacheKey, CacheSettings, CachedTeacher};
use kd_train::log::{TimingRecord, read};
use kd_train::teacher::NetworkTeacher;
use kd_train::{Run, RunSettings, Start};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TEACHER: &str = "lenet5";
const STUDENT: &str = "lenet5-tenth";
const CLASSES: usize = 10;
const KINDS: [Kind; 4] = [Kind::Alone, Kind::NoCache, Kind::Fills, Kind::Reads];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Alone,
    NoCache,
    Fills,
    Reads,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Alone => "student alone",
            Kind::NoCache => "distilled, no cache",
            Kind::Fills => "distilled, first epoch with a cache",
            Kind::Reads => "distilled, later epochs with a cache",
        }
    }
}

#[derive(Parser)]
struct Options {
    /// Folder with the datasets; $KD_DATA_DIR otherwise.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Where runs and caches are kept; must not exist yet.
    #[arg(long, default_value = "runs/teacher-cache")]
    out: PathBuf,
    /// Epochs of each kind that count.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Training images.
    #[arg(long, default_value_t = 5_000)]
    images: usize,
}

fn main() -> Result<()> {
    let options = Options::parse();
    log();
    ensure!(!options.out.exists(), "{} exists; give another --out", options.out.display());
    ensure!(options.rounds > 0, "--rounds is 0, but it must be 1 or more");
    let data = open("mnist", options.data_dir.as_deref())?;
    let (train, mut validation) = data.train.hold_out(data.validation, 0)?;
    ensure!(options.images <= train.len(), "--images is above the {} there are", train.len());
    validation.truncate(500);
    let normalise = data.train.statistics(&train)?.normalise()?;
    let images = Arc::new(data.train);
    let train = &train[..options.images];
    let train = loader(&images, train, &normalise, Augment::default(), 128, true, 0)?;
    let validation = loader(&images, &validation, &normalise, Augment::default(), 500, false, 0)?;

    let mut times: Vec<Vec<TimingRecord>> = KINDS.map(|_| Vec::new()).into();
    for round in 0..=options.rounds {
        let folder = options.out.join(format!("round-{round}"));
        for (kind, times) in KINDS.into_iter().zip(&mut times) {
            let timing = epoch(kind, &folder, &train, &validation)?;
            if round > 0 {
                let line = serde_json::json!({
                    "epoch": kind.name(), "round": round, "seconds": timing.train, "teacher_share": timing.teacher, "loader_share": timing.loader,
                });
                print(&line.to_string());
                times.push(timing);
            }
        }
    }
    print(&table(&times));
    Ok(())
}

/// What one epoch cost. The cache that one kind fills is the one that the next reads.
fn epoch(
    kind: Kind,
    folder: &Path,
    train: &Loader<ImageDataset>,
    validation: &Loader<ImageDataset>,
) -> Result<TimingRecord> {
    let device = Device::flex();
    let network = |model: &str, seed| -> Result<Zoo> {
        device.seed(seed);
        Ok(model.parse::<ModelSpec>()?.init(InputShape::MNIST, CLASSES, &device)?)
    };
    let mut objective = Objective::new();
    if kind != Kind::Alone {
        let soft = SoftTargetsSettings { temperature: 4.0, ..Default::default() };
        objective = objective.with("soft", soft.build()?, 0.9);
    }
    let objective = objective.with("hard", CrossEntropySettings::default().build()?, 0.1);
    let out = folder.join(kind.name().replace([' ', ','], "-"));
    let settings = RunSettings { epochs: 1, ..Default::default() };
    let run = Run::new(&out, settings, objective, &device);
    let teacher = || -> Result<_> { Ok(NetworkTeacher::new(TEACHER, network(TEACHER, 1)?, &device)) };
    let run = match kind {
        Kind::Alone => run,
        Kind::NoCache => run.teacher(teacher()?),
        Kind::Fills | Kind::Reads => {
            let key = CacheKey {
                dataset: "mnist, held out by seed 0".into(),
                augmentation: "none".into(),
                samples: train.dataset().len(),
                output: vec![CLASSES],
            };
            let cache = folder.join("cache");
            run.teacher(CachedTeacher::open(teacher()?, &cache, key, &CacheSettings::default(), &device)?)
        }
    };
    run.fit(network(STUDENT, 2)?, train, validation, Start::New)?;
    let mut records = read::<TimingRecord>(&out.join("timing.jsonl"))?;
    records.pop().context("the run wrote no timing")
}

fn table(times: &[Vec<TimingRecord>]) -> String {
    let seconds = times.iter().map(|times| sorted(times, |timing| timing.train));
    let seconds: Vec<_> = seconds.collect();
    let alone = seconds.first().map_or(f64::NAN, |alone| median(alone));
    let rows = KINDS.iter().zip(&seconds).zip(times).map(|((kind, seconds), times)| {
        let teacher = 100.0 * median(&sorted(times, |timing| timing.teacher));
        let (low, high) = (seconds.first().unwrap_or(&f64::NAN), seconds.last().unwrap_or(&f64::NAN));
        let middle = median(seconds);
        format!(
            "| {} | {middle:.3} | {low:.3} to {high:.3} | {:.2} | {teacher:.1} % |\n",
            kind.name(),
            middle / alone
        )
    });
    let rows: String = rows.collect();
    format!("| epoch | seconds, median | range | to alone | in the teacher |\n|---|---|---|---|---|\n{rows}")
}

fn sorted(times: &[TimingRecord], value: impl Fn(&TimingRecord) -> f64) -> Vec<f64> {
    let mut values: Vec<f64> = times.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted {
        [] => f64::NAN,
        _ if sorted.len().is_multiple_of(2) => (sorted[middle - 1] + sorted[middle]) / 2.0,
        _ => sorted[middle],
    }
}
