//! LeNet-300-100 and LeNet-5 on MNIST made sparse, by the methods that published numbers for them, beside the dense network at the same budget.
//!
//! ```text
//! KD_DATA_DIR=DIR cargo run --release -p kd-bench --bin sparse_mnist -- --model lenet300-100 --epochs 20 --out runs/sparse
//! ```
//!
//! Every network sees the training images `epochs` times in all: methods that start from a trained network train it for half of them. Nothing is
//! chosen on test data. Prints a line of JSON per network, and a table.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Parser;
use kd_bench::sparse::{Mnist, Training, sgd, size};
use kd_bench::{log, print};
use kd_graph::Graph;
use kd_prune::{
    Allocation, AtInitialisation, DropFraction, DsrThreshold, ErdosRenyi, GradualPruning, Masks, Pruner,
    Random, Schedule, SparseRule, SparseTraining, SparseTrainingSettings, Subject, Surgery, SurgerySettings,
    UpdateProbability, insert_straight_through_masks,
};
use kd_train::OptimizerSettings;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Options {
    /// Folder with the datasets; $KD_DATA_DIR otherwise.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Where runs are kept; a killed program goes on from there.
    #[arg(long, default_value = "runs/sparse")]
    out: PathBuf,
    /// lenet300-100 or lenet5.
    #[arg(long, default_value = "lenet300-100")]
    model: String,
    /// Methods, by name; those that need a sparsity with it, as in `snip@0.95`.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "dense,deep-compression,surgery,snip@0.95,rigl@0.95,snfs@0.95"
    )]
    methods: Vec<String>,
    /// Passes over the training images, in all.
    #[arg(long, default_value_t = 20)]
    epochs: usize,
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Only so many training images.
    #[arg(long)]
    limit: Option<usize>,
    /// For dynamic network surgery, deviations above the mean magnitude, a number for every layer from the input on.
    #[arg(long, value_delimiter = ',')]
    surgery_c: Vec<f64>,
}

/// One model with what the papers did to it.
struct Model {
    /// Its weights from the input on, with the density that Deep Compression leaves and the thresholds of dynamic network surgery.
    layers: &'static [(&'static str, f64, f64)],
    /// Method, published compression of weights, published error in percent, error of its dense network, and where it stands.
    published: &'static [(&'static str, &'static str, f64, f64, &'static str)],
}

const LENET_300_100: Model = Model {
    layers: &[("hidden.0.weight", 0.08, 5.0), ("hidden.1.weight", 0.09, 4.2), ("output.weight", 0.26, 2.0)],
    published: &[
        ("deep-compression", "12×", 1.59, 1.64, "Han et al. 2015"),
        ("surgery", "56×", 1.99, 2.28, "Guo et al. 2016"),
        ("snip@0.95", "20×", 1.6, 1.7, "Lee et al. 2019"),
        ("snip@0.98", "50×", 2.4, 1.7, "Lee et al. 2019"),
    ],
};

const LENET_5: Model = Model {
    layers: &[
        ("conv1.weight", 0.66, 0.5),
        ("conv2.weight", 0.12, 2.0),
        ("fc1.weight", 0.08, 3.0),
        ("fc2.weight", 0.19, 2.0),
    ],
    published: &[
        ("deep-compression", "12×", 0.77, 0.80, "Han et al. 2015"),
        ("surgery", "108×", 0.91, 0.91, "Guo et al. 2016"),
        ("snip@0.98", "50×", 0.8, 0.9, "Lee et al. 2019"),
        ("snip@0.99", "100×", 1.1, 0.9, "Lee et al. 2019"),
    ],
};

