//! `kd quantize analyse`: what quantisation does to every layer.

use std::path::PathBuf;

use anyhow::Result;
use burn::tensor::Tensor;
use kd::core::Traced;
use kd::graph::GraphModule;
use kd::program::Common;
use kd::quant::QuantError;
use kd::quant::analysis::{analyse, mixed_bits};
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
    /// Choose the bits of every weight so that all of them take so many bytes at most, and write the plan.
    #[arg(long, value_name = "BYTES")]
    budget: Option<usize>,
    /// The bits to choose from.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "8,6,4,3,2")]
    widths: Vec<u32>,
    #[command(flatten)]
    pub common: Common,
}

/// Measures accuracy on the validation images, which calibration does not see, and the layers' results on a calibration batch.
pub fn run(options: &Options) -> Result<()> {
    let Options { model, subject, budget, widths, common } = options;
    let files = files(common, &["report.html", "plan.json"])?;
    let mut opened = subject.open(model, common)?;
    opened.graph.fold_batch_norm()?;
    opened.graph.remove_dead()?;
    let (graph, device, data) = (&opened.graph, &opened.device, opened.data()?);
    let mut plan = match subject.saved_plan()? {
        Some(plan) => plan,
        None => subject.new_plan(graph)?,
    };
    let batches = &subject.calibration(&opened)?;
    let validation = data.validation()?;
    let share = |module: &GraphModule| {
        let network: Traced<Tensor<4>> = module.clone().into();
        accuracy(&network, &validation, device).map_err(|error| QuantError::Run { why: error.to_string() })
    };
    let analysis = analyse(graph, &plan, device, batches, share)?;
    say(analysis.to_string())?;
    if let Some(budget) = *budget {
        let wrong = |module: &GraphModule| share(module).map(|accuracy| 1.0 - accuracy);
        let mixed = mixed_bits(graph, &plan, device, batches, widths, budget, wrong)?;
        plan = mixed.plan.clone();
        say(format!("{plan}\n{} of {budget} bytes", mixed.bytes()))?;
    }
    let Some([page, file]) = files.as_deref() else {
        return say("nothing was written: name a folder with --out");
    };
    let report = Report {
        title: format!("{} quantised, layer by layer", model.display()),
        dataset: data.label(),
        notes: vec![analysis.to_string().lines().last().unwrap_or_default().to_owned()],
        sweeps: analysis.sweeps(),
        ..Report::default()
    };
    write(page, report.render()?.as_bytes())?;
    write(file, &serde_json::to_vec(&plan)?)?;
    say(format!("{}, {}", page.display(), file.display()))
}
