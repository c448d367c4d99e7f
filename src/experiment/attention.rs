//! Where networks look: attention maps on sample images, for the report.

use burn::tensor::{Device, Tensor};
use kd_core::{Network, Taps};
use kd_data::{ImageDataset, Loader};
use kd_train::HostBatch;
use kd_train::report::{AttentionSample, GrayMap, Map};

use super::error::StudyError;

/// Images shown.
const SAMPLES: usize = 4;

/// The first test images, without maps yet.
pub(super) fn samples(test: &Loader<ImageDataset>) -> Vec<AttentionSample> {
    let dataset = test.dataset();
    let shape = dataset.shape();
    let images = dataset.images();
    let sample = |&index: &usize| {
        let pixels = images.pixels(index)?;
        let label = usize::try_from(*images.labels().get(index)?).ok()?;
        // Channels lie in planes; the report wants them side by side.
        let planes: Vec<&[u8]> = pixels.chunks_exact(shape.area()).collect();
        let interleaved =
            (0..shape.area()).flat_map(|at| planes.iter().filter_map(move |plane| plane.get(at).copied()));
        let image = Map {
            height: shape.height,
            width: shape.width,
            channels: shape.channels,
            pixels: interleaved.collect(),
        };
        Some(AttentionSample { label: images.classes().get(label)?.clone(), image, maps: Vec::new() })
    };
    dataset.indices().iter().take(SAMPLES).filter_map(sample).collect()
}

/// Adds $\sum_c A_c^2$ of the taps, feature maps `[batch, channel, h, w]`, to every sample.
pub(super) fn add<N: Network<Input = Tensor<4>>>(
    samples: &mut [AttentionSample],
    name: &str,
    network: &N,
    taps: &[String],
    test: &Loader<ImageDataset>,
    device: &Device,
) -> Result<(), StudyError> {
    let Some(loaded) = test.epoch(0, 0).next() else { return Ok(()) };
    let (images, _) = loaded?.batch.to_device(device);
    let count = samples.len().min(images.dims()[0]);
    let seen = network.run(images.narrow(0, 0, count), Taps::only(taps));
    for tap in taps {
        let maps = seen.get::<4>(tap).map_err(kd_train::metrics::MetricError::from)?;
        let [_, _, height, width] = maps.dims();
        let values = maps.square().sum_dim(1).try_into_vec_as::<f32>();
        let values = values.map_err(|error| StudyError::Device(error.to_string()))?;
        for (sample, values) in samples.iter_mut().zip(values.chunks_exact(height * width)) {
            sample.maps.push((format!("{name} {tap}"), GrayMap { height, width, values: values.to_vec() }));
        }
    }
    Ok(())
}
