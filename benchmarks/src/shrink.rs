//! A network on its way through training, removal and recovery: what the programs on channel pruning share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use burn::tensor::{Device, Tensor};
use kd_core::losses::{CrossEntropySettings, SoftTargetsSettings};
use kd_core::{Network, Objective, Taps, Traced};
use kd_data::{Augment, ImageDataset, Loader, Opened};
use kd_graph::{Graph, GraphModule, trace};
use kd_models::{InputShape, ModelSpec};
use kd_prune::SparsifyScales;
use kd_train::teacher::NetworkTeacher;
use kd_train::{OptimizerSettings, Run, RunSettings, Shown, Start};

use crate::{errors, loader, logits, print};

/// A traced network of images.
pub type Net = Traced<Tensor<4>>;

/// Data, optimizer and folders of one seed.
pub struct Shrink {
    /// The seed of batch order and initial weights.
    pub seed: u64,
    out: PathBuf,
    optimizer: OptimizerSettings,
    train: Loader<ImageDataset>,
    validation: Loader<ImageDataset>,
    test: Loader<ImageDataset>,
    shape: InputShape,
    classes: usize,
    device: Device,
}

/// How every network of a [`Shrink`] is trained.
pub struct Conditions {
    /// Where runs are kept.
    pub out: PathBuf,
    /// Only so many training images, of every class in proportion.
    pub limit: Option<usize>,
    /// Of the training images.
    pub augment: Augment,
    /// Images in a batch.
    pub batch: usize,
    /// Optimizer and schedule.
    pub optimizer: OptimizerSettings,
}

/// What a training stage starts from, besides the network.
#[derive(Default)]
pub struct With<'a> {
    /// Drives scales to zero.
    pub penalty: Option<SparsifyScales>,
    /// The network that soft targets (temperature 4, weight 0.9) come from; labels then weigh 0.1.
    pub teacher: Option<&'a Graph>,
}

impl Shrink {
    /// Splits the data as every program here does: the held-out part chooses the epoch, errors are on the test images.
    ///
    /// # Errors
    /// When the data doesn't fit.
    pub fn new(data: Opened, conditions: &Conditions, seed: u64) -> Result<Self> {
        let (train, validation) = data.train.hold_out(data.validation, 0)?;
        let train = data.train.keep(&train, conditions.limit.unwrap_or(usize::MAX), 0);
        let normalise = data.train.statistics(&train)?.normalise()?;
        let (images, test) = (Arc::new(data.train), Arc::new(data.test));
        let all: Vec<_> = (0..test.len()).collect();
        let shape = images.shape();
        let augment = conditions.augment.clone();
        Ok(Self {
            seed,
            out: conditions.out.join(format!("seed{seed}")),
            optimizer: conditions.optimizer.clone(),
            train: loader(&images, &train, &normalise, augment, conditions.batch, true, seed)?,
            validation: loader(&images, &validation, &normalise, Augment::default(), 500, false, 0)?,
            test: loader(&test, &all, &normalise, Augment::default(), 500, false, 0)?,
            shape: InputShape::new(shape.channels, shape.height, shape.width),
            classes: images.classes().len(),
            device: Device::flex(),
        })
    }

    /// The device, without autodiff.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A network of the zoo with initial weights; `draw` tells several of one seed apart.
    ///
    /// # Errors
    /// A name that the zoo doesn't have.
    pub fn fresh(&self, model: &str, draw: u64) -> Result<Graph> {
        self.device.seed(1000 * draw + self.seed);
        let zoo = model.parse::<ModelSpec>()?.init(self.shape, self.classes, &self.device)?;
        let InputShape { channels, height, width } = self.shape;
        let sample = Tensor::<4>::zeros([1, channels, height, width], &self.device);
        Ok(trace(&zoo, sample, |zoo, x| zoo.forward(x, &mut Taps::none()))?)
    }

    /// The network of the epoch that validation chose; a run that is there already goes on.
    ///
    /// # Errors
    /// When the run fails.
    pub fn train(&self, name: &str, graph: &Graph, epochs: usize, with: With<'_>) -> Result<Graph> {
        let settings = RunSettings {
            seed: self.seed,
            epochs,
            optimizer: self.optimizer.clone(),
            ..RunSettings::default()
        };
        let hard = CrossEntropySettings::default().build()?;
        let objective = match with.teacher {
            None => Objective::new().with("hard", hard, 1.0),
            Some(_) => {
                let soft = SoftTargetsSettings { temperature: 4.0, ..Default::default() }.build()?;
                Objective::new().with("soft", soft, 0.9).with("hard", hard, 0.1)
            }
        };
        let mut run =
            Run::new(self.out.join(name), settings, objective, &self.device).progress(Shown::default());
        if let Some(teacher) = with.teacher {
            let teacher: Net = GraphModule::new(teacher.clone(), &self.device)?.into();
            run = run.teacher(NetworkTeacher::new("dense self", teacher, &self.device));
        }
        if let Some(penalty) = with.penalty {
            run = run.hook(penalty);
        }
        let net: Net = GraphModule::new(graph.clone(), &self.device)?.into();
        let outcome = run.fit(net, &self.train, &self.validation, Start::Resume)?;
        Ok(outcome.best.into_module().to_graph()?)
    }

    /// Prints a line of JSON about a network, and returns its errors on the test images.
    ///
    /// # Errors
    /// When it can't be run.
    pub fn report(&self, name: &str, graph: &Graph) -> Result<usize> {
        let net: Net = GraphModule::new(graph.clone(), &self.device)?.into();
        let (rows, labels) = logits(&net, &self.test, &self.device)?;
        let wrong = errors(&rows, &labels);
        let cost = graph.cost(1)?;
        print(
            &serde_json::json!({
                "network": name,
                "seed": self.seed,
                "parameters": cost.parameters,
                "macs": cost.macs,
                "test_errors": wrong,
            })
            .to_string(),
        );
        Ok(wrong)
    }

    /// Median milliseconds of a forward pass over `batch` images, for networks that take turns.
    ///
    /// # Errors
    /// When one can't be run.
    pub fn milliseconds(&self, graphs: &[&Graph], batch: usize, rounds: usize) -> Result<Vec<f64>> {
        let InputShape { channels, height, width } = self.shape;
        let x = Tensor::<4>::ones([batch, channels, height, width], &self.device);
        let modules = graphs.iter().map(|graph| GraphModule::new((*graph).clone(), &self.device));
        let modules = modules.collect::<Result<Vec<_>, _>>()?;
        let mut times = vec![Vec::new(); modules.len()];
        // The first round warms caches and is left out.
        for round in 0..=rounds {
            for (module, times) in modules.iter().zip(&mut times) {
                let started = Instant::now();
                let logits: Tensor<2> = module.forward(x.clone())?;
                logits.into_data();
                if round > 0 {
                    times.push(started.elapsed().as_secs_f64() * 1e3);
                }
            }
        }
        Ok(times.iter().map(|times| crate::summary(times)[0]).collect())
    }
}

/// Mean ± sample deviation of errors over seeds, as a share of 10,000 test images, and the errors themselves.
pub fn percent(errors: &[usize]) -> String {
    let count = errors.len() as f64;
    let mean = errors.iter().sum::<usize>() as f64 / count;
    let squares: f64 = errors.iter().map(|&wrong| (wrong as f64 - mean).powi(2)).sum();
    let deviation = (squares / (count - 1.0).max(1.0)).sqrt();
    format!("{:.2} ± {:.2} % ({errors:?})", mean / 100.0, deviation / 100.0)
}
