//! The study: float, float for as long, quantised, and on codes.

use std::path::PathBuf;

use burn::module::Module;
use burn::tensor::Tensor;
use kd_core::losses::{CrossEntropySettings, SoftTargetsSettings};
use kd_core::{Objective, Traced};
use kd_graph::{Graph, GraphModule, Value};
use kd_quant::QuantError;
use kd_quant::integer::IntegerNetwork;
use kd_quant::plan::{QuantHook, QuantPlan, fold_trained, initialise};
use kd_train::{HostBatch, RunSettings};

use super::QuantizeSettings;
use crate::experiment::{Plan, Study, StudyError, Task};

type Net = Traced<Tensor<4>>;

/// What a study quantised, of one seed.
pub struct Quantised {
    /// The seed.
    pub seed: u64,
    /// Which tensor has which quantiser.
    pub plan: QuantPlan,
    /// The network with its quantisers, trained.
    pub graph: Graph,
    /// Its file, in the study's folder.
    pub file: PathBuf,
}

/// Trains a network, quantises it and trains on, once per seed. Every step is a row of the study's table, the quantised network also as it computes on
/// codes; plan and network are written beside it.
///
/// `network` makes it, as [`zoo_graph`](crate::pruning::zoo_graph) does for a model of the zoo and [`Task::trace`] for any other.
///
/// # Errors
/// [`StudyError`].
pub fn quantize(
    study: &mut Study,
    network: impl Fn(&Task<'_>) -> Result<GraphModule, StudyError>,
    run: &RunSettings,
    settings: &QuantizeSettings,
) -> Result<Vec<Quantised>, StudyError> {
    settings.validate()?;
    study.seeds(run.seed).map(|seed| one(study, &network, run, settings, seed)).collect()
}

fn one(
    study: &mut Study,
    network: &impl Fn(&Task<'_>) -> Result<GraphModule, StudyError>,
    run: &RunSettings,
    settings: &QuantizeSettings,
    seed: u64,
) -> Result<Quantised, StudyError> {
    let make = |task: &Task<'_>| Ok(Net::from(network(task)?));
    let float = study.train_seed(&Plan::new("float", run.clone(), make, labels), seed)?;
    let like = float.outcome.best.module().clone();
    let whole = like.to_graph().map_err(other)?;
    let further = settings.run.clone().unwrap_or_else(|| run.clone());
    if settings.control {
        let again = |task: &Task<'_>| {
            let module = GraphModule::new(whole.clone(), task.device).map_err(other)?;
            Ok(Net::from(module.with_engine(task.engine)))
        };
        study.train_seed(&Plan::new("float, trained on", further.clone(), again, labels), seed)?;
    }

    let plan = QuantPlan::new(&whole, &settings.plan()?)?;
    let start = plan.apply(&whole)?;
    let start = initialised(study, start, seed)?;
    let (hook, kernels) = QuantHook::new(&start)?;
    let hook = match settings.freeze_statistics {
        Some(epoch) => hook.freeze_statistics(epoch),
        None => hook,
    };
    let make = |task: &Task<'_>| {
        let module = GraphModule::with_kernels(start.clone(), task.device, &kernels).map_err(other)?;
        Ok(Net::from(module.with_engine(task.engine)))
    };
    let mut quantised = Plan::new("quantised", further, make, || objective(settings.temperature)).hook(hook);
    if settings.temperature.is_some() {
        quantised = quantised.teacher(float.teacher(study.device()));
    }
    let trained = study.train_seed(&quantised, seed)?;
    let graph = trained.outcome.best.module().to_graph().map_err(other)?;
    on_codes(study, &graph, seed)?;
    let file = write(study, &plan, &graph, seed)?;
    if seed == run.seed {
        study.add_note(format!("The plan:\n{plan}"));
    }
    Ok(Quantised { seed, plan, graph, file })
}

/// Learning from labels only.
fn labels() -> Result<Objective, StudyError> {
    objective(None)
}

/// Learning from labels, and from the float network at a temperature.
fn objective(temperature: Option<f64>) -> Result<Objective, StudyError> {
    let hard = Objective::new().with("cross-entropy", CrossEntropySettings::default().build()?, 1.0);
    let Some(temperature) = temperature else { return Ok(hard) };
    let soft = SoftTargetsSettings { temperature, ..Default::default() }.build()?;
    Ok(hard.with("soft-targets", soft, 1.0))
}

/// Scales of activations from the first training batch.
fn initialised(study: &Study, mut graph: Graph, seed: u64) -> Result<Graph, StudyError> {
    let device = study.device().clone();
    let first = study.data().train(seed)?.epoch(0, 0).next();
    let first = first.ok_or(StudyError::from(QuantError::Empty { what: "the training data" }))??;
    let (input, _) = first.batch.to_device(&device);
    initialise(&mut graph, &device, [Value::all(input)])?;
    Ok(graph)
}

/// The row of what the network computes on codes, and a note of what stays in float.
fn on_codes(study: &mut Study, graph: &Graph, seed: u64) -> Result<(), StudyError> {
    let graph = &fold_trained(graph)?;
    let network = IntegerNetwork::<Tensor<4>>::new(graph, study.device())?;
    let bytes = graph.cost(1).map_err(other)?.weight_bytes;
    study.add_seed("quantised, on codes", &network.valid(), bytes, seed)?;
    let float = network.float_nodes();
    if !float.is_empty() {
        let names: Vec<_> = float.iter().map(|node| node.name.as_str()).collect();
        study.add_note(format!("Seed {seed}: in float between codes: {}.", names.join(", ")));
    }
    Ok(())
}

/// Plan and network as files.
fn write(study: &Study, plan: &QuantPlan, graph: &Graph, seed: u64) -> Result<PathBuf, StudyError> {
    let path = study.folder().join(format!("plan-seed-{seed}.json"));
    let text = serde_json::to_vec_pretty(plan).map_err(other)?;
    kd_train::files::write(&path, &text).map_err(StudyError::io(path))?;
    let file = study.folder().join(format!("quantised-seed-{seed}.json"));
    graph.save(&file).map_err(other)?;
    Ok(file)
}

fn other(error: impl std::error::Error) -> StudyError {
    StudyError::Other(error.to_string())
}
