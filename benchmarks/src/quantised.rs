//! Float networks and what becomes of them with few bits, trained for as many epochs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use burn::tensor::{Device, Tensor};
use kd_core::losses::{CrossEntropySettings, SoftTargetsSettings};
use kd_core::{Network as _, Objective, Traced};
use kd_data::{Augment, ImageDataset, Loader, Opened};
use kd_graph::{Graph, GraphModule, Kernels, Value, trace};
use kd_models::{InputShape, ModelSpec};
use kd_quant::integer::IntegerNetwork;
use kd_quant::plan::{PlanSettings, QuantHook, QuantPlan, fold_trained, initialise};
use kd_train::teacher::NetworkTeacher;
use kd_train::{
    HostBatch, LearningRateSchedule, OptimizerKind, OptimizerSettings, Run, RunSettings, Shown, Start,
};

use crate::{argmax, errors, loader, logits, open, print};

type Network = Traced<Tensor<4>>;

/// What the programs that compare quantised networks are asked.
#[derive(clap::Args)]
pub struct Options {
    /// Folder with the datasets; $KD_DATA_DIR otherwise.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Where runs are kept; a killed program goes on from there.
    #[arg(long, default_value = "runs/quantised")]
    out: PathBuf,
    /// Epochs of the float networks.
    #[arg(long, default_value_t = 5)]
    float_epochs: usize,
    /// Epochs of every other network, from the float one's weights.
    #[arg(long, default_value_t = 5)]
    epochs: usize,
    /// Only so many training images, of every class in proportion.
    #[arg(long)]
    limit: Option<usize>,
    /// Seeds of every network.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Which, by name, separated by commas; all otherwise.
    #[arg(long, value_delimiter = ',')]
    methods: Vec<String>,
}

impl Options {
    /// Trains and measures `rows` on a dataset; prints one line of JSON per network and seed, and at the end a table.
    ///
    /// # Errors
    /// When a name in `--methods` is none of a row, the data is missing, or a run fails.
    pub fn compare(self, dataset: &str, augment: Augment, mut rows: Vec<Row>) -> Result<()> {
        if let Some(name) = self.methods.iter().find(|name| rows.iter().all(|row| row.name != **name)) {
            let names: Vec<_> = rows.iter().map(|row| row.name.as_str()).collect();
            anyhow::bail!("--methods: `{name}` is none of {}", names.join(", "));
        }
        rows.retain(|row| self.methods.is_empty() || self.methods.contains(&row.name));
        let data = open(dataset, self.data_dir.as_deref())?;
        let bench = Bench::new(data, augment, self.limit, self.out)?;
        let mut results: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for seed in 0..self.seeds {
            let mut floats = BTreeMap::new();
            for row in &rows {
                if !floats.contains_key(&row.model) {
                    floats.insert(row.model.clone(), bench.float(&row.model, self.float_epochs, seed)?);
                }
                let float = &floats[&row.model];
                let wrong = bench.run(row, float, self.epochs, seed).with_context(|| row.name.clone())?;
                results.entry(&row.name).or_default().push(wrong);
            }
        }
        print(&table(&rows, &results));
        Ok(())
    }
}

/// A network that is measured.
pub struct Row {
    /// What it is called, also on the command line.
    pub name: String,
    /// The float network, by its name in the zoo.
    pub model: String,
    /// How it is quantised; `None` goes on in float.
    pub settings: Option<PlanSettings>,
    /// The temperature of the float network as a teacher, if it is one.
    pub temperature: Option<f64>,
    /// Another optimizer than that of most rows, where the method's paper has one.
    pub optimizer: Option<OptimizerSettings>,
    /// The published error in percent, with its source.
    pub published: &'static str,
}

impl Row {
    /// A network without published error and teacher.
    pub fn new(name: &str, model: &str, settings: Option<PlanSettings>) -> Self {
        let (temperature, optimizer) = (None, None);
        Self {
            name: name.to_owned(),
            model: model.to_owned(),
            settings,
            temperature,
            optimizer,
            published: "",
        }
    }

    /// With a published error in percent and its source.
    #[must_use]
    pub fn published(self, published: &'static str) -> Self {
        Self { published, ..self }
    }

