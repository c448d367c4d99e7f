//! SynFlow: pruning at initialisation without data.

use std::collections::BTreeSet;

use burn::tensor::{Device, Tensor};
use kd_graph::{Graph, GraphError, Kind, NodeId, TensorType, Value};

use super::{Score, combined, masked};
use crate::subject::{by_rank, gradients_of, with_values};
use crate::{Array, Arrays, Masks, PruneError, Subject};

/// $$|w \cdot \partial R/\partial w|, \quad R = \sum \text{output of } |\theta| \text{ for an input of ones}$$
///
/// Tanaka et al., *Pruning neural networks without any data by iteratively conserving synaptic flow* (2020). Every parameter and running
/// statistic is replaced by its absolute value, and the network evaluates. Meant to be repeated: [`iterate`](crate::iterate) with
/// [`Rounds::Exponential`](crate::Rounds) over 100 rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SynFlow;

impl Score for SynFlow {
    fn name(&self) -> &'static str {
        "synflow"
    }

    fn score(&self, subject: &Subject<'_>, masks: &Masks) -> Result<Arrays, PruneError> {
        let weights = masked(subject, masks)?;
        let graph = with_values(subject.graph(), &weights)?;
        let floats = graph.parameters().filter(|(_, node)| node.output().kind == Kind::Float);
        let positive = floats
            .map(|(_, node)| {
                let name = node.name();
                Ok((name.to_owned(), crate::subject::value(&graph, name)?.map(f32::abs)))
            })
            .collect::<Result<Arrays, PruneError>>()?;
        let graph = with_values(&graph, &positive)?;
        let inputs = graph.inputs().iter().map(|id| ones(&graph, *id, subject.device()));
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let parameters: BTreeSet<String> = subject.parameters().map(str::to_owned).collect();
        let gradients = gradients_of(graph, subject.device(), &inputs, &parameters, |outputs| {
            let first =
                outputs.first().ok_or_else(|| PruneError::Loss("the graph has no outputs".to_owned()))?;
            let flow: Value = by_rank!(first, tensor => tensor.sum());
            Ok(flow.float::<1>()?)
        })?;
        combined(&weights, &gradients, |w, g| (w * g).abs())
    }
}

/// An input of ones for a batch of one.
fn ones(graph: &Graph, id: NodeId, device: &Device) -> Result<Value, PruneError> {
    let node = graph.node(id)?;
    let TensorType { kind, shape } = node.output();
    let sizes = shape.at(1);
    let unfit = || GraphError::Edit {
        name: node.name().to_owned(),
        reason: format!("SynFlow sends floats of one to five axes through the network, not {kind} {shape}"),
    };
    if *kind != Kind::Float {
        return Err(unfit().into());
    }
    let data = Array::new(sizes.clone(), vec![1.0; sizes.iter().product()])?.to_data();
    Ok(match sizes.len() {
        1 => Tensor::<1>::from_data(data, device).into(),
        2 => Tensor::<2>::from_data(data, device).into(),
        3 => Tensor::<3>::from_data(data, device).into(),
        4 => Tensor::<4>::from_data(data, device).into(),
        5 => Tensor::<5>::from_data(data, device).into(),
        _ => return Err(unfit().into()),
    })
}
