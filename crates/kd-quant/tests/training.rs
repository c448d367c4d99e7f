//! Quantisation-aware training as a run: what holds at every step, and that a killed run goes on bit for bit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use kd_core::losses::CrossEntropySettings;
use kd_core::{Network, Objective, Taps, Time, Traced};
use kd_data::{Augment, ImageDataset, Loader, LoaderSettings, digits};
use kd_graph::{Graph, GraphModule, Value, trace};
use kd_models::{InputShape, ModelSpec};
use kd_quant::LEAST_STEP;
use kd_quant::plan::{PlanSettings, QuantHook, QuantPlan, Quantizer, initialise, sites};
use kd_train::{Hook, HookError, Learner, RunError, RunSettings, Start, TensorMap, map_weights};

type Student = Traced<Tensor<4>>;

/// The device's random numbers are the process's: runs that draw from them take turns.
static DRAWING: Mutex<()> = Mutex::new(());

fn take_turns() -> MutexGuard<'static, ()> {
    DRAWING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn float() -> Graph {
    let device = Device::flex();
    device.seed(5);
    let model = "lenet5:2,3,8".parse::<ModelSpec>().unwrap().init(InputShape::MNIST, 10, &device).unwrap();
    trace(&model, Tensor::zeros([2, 1, 28, 28], &device), |m, x: Tensor<4>| m.forward(x, &mut Taps::none()))
        .unwrap()
}

fn loader(from: usize, count: usize, shuffle: bool) -> Loader<ImageDataset> {
    let images = Arc::new(digits::generate(160, 1));
    let ids: Vec<usize> = (from..from + count).collect();
    let normalise = images.statistics(&ids).unwrap().normalise().unwrap();
    let data = ImageDataset::new(images, ids, normalise, Augment::default()).unwrap();
    let settings = LoaderSettings { batch_size: 32, shuffle, ..LoaderSettings::default() };
    Loader::new(Arc::new(data), settings).unwrap()
}

fn quantised(settings: &PlanSettings) -> Graph {
    let float = float();
    let mut graph = QuantPlan::new(&float, settings).unwrap().apply(&float).unwrap();
    let device = Device::flex();
    let batch = kd_train::HostBatch::to_device(
        &loader(0, 32, false).epoch(0, 0).next().unwrap().unwrap().batch,
        &device,
    );
    initialise(&mut graph, &device, [Value::all(batch.0)]).unwrap();
    graph
}

/// Every weight and buffer after a run of two epochs; `watcher` comes behind the quantisers' hook.
fn train(
    folder: &Path,
    settings: &PlanSettings,
    watcher: impl Hook<Student> + 'static,
    stop: Arc<AtomicBool>,
) -> Result<Vec<(String, Vec<u32>)>, RunError> {
    let graph = quantised(settings);
    let device = Device::flex();
    let (hook, kernels) = QuantHook::new(&graph).unwrap();
    let student: Student = GraphModule::with_kernels(graph, &device, &kernels).unwrap().into();
    let objective = Objective::new().with("hard", CrossEntropySettings::default().build().unwrap(), 1.0);
    let run =
        kd_train::Run::new(folder, RunSettings { epochs: 2, ..RunSettings::default() }, objective, &device)
            .hook(hook.freeze_statistics(1))
            .hook(watcher)
            .stop_flag(stop);
    let last = run.fit(student, &loader(0, 128, true), &loader(128, 32, false), Start::Resume)?.last;
    let graph = last.module().to_graph().unwrap();
    let bits = |id| graph.value(id).unwrap().iter::<f32>().map(f32::to_bits).collect();
    Ok(graph.parameters().map(|(id, node)| (node.name().to_owned(), bits(id))).collect())
}

/// Asks the run to stop after a step.
struct StopAfter(usize, Arc<AtomicBool>);

impl Hook<Student> for StopAfter {
    fn name(&self) -> &str {
        "watcher"
    }

    fn after_step(&mut self, time: Time, learner: Learner<Student>) -> Result<Learner<Student>, HookError> {
        if time.step == self.0 {
            self.1.store(true, Ordering::SeqCst);
        }
        Ok(learner)
    }
}