    /// Trained with this optimizer; its learning rate falls along a cosine.
    #[must_use]
    pub fn optimizer(self, kind: OptimizerKind, learning_rate: f64) -> Self {
        Self { optimizer: Some(cosine(kind, learning_rate)), ..self }
    }

    /// Learns from its float self at this temperature as well.
    #[must_use]
    pub fn distilled(self, temperature: f64) -> Self {
        Self { temperature: Some(temperature), ..self }
    }
}

fn cosine(kind: OptimizerKind, learning_rate: f64) -> OptimizerSettings {
    let schedule = LearningRateSchedule::Cosine { minimum: 0.0 };
    OptimizerSettings { kind, learning_rate, schedule, ..Default::default() }
}

/// Data and training, the same for all rows.
struct Bench {
    data: Data,
    augment: Augment,
    out: PathBuf,
    device: Device,
}

struct Data {
    images: Arc<kd_data::Images>,
    test: Arc<kd_data::Images>,
    train: Vec<usize>,
    validation: Vec<usize>,
    normalise: kd_data::Normalise,
}

impl Bench {
    /// Splits the data; validation is held out before `limit` is applied, and is then a tenth of it at most.
    fn new(data: Opened, augment: Augment, limit: Option<usize>, out: PathBuf) -> Result<Self> {
        tracing::info!("{}", data.form);
        let (train, validation) = data.train.hold_out(data.validation, 0)?;
        let train = data.train.keep(&train, limit.unwrap_or(usize::MAX), 0);
        let validation = data.train.keep(&validation, limit.map_or(usize::MAX, |limit| limit / 10), 0);
        let normalise = data.train.statistics(&train)?.normalise()?;
        let (images, test) = (Arc::new(data.train), Arc::new(data.test));
        let data = Data { images, test, train, validation, normalise };
        Ok(Self { data, augment, out, device: Device::flex() })
    }

    fn training(&self, seed: u64) -> Result<Loader<ImageDataset>> {
        let Data { images, train, normalise, .. } = &self.data;
        loader(images, train, normalise, self.augment.clone(), 128, true, seed)
    }

    fn validation(&self) -> Result<Loader<ImageDataset>> {
        let Data { images, validation, normalise, .. } = &self.data;
        loader(images, validation, normalise, Augment::default(), 500, false, 0)
    }

    fn testing(&self) -> Result<Loader<ImageDataset>> {
        let all: Vec<_> = (0..self.data.test.len()).collect();
        loader(&self.data.test, &all, &self.data.normalise, Augment::default(), 500, false, 0)
    }

    /// The float network of a seed, trained or as an earlier run left it.
    fn float(&self, model: &str, epochs: usize, seed: u64) -> Result<Graph> {
        let shape = self.data.images.shape();
        let shape = InputShape::new(shape.channels, shape.height, shape.width);
        self.device.seed(seed);
        let zoo = model.parse::<ModelSpec>()?.init(shape, self.data.images.classes().len(), &self.device)?;
        let sample = Tensor::<4>::zeros([2, shape.channels, shape.height, shape.width], &self.device);
        let graph = trace(&zoo, sample, |zoo, input| zoo.forward(input, &mut kd_core::Taps::none()))?;
        let network = Network::from(GraphModule::new(graph, &self.device)?);
        let name = format!("float-first-{}", model.replace([':', ','], "-"));
        let objective = Objective::new().with("hard", CrossEntropySettings::default().build()?, 1.0);
        let run = self.prepare(&name, epochs, seed, cosine(OptimizerKind::Adam, 1e-3), objective);
        let best = run.fit(network, &self.training(seed)?, &self.validation()?, Start::Resume)?.best;
        self.report(&format!("{name} (start)"), seed, &best)?;
        Ok(best.module().to_graph()?)
    }

