//! Lottery tickets in LeNet-300-100 on MNIST: accuracy by round, beside tickets with other initial weights, and whether training is stable.
//!
//! Frankle and Carbin 2019, figures 1 and 4; Frankle et al. 2020, figure 2. Command:
//!
//! ```text
//! KD_DATA_DIR=DIR cargo run --release -p kd-bench --bin lottery -- --out runs/lottery
//! ```
//!
//! Every round trains from the same initial weights for the same number of epochs with Adam at 1.2e-3, as in the paper; a fifth of the weights goes
//! in every round, a tenth of the output layer's. Errors are those after the last epoch. Prints a line of JSON per network, and two tables.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use kd_bench::sparse::{Mnist, Training};
use kd_bench::{log, print};
use kd_graph::Graph;
use kd_prune::{LotteryTicket, Masks, instability, rewound};
use kd_train::{OptimizerKind, OptimizerSettings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Options {
    /// Folder with the datasets; $KD_DATA_DIR otherwise.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Where runs are kept; a killed program goes on from there.
    #[arg(long, default_value = "runs/lottery")]
    out: PathBuf,
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Passes over the training images in every round.
    #[arg(long, default_value_t = 3)]
    epochs: usize,
    /// Of initial weights and batch order.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Every how many rounds a ticket is trained from other initial weights as well.
    #[arg(long, default_value_t = 3)]
    control: usize,
    /// Parts of the line between two networks.
    #[arg(long, default_value_t = 10)]
    steps: usize,
    /// Only so many training images.
    #[arg(long)]
    limit: Option<usize>,
}

const MODEL: &str = "lenet300-100";

fn main() -> Result<()> {
    let options = Options::parse();
    log();
    let mnist = Mnist::open(options.data_dir.as_deref(), options.limit)?;
    let initial = mnist.initial(MODEL, options.seed)?;
    let method = LotteryTicket {
        rounds: options.rounds,
        shares: [("output.weight".to_owned(), 0.1)].into(),
        ..LotteryTicket::default()
    };
    let train = |name: String, seed: u64, start: &Graph, masks: &Masks| -> Result<Graph> {
        mnist.train_masked(start.clone(), masks, &training(&options, name, seed))
    };

    let mut table =
        String::from("| round | weights left | ticket | other initial weights |\n|---|---|---|---|\n");
    let rounds = method.search(&initial, |round, ticket, masks| {
        train(format!("round{round}"), options.seed, &ticket, masks)
    })?;
    for round in &rounds {
        let error = 100.0 * mnist.error(&round.trained)?;
        let mut control = None;
        if round.round > 0 && round.round % options.control.max(1) == 0 {
            let other = mnist.initial(MODEL, options.seed + 1000)?;
            let name = format!("control{}", round.round);
            control = Some(100.0 * mnist.error(&train(name, options.seed, &other, &round.masks)?)?);
        }
        let left = 100.0 * round.remaining();
        let line = serde_json::json!({
            "round": round.round, "left_percent": left, "error_percent": error, "control_error_percent": control,
        });
        print(&line.to_string());
        let control = control.map_or("—".to_owned(), |error| format!("{error:.2} %"));
        table += &format!("| {} | {left:.1} % | {error:.2} % | {control} |\n", round.round);
    }
    print(&table);

    let mut table = String::from("| network | error along the line | instability |\n|---|---|---|\n");
    let (first, last) = (rounds.first().context("no rounds")?, rounds.last().context("no rounds")?);
    let other = mnist.initial(MODEL, options.seed + 1000)?;
    for (name, start, masks) in [
        ("dense", &initial, &first.masks),
        ("smallest ticket", &initial, &last.masks),
        ("smallest ticket, other initial weights", &other, &last.masks),
    ] {
        let slug = name.replace([' ', ','], "-");
        let start = rewound(start, masks)?;
        let pair = [1, 2]
            .map(|noise| train(format!("{slug}-noise{noise}"), options.seed + 100 * noise, &start, masks));
        let [a, b] = pair;
        let found = instability(&a?, &b?, options.steps, |graph| mnist.error(graph))?;
        let curve: Vec<String> = found.curve.iter().map(|error| format!("{:.2}", 100.0 * error)).collect();
        print(&serde_json::json!({ "network": name, "height_percent": 100.0 * found.height, "curve": found.curve }).to_string());
        table += &format!("| {name} | {} % | {:.2} % |\n", curve.join(", "), 100.0 * found.height);
    }
    print(&table);
    Ok(())
}

fn training(options: &Options, name: String, seed: u64) -> Training {
    let adam = OptimizerSettings { kind: OptimizerKind::Adam, learning_rate: 1.2e-3, ..Default::default() };
    Training { folder: options.out.join(name), epochs: options.epochs, seed, optimizer: adam }
}
