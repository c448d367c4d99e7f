//! `kd train`: a network from labels.

use std::path::PathBuf;

use anyhow::{Result, bail};
use kd::experiment::{Plan, Study, zoo};
use kd::program::{Common, Program};
use kd::recipe::{Recipe, RecipeError};

use super::{say, say_results};

/// Options of `kd train`.
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub recipe: RecipeOptions,
}

/// What `kd train`, `kd distill`, `kd prune` and `kd quantize` share.
#[derive(clap::Args)]
pub struct RecipeOptions {
    /// The recipe, a TOML file.
    #[arg(value_name = "RECIPE")]
    pub path: PathBuf,
    /// Change a value of the recipe: `--set run.optimizer.learning-rate=0.1`, `--set objective.terms.0.weight=0.5`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Print the results as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub common: Common,
}

impl RecipeOptions {
    /// Reads the recipe.
    pub fn load(&self) -> Result<Recipe, RecipeError> {
        Recipe::load(&self.path, &self.sets)
    }

    /// `mnist/fitnets/lenet5-tenth_from_lenet5` for a recipe under `configs`, where several have one file name; the file's name otherwise.
    fn title(&self) -> String {
        let path = self.path.with_extension("");
        let names: Vec<_> = path.components().map(|name| name.as_os_str().to_string_lossy()).collect();
        let configs = names.iter().rposition(|name| name == "configs");
        let from = configs.map_or(names.len().saturating_sub(1), |at| at + 1);
        names.get(from..).unwrap_or_default().join("/")
    }

    /// Opens the recipe's data and a study called after the file. The recipe as it was used is kept beside the results.
    pub fn study(&self, program: &Program, recipe: &Recipe) -> Result<Study> {
        let title = self.title();
        self.common.device()?;
        let data = self.common.data(&recipe.data)?;
        program.study(&title, data, &self.common, self.common.start())
    }

    /// Writes results, report and the recipe as it was used, and prints the table.
    pub fn finish(&self, study: Study, recipe: &Recipe) -> Result<()> {
        let folder = study.folder().to_path_buf();
        kd::train::files::write(&folder.join("recipe.toml"), toml::to_string(recipe)?.as_bytes())?;
        let results = study.finish()?;
        say_results(&results, self.json)?;
        if self.json { Ok(()) } else { say(format!("report: {}", folder.join("report.html").display())) }
    }
}

/// Trains.
pub fn run(program: &Program, options: &Options) -> Result<()> {
    let recipe = options.recipe.load()?;
    if recipe.all_teachers().next().is_some() {
        bail!(RecipeError::Unused {
            table: "teacher",
            advice: "use `kd distill`, which trains the student alone as well"
        });
    }
    if recipe.prune.is_some() {
        bail!(RecipeError::Unused { table: "prune", advice: "use `kd prune`" });
    }
    if recipe.quantize.is_some() {
        bail!(RecipeError::Unused { table: "quantize", advice: "use `kd quantize`" });
    }
    let mut study = options.recipe.study(program, &recipe)?;
    let objective = || Ok(recipe.objective.build()?);
    let name = recipe.student.model.to_string();
    study.train(&Plan::new(name, recipe.run.clone(), zoo(&recipe.student.model), objective))?;
    options.recipe.finish(study, &recipe)
}
