//! A small net with dropout and batch norm, and synthetic images it can learn.
#![allow(dead_code)]

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use kd_core::losses::{CrossEntropy, CrossEntropySettings};
use kd_core::{Network, Taps};
use kd_data::{Augment, ImageDataset, ImageShape, Images, Loader, LoaderSettings, Normalise};
use kd_train::{OptimizerSettings, RunSettings};

/// The flex device has one random stream for the whole process: tests that train take turns.
pub fn serial() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Module, Debug)]
pub struct Net {
    conv: Conv2d,
    norm: BatchNorm,
    dropout: Dropout,
    pub output: Linear,
}

impl Net {
    pub fn logits(&self, input: Tensor<4>) -> Tensor<2> {
        self.forward(input, &mut Taps::none())
    }
}

impl Network for Net {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn forward(&self, input: Tensor<4>, taps: &mut Taps) -> Tensor<2> {
        let hidden = taps.tap("hidden", relu(self.norm.forward(self.conv.forward(input))));
        self.output.forward(self.dropout.forward(hidden.flatten::<2>(1, 3)))
    }
}

pub fn net(channels: usize, seed: u64, device: &Device) -> Net {
    with_dropout(channels, seed, device, 0.3)
}

/// Without dropout, and with batch norm frozen, so that a step does not depend on how the batch was cut.
pub fn plain(channels: usize, seed: u64, device: &Device) -> Net {
    let net = with_dropout(channels, seed, device, 0.0);
    Net { norm: net.norm.freeze(), ..net }
}

fn with_dropout(channels: usize, seed: u64, device: &Device, dropout: f64) -> Net {
    device.seed(seed);
    let net = Net {
        conv: Conv2dConfig::new([1, channels], [3, 3]).init(device),
        norm: BatchNormConfig::new(channels).init(device),
        dropout: DropoutConfig::new(dropout).init(),
        output: LinearConfig::new(channels * 4, 3).init(device),
    };
    net.conv.weight.val();
    net.output.weight.val();
    net
}

pub fn hard() -> CrossEntropy {
    CrossEntropySettings::default().build().unwrap()
}

pub fn settings() -> RunSettings {
    let optimizer = OptimizerSettings { learning_rate: 0.05, clip_norm: Some(5.0), ..Default::default() };
    RunSettings { seed: 7, epochs: 3, checkpoint_steps: Some(5), optimizer }
}

/// 4x4 images whose class is the brightest third.
fn images(samples: usize) -> Arc<Images> {
    let pixels = (0..samples * 16).map(|i| {
        let (sample, position) = (i / 16, i % 16);
        let noise = (i * 7919 + sample * 104_729) % 97;
        (if position / 6 == sample % 3 { 150 + noise } else { noise }) as u8
    });
    let labels = (0..samples).map(|sample| (sample % 3) as u32).collect();
    let classes = ["top", "middle", "bottom"].map(str::to_owned).to_vec();
    let shape = ImageShape { channels: 1, height: 4, width: 4 };
    Arc::new(Images::new(shape, pixels.collect(), labels, classes).unwrap())
}

pub fn loader(samples: usize, shuffle: bool) -> Loader<ImageDataset> {
    make(samples, 8, shuffle, Augment { jitter: usize::from(shuffle), ..Default::default() })
}

pub fn loader_of(samples: usize, batch_size: usize) -> Loader<ImageDataset> {
    make(samples, batch_size, true, Augment::default())
}

/// With mixup.
pub fn mixed(samples: usize) -> Loader<ImageDataset> {
    make(samples, 8, true, Augment { mixup: 0.4, ..Default::default() })
}

fn make(samples: usize, batch_size: usize, shuffle: bool, augment: Augment) -> Loader<ImageDataset> {
    let normalise = Normalise::new(&[0.5], &[0.5]).unwrap();
    let dataset = ImageDataset::new(images(samples), (0..samples).collect(), normalise, augment).unwrap();
    let settings = LoaderSettings { batch_size, shuffle, seed: 3, ..Default::default() };
    Loader::new(Arc::new(dataset), settings).unwrap()
}

/// Everything a run leaves that must not depend on when it was stopped.
pub fn traces(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec!["metrics.jsonl".to_owned(), "student.safetensors".into(), "student.bpk".into()];
    let newest = checkpoints(folder).pop().unwrap();
    let files = ["model.bpk", "optimizer.bpk", "schedule.bpk", "best.bpk", "state.json"];
    names.extend(files.map(|file| format!("checkpoints/{newest}/{file}")));
    names.into_iter().map(|name| (name.clone(), fs::read(folder.join(name)).unwrap())).collect()
}

/// Names of the run's checkpoints, the oldest first.
pub fn checkpoints(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder.join("checkpoints")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("step-")).collect();
    names.sort();
    names
}

/// Fails unless both runs left the same bytes.
pub fn same(whole: &Path, broken: &Path) {
    for ((name, whole), (other, broken)) in traces(whole).into_iter().zip(traces(broken)) {
        assert!(!whole.is_empty() && name == other, "{name} {other}");
        assert!(whole == broken, "{name} differs");
    }
}
