//! `kd quantize RECIPE`: trained, quantised and trained on.

use anyhow::{Result, bail};
use kd::program::Program;
use kd::recipe::RecipeError;

use crate::cli::train::RecipeOptions;

/// Quantises while it trains.
pub fn run(program: &Program, options: &RecipeOptions) -> Result<()> {
    let recipe = options.load()?;
    let Some(settings) = &recipe.quantize else {
        bail!(RecipeError::Missing { table: "quantize", advice: "add `quantize.method`, or use `kd train`" });
    };
    if recipe.all_teachers().next().is_some() {
        let advice = "a quantised network learns from its float self, by `quantize.temperature`; take it out";
        bail!(RecipeError::Unused { table: "teacher", advice });
    }
    let mut study = options.study(program, &recipe)?;
    let network = kd::pruning::zoo_graph(&recipe.student.model);
    kd::quantising::quantize(&mut study, network, &recipe.run, settings)?;
    options.finish(study, &recipe)
}
