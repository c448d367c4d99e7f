//! Peak memory of a training process and what a second thread brings: ours, with and without recomputed activations, beside PyTorch.
//!
//! ```text
//! scripts/python_env.sh ENV
//! cargo run --release -p kd-bench --bin memory -- --python ENV/bin/python
//! ```
//!
//! Every line of the table is a process of its own, which does nothing but the training steps that `speed` describes, on one batch. Every round
//! runs the steps of each in turn; the first round warms up. Memory is what Linux says of the process: resident when it is ready (`VmRSS`, for
//! PyTorch mostly its libraries) and the most since it began (`VmHWM`). Without `--python` only ours are run.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use clap::{Args, Parser, Subcommand};
use kd_bench::{Peer, graph, log, print, summary, training};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Options {
    /// `MODEL:BATCH`, separated by spaces.
    #[arg(long, num_args = 1.., default_values = ["lenet5:128", "resnet20:128", "mobilenetv2:128", "wrn16-2:64"])]
    cases: Vec<String>,
    /// The interpreter of an environment with PyTorch.
    #[arg(long)]
    python: Option<PathBuf>,
    /// Where the peers' programs are.
    #[arg(long, default_value = "scripts/peers")]
    peers: PathBuf,
    /// Numbers of threads, separated by spaces; the first is what the others are compared with.
    #[arg(long, num_args = 1.., default_values_t = [1, 2])]
    threads: Vec<usize>,
    /// Rounds that count.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Steps of each process in a round.
    #[arg(long, default_value_t = 3)]
    steps: usize,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Subcommand)]
enum Part {
    /// Makes our steps when told to on standard input; this program starts itself so.
    Serve(Serve),
}

#[derive(Args)]
struct Serve {
    #[arg(long)]
    model: String,
    #[arg(long)]
    batch: usize,
    #[arg(long)]
    threads: usize,
    /// Computes convolutions in front of a normalisation again in the backward pass, instead of keeping them.
    #[arg(long)]
    recompute: bool,
}

struct Contender {
    name: &'static str,
    threads: usize,
    process: Peer,
    /// MiB when it was ready.
    start: f64,
    times: Vec<f64>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    log();
    match &options.part {
        Some(Part::Serve(serve)) => serve.run(),
        None => options.compare(),
    }
}

impl Options {
    fn compare(&self) -> Result<()> {
        print(
            "| case | program | threads | ms, median | range | to the first number of threads | MiB when ready | MiB at most |",
        );
        print("|---|---|---|---|---|---|---|---|");
        for case in &self.cases {
            let mut contenders = self.contenders(case)?;
            for round in 0..=self.rounds {
                for contender in &mut contenders {
                    let times = contender.process.steps(self.steps)?;
                    if round > 0 {
                        contender.times.extend(times);
                    }
                }
            }
            for contender in &contenders {
                print(&row(case, contender, &contenders)?);
            }
        }
        Ok(())
    }

    fn contenders(&self, case: &str) -> Result<Vec<Contender>> {
        let (model, batch) = case
            .rsplit_once(':')
            .with_context(|| format!("`{case}` is not MODEL:BATCH, as in resnet20:128"))?;
        let own = std::env::current_exe()?;
        let torch = self.peers.join("pytorch_step.py");
        let mut programs: Vec<(&'static str, &Path, &Path, &[&str])> = vec![
            ("kd", &own, Path::new("serve"), &[]),
            ("kd, recomputing", &own, Path::new("serve"), &["--recompute"]),
        ];
        if let Some(python) = &self.python {
            programs.push(("PyTorch eager", python, &torch, &["--layout", "eager"]));
            programs.push(("PyTorch channels_last", python, &torch, &["--layout", "channels_last"]));
        }
        let mut contenders = Vec::new();
        for (name, program, part, more) in programs {
            for &threads in &self.threads {
                let number = threads.to_string();
                let common = ["--model", model, "--batch", batch, "--threads", &number];
                let arguments: Vec<_> = common.iter().chain(more).map(|&word| word.to_owned()).collect();
                let process = Peer::start(program, part, &arguments)?;
                let start = mebibytes(process.process(), "VmRSS")?;
                contenders.push(Contender { name, threads, process, start, times: Vec::new() });
            }
        }
        Ok(contenders)
    }
}

fn row(case: &str, contender: &Contender, all: &[Contender]) -> Result<String> {
    let Contender { name, threads, process, start, times } = contender;
    let [median, low, high] = summary(times);
    let first =
        all.iter().find(|other| other.name == *name).map_or(f64::NAN, |other| summary(&other.times)[0]);
    let peak = mebibytes(process.process(), "VmHWM")?;
    let ratio = median / first;
    Ok(format!(
        "| {case} | {name} | {threads} | {median:.2} | {low:.2} to {high:.2} | {ratio:.2} | {start:.0} | {peak:.0} |"
    ))
}

/// A line of `/proc/PROCESS/status`.
fn mebibytes(process: u32, key: &str) -> Result<f64> {
    let path = format!("/proc/{process}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("no {path}: this needs Linux"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kib.with_context(|| format!("{path} says nothing of {key}"))? / 1024.0)
}

impl Serve {
    /// The protocol of `scripts/peers/protocol.py`.
    fn run(&self) -> Result<()> {
        rayon::ThreadPoolBuilder::new().num_threads(self.threads).build_global()?;
        let device = Device::flex();
        device.seed(0);
        let graph = graph(&self.model, &device)?.with_recompute(self.recompute);
        let mut step = training(&self.model, graph, self.batch)?;
        print(&serde_json::json!({ "ready": true, "program": "kd" }).to_string());
        for line in std::io::stdin().lock().lines() {
            let line = line?;
            let count = match line.strip_prefix("step ").map(str::parse::<usize>) {
                Some(Ok(count)) => count,
                _ if line == "quit" => break,
                _ => bail!("`{line}` is neither `step N` nor `quit`"),
            };
            let times = (0..count).map(|_| {
                let start = Instant::now();
                step()?;
                Ok(start.elapsed().as_secs_f64() * 1e3)
            });
            print(&serde_json::json!({ "ms": times.collect::<Result<Vec<_>>>()? }).to_string());
        }
        Ok(())
    }
}
