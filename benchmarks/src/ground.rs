//! A dataset and networks of the zoo trained on it, as graphs: where programs that change trained networks start.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use burn::tensor::{Device, Tensor};
use kd_core::losses::CrossEntropySettings;
use kd_core::{Network, Objective, Taps, Traced};
use kd_data::{Augment, ImageDataset, Images, Loader, Normalise};
use kd_graph::{Graph, GraphModule, Kernels, Value, trace};
use kd_models::{InputShape, ModelSpec, Zoo};
use kd_quant::integer::IntegerNetwork;
use kd_quant::post::batches;
use kd_train::weights::{Source, load};
use kd_train::{LearningRateSchedule, OptimizerSettings, Run, RunSettings, Shown, Start};

use crate::{errors, loader, logits, open};

/// Images in memory with a fixed split, and a folder for runs.
pub struct Ground {
    images: Arc<Images>,
    test: Arc<Images>,
    train: Vec<usize>,
    validation: Vec<usize>,
    tested: usize,
    normalise: Normalise,
    out: PathBuf,
    device: Device,
}

/// What is trained.
pub type Subject = Traced<Tensor<4>>;

/// SGD with momentum 0.9 whose learning rate falls along a cosine, and weight decay 5e-4.
pub fn sgd(learning_rate: f64) -> OptimizerSettings {
    let schedule = LearningRateSchedule::Cosine { minimum: 0.0 };
    OptimizerSettings { learning_rate, schedule, weight_decay: 5e-4, ..Default::default() }
}

impl Ground {
    /// Opens a dataset; `limit` and `tested` take only so many training and test images, of every class in proportion.
    ///
    /// # Errors
    /// When the dataset is not there.
    pub fn open(
        name: &str,
        data_dir: Option<&Path>,
        limit: Option<usize>,
        tested: Option<usize>,
        out: &Path,
    ) -> Result<Self> {
        let data = open(name, data_dir)?;
        tracing::info!("{}", data.form);
        let (train, validation) = data.train.hold_out(data.validation, 0)?;
        let train = data.train.keep(&train, limit.unwrap_or(usize::MAX), 0);
        let normalise = data.train.statistics(&train)?.normalise()?;
        let tested = tested.unwrap_or(usize::MAX).min(data.test.len());
        Ok(Self {
            images: Arc::new(data.train),
            test: Arc::new(data.test),
            train,
            validation,
            tested,
            normalise,
            out: out.to_owned(),
            device: Device::flex(),
        })
    }

    /// Where networks are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// How many test images errors are counted on.
    pub fn tested(&self) -> usize {
        self.tested
    }

    fn plain(&self, images: &Arc<Images>, ids: &[usize], batch: usize) -> Result<Loader<ImageDataset>> {
        loader(images, ids, &self.normalise, Augment::default(), batch, false, 0)
    }

    fn model(&self, model: &str, seed: u64) -> Result<(Zoo, Tensor<4>)> {
        let shape = self.images.shape();
        let shape = InputShape::new(shape.channels, shape.height, shape.width);
        self.device.seed(seed);
        let zoo = model.parse::<ModelSpec>()?.init(shape, self.images.classes().len(), &self.device)?;
        Ok((zoo, Tensor::zeros([2, shape.channels, shape.height, shape.width], &self.device)))
    }

    /// A network of the zoo with initial weights.
    ///
    /// # Errors
    /// For a name that the zoo doesn't have.
    pub fn initial(&self, model: &str, seed: u64) -> Result<Graph> {
        let (zoo, sample) = self.model(model, seed)?;
        Ok(trace(&zoo, sample, |zoo, input| zoo.forward(input, &mut Taps::none()))?)
    }

    /// A network of the zoo with the weights of a file or run folder.
    ///
    /// # Errors
    /// When the weights are not this model's.
    pub fn stored(&self, model: &str, weights: &Path) -> Result<Graph> {
        let (zoo, sample) = self.model(model, 0)?;
        let zoo = load(zoo, &Source::new(weights))?;
        Ok(trace(&zoo, sample, |zoo, input| zoo.forward(input, &mut Taps::none()))?)
    }

    /// Trains a graph, or takes what an earlier run of this name left. The epoch is chosen on validation images.
    ///
    /// # Errors
    /// When the run fails.
    pub fn train(
        &self,
        name: &str,
        graph: &Graph,
        kernels: &Kernels,
        (epochs, optimizer): (usize, OptimizerSettings),
        with: impl FnOnce(Run<Subject>) -> Run<Subject>,
    ) -> Result<Graph> {
        let settings = RunSettings { epochs, optimizer, ..Default::default() };
        let objective = Objective::new().with("labels", CrossEntropySettings::default().build()?, 1.0);
        let run = Run::new(self.out.join(name), settings, objective, &self.device);
        let run = with(run.progress(Shown::default()));
        let network = Subject::from(GraphModule::with_kernels(graph.clone(), &self.device, kernels)?);
        let train = loader(&self.images, &self.train, &self.normalise, Augment::default(), 128, true, 0)?;
        let validation = self.plain(&self.images, &self.validation, 500)?;
        let best = run.fit(network, &train, &validation, Start::Resume)?.best;
        Ok(best.module().to_graph()?)
    }

    /// Test images that a graph does not recognise.
    ///
    /// # Errors
    /// When it can't be run.
    pub fn errors(&self, graph: &Graph, kernels: &Kernels) -> Result<usize> {
        let network = Subject::from(GraphModule::with_kernels(graph.clone(), &self.device, kernels)?);
        self.errors_of(&network)
    }

    /// As [`errors`](Self::errors), of a graph with quantisers in its integer form.
    ///
    /// # Errors
    /// When it has none.
    pub fn integer_errors(&self, graph: &Graph) -> Result<usize> {
        self.errors_of(&IntegerNetwork::<Tensor<4>>::new(graph, &self.device)?)
    }

    /// As [`errors`](Self::errors), of any network.
    ///
    /// # Errors
    /// When it can't be run.
    pub fn errors_of<N: Network<Input = Tensor<4>>>(&self, network: &N) -> Result<usize> {
        let all: Vec<usize> = (0..self.test.len()).collect();
        let ids = self.test.keep(&all, self.tested, 0);
        let (rows, labels) = logits(network, &self.plain(&self.test, &ids, 250)?, &self.device)?;
        Ok(errors(&rows, &labels))
    }

    /// Training images to calibrate with, of every class in proportion.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn calibration(&self, examples: usize) -> Result<Vec<Vec<Value>>> {
        let ids = self.images.keep(&self.train, examples, 1);
        Ok(batches(&self.plain(&self.images, &ids, 64)?, examples, &self.device)?)
    }
}
