//! A network's metrics on a dataset.

use std::collections::BTreeMap;

use burn::tensor::Device;
use kd_core::{Network, Taps};
use kd_data::{Dataset, Loader};

use crate::batch::HostBatch;
use crate::error::RunError;
use crate::metrics::Metric;

/// Runs `network` (in eval, off the tape: [`valid`](burn::module::Module::valid)) over the loader's first epoch and returns every metric by name.
///
/// # Errors
/// [`RunError::Data`], or [`RunError::Metric`] when a metric does not fit the output.
pub fn evaluate<N, D>(
    network: &N,
    loader: &Loader<D>,
    metrics: &mut [Box<dyn Metric>],
    device: &Device,
) -> Result<BTreeMap<String, f64>, RunError>
where
    N: Network,
    D: Dataset,
    D::Batch: HostBatch<Input = N::Input>,
{
    let device = device.clone().without_autodiff();
    metrics.iter_mut().for_each(|metric| metric.reset());
    for loaded in loader.epoch(0, 0) {
        let (input, target) = loaded?.batch.to_device(&device);
        let taps = network.run(input, Taps::none());
        for metric in metrics.iter_mut() {
            let updated = metric.update(&taps, &target);
            updated.map_err(|source| RunError::Metric { metric: metric.name().to_owned(), source })?;
        }
    }
    Ok(metrics.iter().map(|metric| (metric.name().to_owned(), metric.value())).collect())
}
