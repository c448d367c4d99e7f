//! `kd quantize RECIPE`: trained, quantised and trained on.

use std::path::Path;

use anyhow::{Result, bail};
use kd::program::Program;
use kd::recipe::RecipeError;

use crate::cli::say;
use crate::cli::train::RecipeOptions;

/// Quantises while it trains, by the recipe's method or plan, or by the plan of another file.
pub fn run(program: &Program, options: &RecipeOptions, plan: Option<&Path>) -> Result<()> {
    let mut recipe = options.load()?;
    let Some(settings) = &mut recipe.quantize else {
        bail!(RecipeError::Missing { table: "quantize", advice: "add `quantize.method`, or use `kd train`" });
    };
    if let Some(plan) = plan {
        *settings = settings.clone().with_plan(plan);
    }
    let settings = settings.clone();
    if recipe.all_teachers().next().is_some() {
        let advice = "a quantised network learns from its float self, by `quantize.distil`; take it out";
        bail!(RecipeError::Unused { table: "teacher", advice });
    }
    let mut study = options.study(program, &recipe)?;
    let network = kd::pruning::zoo_graph(&recipe.student.model);
    let quantised = kd::quantising::quantize(&mut study, network, &recipe.run, &settings)?;
    options.finish(study, &recipe)?;
    if options.json {
        return Ok(());
    }
    quantised.iter().try_for_each(|of| say(format!("seed {}, {}", of.seed, of.on_codes)))
}
