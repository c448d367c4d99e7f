//! Deep Compression's first two stages: magnitude pruning, then weights that share trained values; and HashedNets.
//!
//! ```text
//! KD_DATA_DIR=DIR cargo run --release -p kd-bench --bin sharing_mnist -- --out runs/sharing-mnist
//! ```
//!
//! LeNet-300-100 with 6 bits in every layer, LeNet-5 with 8 bits in convolutions and 5 in linear layers, each pruned to the published share of every layer.
//! 55,000 training images, 5,000 held out for validation, which chooses the epoch; errors are on the 10,000 test images. Prints one line of JSON per
//! network and, at the end, tables.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use kd_bench::ground::{Ground, sgd};
use kd_bench::{log, print};
use kd_graph::{Graph, Kernels, Op};
use kd_prune::{Allocation, KeepMasks, Magnitude, Mask, Masks, Pruner, StoredSize, Subject};
use kd_quant::sharing::{Codebook, Initial, KMeans, hash_linear, kernels, share_weights, unshare_weights};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Options {
    /// Folder with the datasets; $KD_DATA_DIR otherwise.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Where runs are kept; a killed program goes on from there.
    #[arg(long, default_value = "runs/sharing-mnist")]
    out: PathBuf,
    /// Epochs of the float networks, and of the hashed ones beside them.
    #[arg(long, default_value_t = 6)]
    epochs: usize,
    /// Epochs after pruning.
    #[arg(long, default_value_t = 4)]
    retrain: usize,
    /// Epochs of the centroids.
    #[arg(long, default_value_t = 1)]
    tune: usize,
    /// Weights of a trained LeNet-5, a file or a run folder, instead of training one.
    #[arg(long)]
    lenet5: Option<PathBuf>,
    /// Which, by the model's name or `hashed`, separated by commas; all otherwise.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only so many training images.
    #[arg(long)]
    limit: Option<usize>,
}

/// A published compression: what each layer keeps, and its bits.
struct Published {
    model: &'static str,
    /// Path of the weight, share kept, bits, bits of a distance between kept weights.
    layers: &'static [(&'static str, f64, u32, u32)],
    /// Errors in percent, float and compressed.
    errors: &'static str,
}

const DEEP_COMPRESSION: &[Published] = &[
    Published {
        model: "lenet300-100",
        layers: &[
            ("hidden.0.weight", 0.08, 6, 5),
            ("hidden.1.weight", 0.09, 6, 5),
            ("output.weight", 0.26, 6, 5),
        ],
        errors: "1.64 → 1.58 %",
    },
    Published {
        model: "lenet5",
        layers: &[
            ("conv1.weight", 0.66, 8, 8),
            ("conv2.weight", 0.12, 8, 8),
            ("fc1.weight", 0.08, 5, 5),
            ("fc2.weight", 0.19, 5, 5),
        ],
        errors: "0.80 → 0.74 %",
    },
];

const STARTS: [(&str, Initial); 3] = [
    ("linear", Initial::Linear),
    ("density", Initial::Density),
    ("k-means++", Initial::PlusPlus { seed: 0 }),
];

fn main() -> Result<()> {
    let options = Options::parse();
    log();
    let ground = Ground::open("mnist", options.data_dir.as_deref(), options.limit, None, &options.out)?;
    let wanted =
        |name: &str| options.only.is_empty() || options.only.iter().any(|only| only.as_str() == name);
    for published in DEEP_COMPRESSION.iter().filter(|published| wanted(published.model)) {
        print(&compress(published, &ground, &options)?);
    }
    if wanted("hashed") {
        print(&hashed(&ground, &options)?);
    }
    Ok(())
}

fn said(name: &str, wrong: usize) -> usize {
    print(&serde_json::json!({ "network": name, "test_errors": wrong }).to_string());
    wrong
}

fn compress(published: &Published, ground: &Ground, options: &Options) -> Result<String> {
    let model = published.model;
    let none = Kernels::new();
    let start = ground.initial(model, 0)?;
    let float = match &options.lenet5 {
        Some(weights) if model == "lenet5" => ground.stored(model, weights)?,
        _ => {
            let training = (options.epochs, sgd(0.05));
            ground.train(&format!("{model}-float"), &start, &none, training, |run| run)?
        }
    };
    let dense = said(&format!("{model} float"), ground.errors(&float, &none)?);

    let sparsities =
        published.layers.iter().map(|(path, kept, ..)| ((*path).to_owned(), 1.0 - kept)).collect();
    let subject = Subject::new(&float, ground.device());
    let pruner = Pruner::new(Magnitude::L1).allocation(Allocation::PerLayer(sparsities));
    let masks = pruner.masks(&subject, &subject.dense()?, 0.9)?;
    let masks: Masks =
        masks.into_iter().filter(|(path, _)| published.layers.iter().any(|layer| layer.0 == path)).collect();
    // Pruned weights are zero from the start, and the hook keeps them there.
    let sparse = zeroed(&float, &masks)?;
    let hook = KeepMasks::new(masks.clone());
    let training = (options.retrain, sgd(0.02));
    let pruned = ground.train(&format!("{model}-pruned"), &sparse, &none, training, |run| run.hook(hook))?;
    let after_pruning = said(&format!("{model} pruned"), ground.errors(&pruned, &none)?);

    let mut table = format!(
        "{model}, published {}: dense {dense} errors, pruned {after_pruning}\n\n| start of k-means | shared | centroids trained | bytes, float | bytes, pruned and shared |\n|---|---|---|---|---|\n",
        published.errors
    );
    for (name, initial) in STARTS {
        let kmeans = |bits: u32| KMeans { initial, ..KMeans::new(1 << bits) };
        let wanted =
            published.layers.iter().map(|(path, _, bits, _)| ((*path).to_owned(), kmeans(*bits))).collect();
        let mut shared = pruned.clone();
        let books = share_weights(&mut shared, &wanted)?;
        let before = said(&format!("{model} shared, {name}"), ground.errors(&shared, &kernels())?);
        let folder = format!("{model}-shared-{name}");
        let optimizer = kd_train::OptimizerSettings { weight_decay: 0.0, ..sgd(0.001) };
        let tuned = ground.train(&folder, &shared, &kernels(), (options.tune, optimizer), |run| run)?;
        let after = said(&format!("{model} shared and trained, {name}"), ground.errors(&tuned, &kernels())?);
        check(&tuned, &books, &masks)?;
        let (float_bytes, bytes) = sizes(published, &float, &books, &masks);
        table += &format!("| {name} | {before} | {after} | {float_bytes} | {bytes} |\n");
    }
    Ok(table)
}

