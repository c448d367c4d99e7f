//! Runs whose input is tokens and whose output is a class per token, and runs that regress.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor};
use kd_core::losses::{LogitMseSettings, SoftTargetsSettings, SquaredErrorSettings};
use kd_core::{Network, Objective, Taps, Value};
use kd_data::{DataError, Dataset, Loader, LoaderSettings, Pass};
use kd_train::metrics::{Accuracy, MeanSquaredError};
use kd_train::teacher::NetworkTeacher;
use kd_train::{HostBatch, OptimizerSettings, Run, RunSettings, Start};

const VOCABULARY: usize = 6;
const LENGTH: usize = 5;

/// Sentences in which every token's class is whether it is larger than the one before.
struct Sentences(usize);

struct SentenceBatch(Vec<Vec<i32>>);

impl Dataset for Sentences {
    type Batch = SentenceBatch;
    fn len(&self) -> usize {
        self.0
    }
    fn batch(&self, ids: &[usize], _pass: Pass) -> Result<SentenceBatch, DataError> {
        let token = |id: usize, i: usize| ((id * 31 + i * i * 7 + id * i) % VOCABULARY) as i32;
        Ok(SentenceBatch(ids.iter().map(|&id| (0..LENGTH).map(|i| token(id, i)).collect()).collect()))
    }
}

impl HostBatch for SentenceBatch {
    type Input = Tensor<2, Int>;
    fn to_device(&self, device: &Device) -> (Tensor<2, Int>, Value) {
        let shape = [self.0.len(), LENGTH];
        let labels = self
            .0
            .iter()
            .flat_map(|sentence| (0..LENGTH).map(|i| i32::from(i > 0 && sentence[i] > sentence[i - 1])));
        let labels: Vec<i32> = labels.collect();
        let tensor = |numbers: &[i32]| Tensor::<1, Int>::from_ints(numbers, device).reshape(shape);
        (tensor(&self.0.concat()), tensor(&labels).into())
    }
}

/// Tags every token from itself and the one before.
#[derive(Module, Debug)]
struct Tagger {
    embedding: Embedding,
    hidden: Linear,
    output: Linear,
}

impl Network for Tagger {
    type Input = Tensor<2, Int>;
    type Output = Tensor<3>;
    fn forward(&self, input: Tensor<2, Int>, taps: &mut Taps) -> Tensor<3> {
        let tokens = self.embedding.forward(input);
        let [batch, length, width] = tokens.dims();
        let before = Tensor::cat(
            vec![Tensor::zeros([batch, 1, width], &tokens.device()), tokens.clone().narrow(1, 0, length - 1)],
            1,
        );
        let hidden = relu(self.hidden.forward(Tensor::cat(vec![before, tokens], 2)));
        self.output.forward(taps.tap("hidden", hidden))
    }
}

fn tagger(width: usize, seed: u64) -> Tagger {
    let device = Device::flex();
    device.seed(seed);
    Tagger {
        embedding: EmbeddingConfig::new(VOCABULARY, width).init(&device),
        hidden: LinearConfig::new(2 * width, 4 * width).init(&device),
        output: LinearConfig::new(4 * width, 2).init(&device),
    }
}

fn loader<D: Dataset>(dataset: D, shuffle: bool) -> Loader<D> {
    let settings = LoaderSettings { batch_size: 16, shuffle, ..Default::default() };
    Loader::new(Arc::new(dataset), settings).unwrap()
}

fn settings(learning_rate: f64) -> RunSettings {
    let optimizer = OptimizerSettings { learning_rate, ..Default::default() };
    RunSettings { epochs: 12, optimizer, ..Default::default() }
}

