//! How many images a second come through the loader, from memory to normalised batches.
//!
//! Command:  cargo run --release -p kd-data --example loader_speed
//! Expected: at least 200,000 images/s of MNIST's size without mixup, which reads two images for one. Measured on two
//!           busy cores at best: plain 1,440,000, jitter 1,130,000, all but mixup 975,000, mixup 467,000.

use std::sync::Arc;
use std::time::Instant;

use kd_data::{Augment, ImageDataset, Images, Loader, LoaderSettings, digits};

const COUNT: usize = 60_000;
const EPOCHS: u64 = 5;

fn main() -> Result<(), kd_data::DataError> {
    let images = Arc::new(digits::generate(COUNT, 0));
    let none = Augment::default;
    measure("plain", &images, none())?;
    measure("jitter", &images, Augment { jitter: 2, ..none() })?;
    measure("pad-crop, flip, cutout", &images, Augment { pad_crop: 4, flip: true, cutout: 8, ..none() })?;
    measure("jitter, mixup", &images, Augment { jitter: 2, mixup: 0.2, ..none() })
}

#[allow(clippy::print_stdout)]
fn measure(name: &str, images: &Arc<Images>, augment: Augment) -> Result<(), kd_data::DataError> {
    let all: Vec<usize> = (0..images.len()).collect();
    let normalise = images.statistics(&all)?.normalise()?;
    let dataset = Arc::new(ImageDataset::new(images.clone(), all, normalise, augment)?);
    let loader = Loader::new(dataset, LoaderSettings::default())?;
    let start = Instant::now();
    let mut seen = 0;
    for epoch in 0..EPOCHS {
        for loaded in loader.epoch(epoch, 0) {
            seen += loaded?.ids.len();
        }
    }
    println!("{name:24} {:>9.0} images/s", seen as f64 / start.elapsed().as_secs_f64());
    Ok(())
}
