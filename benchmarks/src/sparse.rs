//! What the programs that make MNIST networks sparse share: one way to train and to measure, whatever the method.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::tensor::{Device, Int, Tensor};
use kd_core::losses::CrossEntropySettings;
use kd_core::{Objective, Taps, Traced};
use kd_data::{Augment, ImageDataset, Images, Loader, Normalise};
use kd_graph::{Graph, GraphModule, Op, Value, trace};
use kd_models::{InputShape, ModelSpec};
use kd_prune::{KeepMasks, Mask, Masks, PruneError, StoredSize, Subject, fold_masks, mask_kernels};
use kd_train::{HostBatch, LearningRateSchedule, OptimizerSettings, Run, RunSettings, Shown, Start};

use crate::{errors, loader, logits, open};

/// A traced network of the zoo.
pub type Network = Traced<Tensor<4>>;

/// Images of a training step.
const BATCH: usize = 128;

/// MNIST in memory, normalised with the training images' statistics. Networks train on all training images and the error after the last epoch
/// counts, so that nothing is chosen; the validation images that a run wants to see are of the training images.
pub struct Mnist {
    train: Arc<Images>,
    test: Arc<Images>,
    normalise: Normalise,
    ids: Vec<usize>,
    device: Device,
}

/// How a network is trained.
#[derive(Clone, Debug)]
pub struct Training {
    /// Where the run is kept.
    pub folder: PathBuf,
    /// Passes over the training images.
    pub epochs: usize,
    /// Seed of batch order.
    pub seed: u64,
    /// Optimizer.
    pub optimizer: OptimizerSettings,
}

/// SGD with momentum 0.9 whose learning rate falls along a cosine, and weight decay 5e-4.
pub fn sgd(learning_rate: f64) -> OptimizerSettings {
    let schedule = LearningRateSchedule::Cosine { minimum: 0.0 };
    OptimizerSettings { learning_rate, schedule, weight_decay: 5e-4, ..Default::default() }
}

impl Mnist {
    /// Opens MNIST; `limit` takes only so many training images.
    ///
    /// # Errors
    /// When it is not there.
    pub fn open(data_dir: Option<&Path>, limit: Option<usize>) -> Result<Self> {
        let opened = open("mnist", data_dir)?;
        tracing::info!("{}", opened.form);
        let all: Vec<_> = (0..opened.train.len()).collect();
        let ids = opened.train.keep(&all, limit.unwrap_or(usize::MAX), 0);
        let normalise = opened.train.statistics(&all)?.normalise()?;
        let (train, test) = (Arc::new(opened.train), Arc::new(opened.test));
        Ok(Self { train, test, normalise, ids, device: Device::flex() })
    }

    /// Optimizer steps of an epoch.
    pub fn steps(&self) -> usize {
        self.ids.len().div_ceil(BATCH)
    }

    fn training(&self, seed: u64) -> Result<Loader<ImageDataset>> {
        loader(&self.train, &self.ids, &self.normalise, Augment::default(), BATCH, true, seed)
    }

    fn plain(&self, images: &Arc<Images>, count: usize) -> Result<Loader<ImageDataset>> {
        let ids: Vec<_> = (0..count).collect();
        loader(images, &ids, &self.normalise, Augment::default(), 500, false, 0)
    }

    /// A model of the zoo with initial weights, as a graph.
    ///
    /// # Errors
    /// A name that the zoo doesn't have.
    pub fn initial(&self, model: &str, seed: u64) -> Result<Graph> {
        self.device.seed(seed);
        let zoo = model.parse::<ModelSpec>()?.init(InputShape::MNIST, 10, &self.device)?;
        let input = Tensor::<4>::zeros([2, 1, 28, 28], &self.device);
        Ok(trace(&zoo, input, |zoo, input| kd_core::Network::forward(zoo, input, &mut Taps::none()))?)
    }

