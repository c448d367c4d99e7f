//! What to train.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use kd_core::{Compiled, Network, Objective};
use kd_graph::{Engine, GraphModule};
use kd_models::{InputShape, ModelSpec, Zoo};
use kd_train::cache::{CacheKey, CachedTeacher};
use kd_train::teacher::Teacher;
use kd_train::{Hook, Run, RunSettings};

use super::data::Data;
use super::error::StudyError;
use crate::recipe::CacheSettings;

/// What a network is made for.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// Shape of an image.
    pub input: InputShape,
    /// Number of classes.
    pub classes: usize,
    /// Where its parameters are to lie; seeded.
    pub device: &'a Device,
    /// What is to compute its layers.
    pub engine: Engine,
    /// Whether results that the backward pass can compute again are not kept.
    pub recompute: bool,
}

impl Task<'_> {
    /// The network on its graph, and thereby on our kernels; one that can't be traced stays as it is.
    pub fn compile<N: Network<Input = Tensor<4>>>(&self, network: N) -> Compiled<N> {
        Compiled::new(network, self.sample(), self.engine).with_recompute(self.recompute)
    }

    /// The graph of any burn module, by its forward pass, for methods that change the graph.
    ///
    /// # Errors
    /// [`StudyError::Other`] for a model that can't be traced, or not run as its graph.
    pub fn trace<M: Module>(
        &self,
        model: &M,
        forward: impl Fn(&M, Tensor<4>) -> Tensor<2>,
    ) -> Result<GraphModule, StudyError> {
        let graph = kd_graph::trace(model, self.sample(), forward).map_err(other)?;
        let module = GraphModule::new(graph, self.device).map_err(other)?;
        Ok(module.with_engine(self.engine).with_recompute(self.recompute))
    }

    /// An image of zeros.
    fn sample(&self) -> Tensor<4> {
        let InputShape { channels, height, width } = self.input;
        Tensor::zeros([1, channels, height, width], self.device)
    }
}

fn other(error: impl std::error::Error) -> StudyError {
    StudyError::Other(error.to_string())
}

type Make<'a, N> = Box<dyn Fn(&Task<'_>) -> Result<N, StudyError> + 'a>;
type Minimise<'a> = Box<dyn Fn() -> Result<Objective, StudyError> + 'a>;
type Customise<'a, N> = Box<dyn Fn(Run<N>, &Setting<'_>) -> Result<Run<N>, StudyError> + 'a>;

/// One row of a study: a network and how it is trained, once per seed.
///
/// Network and objective are given as functions, because every seed starts with fresh ones.
pub struct Plan<'a, N: Network> {
    pub(super) name: String,
    pub(super) settings: RunSettings,
    pub(super) network: Make<'a, N>,
    pub(super) objective: Minimise<'a>,
    pub(super) customise: Vec<Customise<'a, N>>,
}

impl<'a, N: Network<Input = Tensor<4>> + 'a> Plan<'a, N> {
    /// Trains `network` to minimise `objective`; `name` is the row's, and its folder's.
    pub fn new(
        name: impl Into<String>,
        settings: RunSettings,
        network: impl Fn(&Task<'_>) -> Result<N, StudyError> + 'a,
        objective: impl Fn() -> Result<Objective, StudyError> + 'a,
    ) -> Self {
        let (network, objective) = (Box::new(network), Box::new(objective));
        Self { name: name.into(), settings, network, objective, customise: Vec::new() }
    }

    /// Adds a teacher; several are an ensemble.
    #[must_use]
    pub fn teacher<T: Teacher<Tensor<4>> + Clone + 'static>(self, teacher: T) -> Self {
        self.customise(move |run| Ok(run.teacher(teacher.clone())))
    }

    /// Adds a teacher whose outputs are kept on disk, so that only the first epoch of the first seed pays for them.
    #[must_use]
    pub fn cached_teacher<T>(self, teacher: T, settings: &CacheSettings) -> Self
    where
        T: Teacher<Tensor<4>> + Clone + 'static,
    {
        let settings = settings.clone();
        self.change(move |run, setting| Ok(run.teacher(setting.cache(teacher.clone(), &settings)?)))
    }

    /// Adds a hook, as a clone for every seed.
    #[must_use]
    pub fn hook<H: Hook<N> + Clone + 'static>(self, hook: H) -> Self {
        self.customise(move |run| Ok(run.hook(hook.clone())))
    }

    /// Changes the [`Run`] in any way: metrics, hooks, cached teachers.
    #[must_use]
    pub fn customise(self, change: impl Fn(Run<N>) -> Result<Run<N>, StudyError> + 'a) -> Self {
        self.change(move |run, _| change(run))
    }

    fn change(mut self, change: impl Fn(Run<N>, &Setting<'_>) -> Result<Run<N>, StudyError> + 'a) -> Self {
        self.customise.push(Box::new(change));
        self
    }
}

/// A model of the zoo, compiled, for [`Plan::new`].
pub fn zoo(model: &ModelSpec) -> impl Fn(&Task<'_>) -> Result<Compiled<Zoo>, StudyError> + use<> {
    let model = model.clone();
    move |task| Ok(task.compile(model.init(task.input, task.classes, task.device)?))
}

/// Where one run of a plan takes place.
pub(super) struct Setting<'a> {
    pub(super) data: &'a Data,
    pub(super) seed: u64,
    /// The study's folder.
    pub(super) folder: &'a Path,
    pub(super) device: &'a Device,
}

impl Setting<'_> {
    fn cache<T: Teacher<Tensor<4>>>(
        &self,
        teacher: T,
        settings: &CacheSettings,
    ) -> Result<CachedTeacher<T>, StudyError> {
        let data = self.data.settings();
        let mut folder =
            settings.folder.clone().unwrap_or_else(|| self.folder.join(CACHE)).join(slug(teacher.name()));
        let mut augmentation = "none".to_owned();
        if !data.augment.is_none() {
            // The views are drawn from the run's seed.
            folder.push(format!("seed-{}", self.seed));
            augmentation = format!("{:?}, seed {}", data.augment, self.seed);
        }
        let (form, validation) = (self.data.form(), data.validation);
        let key = CacheKey {
            // Sample ids are positions in the training split, which depends on what was held out.
            dataset: format!("{} {}, validation {validation:?}", form.label(), form.fingerprint()),
            augmentation,
            samples: self.data.training_images(),
            output: vec![self.data.classes().len()],
        };
        let views = data.fixed_views().unwrap_or(1);
        let settings =
            kd_train::cache::CacheSettings { precision: settings.dtype, top_k: settings.top_k, views };
        Ok(CachedTeacher::open(teacher, &folder, key, &settings, self.device)?)
    }
}

/// The caches' folder in a study's.
pub(super) const CACHE: &str = "cache";

/// A name as that of a folder.
pub(super) fn slug(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
    name.chars().map(plain).collect()
}
