//! `kd quantize analyse`: what quantisation does to every layer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use burn::tensor::Tensor;
use kd::data::{Augment, ImageDataset, Loader};
use kd::graph::{Graph, Op, Role};
use kd::program::Common;
use kd::quant::QuantError;
use kd::quant::analysis::{analyse, flip_rates, mixed_bits, packed_bytes};
use kd::quant::integer::IntegerNetwork;
use kd::quant::plan::{QuantPlan, sites};
use kd::train::report::Report;

use super::subject::{Subject, accuracy, files, write};
use crate::cli::say;

/// Options of `kd quantize analyse`.
#[derive(clap::Args)]
pub struct Options {
    /// A trained model: a name of `kd list models`, or the .json file of a graph.
    model: PathBuf,
    #[command(flatten)]
    subject: Subject,
    /// Another state of the model, the .json file of a graph, quantised or not: count the codes of weights that differ from it (flips).
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Validation images that every accuracy is measured on, of all classes in proportion; all if not said.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    images: Option<u32>,
    /// Choose the bits of every weight so that all of them take so many bytes at most, and write the plan.
    #[arg(long, value_name = "BYTES")]
    budget: Option<usize>,
    /// The bits to choose from.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "8,6,4,3,2")]
    widths: Vec<u32>,
    #[command(flatten)]
    pub common: Common,
}

/// Measures accuracy in integers on the validation images, which calibration does not see, and the layers' results on a calibration batch.
pub fn run(options: &Options) -> Result<()> {
    let Options { model, subject, against, images, budget, widths, common } = options;
    let files = files(common, &["report.html", "analysis.json", "plan.json"])?;
    let mut opened = subject.open(model, common)?;
    let saved = subject.saved_plan()?;
    // A plan of training is for the network with its normalisations, any other for the network that is deployed.
    let folds = !saved.as_ref().is_some_and(|plan| is_for(plan, &opened.graph));
    if folds {
        fold(&mut opened.graph)?;
    }
    let (graph, device, data) = (&opened.graph, &opened.device, opened.data()?);
    let mut plan = match saved {
        Some(plan) => plan,
        None => subject.new_plan(graph)?,
    };
    let batches = &subject.calibration(&opened)?;
    let validation = few(data.validation()?, *images)?;
    let share = |network: &IntegerNetwork<Tensor<4>>| {
        accuracy(network, &validation, device).map_err(|error| QuantError::Run { why: error.to_string() })
    };
    let mut analysis = analyse(graph, &plan, device, batches, share)?;
    if let Some(path) = against {
        let weights = weights_only(&plan);
        let other = other(path, folds, &weights)?;
        let rates = flip_rates(&other, &weights.apply(graph)?, device)?;
        if rates.is_empty() {
            bail!(
                "{} and the plan have no weight on a grid in common: there are no codes to compare",
                path.display()
            );
        }
        analysis.set_flips(&rates);
    }
    say(analysis.to_string())?;
    let whole = format!(
        "network {} bytes in float, {} packed",
        packed_bytes(graph)?,
        packed_bytes(&plan.apply(graph)?)?
    );
    say(&whole)?;
    if let Some(budget) = *budget {
        let wrong = |network: &IntegerNetwork<Tensor<4>>| share(network).map(|accuracy| 1.0 - accuracy);
        let mixed = mixed_bits(graph, &plan, device, batches, widths, budget, wrong)?;
        plan = mixed.plan.clone();
        say(format!("{plan}\n{} of {budget} bytes", mixed.bytes()))?;
    }
    let Some([page, numbers, file]) = files.as_deref() else {
        return say("nothing was written: name a folder with --out");
    };
    let report = Report {
        title: format!("{} quantised, layer by layer", model.display()),
        dataset: data.label(),
        notes: analysis.summary().into_iter().chain([whole]).collect(),
        sweeps: analysis.sweeps(),
        ..Report::default()
    };
    write(page, report.render()?.as_bytes())?;
    write(numbers, &serde_json::to_vec_pretty(&analysis)?)?;
    write(file, &serde_json::to_vec(&plan)?)?;
    say(format!("{}, {}, {}", page.display(), numbers.display(), file.display()))
}

/// Whether a plan is for exactly the learned parameters of a graph.
fn is_for(plan: &QuantPlan, graph: &Graph) -> bool {
    let learned = |op: &Op| matches!(op, Op::Parameter { role: Role::Weight, .. });
    let own: BTreeSet<&str> =
        graph.parameters().filter(|(_, node)| learned(node.op())).map(|(_, node)| node.name()).collect();
    plan.network.keys().map(String::as_str).eq(own)
}

/// The network as it is deployed.
fn fold(graph: &mut Graph) -> Result<()> {
    graph.fold_batch_norm()?;
    graph.remove_dead()?;
    Ok(())
}

/// Some of a loader's images, of every class in proportion.
fn few(loader: Loader<ImageDataset>, images: Option<u32>) -> Result<Loader<ImageDataset>> {
    let Some(images) = images else { return Ok(loader) };
    let all = loader.dataset();
    let kept = all.images().keep(all.indices(), images as usize, 0);
    let dataset = ImageDataset::new(all.images().clone(), kept, all.normalise().clone(), Augment::default())?;
    Ok(Loader::new(Arc::new(dataset), loader.settings().clone())?)
}

/// A plan that leaves activations alone, so that nothing has to be calibrated.
fn weights_only(plan: &QuantPlan) -> QuantPlan {
    QuantPlan { activations: BTreeMap::new(), scaled: BTreeSet::new(), ..plan.clone() }
}

/// The state to compare weights with, quantised.
fn other(path: &Path, folds: bool, plan: &QuantPlan) -> Result<Graph> {
    let mut graph = Graph::load(path)?;
    graph.remove_dead()?;
    if !sites(&graph)?.is_empty() {
        return Ok(graph);
    }
    if folds {
        fold(&mut graph)?;
    }
    plan.apply(&graph).with_context(|| format!("{} is no other state of the model", path.display()))
}
