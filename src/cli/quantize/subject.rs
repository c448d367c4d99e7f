//! A trained model, and images to calibrate and measure it with.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn::tensor::{Device, Tensor};
use kd::core::Network;
use kd::experiment::Data;
use kd::graph::{Graph, Value};
use kd::models::InputShape;
use kd::program::Common;
use kd::quant::plan::{PlanSettings, QuantPlan, sites};
use kd::quantising::read_plan;
use kd::recipe::DataSettings;
use kd::train::HostBatch;
use kd::train::metrics::Accuracy;

use crate::cli::graph::{Source, image};

/// Options about model and data.
#[derive(clap::Args)]
pub struct Subject {
    /// Weights of a model of the zoo: a run's folder, or a .bpk, .safetensors or .pt file.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// The dataset of a model; normalised as in training only if `--validation` and `--limit` are those of training.
    #[arg(long, value_name = "DATASET")]
    data: Option<String>,
    /// Training images held out when the model was trained, if not the dataset's default.
    #[arg(long, value_name = "N")]
    validation: Option<usize>,
    /// Training images that were used, if not all.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Batches of training images that set the ranges of activations, 10 if not said.
    #[arg(long, value_name = "N")]
    calibration: Option<usize>,
    /// Bits of a model's weights and activations, 2 to 8, 8 if not said; the first and the last layer have 8.
    #[arg(long, value_name = "N")]
    bits: Option<u32>,
    /// Layers that stay in float, by name, `*` for any letters.
    #[arg(long, value_name = "LAYER,...", value_delimiter = ',')]
    exclude: Vec<String>,
    /// A plan to follow instead, the .json file that any other `kd quantize` has written; of a recipe, it takes the place of method, ends and exceptions.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["bits", "exclude"])]
    plan: Option<PathBuf>,
    /// Image that a model of the zoo is made for; otherwise that of the dataset.
    #[arg(long, value_name = "CxHxW", value_parser = image)]
    image: Option<InputShape>,
}

/// What the options stand for.
pub struct Opened {
    /// The float network.
    pub graph: Graph,
    pub data: Option<Data>,
    pub device: Device,
}

impl Opened {
    /// The dataset, which this use of it needs.
    pub fn data(&self) -> Result<&Data> {
        self.data.as_ref().context("name a dataset with --data: its images set the ranges")
    }
}

impl Subject {
    /// The plan for a recipe, which says everything else itself.
    pub fn of_recipe(&self, recipe: &Path) -> Result<Option<&Path>> {
        let Self { weights, data, validation, limit, calibration, bits, exclude, plan, image } = self;
        let given = [
            ("--weights", weights.is_some()),
            ("--data", data.is_some()),
            ("--validation", validation.is_some()),
            ("--limit", limit.is_some()),
            ("--calibration", calibration.is_some()),
            ("--bits", bits.is_some()),
            ("--exclude", !exclude.is_empty()),
            ("--image", image.is_some()),
        ];
        if let Some((option, _)) = given.iter().find(|(_, given)| *given) {
            bail!("{option} belongs to a model; {} is a recipe, which --set changes", recipe.display());
        }
        Ok(plan.as_deref())
    }

    /// Opens model and data.
    pub fn open(&self, model: &Path, common: &Common) -> Result<Opened> {
        let device = common.device()?;
        let (validation, limit) = (self.validation, self.limit);
        let named = |name| DataSettings { validation, limit, ..DataSettings::new(name) };
        let data = self.data.as_ref().map(|name| common.data(&named(name))).transpose()?;
        let image = self.image.or(data.as_ref().map(Data::input));
        let classes = data.as_ref().map_or(10, |data| data.classes().len());
        let model = model.to_string_lossy().into_owned();
        let source = Source::new(model, image, classes, common.verbosity);
        let mut graph = source.graph_with(self.weights.as_deref())?;
        graph.remove_dead()?;
        if let Some(site) = sites(&graph)?.first() {
            bail!(
                "the model is quantised already, as {} says; give the float one",
                graph.node(site.node)?.name()
            );
        }
        Ok(Opened { graph, data, device })
    }

    /// The plan that `--plan` names.
    pub fn saved_plan(&self) -> Result<Option<QuantPlan>> {
        Ok(self.plan.as_deref().map(read_plan).transpose()?)
    }

    /// A plan of so many bits for a network.
    pub fn new_plan(&self, graph: &Graph) -> Result<QuantPlan> {
        let settings =
            PlanSettings { exclude: self.exclude.clone(), ..PlanSettings::uniform(self.bits.unwrap_or(8))? };
        Ok(QuantPlan::new(graph, &settings)?)
    }

    /// Batches of training images.
    pub fn calibration(&self, opened: &Opened) -> Result<Vec<Vec<Value>>> {
        let batches = opened.data()?.train(0)?;
        let batches = batches.epoch(0, 0).take(self.calibration.unwrap_or(10));
        batches.map(|loaded| Ok(vec![loaded?.batch.to_device(&opened.device).0.into()])).collect()
    }
}

/// The files to write, refused if one is there already.
pub fn files(common: &Common, names: &[&str]) -> Result<Option<Vec<PathBuf>>> {
    let Some(folder) = &common.out else { return Ok(None) };
    let files: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    if !common.overwrite
        && let Some(there) = files.iter().find(|file| file.exists())
    {
        bail!("{} is there already; choose another --out, or add --overwrite", there.display());
    }
    Ok(Some(files))
}

/// Writes a file in a folder that may have to be made.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    kd::train::files::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// The share of images that a network recognises.
pub fn accuracy<N: Network<Input = Tensor<4>>>(
    network: &N,
    loader: &kd::data::Loader<kd::data::ImageDataset>,
    device: &Device,
) -> Result<f64> {
    let found = kd::train::evaluate(network, loader, &mut [Box::new(Accuracy::default())], device)?;
    found.get("accuracy").copied().context("no accuracy was measured")
}