fn main() -> Result<()> {
    let options = Options::parse();
    log();
    let model = match options.model.as_str() {
        "lenet300-100" => LENET_300_100,
        "lenet5" => LENET_5,
        other => bail!("the model is lenet300-100 or lenet5, not `{other}`"),
    };
    let mnist = Mnist::open(options.data_dir.as_deref(), options.limit)?;
    let mut table = String::from(
        "| method | published: weights, error (dense) | error | by seed | non-zero weights | dense KB | bitmask KB | CSR KB | gap code KB |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for method in &options.methods {
        let (mut all, mut sizes) = (Vec::new(), None);
        for seed in 0..options.seeds {
            let experiment = Experiment { options: &options, model: &model, mnist: &mnist, seed };
            let network = experiment.run(method).with_context(|| format!("{method}, seed {seed}"))?;
            let (error, size) = (100.0 * mnist.error(&network)?, size(&network)?);
            let line = serde_json::json!({
                "model": options.model, "method": method, "seed": seed, "epochs": options.epochs, "error_percent": error,
                "kept": size.kept, "bytes": { "dense": size.dense / 8, "bitmask": size.bitmask / 8, "csr": size.csr / 8, "gaps": size.gaps / 8 },
            });
            print(&line.to_string());
            all.push(error);
            sizes = Some(size);
        }
        let Some(size) = sizes else { continue };
        let published = model
            .published
            .iter()
            .find(|row| row.0 == method)
            .map_or("—".to_owned(), |row| format!("{}, {} % ({} %), {}", row.1, row.2, row.3, row.4));
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let each: Vec<String> = all.iter().map(|error| format!("{error:.2}")).collect();
        let kb = |bits: u64| format!("{:.1}", bits as f64 / 8000.0);
        let weights = weights(&mnist.initial(&options.model, 0)?)?;
        table += &format!(
            "| {method} | {published} | {mean:.2} % | {} | {} ({:.1}×) | {} | {} | {} | {} |\n",
            each.join(", "),
            size.kept,
            weights as f64 / size.kept as f64,
            kb(size.dense),
            kb(size.bitmask),
            kb(size.csr),
            kb(size.gaps),
        );
    }
    print(&table);
    Ok(())
}

fn weights(graph: &Graph) -> Result<usize> {
    let weights = Subject::new(graph, &burn::tensor::Device::flex()).weights()?;
    Ok(weights.values().map(kd_prune::Array::len).sum())
}

struct Experiment<'a> {
    options: &'a Options,
    model: &'a Model,
    mnist: &'a Mnist,
    seed: u64,
}

