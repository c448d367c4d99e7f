//! `kd quantize`: a network in few bits.

mod analyse;
mod post;
mod recipe;
mod subject;

use std::path::PathBuf;

use anyhow::{Result, bail};
use kd::program::{Common, Program, Verbosity};

use super::train::RecipeOptions;
use subject::Subject;

/// Options of `kd quantize`.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    /// A recipe with [quantize], a TOML file; or, with --post, a trained model: a name of `kd list models` or the .json file of a graph.
    #[arg(value_name = "RECIPE|MODEL")]
    what: Option<PathBuf>,
    /// Quantise a trained model without training.
    #[arg(long)]
    post: bool,
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    choices: post::Choices,
    /// Change a value of the recipe: `--set run.epochs=2`.
    #[arg(long = "set", value_name = "KEY=VALUE", conflicts_with = "post")]
    sets: Vec<String>,
    /// Print a recipe's results as JSON.
    #[arg(long, conflicts_with = "post")]
    json: bool,
    #[command(flatten)]
    common: Common,
}

/// What else to do.
#[derive(clap::Subcommand)]
enum Command {
    /// Measure what quantisation does to every layer of a trained model, and choose bits for each under a budget.
    Analyse(analyse::Options),
}

impl Options {
    /// How much to say.
    pub fn verbosity(&self) -> Verbosity {
        match &self.command {
            Some(Command::Analyse(options)) => options.common.verbosity,
            None => self.common.verbosity,
        }
    }
}

/// Quantises.
pub fn run(program: &Program, options: &Options) -> Result<()> {
    let Options { command, what, post, subject, choices, sets, json, common } = options;
    match (command, what) {
        (Some(Command::Analyse(options)), _) => analyse::run(options),
        (None, None) => bail!("name a recipe, or a model with --post; `kd quantize --help` says more"),
        (None, Some(model)) if *post => post::run(model, subject, choices, common),
        (None, Some(path)) if path.extension().is_some_and(|ending| ending == "toml") => {
            let plan = subject.of_recipe(path)?;
            let (path, sets, common) = (path.clone(), sets.clone(), common.clone());
            recipe::run(program, &RecipeOptions { path, sets, json: *json, common }, plan)
        }
        (None, Some(path)) => {
            bail!("{} is no recipe, a .toml file; add --post to quantise a trained model", path.display())
        }
    }
}
