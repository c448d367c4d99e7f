//! One network on the test split.

use std::time::Instant;

use burn::tensor::{Device, Tensor};
use kd_core::{Network, OUTPUT, Taps, Value};
use kd_data::{ImageDataset, Loader};
use kd_train::HostBatch;
use kd_train::metrics::{
    Accuracy, Agreement, CalibrationError, Confusion, Errors, Metric, NegativeLogLikelihood,
};
use serde::{Deserialize, Serialize};

use super::error::StudyError;

/// How good a network is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Measured {
    /// Share of test images recognised.
    pub accuracy: f64,
    /// Test images not recognised.
    pub errors: u64,
    /// Mean negative log-likelihood, in nats.
    pub negative_log_likelihood: f64,
    /// Expected calibration error.
    pub calibration_error: f64,
    /// Share of test images on which it says what the teacher says, if there is one.
    pub agreement: Option<f64>,
    /// `confusion[label][prediction]`.
    pub confusion: Vec<Vec<u64>>,
}

/// Measures `network`, in its evaluation form, on `test`. `reference` holds a teacher's output for every batch of it.
///
/// # Errors
/// [`StudyError::Data`], [`StudyError::Metric`].
pub fn measure<N: Network<Input = Tensor<4>>>(
    network: &N,
    test: &Loader<ImageDataset>,
    reference: Option<&[Tensor<2>]>,
    device: &Device,
) -> Result<Measured, StudyError> {
    let (mut accuracy, mut errors) = (Accuracy::default(), Errors::default());
    let (mut likelihood, mut calibration) = (NegativeLogLikelihood::default(), CalibrationError::default());
    let (mut agreement, mut confusion) = (Agreement::default(), Confusion::default());
    for (index, loaded) in test.epoch(0, 0).enumerate() {
        let (input, target) = loaded?.batch.to_device(device);
        let taps = network.run(input, Taps::none());
        let metrics: [&mut dyn Metric; 4] = [&mut accuracy, &mut errors, &mut likelihood, &mut calibration];
        metrics.into_iter().try_for_each(|metric| metric.update(&taps, &target))?;
        confusion.update(&taps, &target)?;
        if let Some(teacher) = reference.and_then(|reference| reference.get(index)) {
            let output = taps.value(OUTPUT).map_err(kd_train::metrics::MetricError::from)?;
            agreement.update(output, &Value::from(teacher.clone()))?;
        }
    }
    Ok(Measured {
        accuracy: accuracy.value(),
        errors: errors.count(),
        negative_log_likelihood: likelihood.value(),
        calibration_error: calibration.value(),
        agreement: reference.map(|_| agreement.value()),
        confusion: confusion.counts().to_vec(),
    })
}

/// Milliseconds per image of a forward pass: medians over repetitions, on the machine as it is at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Latency {
    /// One image at a time.
    pub single: f64,
    /// In a batch of up to 128.
    pub batched: f64,
}

/// Largest batch that is timed.
const BATCH: usize = 128;

impl Latency {
    /// Times `network`, in its evaluation form.
    ///
    /// # Errors
    /// [`StudyError::Data`], or [`StudyError::Device`] when the device fails.
    pub fn of<N: Network<Input = Tensor<4>>>(
        network: &N,
        test: &Loader<ImageDataset>,
        device: &Device,
    ) -> Result<Self, StudyError> {
        let Some(loaded) = test.epoch(0, 0).next() else {
            return Ok(Self { single: f64::NAN, batched: f64::NAN });
        };
        let (images, _) = loaded?.batch.to_device(device);
        let size = images.dims()[0].min(BATCH);
        let images = images.narrow(0, 0, size);
        let single = median(network, images.clone().narrow(0, 0, 1), 15)?;
        Ok(Self { single, batched: median(network, images, 5)? / size as f64 })
    }
}

fn median<N: Network<Input = Tensor<4>>>(
    network: &N,
    images: Tensor<4>,
    repeat: usize,
) -> Result<f64, StudyError> {
    let mut milliseconds = Vec::with_capacity(repeat);
    // The first pass warms caches and is left out.
    for pass in 0..=repeat {
        let started = Instant::now();
        let taps = network.run(images.clone(), Taps::none());
        // Reading the output waits for the device.
        let output = taps.value(OUTPUT).and_then(|value| {
            value.flat_float().map_err(|source| kd_core::TapError::Value { name: OUTPUT.to_owned(), source })
        });
        let output = output.map_err(|error| StudyError::Device(error.to_string()))?;
        output.try_into_vec_as::<f32>().map_err(|error| StudyError::Device(error.to_string()))?;
        if pass > 0 {
            milliseconds.push(started.elapsed().as_secs_f64() * 1e3);
        }
    }
    milliseconds.sort_by(f64::total_cmp);
    Ok(milliseconds.get(repeat / 2).copied().unwrap_or(f64::NAN))
}
