//! The study: dense, pruned, recovered, and the same size from scratch.

use std::path::PathBuf;

use burn::module::Module;
use kd_graph::{Graph, GraphModule};
use kd_models::ModelSpec;
use kd_prune::{CostChange, PruneError, Sensitivity, Stopwatch};
use kd_train::{Run, RunSettings};

use super::method::network;
use super::recovery::distillation;
use super::snapshot::Snapshot;
use super::{Fresh, Net, PruneSettings, Pruned, Recovery, ToPrune};
use crate::experiment::{Plan, Study, StudyError, Task, Trained, labels, zoo};
use crate::recipe::ObjectiveSettings;

/// What a study pruned, of one seed.
pub struct PrunedNetwork {
    /// The seed.
    pub seed: u64,
    /// What was removed and masked; replayable on the dense network.
    pub pruned: Pruned,
    /// The dense network.
    pub dense: Graph,
    /// The network that is left, recovered.
    pub small: Graph,
    /// What every layer bears, if it was asked for.
    pub sensitivity: Option<Sensitivity>,
    /// The small network's file, in the study's folder.
    pub file: PathBuf,
}

/// Mixed with the run's seed for the initial weights of the control.
const OTHER_WEIGHTS: u64 = 0x636f_6e74_726f_6c00;

/// The row of the control.
const CONTROL: &str = "same size from scratch";

