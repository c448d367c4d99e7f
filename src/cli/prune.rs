//! `kd prune`: a recipe trained, pruned and recovered, or a model made smaller as it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use kd::graph::Cost;
use kd::models::InputShape;
use kd::program::{Common, Program};
use kd::prune::{Budget, ChannelPruner, CostChange, PrunePlan, SlimTarget, Stopwatch};
use kd::pruning::PruneMethod;
use kd::recipe::{Recipe, RecipeError};

use serde::Serialize;

use super::graph::{Source, image};
use super::train::RecipeOptions;
use super::{say, say_json};

/// Batch sizes at which a model is timed.
const BATCHES: [usize; 2] = [1, 128];

/// Options of `kd prune`.
#[derive(clap::Args)]
pub struct Options {
    /// A recipe with [prune], a TOML file; or, with --target or --plan, a model: a name of `kd list models` or the .json file of a graph.
    #[arg(value_name = "RECIPE|MODEL")]
    what: PathBuf,
    /// What is left: `macs=0.5` for a share, `parameters<=200000` for an amount; channels, macs, parameters, bytes or milliseconds.
    /// Takes the place of the recipe's `prune.target`.
    #[arg(long, value_name = "QUANTITY=SHARE")]
    target: Option<Budget>,
    /// Remove what the plans of this file say, which another `kd prune` has written: of a model, or of a recipe's study.
    #[arg(long, value_name = "FILE", conflicts_with = "target")]
    plan: Option<PathBuf>,
    /// Weights of a model of the zoo: a run's folder, or a .bpk, .safetensors or .pt file.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Image that a model of the zoo is made for; otherwise 1x28x28 for perceptrons and LeNets, 3x32x32 for the others.
    #[arg(long, value_name = "CxHxW", value_parser = image)]
    image: Option<InputShape>,
    /// Classes that a model of the zoo is made for.
    #[arg(long, default_value_t = 10, value_name = "N")]
    classes: usize,
    /// Change a value of the recipe: `--set prune.recovery=fine-tune`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Print the results as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub common: Common,
}

/// Prunes.
pub fn run(program: &Program, options: &Options) -> Result<()> {
    let is_recipe = options.what.extension().is_some_and(|ending| ending == "toml");
    if is_recipe { recipe(program, options) } else { model(options) }
}

fn recipe(program: &Program, options: &Options) -> Result<()> {
    if options.plan.is_some() || options.weights.is_some() {
        bail!("--plan and --weights belong to a model; {} is a recipe", options.what.display());
    }
    let recipe_options = RecipeOptions {
        path: options.what.clone(),
        sets: options.sets.clone(),
        json: options.json,
        common: options.common.clone(),
    };
    let mut recipe: Recipe = recipe_options.load()?;
    let Some(settings) = &mut recipe.prune else {
        bail!(RecipeError::Missing { table: "prune", advice: "add `prune.method`, or use `kd train`" });
    };
    if recipe.teacher.is_some() || !recipe.teachers.is_empty() {
        let advice = "a pruned network learns from what it was; take it out";
        bail!(RecipeError::Unused { table: "teacher", advice });
    }
    if let Some(target) = options.target {
        match &mut settings.method {
            PruneMethod::Channels(method) => method.target = target,
            PruneMethod::NetworkSlimming(method) => method.targets = vec![SlimTarget::Budget(target)],
            _ => {
                bail!("--target is for methods that remove channels; this recipe's has a sparsity of its own")
            }
        }
    }
    let settings = settings.clone();
    let mut study = recipe_options.study(program, &recipe)?;
    let network = kd::pruning::zoo_graph(&recipe.student.model);
    kd::pruning::prune(&mut study, network, &recipe.run, &recipe.objective, &settings)?;
    recipe_options.finish(study, &recipe)
}

/// What `--json` prints of a model.
#[derive(Serialize)]
struct Change {
    before: Cost,
    after: Cost,
    /// Before and after, by batch size, measured in turns.
    milliseconds: BTreeMap<usize, [f64; 2]>,
}

/// What a model is pruned to, in files of its own.
fn model(options: &Options) -> Result<()> {
    let Options { what, image, classes, common, .. } = options;
    if let Some(set) = options.sets.first() {
        bail!("--set {set} is for recipes; {} is a model", what.display());
    }
    let source = Source::new(what.to_string_lossy().into_owned(), *image, *classes, common.verbosity);
    let graph = source.graph_with(options.weights.as_deref())?;
    let stopwatch = Stopwatch::new(&common.device()?);
    let plans = match (&options.plan, options.target) {
        (Some(path), _) => read_plans(path)?,
        (None, Some(target)) => vec![ChannelPruner::new(target).plan(&graph, &stopwatch)?],
        (None, None) => bail!(
            "say what is to be left of {}, as with --target macs=0.5, or give a recipe, a .toml file",
            what.display()
        ),
    };
    let small = plans.iter().try_fold(graph.clone(), |graph, plan| plan.apply(&graph))?;
    let files = common.out.as_deref().map(|folder| files(folder, common.overwrite)).transpose()?;
    let CostChange { before, after } = CostChange::between(&graph, &small)?;
    let time = |batch| -> Result<_> {
        let stopwatch = Stopwatch { batch, ..stopwatch.clone() };
        Ok((batch, stopwatch.compare([&graph, &small])?))
    };
    let milliseconds = BATCHES.into_iter().map(time).collect::<Result<_>>()?;
    let change = Change { before, after, milliseconds };
    if let Some((graph, plan)) = &files {
        small.save(graph)?;
        kd::train::files::write(plan, &serde_json::to_vec(&plans)?)
            .with_context(|| format!("cannot write {}", plan.display()))?;
    }
    if options.json { say_json(&change) } else { say_change(change, files.as_ref()) }
}

fn say_change(change: Change, files: Option<&(PathBuf, PathBuf)>) -> Result<()> {
    let Change { before, after, milliseconds } = change;
    say(CostChange { before, after }.to_string())?;
    for (batch, [before, after]) in milliseconds {
        say(format!("milliseconds at batch {batch}, measured in turns: {before:.3} -> {after:.3}"))?;
    }
    match files {
        Some((graph, plan)) => {
            say(format!("{} with its weights beside it, {}", graph.display(), plan.display()))
        }
        None => say("nothing was written: name a folder with --out"),
    }
}

/// The plans of a file that `kd prune` has written, each for what the one before leaves.
fn read_plans(path: &Path) -> Result<Vec<PrunePlan>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is no plan of `kd prune`", path.display()))
}

/// Where graph and plan go, in a folder that need not be there yet. A graph's tensors are in a file of their own.
fn files(folder: &Path, overwrite: bool) -> Result<(PathBuf, PathBuf)> {
    let files = (folder.join("pruned.json"), folder.join("plan.json"));
    let all = [&files.0, &folder.join("pruned.safetensors"), &files.1];
    if !overwrite && let Some(there) = all.into_iter().find(|path| path.exists()) {
        bail!("{} is there already; choose another --out, or add --overwrite", there.display());
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(files)
}
