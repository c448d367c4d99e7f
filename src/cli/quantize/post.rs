//! `kd quantize --post`: a trained model in integers, without training.

use std::path::Path;

use anyhow::Result;
use burn::tensor::Tensor;
use kd::core::Traced;
use kd::graph::GraphModule;
use kd::program::Common;
use kd::quant::integer::IntegerNetwork;
use kd::quant::plan::initialise;

use super::subject::{Subject, accuracy, files, write};
use crate::cli::say;

/// Quantises, measures both forms on the test split, writes the graph and the plan.
pub fn run(model: &Path, subject: &Subject, common: &Common) -> Result<()> {
    let files = files(common, &["quantised.json", "plan.json"])?;
    let opened = subject.open(model, common)?;
    let mut quantised = opened.plan.apply(&opened.graph)?;
    initialise(&mut quantised, &opened.device, opened.calibration)?;
    say(opened.plan.to_string())?;
    let integer = IntegerNetwork::<Tensor<4>>::new(&quantised, &opened.device)?;
    for node in integer.float_nodes() {
        say(format!("in float: {}: {}", node.name, node.reason))?;
    }
    let float: Traced<Tensor<4>> = GraphModule::new(opened.graph, &opened.device)?.into();
    let test = opened.data.test()?;
    let (before, after) =
        (accuracy(&float, &test, &opened.device)?, accuracy(&integer, &test, &opened.device)?);
    say(format!("accuracy {:.2} % in float, {:.2} % in integers", 100.0 * before, 100.0 * after))?;
    let Some([graph, plan]) = files.as_deref() else {
        return say("nothing was written: name a folder with --out");
    };
    write(plan, &serde_json::to_vec(&opened.plan)?)?;
    quantised.save(graph)?;
    say(format!("{} with its weights beside it, {}", graph.display(), plan.display()))
}
