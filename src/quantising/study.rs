//! The study: float, float for as long, quantised, and on codes.

use std::path::PathBuf;

use burn::module::Module;
use burn::tensor::Tensor;
use kd_core::losses::SoftTargetsSettings;
use kd_core::{Objective, Traced};
use kd_graph::{Graph, GraphModule, Value};
use kd_quant::QuantError;
use kd_quant::plan::{QuantHook, QuantPlan, fold_trained, initialise};
use kd_train::{HostBatch, RunSettings};

use super::{IntegerForm, QuantizeSettings, for_deployment};
use crate::experiment::{Plan, Study, StudyError, Task, labels};

type Net = Traced<Tensor<4>>;

/// What a study quantised, of one seed.
pub struct Quantised {
    /// The seed.
    pub seed: u64,
    /// Which tensor has which quantiser, by the names of the network that trained.
    pub plan: QuantPlan,
    /// The network with its quantisers, trained, as it is deployed: normalisations that were folded while it trained are in its weights.
    pub graph: Graph,
    /// What it is on codes.
    pub on_codes: IntegerForm,
    /// Its file, in the study's folder.
    pub file: PathBuf,
}

/// Trains a network, quantises it and trains on, once per seed. Every step is a row of the study's table, the quantised network also as it computes on
/// codes, with its packed size; network and plan, as [`for_deployment`] has it, are written beside it.
///
/// `network` makes it, as [`zoo_graph`](crate::pruning::zoo_graph) does for a model of the zoo and [`Task::trace`] for any other.
///
/// # Errors
/// [`StudyError`]. What is wrong with the settings or the file of a plan is found before anything is trained.
pub fn quantize(
    study: &mut Study,
    network: impl Fn(&Task<'_>) -> Result<GraphModule, StudyError>,
    run: &RunSettings,
    settings: &QuantizeSettings,
) -> Result<Vec<Quantised>, StudyError> {
    let untrained = network(&study.task())?.to_graph().map_err(other)?;
    let plan = settings.plan(&untrained)?;
    for_deployment(plan.clone(), &untrained)?;
    let seeds = study.seeds(run.seed);
    seeds.map(|seed| one(study, &network, run, settings, &plan, seed)).collect()
}

fn one(
    study: &mut Study,
    network: &impl Fn(&Task<'_>) -> Result<GraphModule, StudyError>,
    run: &RunSettings,
    settings: &QuantizeSettings,
    plan: &QuantPlan,
    seed: u64,
) -> Result<Quantised, StudyError> {
    let make = |task: &Task<'_>| Ok(Net::from(network(task)?));
    let float = study.train_seed(&Plan::new("float", run.clone(), make, labels), seed)?;
    let whole = float.outcome.best.module().to_graph().map_err(other)?;
    let further = settings.run.clone().unwrap_or_else(|| run.clone());
    if settings.control {
        let again = |task: &Task<'_>| {
            let module = GraphModule::new(whole.clone(), task.device).map_err(other)?;
            Ok(Net::from(module.with_engine(task.engine).with_recompute(task.recompute)))
        };
        study.train_seed(&Plan::new("float, trained on", further.clone(), again, labels), seed)?;
    }

    let start = initialised(study, plan.apply(&whole)?, seed)?;
    let (mut hook, kernels) = QuantHook::new(&start)?;
    if let Some(epoch) = settings.freeze_ranges {
        hook = hook.freeze_ranges(epoch);
    }
    if let Some(epoch) = settings.freeze_statistics {
        hook = hook.freeze_statistics(epoch);
    }
    let make = |task: &Task<'_>| {
        let module = GraphModule::with_kernels(start.clone(), task.device, &kernels).map_err(other)?;
        Ok(Net::from(module.with_engine(task.engine).with_recompute(task.recompute)))
    };
    let temperature = settings.teacher_temperature();
    let mut quantised = Plan::new("quantised", further, make, || objective(temperature)).hook(hook);
    if temperature.is_some() {
        quantised = quantised.teacher(float.teacher(study.device()));
    }
    let trained = study.train_seed(&quantised, seed)?;
    let graph = fold_trained(&trained.outcome.best.module().to_graph().map_err(other)?)?;
    let on_codes = on_codes(study, &graph, seed)?;
    let file = write(study, for_deployment(plan.clone(), &whole)?, &graph, seed)?;
    if seed == run.seed {
        study.add_note(
            "\u{201c}quantised\u{201d} is the form that trains: its file holds real weights, in f32.",
        );
        study.add_note(format!("The plan:\n{plan}"));
    }
    Ok(Quantised { seed, plan: plan.clone(), graph, on_codes, file })
}

/// Learning from labels, and from the float network at a temperature if there is one.
fn objective(temperature: Option<f64>) -> Result<Objective, StudyError> {
    let Some(temperature) = temperature else { return labels() };
    let soft = SoftTargetsSettings { temperature, ..Default::default() }.build()?;
    Ok(labels()?.with("soft-targets", soft, 1.0))
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

/// The row of what the network computes on codes, and a note of what else there is to say of that.
fn on_codes(study: &mut Study, graph: &Graph, seed: u64) -> Result<IntegerForm, StudyError> {
    let device = study.device().clone();
    let (network, mut form) = IntegerForm::new(graph, &device)?;
    study.add_seed("quantised, on codes", &network.valid(), form.bytes, seed)?;
    form.compare(&network, &study.data().test()?, &device)?;
    study.add_note(format!("Seed {seed}, {form}"));
    Ok(form)
}

/// Plan and network as files.
fn write(study: &Study, plan: QuantPlan, graph: &Graph, seed: u64) -> Result<PathBuf, StudyError> {
    let path = study.folder().join(format!("plan-seed-{seed}.json"));
    let text = serde_json::to_vec_pretty(&plan).map_err(other)?;
    kd_train::files::write(&path, &text).map_err(StudyError::io(path))?;
    let file = study.folder().join(format!("quantised-seed-{seed}.json"));
    graph.save(&file).map_err(other)?;
    Ok(file)
}

fn other(error: impl std::error::Error) -> StudyError {
    StudyError::Other(error.to_string())
}
