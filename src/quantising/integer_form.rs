//! A quantised network as it computes on codes, beside the form that trains.

use std::fmt;

use burn::tensor::{Device, Tensor};
use kd_data::{ImageDataset, Loader};
use kd_graph::Graph;
use kd_quant::QuantError;
use kd_quant::analysis::packed_bytes;
use kd_quant::integer::{Agreement, FloatNode, IntegerNetwork};
use kd_train::HostBatch;

use crate::experiment::StudyError;

/// Images on which both forms are compared, and the rest of their batch: code by code, which takes the time of several passes.
const COMPARED: u64 = 1000;

/// What there is to say of a network on codes besides its accuracy. Displayed in a few lines.
#[derive(Clone, Debug, PartialEq)]
pub struct IntegerForm {
    /// Its weights, packed at their bits: [`packed_bytes`].
    pub bytes: u64,
    /// What it computes in float between codes, and why.
    pub float_nodes: Vec<FloatNode>,
    /// Where it differs from the form that trains, if there were images to compare them on.
    pub agreement: Option<Agreement>,
}

impl IntegerForm {
    /// The network of a graph with quantisers, and what there is to say of it.
    ///
    /// # Errors
    /// As [`IntegerNetwork::new`] and [`packed_bytes`].
    pub fn new(graph: &Graph, device: &Device) -> Result<(IntegerNetwork<Tensor<4>>, Self), QuantError> {
        let network = IntegerNetwork::new(graph, device)?;
        let (bytes, float_nodes) = (packed_bytes(graph)? as u64, network.float_nodes().to_vec());
        Ok((network, Self { bytes, float_nodes, agreement: None }))
    }

    /// Compares the network with the form that trains on the first thousand images, in whole batches.
    ///
    /// # Errors
    /// [`StudyError::Data`]; as [`IntegerNetwork::agreement`].
    pub fn compare(
        &mut self,
        network: &IntegerNetwork<Tensor<4>>,
        images: &Loader<ImageDataset>,
        device: &Device,
    ) -> Result<(), StudyError> {
        let (mut batches, mut count) = (Vec::new(), 0);
        for loaded in images.epoch(0, 0) {
            let (input, _) = loaded?.batch.to_device(device);
            count += input.dims()[0] as u64;
            batches.push(vec![input.into()]);
            if count >= COMPARED {
                break;
            }
        }
        self.agreement = Some(network.agreement(batches)?);
        Ok(())
    }
}

impl fmt::Display for IntegerForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "on codes: {} bytes, weights packed at their bits", self.bytes)?;
        if let Some(agreement) = &self.agreement {
            let (images, elsewhere) = agreement.rows;
            write!(f, "\non {images} images, beside the form that trains: {elsewhere} get another class")?;
            let steps = agreement.steps();
            if let Some((name, _, through)) = agreement.points.last() {
                let percent = |rate| 100.0 * rate;
                write!(
                    f,
                    "; {:.4} % of {} codes differ, each step by itself, by {} at most; {:.4} % at {name}, through the whole network",
                    percent(steps.rate()),
                    steps.codes,
                    steps.greatest,
                    percent(through.rate())
                )?;
            }
        }
        self.float_nodes.iter().try_for_each(|node| write!(f, "\nin float: {}: {}", node.name, node.reason))
    }
}
