//! Quantised networks in their training form (float) and in integers: accuracy of both, and how often their codes differ.
//!
//! ```text
//! KD_DATA_DIR=DIR cargo run --release -p kd-bench --bin integer_forms -- --model resnet20 --weights RUN
//! ```
//!
//! A trained network is quantised by observed ranges, without training; batch normalisation is folded first. `--model` names a model of the zoo, `--weights` a
//! file or the folder of its run. Prints one line of a table per number of bits: test errors, images with another class, and for every step fed with the
//! integer form's own codes how many differ, and by how much.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use burn::tensor::{Device, Tensor};
use clap::Parser;
use kd_bench::{argmax, errors, input_shape, loader, log, logits, open, print};
use kd_core::{Network, Taps, Traced};
use kd_data::Augment;
use kd_graph::{GraphModule, Value, trace};
use kd_models::{InputShape, ModelSpec};
use kd_quant::integer::IntegerNetwork;
use kd_quant::plan::{PlanSettings, QuantPlan, initialise, kernels};
use kd_train::HostBatch;
use kd_train::weights::{Source, load};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Options {
    /// Folder with the datasets; $KD_DATA_DIR otherwise.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// A model of the zoo.
    #[arg(long, default_value = "lenet5")]
    model: String,
    /// Its weights: a file, or the folder of a run.
    #[arg(long)]
    weights: PathBuf,
    /// Numbers of bits of weights and activations; first and last layer have 8.
    #[arg(long, value_delimiter = ',', default_value = "8,6,5,4")]
    bits: Vec<u32>,
    /// Only so many test images.
    #[arg(long)]
    limit: Option<usize>,
    /// How many batches of 100 training images set the ranges.
    #[arg(long, default_value_t = 10)]
    calibration: usize,
    /// How many batches of 100 test images are compared code by code.
    #[arg(long, default_value_t = 10)]
    compared: usize,
    /// Print how every activation compares.
    #[arg(long)]
    points: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    log();
    let device = Device::flex();
    let shape = input_shape(&options.model);
    let data =
        open(if shape == InputShape::MNIST { "mnist" } else { "cifar10" }, options.data_dir.as_deref())?;
    let (train, _) = data.train.hold_out(data.validation, 0)?;
    let normalise = data.train.statistics(&train)?.normalise()?;
    let (images, test) = (Arc::new(data.train), Arc::new(data.test));
    let every: Vec<usize> = (0..test.len()).collect();
    let ids = test.keep(&every, options.limit.unwrap_or(usize::MAX), 0);
    let shown = images.keep(&train, 100 * options.calibration, 0);
    let plain = Augment::default;
    let calibration = loader(&images, &shown, &normalise, plain(), 100, false, 0)?;
    let test = loader(&test, &ids, &normalise, plain(), 100, false, 0)?;
    let batches =
        |loader: &kd_data::Loader<kd_data::ImageDataset>, count: usize| -> Result<Vec<Vec<Value>>> {
            loader
                .epoch(0, 0)
                .take(count)
                .map(|loaded| Ok(vec![loaded?.batch.to_device(&device).0.into()]))
                .collect()
        };

    let mut model = options.model.parse::<ModelSpec>()?.init(shape, images.classes().len(), &device)?;
    model = load(model, &Source::new(options.weights))?;
    let sample = Tensor::<4>::zeros([1, shape.channels, shape.height, shape.width], &device);
    let mut graph = trace(&model, sample, |model, x| model.forward(x, &mut Taps::none()))?;
    graph.fold_batch_norm()?;
    graph.remove_dead()?;
    let network: Traced<Tensor<4>> = GraphModule::new(graph.clone(), &device)?.into();
    let (rows, labels) = logits(&network, &test, &device)?;
    print(
        "| bits | float training form: errors | integers: errors | other class | codes compared | differ | by at most | through the network | nodes in float |",
    );
    print("|---|---|---|---|---|---|---|---|---|");
    print(&format!("| f32 | {} of {} | | | | | | | |", errors(&rows, &labels), labels.len()));
    if options.bits.is_empty() {
        bail!("--bits names no number of bits");
    }
    for bits in options.bits {
        let mut quantised = QuantPlan::new(&graph, &PlanSettings::uniform(bits)?)?.apply(&graph)?;
        initialise(&mut quantised, &device, batches(&calibration, options.calibration)?)?;
        let training = GraphModule::with_kernels(quantised.clone(), &device, &kernels(&quantised)?)?;
        let training: Traced<Tensor<4>> = training.into();
        let integer = IntegerNetwork::<Tensor<4>>::new(&quantised, &device)?;
        let ((float, _), (codes, _)) =
            (logits(&training, &test, &device)?, logits(&integer, &test, &device)?);
        let other = float.iter().zip(&codes).filter(|(a, b)| argmax(a) != argmax(b)).count();
        let agreement = integer.agreement(batches(&test, options.compared)?)?;
        let steps = agreement.steps();
        let last = agreement.points.last().map_or(0.0, |(_, _, through)| through.rate());
        print(&format!(
            "| {bits} | {} | {} | {other} | {} | {:.4} % | {} | {:.2} % of the last | {} |",
            errors(&float, &labels),
            errors(&codes, &labels),
            steps.codes,
            100.0 * steps.rate(),
            steps.greatest,
            100.0 * last,
            integer.float_nodes().len(),
        ));
        if options.points {
            print(&agreement.to_string());
        }
    }
    Ok(())
}
