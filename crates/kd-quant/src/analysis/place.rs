//! Where a plan's weights are, and the plan of one of them.

use std::collections::BTreeMap;

use burn::tensor::Device;
use kd_graph::{Graph, NodeId, Op, Value};

use super::storage::{Storage, Stored, stored};
use crate::QuantError;
use crate::plan::{QuantPlan, Quantizer, fold_trained, initialise, sites};

/// A layer whose weight is quantised, and what it reads.
pub(super) struct Place {
    /// Path of the weight.
    pub weight: String,
    /// Its quantiser.
    pub quantizer: Quantizer,
    /// Name of the layer.
    pub layer: String,
    /// The node of the float network that gives what the quantised layer stands for: the layer's own, or that of the normalisation that is folded into it.
    pub float: String,
    /// The node of the float network that the layer reads as its weight: behind a mask, if there is one.
    pub read: String,
    /// The node of the quantised network that gives it: the layer's own, or that of the map of scales behind it.
    pub quantised: String,
    /// The activation that the layer reads, if it is quantised.
    pub activation: Option<String>,
}

impl Place {
    /// The places of all weights of a plan, in execution order.
    pub fn all(graph: &Graph, plan: &QuantPlan) -> Result<Vec<Self>, QuantError> {
        let quantised = &fold_trained(&plan.apply(graph)?)?;
        let order: BTreeMap<NodeId, usize> =
            quantised.nodes().enumerate().map(|(at, (id, _))| (id, at)).collect();
        let stored: BTreeMap<String, NodeId> =
            stored(quantised)?.into_iter().map(|Stored { path, node, .. }| (path, node)).collect();
        let mut places = Vec::new();
        for (path, quantizer) in &plan.weights {
            let weight = stored.get(path).copied().map_or_else(|| quantised.find(path), Ok)?;
            let layer = reader(quantised, weight)?;
            places.push((order.get(&layer), Self::of(graph, plan, quantised, layer, (path, quantizer))?));
        }
        places.sort_by_key(|(at, _)| *at);
        Ok(places.into_iter().map(|(_, place)| place).collect())
    }

    fn of(
        graph: &Graph,
        plan: &QuantPlan,
        quantised: &Graph,
        layer: NodeId,
        (weight, quantizer): (&String, &Quantizer),
    ) -> Result<Self, QuantError> {
        let activation = activation(quantised, layer)?;
        let layer = quantised.node(layer)?.name().to_owned();
        let own = graph.find(&layer)?;
        let read = graph.node(own)?.inputs().get(1).map(|&id| graph.node(id)).transpose()?;
        let folded = graph.users(own).find(|(_, user)| plan.folded.contains(user.name()));
        Ok(Self {
            read: read.map_or(&**weight, |read| read.name()).to_owned(),
            weight: weight.clone(),
            quantizer: quantizer.clone(),
            float: folded.map_or(&*layer, |(_, norm)| norm.name()).to_owned(),
            quantised: if plan.scaled.contains(&layer) { format!("{layer}.scaled") } else { layer.clone() },
            layer,
            activation,
        })
    }

    /// Whether a normalisation is folded into the layer.
    pub fn is_folded(&self) -> bool {
        self.float != self.layer
    }

    /// The plan with this layer alone, its weight quantised so.
    pub fn alone(&self, plan: &QuantPlan, quantizer: &Quantizer) -> QuantPlan {
        let activation = self.activation.as_ref().and_then(|name| plan.activations.get_key_value(name));
        QuantPlan {
            network: plan.network.clone(),
            weights: [(self.weight.clone(), quantizer.clone())].into(),
            activations: activation.map(|(name, point)| (name.clone(), point.clone())).into_iter().collect(),
            folded: plan.folded.get(&self.float).cloned().into_iter().collect(),
            scaled: plan.scaled.get(&self.layer).cloned().into_iter().collect(),
            ..QuantPlan::default()
        }
    }

    /// How the weight is stored in a graph with the plan, or this place's part of it, applied.
    pub fn storage(&self, quantised: &Graph) -> Result<Storage, QuantError> {
        let found = stored(quantised)?.into_iter().find(|weight| weight.path == self.weight);
        match found {
            Some(weight) => Ok(weight.storage),
            None => {
                let weight = quantised.node(quantised.find(&self.weight)?)?;
                Ok(Storage::float(weight.output().shape.elements(1)))
            }
        }
    }
}

/// A plan applied, its scales set, its folded normalisations settled: what is deployed.
pub(super) fn ready(
    graph: &Graph,
    plan: &QuantPlan,
    device: &Device,
    batches: &[Vec<Value>],
) -> Result<Graph, QuantError> {
    let mut quantised = plan.apply(graph)?;
    initialise(&mut quantised, device, batches.iter().cloned())?;
    fold_trained(&quantised)
}

/// The layer that reads a weight, through masks and quantisers: the first node behind it whose result depends on the batch.
fn reader(graph: &Graph, weight: NodeId) -> Result<NodeId, QuantError> {
    let mut at = weight;
    while let Some((id, node)) = graph.users(at).next() {
        if node.output().shape.has_batch() {
            return Ok(id);
        }
        at = id;
    }
    let name = graph.node(weight)?.name().to_owned();
    Err(QuantError::Plan { name, why: "is read by no layer".to_owned() })
}

/// The quantised activation that a layer reads, moved about perhaps.
fn activation(quantised: &Graph, layer: NodeId) -> Result<Option<String>, QuantError> {
    let quantisers: Vec<NodeId> = sites(quantised)?.into_iter().map(|site| site.node).collect();
    let mut at = quantised.node(layer)?.inputs().first().copied();
    while let Some(id) = at {
        let node = quantised.node(id)?;
        if quantisers.contains(&id) {
            let name = node.name();
            return Ok(Some(name.strip_suffix(".quantised").unwrap_or(name).to_owned()));
        }
        let moves =
            matches!(node.op(), Op::Reshape { .. } | Op::Permute { .. } | Op::Slice { .. } | Op::Pad { .. });
        at = node.inputs().first().copied().filter(|_| moves);
    }
    Ok(None)
}
