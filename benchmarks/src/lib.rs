//! What the measuring programs share: MNIST on disk, test errors, a log.

mod compare;
pub mod ground;
mod peer;
pub mod quantised;
mod shrink;
pub mod sparse;
mod training;

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use burn::tensor::{Device, Tensor};
use kd_core::{Network, OUTPUT, Taps};
use kd_data::{Augment, ImageDataset, Images, Loader, LoaderSettings, Normalise, Opened, Search};
use kd_train::HostBatch;

pub use compare::{Candidate, Comparison};
pub use peer::Peer;
pub use shrink::{Conditions, Net, Shrink, With, percent};
pub use training::{graph, input_shape, summary, training};

/// Opens a dataset without downloading anything.
///
/// # Errors
/// When it is neither in `data_dir`, nor in `$KD_DATA_DIR`, nor in the cache folder.
pub fn open(name: &str, data_dir: Option<&Path>) -> Result<Opened> {
    let search = Search { data_dir: data_dir.map(Path::to_owned), download: false, ..Search::default() };
    Ok(kd_data::open(name, &search)?)
}

/// A loader over some of `images`; shuffled for training, in order for evaluation.
///
/// # Errors
/// When an id is out of range.
pub fn loader(
    images: &Arc<Images>,
    ids: &[usize],
    normalise: &Normalise,
    augment: Augment,
    batch_size: usize,
    shuffle: bool,
    seed: u64,
) -> Result<Loader<ImageDataset>> {
    let dataset = ImageDataset::new(images.clone(), ids.to_vec(), normalise.clone(), augment)?;
    let settings = LoaderSettings { batch_size, shuffle, seed, ..LoaderSettings::default() };
    Ok(Loader::new(Arc::new(dataset), settings)?)
}

/// Logits and labels of every sample, in order.
///
/// # Errors
/// When a batch cannot be read.
pub fn logits<N>(
    network: &N,
    loader: &Loader<ImageDataset>,
    device: &Device,
) -> Result<(Vec<Vec<f32>>, Vec<u32>)>
where
    N: Network<Input = Tensor<4>>,
{
    let network = network.valid();
    let (mut rows, mut labels) = (Vec::new(), Vec::new());
    for loaded in loader.epoch(0, 0) {
        let batch = loaded?.batch;
        let output = network.run(batch.to_device(device).0, Taps::none()).get::<2>(OUTPUT)?;
        let [_, classes] = output.dims();
        let values = output.into_data().try_to_vec::<f32>().map_err(|error| anyhow::anyhow!("{error:?}"))?;
        rows.extend(values.chunks(classes).map(<[f32]>::to_vec));
        labels.extend(batch.labels);
    }
    Ok((rows, labels))
}

/// The class with the largest score; the lowest of equals.
pub fn argmax(scores: &[f32]) -> usize {
    let better =
        |best: usize, (class, score): (usize, &f32)| if *score > scores[best] { class } else { best };
    scores.iter().enumerate().fold(0, better)
}

/// How many rows are wrong.
pub fn errors(rows: &[Vec<f32>], labels: &[u32]) -> usize {
    rows.iter().zip(labels).filter(|(row, label)| argmax(row) != **label as usize).count()
}

/// Logs at level info to standard error, with the time.
pub fn log() {
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false).with_ansi(ansi).init();
}

/// One line of results on standard output.
#[expect(clippy::print_stdout, reason = "results are what these programs put out")]
pub fn print(line: &str) {
    println!("{line}");
}