#[test]
fn a_killed_run_goes_on_bit_for_bit() {
    let _turn = take_turns();
    for (name, settings) in [
        ("int8", PlanSettings::int8().unwrap()),
        ("lsq", PlanSettings::lsq(3).unwrap()),
        ("xnor", PlanSettings::xnor()),
        ("gradients", PlanSettings::dorefa(2, 4, Some(6)).unwrap()),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let never = || (StopAfter(usize::MAX, Arc::default()), Arc::default());
        let (watcher, flag) = never();
        let whole = train(&folder.path().join("whole"), &settings, watcher, flag).unwrap();
        // In the middle of the first epoch, and in the second, where statistics are frozen.
        for step in [1, 5] {
            let killed = folder.path().join(format!("killed-{step}"));
            let flag = Arc::<AtomicBool>::default();
            let error = train(&killed, &settings, StopAfter(step, flag.clone()), flag).unwrap_err();
            assert!(matches!(error, RunError::Interrupted { .. }), "{name}: {error}");
            let (watcher, flag) = never();
            assert_eq!(train(&killed, &settings, watcher, flag).unwrap(), whole, "{name} at step {step}");
        }
    }
}

/// Checks the parameters after every step; in the end, that learned ones have moved.
struct Invariants {
    graph: Graph,
    steps: Arc<AtomicBool>,
}

impl Hook<Student> for Invariants {
    fn name(&self) -> &str {
        "watcher"
    }

    fn after_step(&mut self, _time: Time, learner: Learner<Student>) -> Result<Learner<Student>, HookError> {
        let module = learner.student.valid();
        let module = module.module();
        let numbers = |id| -> Vec<f32> {
            let name = self.graph.node(id).unwrap().name();
            module.weight(name).unwrap().data().unwrap().iter::<f32>().collect()
        };
        for site in sites(&self.graph).unwrap() {
            if let Some(weight) = site.weight {
                let weight = numbers(weight);
                match site.quantizer {
                    Quantizer::BinaryConnect(_) | Quantizer::Xnor(_) | Quantizer::SttnWeight(_) => {
                        assert!(weight.iter().all(|w| w.abs() <= 1.0));
                    }
                    Quantizer::PowerOfTwo(_) => {
                        assert!(weight.iter().all(|w| *w == 0.0 || (0.0078125..=1.0).contains(&w.abs())));
                    }
                    _ => {}
                }
            }
            if let (
                Quantizer::Lsq(_) | Quantizer::Uniform(_) | Quantizer::Pact(_) | Quantizer::Ttq(_),
                Some(&scale),
            ) = (&site.quantizer, site.parameters.first())
            {
                assert!(numbers(scale).iter().all(|s| *s > 0.0 && s.is_finite()), "{}", site.quantizer);
            }
        }
        self.steps.store(true, Ordering::SeqCst);
        Ok(learner)
    }
}