    /// Trains a row from the float network's weights and returns its test errors, those of the integer form if it is quantised.
    fn run(&self, row: &Row, float: &Graph, epochs: usize, seed: u64) -> Result<usize> {
        let mut objective = Objective::new().with("hard", CrossEntropySettings::default().build()?, 1.0);
        if let Some(temperature) = row.temperature {
            let soft = SoftTargetsSettings { temperature, ..Default::default() }.build()?;
            objective = objective.with("soft", soft, 1.0);
        }
        let optimizer = row.optimizer.clone().unwrap_or_else(|| cosine(OptimizerKind::Adam, 1e-3));
        let mut run = self.prepare(&row.name, epochs, seed, optimizer, objective);
        if row.temperature.is_some() {
            let teacher = Network::from(GraphModule::new(float.clone(), &self.device)?);
            run = run.teacher(NetworkTeacher::new("float", teacher, &self.device));
        }
        let (graph, kernels) = match &row.settings {
            None => (float.clone(), Kernels::new()),
            Some(settings) => {
                let graph = self.quantised(float, settings, seed)?;
                let (hook, kernels) = QuantHook::new(&graph)?;
                run = run.hook(hook);
                (graph, kernels)
            }
        };
        let network = Network::from(GraphModule::with_kernels(graph, &self.device, &kernels)?);
        let best = run.fit(network, &self.training(seed + 1000)?, &self.validation()?, Start::Resume)?.best;
        match row.settings {
            None => self.report(&row.name, seed, &best),
            Some(_) => self.report_codes(&row.name, seed, &best),
        }
    }

    fn quantised(&self, float: &Graph, settings: &PlanSettings, seed: u64) -> Result<Graph> {
        let plan = QuantPlan::new(float, settings)?;
        let mut graph = plan.apply(float)?;
        let first = self.training(seed + 1000)?.epoch(0, 0).next();
        let first = first.ok_or_else(|| anyhow::anyhow!("there are no training images"))??;
        let (input, _) = first.batch.to_device(&self.device);
        initialise(&mut graph, &self.device, [Value::all(input)])?;
        Ok(graph)
    }

    fn prepare(
        &self,
        name: &str,
        epochs: usize,
        seed: u64,
        optimizer: OptimizerSettings,
        objective: Objective,
    ) -> Run<Network> {
        let settings = RunSettings { seed, epochs, optimizer, ..Default::default() };
        let folder = self.out.join(format!("seed{seed}")).join(name);
        Run::new(folder, settings, objective, &self.device).progress(Shown::default())
    }

    fn report(&self, name: &str, seed: u64, network: &Network) -> Result<usize> {
        let (rows, labels) = logits(network, &self.testing()?, &self.device)?;
        let wrong = errors(&rows, &labels);
        print(&serde_json::json!({ "network": name, "seed": seed, "test_errors": wrong }).to_string());
        Ok(wrong)
    }

    /// What counts is what the network computes on codes; its training form stands beside.
    fn report_codes(&self, name: &str, seed: u64, network: &Network) -> Result<usize> {
        let (float, labels) = logits(network, &self.testing()?, &self.device)?;
        let graph = fold_trained(&network.module().to_graph()?)?;
        let integer = IntegerNetwork::<Tensor<4>>::new(&graph, &self.device)?;
        let (codes, _) = logits(&integer, &self.testing()?, &self.device)?;
        let wrong = errors(&codes, &labels);
        let line = serde_json::json!({
            "network": name,
            "seed": seed,
            "test_errors": wrong,
            "training_form_errors": errors(&float, &labels),
            "other_class": float.iter().zip(&codes).filter(|(a, b)| argmax(a) != argmax(b)).count(),
            "code_nodes": integer.integer_nodes(),
            "float_nodes": integer.float_nodes().iter().map(|node| &node.name).collect::<Vec<_>>(),
        });
        print(&line.to_string());
        Ok(wrong)
    }
}

/// Test errors in percent, the mean over seeds, beside what is published.
fn table(rows: &[Row], results: &BTreeMap<&str, Vec<usize>>) -> String {
    let mut text =
        "| network | published error, % | test errors of 10,000 by seed | mean, % |\n|---|---|---|---|\n"
            .to_owned();
    for row in rows {
        let Some(errors) = results.get(row.name.as_str()) else { continue };
        let mean = errors.iter().sum::<usize>() as f64 / errors.len().max(1) as f64 / 100.0;
        text += &format!("| {} | {} | {errors:?} | {mean:.2} |\n", row.name, row.published);
    }
    text
}