#[test]
fn a_token_tagger_trains_and_is_distilled_token_by_token() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let (train, validation) = (loader(Sentences(256), true), loader(Sentences(64), false));
    let hard = || Objective::new().with("hard", common::hard(), 1.0);
    let metrics = || vec![Box::new(Accuracy::default()) as _];
    let run = Run::new(folder.path().join("teacher"), settings(0.3), hard(), &device).metrics(metrics());
    let teacher = run.fit(tagger(16, 1), &train, &validation, Start::New).unwrap();
    assert!(teacher.best_value > 0.95, "{}", teacher.best_value);

    let soft = SoftTargetsSettings { temperature: 2.0, ..Default::default() }.build().unwrap();
    let run = Run::new(
        folder.path().join("student"),
        settings(0.1),
        Objective::new().with("soft", soft, 1.0),
        &device,
    );
    let run = run.metrics(metrics()).teacher(NetworkTeacher::new("tagger", teacher.best, &device));
    let student = run.fit(tagger(8, 2), &train, &validation, Start::New).unwrap();
    assert!(student.best_value > 0.9, "{}", student.best_value);
}

/// Points of the plane and their distance from the origin.
struct Points(usize);

struct PointBatch(Vec<[f32; 2]>);

impl Dataset for Points {
    type Batch = PointBatch;
    fn len(&self) -> usize {
        self.0
    }
    fn batch(&self, ids: &[usize], _pass: Pass) -> Result<PointBatch, DataError> {
        let point = |&id: &usize| [(id * 37 % 101) as f32 / 50.0 - 1.0, (id * 53 % 97) as f32 / 48.0 - 1.0];
        Ok(PointBatch(ids.iter().map(point).collect()))
    }
}

impl HostBatch for PointBatch {
    type Input = Tensor<2>;
    fn to_device(&self, device: &Device) -> (Tensor<2>, Value) {
        let distances: Vec<f32> = self.0.iter().map(|[x, y]| x.hypot(*y)).collect();
        let points = Tensor::<1>::from_floats(self.0.concat().as_slice(), device).reshape([self.0.len(), 2]);
        (points, Tensor::<1>::from_floats(distances.as_slice(), device).into())
    }
}

#[derive(Module, Debug)]
struct Regressor {
    hidden: Linear,
    output: Linear,
}

impl Network for Regressor {
    type Input = Tensor<2>;
    type Output = Tensor<2>;
    fn forward(&self, input: Tensor<2>, taps: &mut Taps) -> Tensor<2> {
        self.output.forward(taps.tap("hidden", relu(self.hidden.forward(input))))
    }
}

fn regressor(width: usize, seed: u64) -> Regressor {
    let device = Device::flex();
    device.seed(seed);
    Regressor {
        hidden: LinearConfig::new(2, width).init(&device),
        output: LinearConfig::new(width, 1).init(&device),
    }
}

#[test]
fn a_regressor_trains_is_distilled_and_the_epoch_with_the_lowest_error_is_chosen() {
    let _serial = common::serial();
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let (train, validation) = (loader(Points(256), true), loader(Points(64), false));
    let metrics = || vec![Box::new(MeanSquaredError::default()) as _];
    let hard = SquaredErrorSettings::default().build().unwrap();
    let run = Run::new(
        folder.path().join("teacher"),
        settings(0.1),
        Objective::new().with("hard", hard, 1.0),
        &device,
    );
    let teacher = run.metrics(metrics()).fit(regressor(32, 1), &train, &validation, Start::New).unwrap();
    assert!(teacher.best_value < 0.01, "{}", teacher.best_value);
    let lowest =
        teacher.records.iter().map(|r| r.validation["mean-squared-error"]).fold(f64::INFINITY, f64::min);
    assert_eq!(teacher.best_value, lowest);

    let soft = LogitMseSettings::default().build().unwrap();
    let objective = Objective::new().with("teacher", soft, 0.5).with("hard", hard, 0.5);
    let run = Run::new(folder.path().join("student"), settings(0.1), objective, &device);
    let run = run.metrics(metrics()).teacher(NetworkTeacher::new("regressor", teacher.best, &device));
    let student = run.fit(regressor(8, 2), &train, &validation, Start::New).unwrap();
    assert!(student.best_value < 0.05, "{}", student.best_value);
}