fn zeroed(graph: &Graph, masks: &Masks) -> Result<Graph> {
    let mut zeroed = graph.clone();
    kd_prune::insert_masks(&mut zeroed, masks)?;
    kd_prune::fold_masks(&mut zeroed)?;
    Ok(zeroed)
}

/// Pruned weights are zero and no layer has more values than its codebook.
fn check(tuned: &Graph, books: &BTreeMap<String, Codebook>, masks: &Masks) -> Result<()> {
    let mut plain = tuned.clone();
    unshare_weights(&mut plain)?;
    for (path, book) in books {
        let value = plain.value(plain.find(path)?).context("a weight is missing")?;
        let values: Vec<f32> = value.iter::<f32>().collect();
        let mask = masks.get(path).context("a mask is missing")?;
        let zero = values.iter().zip(mask.keep()).all(|(value, keep)| *keep || *value == 0.0);
        anyhow::ensure!(zero, "{path}: a pruned weight is not zero");
        let mut different: Vec<u32> = values.iter().filter(|v| **v != 0.0).map(|v| v.to_bits()).collect();
        different.sort_unstable();
        different.dedup();
        let most = book.clusters().centroids.len();
        anyhow::ensure!(different.len() <= most, "{path}: {} values, not {most}", different.len());
    }
    Ok(())
}

/// Bytes in float and packed: a code and the distance from the one before for every kept weight, the codebook and all biases in f32.
fn sizes(
    published: &Published,
    float: &Graph,
    books: &BTreeMap<String, Codebook>,
    masks: &Masks,
) -> (usize, usize) {
    let all: usize = float.parameters().map(|(_, node)| node.output().shape.elements(1)).sum();
    let mut bits = 32 * all;
    for &(path, _, code, gap) in published.layers {
        let (Some(book), Some(mask)) = (books.get(path), masks.get(path)) else { continue };
        let stored = StoredSize::of(mask, gap);
        // The gap code's entries, fillers included, each of 32 + gap bits there.
        let entries = stored.gaps as usize / (32 + gap as usize);
        bits -= 32 * Mask::keep(mask).len();
        bits += entries * (code + gap) as usize + 32 * book.clusters().centroids.len();
    }
    (4 * all, bits.div_ceil(8))
}

/// Every hidden layer by an eighth of its weights, beside a dense network that has an eighth of the weights by being narrow.
fn hashed(ground: &Ground, options: &Options) -> Result<String> {
    let none = Kernels::new();
    let training = || (options.epochs, sgd(0.05));
    let train = |name: &str, graph: &Graph, kernels: &Kernels| -> Result<usize> {
        let trained = ground.train(name, graph, kernels, training(), |run| run)?;
        Ok(said(name, ground.errors(&trained, kernels)?))
    };
    let start = ground.initial("mlp:1000", 0)?;
    let dense = train("mlp-1000", &start, &none)?;
    let mut graph = start;
    let layers: Vec<(String, usize)> = graph
        .nodes()
        .filter(|(_, node)| *node.op() == Op::Linear)
        .filter_map(|(_, node)| {
            let weight = graph.node(*node.inputs().get(1)?).ok()?;
            Some((node.name().to_owned(), weight.output().shape.elements(1)))
        })
        .collect();
    for (seed, (layer, elements)) in layers.iter().enumerate() {
        hash_linear(&mut graph, layer, elements / 8, seed as u32)?;
    }
    let hashed = train("mlp-1000-hashed-8", &graph, &kernels())?;
    let narrow = train("mlp-125", &ground.initial("mlp:125", 0)?, &none)?;
    let count = |graph: &Graph| -> usize {
        graph.parameters().map(|(_, node)| node.output().shape.elements(1)).sum()
    };
    Ok(format!(
        "| HashedNets | parameters | errors |\n|---|---|---|\n| 784-1000-10 | {} | {dense} |\n| the same, hashed to an eighth | {} | {hashed} |\n| 784-125-10 | {} | {narrow} |\n",
        count(&ground.initial("mlp:1000", 0)?),
        count(&graph),
        count(&ground.initial("mlp:125", 0)?)
    ))
}