#[test]
fn parameters_stay_valid_at_every_step_and_learned_ones_move() {
    let _turn = take_turns();
    for (name, settings) in [
        ("int8", PlanSettings::int8().unwrap()),
        ("lsq", PlanSettings::lsq(2).unwrap()),
        ("dorefa", PlanSettings::dorefa(2, 2, None).unwrap()),
        ("pact", PlanSettings::pact(4).unwrap()),
        ("bnn", PlanSettings::bnn()),
        ("xnor", PlanSettings::xnor()),
        ("abc-net", PlanSettings::abc_net(2, 2).unwrap()),
        ("sibnn", PlanSettings::sibnn()),
        ("sttn", PlanSettings::sttn()),
        ("twn", PlanSettings::twn()),
        ("ttq", PlanSettings::ttq()),
        ("power-of-two", PlanSettings::power_of_two(4).unwrap()),
        ("apot", PlanSettings::apot(4).unwrap()),
        ("k-means", PlanSettings::shared(3).unwrap()),
        ("hashed", PlanSettings::hashed(4).unwrap()),
        ("adder", PlanSettings::adder()),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let graph = quantised(&settings);
        let steps = Arc::<AtomicBool>::default();
        let watcher = Invariants { graph: graph.clone(), steps: steps.clone() };
        let after = train(folder.path(), &settings, watcher, Arc::default()).unwrap();
        assert!(steps.load(Ordering::SeqCst), "{name}");
        for (id, node) in graph.parameters() {
            let path = node.name();
            if path.ends_with("_centroids") || path.ends_with("_buckets") {
                let before: Vec<u32> = graph.value(id).unwrap().iter::<f32>().map(f32::to_bits).collect();
                assert!(after.iter().any(|(other, bits)| other == path && *bits != before), "{path}");
            }
        }
        for site in sites(&graph).unwrap() {
            for ((_, role), id) in site.quantizer.parameters().iter().zip(&site.parameters) {
                let path = graph.node(*id).unwrap().name();
                let before: Vec<u32> = graph.value(*id).unwrap().iter::<f32>().map(f32::to_bits).collect();
                let moved = after.iter().any(|(other, bits)| other == path && *bits != before);
                // PACT's level is far above the first activations, and moves only when one reaches it.
                let expected =
                    *role == kd_graph::Role::Weight && !matches!(site.quantizer, Quantizer::Pact(_));
                assert!(moved || !expected, "{name}: {path} has not moved");
            }
        }
    }
}

/// Multiplies what is named so: the hook's own projection has to bring it back.
struct Spoil {
    ending: &'static str,
    factor: f32,
}

impl TensorMap for Spoil {
    fn map<const D: usize>(&mut self, path: &str, tensor: Tensor<D>) -> Tensor<D> {
        if path.ends_with(self.ending) { tensor * self.factor } else { tensor }
    }
}

/// The numbers of everything that a spoilt network names so, before and after the hook saw it.
fn brought_back(settings: &PlanSettings, ending: &'static str, factor: f32) -> [Vec<f32>; 2] {
    let graph = quantised(settings);
    let (mut hook, kernels) = QuantHook::new(&graph).unwrap();
    let device = Device::flex().autodiff();
    let student: Student = GraphModule::with_kernels(graph.clone(), &device, &kernels).unwrap().into();
    let spoilt = map_weights(student, &mut Spoil { ending, factor });
    let numbers = |student: &Student| -> Vec<f32> {
        let named = graph.parameters().map(|(_, node)| node.name()).filter(|name| name.ends_with(ending));
        let data = named.map(|name| student.module().weight(name).unwrap().data().unwrap());
        data.flat_map(|data| data.iter::<f32>().collect::<Vec<_>>()).collect()
    };
    let before = numbers(&spoilt);
    let learner = Learner { student: spoilt, adapters: kd_core::Params::default() };
    let learner = hook.after_step(Time::default(), learner).unwrap();
    [before, numbers(&learner.student)]
}

#[test]
fn the_hook_clips_real_weights_that_have_left_their_range() {
    let _turn = take_turns();
    let [before, after] = brought_back(&PlanSettings::bnn(), "fc1.weight", 9.0);
    assert!(before.iter().any(|w| w.abs() > 1.0) && before.iter().any(|w| w.abs() < 1.0));
    let clipped: Vec<f32> = before.iter().map(|w| w.clamp(-1.0, 1.0)).collect();
    assert_eq!(after, clipped);
}

#[test]
fn the_hook_brings_learned_scales_that_have_become_negative_back() {
    let _turn = take_turns();
    for (settings, ending) in [
        (PlanSettings::lsq(3).unwrap(), "scale"),
        (PlanSettings::pact(4).unwrap(), ".clip"),
        (PlanSettings::ttq(), "_positive"),
        (PlanSettings::ttq(), "_negative"),
    ] {
        let [before, after] = brought_back(&settings, ending, -1.0);
        assert!(!before.is_empty() && before.iter().all(|scale| *scale < 0.0), "{ending}: {before:?}");
        assert!(after.iter().all(|scale| *scale == LEAST_STEP), "{ending}: {after:?}");
    }
}