    /// The network with a batch and a loss, for scores that look at gradients.
    ///
    /// # Errors
    /// When the images can't be read.
    pub fn subject<'a>(&self, graph: &'a Graph, seed: u64) -> Result<Subject<'a>> {
        let batch = self.training(seed)?.epoch(0, 0).next().context("there are no images")??.batch;
        let (input, labels) = batch.to_device(&self.device);
        let labels: Tensor<1, Int> = labels.int()?;
        Ok(Subject::new(graph, &self.device).with_loss(vec![Value::from(input)], move |outputs| {
            let first = outputs.first().ok_or_else(|| PruneError::Loss("there is no output".to_owned()))?;
            let logits = first.float::<2>()?;
            let loss = CrossEntropyLossConfig::new().init(&logits.device());
            Ok(loss.forward(logits, labels.clone().autodiff()))
        }))
    }

    /// Trains a network; `change` adds hooks to the run. Masks are folded into what comes out.
    ///
    /// # Errors
    /// When the run fails.
    pub fn train(
        &self,
        graph: Graph,
        training: &Training,
        change: impl FnOnce(Run<Network>) -> Run<Network>,
    ) -> Result<Graph> {
        let network = Network::from(GraphModule::with_kernels(graph, &self.device, &mask_kernels())?);
        let Training { folder, epochs, seed, optimizer } = training.clone();
        let settings = RunSettings { seed, epochs, optimizer, ..Default::default() };
        let objective = Objective::new().with("hard", CrossEntropySettings::default().build()?, 1.0);
        let run = Run::new(folder, settings, objective, &self.device).progress(Shown::default());
        let watched = self.plain(&self.train, 1000)?;
        let outcome = change(run).fit(network, &self.training(seed)?, &watched, Start::Resume)?;
        let mut graph = outcome.last.module().to_graph()?;
        fold_masks(&mut graph)?;
        Ok(graph)
    }

    /// As [`train`](Self::train), with masks that stay.
    ///
    /// # Errors
    /// As [`train`](Self::train).
    pub fn train_masked(&self, graph: Graph, masks: &Masks, training: &Training) -> Result<Graph> {
        let hook = KeepMasks::new(masks.clone());
        self.train(kd_prune::rewound(&graph, masks)?, training, |run| run.hook(hook))
    }

    /// Share of the test images that the network gets wrong.
    ///
    /// # Errors
    /// When it can't be run.
    pub fn error(&self, graph: &Graph) -> Result<f64> {
        let network = Network::from(GraphModule::new(graph.clone(), &self.device)?);
        let (rows, labels) = logits(&network, &self.plain(&self.test, self.test.len())?, &self.device)?;
        Ok(errors(&rows, &labels) as f64 / labels.len() as f64)
    }
}

/// Weights that are not zero, of those that layers multiply with, and what they take in real formats, biases stored densely beside them.
///
/// # Errors
/// A graph whose weights can't be read.
pub fn size(graph: &Graph) -> Result<StoredSize> {
    let subject = Subject::new(graph, &Device::flex());
    let convolution = |path: &str| -> Result<bool> {
        let id = graph.find(path)?;
        Ok(graph.users(id).any(|(_, node)| matches!(node.op(), Op::Conv(_))))
    };
    let mut sum = StoredSize::default();
    let mut counted = 0;
    for (path, weight) in subject.weights()? {
        counted += weight.len() as u64;
        // The widths of Deep Compression.
        let gap_bits = if convolution(&path)? { 8 } else { 5 };
        sum = sum.plus(StoredSize::of(&Mask::of_nonzeros(&weight), gap_bits));
    }
    let biases = 32 * (graph.cost(1)?.parameters - counted);
    let kept = sum.kept;
    Ok(StoredSize {
        kept,
        dense: sum.dense + biases,
        bitmask: sum.bitmask + biases,
        csr: sum.csr + biases,
        gaps: sum.gaps + biases,
    })
}