impl Experiment<'_> {
    fn run(&self, method: &str) -> Result<Graph> {
        let (name, sparsity) = match method.split_once('@') {
            Some((name, sparsity)) => (name, sparsity.parse::<f64>().context("a sparsity is a number")?),
            None => (method, 0.0),
        };
        let epochs = self.options.epochs;
        let initial = self.mnist.initial(&self.options.model, self.seed)?;
        let at_initialisation = |score: AtInitialisation| {
            let masks = score.masks(&self.mnist.subject(&initial, self.seed)?, sparsity)?;
            self.mnist.train_masked(initial.clone(), &masks, &self.training(method, epochs, sgd(RATE)))
        };
        match name {
            "dense" => self.mnist.train(initial, &self.training(method, epochs, sgd(RATE)), |run| run),
            "deep-compression" => self.deep_compression(method),
            "surgery" => self.surgery(method),
            "snip" => at_initialisation(AtInitialisation::Snip),
            "grasp" => at_initialisation(AtInitialisation::Grasp),
            "synflow" => at_initialisation(AtInitialisation::Synflow { rounds: 100 }),
            "random" => at_initialisation(AtInitialisation::Random { seed: self.seed }),
            "gradual" => self.gradual(method, sparsity),
            "set" => self.sparse(method, initial, SparseRule::Set, sparsity),
            "rigl" => self.sparse(method, initial, SparseRule::Rigl, sparsity),
            "snfs" => self.sparse(method, initial, SparseRule::Snfs { momentum: 0.9 }, sparsity),
            "dsr" => {
                let kept = (weights(&initial)? as f64 * (1.0 - sparsity)) as usize;
                let dsr = DsrThreshold { threshold: 0.001, target: kept / 20, tolerance: 0.1 };
                self.sparse(method, initial, SparseRule::Dsr(dsr), sparsity)
            }
            other => bail!("there is no method `{other}`"),
        }
    }

    fn training(&self, name: &str, epochs: usize, optimizer: OptimizerSettings) -> Training {
        let folder = self.options.out.join(&self.options.model).join(format!("{name}-seed{}", self.seed));
        Training { folder, epochs, seed: self.seed, optimizer }
    }

    /// The network that pruning starts from, after half of the budget.
    fn trained(&self) -> Result<Graph> {
        let initial = self.mnist.initial(&self.options.model, self.seed)?;
        self.mnist.train(initial, &self.training("half", self.options.epochs / 2, sgd(RATE)), |run| run)
    }

    fn rest(&self) -> usize {
        self.options.epochs - self.options.epochs / 2
    }

    /// The densities of the paper's tables at once, then training with what is left.
    fn deep_compression(&self, method: &str) -> Result<Graph> {
        let sparsities =
            self.model.layers.iter().map(|(path, density, _)| ((*path).to_owned(), 1.0 - density));
        let allocation = Allocation::PerLayer(sparsities.collect());
        // The target is the table's.
        let once = Schedule::OneShot { target: 0.5, at: 0 };
        let hook = GradualPruning::new(once, allocation, self.model.layers.iter().map(|layer| layer.0))?;
        let training = self.training(method, self.rest(), sgd(RETRAINING_RATE));
        self.mnist.train(self.trained()?, &training, |run| run.hook(hook))
    }

    /// One ranking over all layers, pruned along Zhu and Gupta's polynomial from the beginning.
    fn gradual(&self, method: &str, sparsity: f64) -> Result<Graph> {
        let steps = self.options.epochs * self.mnist.steps();
        let polynomial = kd_prune::Polynomial {
            initial: 0.0,
            target: sparsity,
            begin: steps / 10,
            end: steps * 6 / 10,
            every: 100,
            power: 3.0,
            convention: kd_prune::PolynomialConvention::Paper,
        };
        let paths = self.model.layers.iter().map(|layer| layer.0);
        let hook = GradualPruning::new(Schedule::Polynomial(polynomial), Allocation::Global, paths)?;
        let initial = self.mnist.initial(&self.options.model, self.seed)?;
        self.mnist
            .train(initial, &self.training(method, self.options.epochs, sgd(RATE)), |run| run.hook(hook))
    }

    fn surgery(&self, method: &str) -> Result<Graph> {
        let given = self.options.surgery_c.iter().copied();
        let c: Vec<f64> = if self.options.surgery_c.is_empty() {
            self.model.layers.iter().map(|layer| layer.2).collect()
        } else {
            given.collect()
        };
        if c.len() != self.model.layers.len() {
            bail!("{} thresholds for {} layers", c.len(), self.model.layers.len());
        }
        let mut graph = self.trained()?;
        let masks = Subject::new(&graph, &burn::tensor::Device::flex()).dense()?;
        insert_straight_through_masks(&mut graph, &masks)?;
        let steps = self.rest() * self.mnist.steps();
        let stop = steps * 3 / 4;
        let settings = SurgerySettings {
            probability: UpdateProbability { gamma: 1e-4, power: 1.0, stop },
            seed: self.seed,
            ..SurgerySettings::new(self.model.layers.iter().map(|layer| layer.0).zip(c))
        };
        let hook = Surgery::new(settings)?;
        let training = self.training(method, self.rest(), sgd(RETRAINING_RATE));
        self.mnist.train(graph, &training, |run| run.hook(hook))
    }

    /// From random connections in Erdős–Rényi densities, which move until three quarters of the steps.
    fn sparse(&self, method: &str, initial: Graph, rule: SparseRule, sparsity: f64) -> Result<Graph> {
        let masks: Masks = {
            let subject = Subject::new(&initial, &burn::tensor::Device::flex());
            let densities = Allocation::ErdosRenyi(ErdosRenyi::default());
            let random = Pruner::new(Random { seed: self.seed }).allocation(densities);
            random.masks(&subject, &subject.dense()?, sparsity)?
        };
        let end = self.options.epochs * self.mnist.steps() * 3 / 4;
        let drop = DropFraction { initial: 0.3, end, ..Default::default() };
        let settings = SparseTrainingSettings { rule, drop, every: 100, seed: self.seed };
        let hook = SparseTraining::new(settings, masks.clone())?;
        let training = self.training(method, self.options.epochs, sgd(RATE));
        self.mnist.train(kd_prune::rewound(&initial, &masks)?, &training, |run| run.hook(hook))
    }
}

/// Learning rates at the start.
const RATE: f64 = 0.05;
const RETRAINING_RATE: f64 = 0.02;
