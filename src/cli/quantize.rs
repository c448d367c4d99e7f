//! `kd quantize`: a recipe trained, quantised and trained on.

use anyhow::{Result, bail};
use kd::program::Program;
use kd::recipe::RecipeError;

use super::train::RecipeOptions;

/// Options of `kd quantize`.
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub recipe: RecipeOptions,
}

/// Quantises.
pub fn run(program: &Program, options: &Options) -> Result<()> {
    let recipe = options.recipe.load()?;
    let Some(settings) = &recipe.quantize else {
        bail!(RecipeError::Missing { table: "quantize", advice: "add `quantize.method`, or use `kd train`" });
    };
    if recipe.all_teachers().next().is_some() {
        let advice = "a quantised network learns from its float self, by `quantize.temperature`; take it out";
        bail!(RecipeError::Unused { table: "teacher", advice });
    }
    let mut study = options.recipe.study(program, &recipe)?;
    let network = kd::pruning::zoo_graph(&recipe.student.model);
    kd::quantising::quantize(&mut study, network, &recipe.run, settings)?;
    options.recipe.finish(study, &recipe)
}