/// Makes the graph of a model, its parameters initialised.
type Make<'a> = &'a dyn Fn(&Task<'_>) -> Result<GraphModule, StudyError>;

/// A model of the zoo as a graph.
///
/// # Errors
/// [`StudyError::Other`] for a model that does not run as a graph, as those with dropout.
pub fn zoo_graph(model: &ModelSpec) -> impl Fn(&Task<'_>) -> Result<GraphModule, StudyError> + use<> {
    let (name, make) = (model.to_string(), zoo(model));
    move |task| {
        let network = make(task)?;
        let reason = network.reason().unwrap_or_default();
        let other =
            || StudyError::Other(format!("{name} can't be pruned: it does not run as a graph: {reason}"));
        network.graph().cloned().ok_or_else(other)
    }
}

/// Trains a network, prunes it and lets it recover, once per seed. Every step is a row of the study's table; plan and small network are
/// written beside it.
///
/// `network` makes it, as [`zoo_graph`] does for a model of the zoo and [`Task::trace`] for any other. `objective` is what a pruned network minimises
/// that learns from the dense one; without terms, soft targets and labels.
///
/// # Errors
/// [`StudyError`].
pub fn prune(
    study: &mut Study,
    network: impl Fn(&Task<'_>) -> Result<GraphModule, StudyError>,
    run: &RunSettings,
    objective: &ObjectiveSettings,
    settings: &PruneSettings,
) -> Result<Vec<PrunedNetwork>, StudyError> {
    settings.validate()?;
    let seeds = study.seeds(run.seed);
    seeds.map(|seed| Pruning { run, objective, settings, make: &network, seed }.run(study)).collect()
}

/// One seed of a study.
struct Pruning<'a> {
    run: &'a RunSettings,
    objective: &'a ObjectiveSettings,
    settings: &'a PruneSettings,
    make: Make<'a>,
    seed: u64,
}

impl Pruning<'_> {
    fn run(&self, study: &mut Study) -> Result<PrunedNetwork, StudyError> {
        let method = self.settings.method.method();
        let first = self.seed == self.run.seed;
        let dense = self.dense(study)?;
        let like = dense.outcome.best.module().clone();
        let whole = method.fold(like.to_graph().map_err(PruneError::from)?)?;
        let sensitivity = match first || method.by_sensitivity() {
            true => super::sensitivity::analyse(study, self.settings, &whole, &like)?,
            false => None,
        };
        if let Some(found) = sensitivity.as_ref().filter(|_| first) {
            study.add_sweep(super::sensitivity::sweep(found));
        }
        let stopwatch = Stopwatch::new(study.device());
        let mut pruned = Pruned::default();
        let mut graph = whole.clone();
        for pass in 1..=method.passes() {
            let network = ToPrune {
                graph: &graph,
                dense: &whole,
                pass,
                data: study.data(),
                stopwatch: &stopwatch,
                sensitivity: sensitivity.as_ref(),
            };
            let next = method.prune(&network)?;
            graph = next.start(&graph, study.device())?;
            pruned.then(next);
            if self.settings.recovery != Recovery::FromScratch {
                graph = self.recover(study, &dense, &graph, &pruned, pass)?;
            }
        }
        if self.settings.control {
            self.control(study, &pruned)?;
        }
        let file = self.write(study, &pruned, &graph)?;
        if first {
            // Split layers are larger than what they were made of.
            let original = match pruned.factorised.is_empty() {
                true => whole.clone(),
                false => (self.make)(&study.task())?.to_graph().map_err(PruneError::from)?,
            };
            note(study, &original, &graph, &pruned, &stopwatch)?;
        }
        Ok(PrunedNetwork { seed: self.seed, pruned, dense: whole, small: graph, sensitivity, file })
    }

    fn after_pruning(&self) -> RunSettings {
        self.settings.run.clone().unwrap_or_else(|| self.run.clone())
    }

    /// A fresh network as the method wants it, with the initial weights of the seed.
    fn fresh(&self, study: &Study) -> Result<GraphModule, StudyError> {
        study.seed_weights(self.seed);
        let (method, task) = (self.settings.method.method(), study.task());
        let module = (self.make)(&task)?;
        let fresh = Fresh { data: study.data(), device: study.device(), seed: self.seed };
        let graph = method.prepare(module.to_graph().map_err(PruneError::from)?, &fresh)?;
        let kernels = method.kernels();
        if kernels.is_empty() {
            return Ok(module.rebuilt(graph).map_err(PruneError::from)?);
        }
        let module = GraphModule::with_kernels(graph, task.device, &kernels).map_err(PruneError::from)?;
        Ok(module.with_engine(task.engine).with_recompute(task.recompute))
    }

    fn dense(&self, study: &mut Study) -> Result<Trained<Net>, StudyError> {
        let rewind = match self.settings.recovery {
            Recovery::Rewind(epoch) if epoch > self.run.epochs => {
                let allowed = format!("0 to the {} epochs of the dense network", self.run.epochs);
                let (key, value) = ("recovery.rewind".to_owned(), epoch.to_string());
                return Err(PruneError::Setting { key, value, allowed }.into());
            }
            Recovery::Rewind(epoch) if epoch > 0 => Some(epoch),
            _ => None,
        };
        let file = self.snapshot(study);
        let method = self.settings.method.method();
        let fresh = self.fresh(study)?;
        let graph = fresh.to_graph().map_err(PruneError::from)?;
        let images = study.data().training_images();
        let make = |_: &Task<'_>| Ok(network(&graph, &fresh)?);
        let objective = || method.objective(labels()?, &graph, images);
        let plan = Plan::new(method.trained(), self.run.clone(), make, objective).customise(|run| {
            let run = method.hooks(&graph)?.into_iter().fold(run, Run::boxed_hook);
            Ok(match rewind {
                Some(epoch) => run.hook(Snapshot { epoch, file: file.clone() }),
                None => run,
            })
        });
        study.train_seed(&plan, self.seed)
    }

    /// Where the graph to rewind to lies.
    fn snapshot(&self, study: &Study) -> PathBuf {
        study.folder().join(format!("rewind-seed-{}.json", self.seed))
    }

    fn recover(
        &self,
        study: &mut Study,
        dense: &Trained<Net>,
        graph: &Graph,
        pruned: &Pruned,
        pass: usize,
    ) -> Result<Graph, StudyError> {
        let method = self.settings.method.method();
        let recovery = self.settings.recovery;
        let last = pass == method.passes();
        let like = dense.outcome.best.module();
        if last {
            let bytes = graph.cost(1).map_err(PruneError::from)?.weight_bytes;
            study.add_seed("pruned", &network(graph, like)?.valid(), bytes, self.seed)?;
        }
        let start = match recovery {
            Recovery::Rewind(epoch) => pruned.replay(&self.earlier(study, epoch)?, study.device())?,
            _ => graph.clone(),
        };
        let objective = || match recovery {
            Recovery::Distil if self.objective.terms.is_empty() => distillation(),
            Recovery::Distil => Ok(self.objective.build()?),
            _ => labels(),
        };
        let part = if last { String::new() } else { format!(", pass {pass}") };
        let name = format!("pruned, {}{part}", recovery.name());
        let make = |_: &Task<'_>| Ok(network(&start, like)?);
        let plan = Plan::new(name, self.after_pruning(), make, objective).customise(|run| {
            let between = if last { Vec::new() } else { method.hooks(&start)? };
            Ok(kept(between.into_iter().fold(run, Run::boxed_hook), pruned))
        });
        let plan = match recovery {
            Recovery::Distil => plan.teacher(dense.teacher(study.device())),
            _ => plan,
        };
        let trained = study.train_seed(&plan, self.seed)?;
        Ok(trained.outcome.best.module().to_graph().map_err(PruneError::from)?)
    }

    /// The dense network after some epochs of its training.
    fn earlier(&self, study: &Study, epoch: usize) -> Result<Graph, StudyError> {
        let graph = match epoch {
            0 => self.fresh(study)?.to_graph().map_err(PruneError::from)?,
            _ => Graph::load(self.snapshot(study)).map_err(other)?,
        };
        self.settings.method.method().fold(graph)
    }

    /// The same size with other weights, trained for as long as everything before together.
    fn control(&self, study: &mut Study, pruned: &Pruned) -> Result<(), StudyError> {
        let passes = match self.settings.recovery {
            Recovery::FromScratch => 0,
            _ => self.settings.method.method().passes(),
        };
        let epochs = self.run.epochs + passes * self.after_pruning().epochs;
        let settings = RunSettings { epochs, ..self.run.clone() };
        let make = |task: &Task<'_>| {
            // The seed of the run gives the initial weights of the dense network.
            task.device.seed(kd_data::mix(&[self.seed, OTHER_WEIGHTS]));
            let module = (self.make)(task)?;
            let graph = module.to_graph().map_err(PruneError::from)?;
            Ok(network(&pruned.replay(&graph, task.device)?, &module)?)
        };
        let plan = Plan::new(CONTROL, settings, make, labels).customise(|run| Ok(kept(run, pruned)));
        study.train_seed(&plan, self.seed).map(drop)
    }

    /// Plan and small network as files.
    fn write(&self, study: &Study, pruned: &Pruned, graph: &Graph) -> Result<PathBuf, StudyError> {
        let folder = study.folder();
        if !pruned.plans.is_empty() {
            let path = folder.join(format!("plan-seed-{}.json", self.seed));
            let text = serde_json::to_vec(&pruned.plans).map_err(other)?;
            kd_train::files::write(&path, &text).map_err(StudyError::io(path))?;
        }
        let file = folder.join(format!("pruned-seed-{}.json", self.seed));
        graph.save(&file).map_err(other)?;
        Ok(file)
    }
}

/// A run that keeps what was masked at zero.
fn kept(run: Run<Net>, pruned: &Pruned) -> Run<Net> {
    match pruned.keep() {
        Some(keep) => run.hook(keep),
        None => run,
    }
}

fn other(error: impl std::error::Error) -> StudyError {
    StudyError::Other(error.to_string())
}

/// What changed, for the report.
fn note(
    study: &mut Study,
    dense: &Graph,
    small: &Graph,
    pruned: &Pruned,
    stopwatch: &Stopwatch,
) -> Result<(), StudyError> {
    for note in &pruned.notes {
        study.add_note(note.clone());
    }
    study.add_note(format!("Altogether: {}.", CostChange::between(dense, small)?));
    for batch in [1, 128] {
        let [before, after] = Stopwatch { batch, ..stopwatch.clone() }.compare([dense, small])?;
        study.add_note(format!(
            "A pass of {batch} image{} took {before:.3} ms before and {after:.3} ms after, the two measured in turns: {:.2} times as fast.",
            if batch == 1 { "" } else { "s" },
            before / after
        ));
    }
    Ok(())
}
