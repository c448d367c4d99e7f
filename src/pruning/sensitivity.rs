//! The sensitivity analysis of a trained network, for the report.

use kd_data::{ImageDataset, Loader};
use kd_graph::{Graph, GraphModule};
use kd_prune::Sensitivity;
use kd_train::HostBatch;
use kd_train::metrics::{Accuracy, Metric};
use kd_train::report::Sweep;

use super::method::network;
use super::{Method, PruneSettings};
use crate::experiment::{Study, StudyError};

/// Tries every layer alone on validation images.
pub(super) fn analyse(
    study: &Study,
    settings: &PruneSettings,
    graph: &Graph,
    like: &GraphModule,
) -> Result<Option<Sensitivity>, StudyError> {
    if settings.sensitivity.is_empty() {
        return Ok(None);
    }
    let validation = study.data().validation()?;
    let method: &dyn Method = settings.method.method();
    let device = study.device().clone();
    let mut measure =
        |graph: &Graph| accuracy(graph, like, &validation, settings.sensitivity_images, &device);
    Ok(Some(method.sensitivity(graph, &device, &settings.sensitivity, &mut measure)?))
}

/// Accuracy on the first images of a split.
fn accuracy(
    graph: &Graph,
    like: &GraphModule,
    images: &Loader<ImageDataset>,
    most: usize,
    device: &burn::tensor::Device,
) -> Result<f64, StudyError> {
    use burn::module::Module;
    use kd_core::{Network, Taps};
    let network = network(graph, like)?.valid();
    let (mut accuracy, mut seen) = (Accuracy::default(), 0);
    for loaded in images.epoch(0, 0) {
        let (input, target) = loaded?.batch.to_device(device);
        seen += input.dims()[0];
        accuracy.update(&network.run(input, Taps::none()), &target)?;
        if seen >= most {
            break;
        }
    }
    Ok(accuracy.value())
}

/// A table and a chart for the report.
pub(super) fn sweep(found: &Sensitivity) -> Sweep {
    let line = |row: &kd_prune::LayerSensitivity| {
        let tried = found.sparsities.iter().copied().zip(row.values.iter().copied());
        (row.layer.clone(), std::iter::once((0.0, found.baseline)).chain(tried).collect())
    };
    Sweep {
        title: "Sensitivity: accuracy when one layer alone is pruned".to_owned(),
        axis: "sparsity of the layer".to_owned(),
        axis_is_share: true,
        value_is_share: true,
        lines: found.layers.iter().map(line).collect(),
        note: "On validation images, without training after pruning. Channels that several layers share are named after the first weight that makes them."
            .to_owned(),
    }
}
