//! Channels removed in the middle of a run: a run that is stopped and resumed around the removal is the same as one that was not.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::{Device, Tensor};
use kd_core::losses::CrossEntropySettings;
use kd_core::{Compiled, Network, Objective, Time};
use kd_data::{Augment, ImageDataset, Loader, LoaderSettings, digits};
use kd_graph::Engine;
use kd_models::{InputShape, ModelSpec, Zoo};
use kd_prune::{Budget, ChannelPruner, RemoveChannels};
use kd_train::{
    Hook, HookError, Learner, OptimizerKind, OptimizerSettings, Outcome, Run, RunError, RunSettings, Start,
};

type Net = Compiled<Zoo>;

fn net() -> Net {
    let device = Device::flex();
    device.seed(5);
    let model = "lenet5:4,6,20".parse::<ModelSpec>().unwrap();
    let model = model.init(InputShape::MNIST, 10, &device).unwrap();
    Compiled::new(model, Tensor::zeros([1, 1, 28, 28], &device), Engine::Kernels)
}

fn loader(ids: std::ops::Range<usize>, shuffle: bool) -> Loader<ImageDataset> {
    let images = Arc::new(digits::generate(96, 0));
    let ids: Vec<usize> = ids.collect();
    let normalise = images.statistics(&ids).unwrap().normalise().unwrap();
    let dataset = ImageDataset::new(images, ids, normalise, Augment::default()).unwrap();
    Loader::new(Arc::new(dataset), LoaderSettings { batch_size: 8, shuffle, ..Default::default() }).unwrap()
}

fn settings(kind: OptimizerKind) -> RunSettings {
    let optimizer = OptimizerSettings { kind, learning_rate: 0.003, ..Default::default() };
    RunSettings { epochs: 4, optimizer, ..Default::default() }
}

struct StopAfter {
    after: Option<usize>,
    stop: Arc<AtomicBool>,
}

impl Hook<Net> for StopAfter {
    fn name(&self) -> &str {
        "stop-after"
    }
    fn after_step(&mut self, time: Time, learner: Learner<Net>) -> Result<Learner<Net>, HookError> {
        self.stop.store(self.after.is_some_and(|after| time.step + 1 >= after), Ordering::SeqCst);
        Ok(learner)
    }
}

fn fit(
    folder: &Path,
    kind: OptimizerKind,
    after: Option<usize>,
    start: Start,
) -> Result<Outcome<Net>, RunError> {
    let stop = Arc::new(AtomicBool::new(false));
    let objective = Objective::new().with("labels", CrossEntropySettings::default().build().unwrap(), 1.0);
    let pruner = ChannelPruner::new(Budget::Macs(0.5.into()));
    Run::new(folder, settings(kind), objective, &Device::flex())
        .hook(RemoveChannels::new(pruner, [0, 2], &Device::flex()).unwrap())
        .hook(StopAfter { after, stop: stop.clone() })
        .stop_flag(stop)
        .fit(net(), &loader(0..64, true), &loader(64..96, false), start)
}

/// What is the same however often a run was stopped: all but times and the checkpoint before the last.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_path_buf()];
    while let Some(next) = left.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if path.file_name().unwrap() != "timing.jsonl"
                && !path.to_string_lossy().contains("step-0000002")
            {
                let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
                found.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    found
}

#[test]
fn a_run_that_removes_channels_twice_resumes_bit_for_bit_and_ends_within_its_budget() {
    for kind in [OptimizerKind::Sgd, OptimizerKind::Adam] {
        let folder = tempfile::tempdir().unwrap();
        let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
        let outcome = fit(&whole, kind, None, Start::New).unwrap();
        // Eight steps are an epoch; channels go after steps 8 and 24.
        for steps in [5, 8, 13, 24, 27] {
            let error = fit(&broken, kind, Some(steps), Start::Resume).unwrap_err();
            assert!(matches!(error, RunError::Interrupted { step, .. } if step == steps), "{error}");
        }
        fit(&broken, kind, None, Start::Resume).unwrap();
        let (whole, broken) = (files(&whole), files(&broken));
        assert_eq!(whole.keys().collect::<Vec<_>>(), broken.keys().collect::<Vec<_>>());
        let differing: Vec<_> = whole.iter().filter(|(name, bytes)| broken[*name] != **bytes).collect();
        assert!(differing.is_empty(), "{:?}", differing.iter().map(|(name, _)| name).collect::<Vec<_>>());
        let (before, after) = (net().macs().unwrap(), outcome.last.macs().unwrap());
        assert!(2 * after <= before && outcome.best.macs() == Some(after), "{after} of {before}");
    }
}
