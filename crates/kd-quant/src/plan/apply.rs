//! A plan becomes nodes.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use kd_graph::{BatchNorm, Edit, Graph, GraphError, NodeId, Op, Pool, PoolKind, Role, Value};

use super::choose::{Point, QuantPlan};
use super::kernel::turn;
use super::{Quantizer, adder, fold, op, scale};
use crate::QuantError;
use crate::sharing::{hash_weight, share_weights};

impl QuantPlan {
    /// The network with quantisers.
    ///
    /// Weights get theirs between the parameter (or its mask) and the layers; scales start from the weight. Weights that share values are replaced by
    /// what they are made of, as [`share_weights`] and [`hash_weight`] do. Activations get theirs behind the node that
    /// makes them; their scales are zero until [`initialise`](super::initialise) has seen a batch. What a method needs around it is put there: a batch
    /// normalisation in front of binary activations, in place of a rectifier, and behind weights that have lost their magnitude; a map of scales where the
    /// plan names the layer.
    ///
    /// # Errors
    /// As [`check`](Self::check), and [`QuantError::NonFinite`] for weights that can't be quantised.
    pub fn apply(&self, graph: &Graph) -> Result<Graph, QuantError> {
        self.check(graph)?;
        let starts = self.starts(graph)?;
        let windows = self.windows(graph)?;
        let mut quantised = graph.clone();
        self.share(&mut quantised)?;
        let mut failure = None;
        let edited = quantised.edit(|edit| {
            self.apply_in(edit, &starts, &windows).map_err(|error| match error {
                QuantError::Graph(error) => error,
                other => {
                    let error = GraphError::Edit { name: "plan".to_owned(), reason: other.to_string() };
                    failure = Some(other);
                    error
                }
            })
        });
        match (edited, failure) {
            (Err(_), Some(error)) => Err(error),
            (Err(error), None) => Err(error.into()),
            (Ok(()), _) => {
                // The biases of adder layers.
                quantised.remove_dead()?;
                Ok(quantised)
            }
        }
    }

    /// Puts codes and centroids, or buckets, in the place of weights.
    fn share(&self, graph: &mut Graph) -> Result<(), QuantError> {
        let mut shared = BTreeMap::new();
        for (path, quantizer) in &self.weights {
            match quantizer {
                Quantizer::KMeans(kmeans) => drop(shared.insert(path.clone(), *kmeans)),
                Quantizer::Hashed(by) => {
                    let elements = graph.node(graph.find(path)?)?.output().shape.elements(1);
                    hash_weight(graph, path, elements.div_ceil(by.factor.max(1)), by.seed)?;
                }
                _ => {}
            }
        }
        share_weights(graph, &shared).map(drop)
    }

    /// Where the parameters of every weight's quantiser start.
    fn starts(&self, graph: &Graph) -> Result<BTreeMap<&str, Vec<TensorData>>, QuantError> {
        let mut starts = BTreeMap::new();
        for (path, quantizer) in &self.weights {
            let id = graph.find(path)?;
            let turned = is_turned(graph, id)?;
            let Some(value) = graph.value(id) else { continue };
            let value = match self.pair(graph, id)? {
                Some(pair) => pair.scaled(graph, value)?,
                None => (**value).clone(),
            };
            starts.insert(path.as_str(), start(quantizer, &value, turned)?);
        }
        Ok(starts)
    }

    /// The windows of layers with a map of scales.
    fn windows(&self, graph: &Graph) -> Result<Vec<(NodeId, scale::Window)>, QuantError> {
        let of = |name: &String| {
            let layer = graph.find(name)?;
            Ok((layer, scale::window(graph, layer)?))
        };
        self.scaled.iter().map(of).collect()
    }

    /// The batch normalisation that is folded into a weight.
    fn pair(&self, graph: &Graph, weight: NodeId) -> Result<Option<fold::Pair>, QuantError> {
        let last = last_of_chain(graph, weight)?;
        for name in &self.folded {
            if let Ok(pair) = fold::pair(graph, graph.find(name)?)?
                && graph.node(pair.layer)?.inputs().get(1) == Some(&last)
            {
                return Ok(Some(pair));
            }
        }
        Ok(None)
    }

    fn apply_in(
        &self,
        edit: &mut Edit,
        starts: &BTreeMap<&str, Vec<TensorData>>,
        windows: &[(NodeId, scale::Window)],
    ) -> Result<(), QuantError> {
        let replaced =
            |quantizer: &Quantizer| matches!(quantizer, Quantizer::KMeans(_) | Quantizer::Hashed(_));
        for (path, quantizer) in self.weights.iter().filter(|(_, quantizer)| !replaced(quantizer)) {
            let parameter = edit.graph().find(path)?;
            let turned = is_turned(edit.graph(), parameter)?;
            let last = last_of_chain(edit.graph(), parameter)?;
            let layers: Vec<NodeId> = edit.graph().users(last).map(|(id, _)| id).collect();
            if let Quantizer::Adder(settings) = quantizer {
                for &layer in &layers {
                    adder::replace(edit, layer, *settings)?;
                    norm_behind(edit, layer)?;
                }
                continue;
            }
            let ty = edit.graph().node(last)?.output().clone();
            let last = match self.pair(edit.graph(), parameter)? {
                Some(pair) => pair.insert(edit, last)?,
                None => last,
            };
            let mut inputs = vec![last];
            let start = starts.get(path.as_str()).map_or(&[][..], Vec::as_slice);
            for ((name, role), data) in quantizer.parameters().iter().zip(start) {
                inputs.push(edit.add_parameter(&format!("{path}_{name}"), *role, data.clone())?);
            }
            let node =
                edit.insert_after(last, &format!("{path}_quantised"), quantizer.op(turned, 0)?, &inputs)?;
            edit.set_type(node, ty)?;
            if quantizer.wants_norm_behind() {
                for layer in layers {
                    norm_behind(edit, layer)?;
                }
            }
        }
        let mut groups: BTreeMap<&str, (usize, Vec<NodeId>)> = BTreeMap::new();
        for (index, (name, Point { quantizer, group })) in self.activations.iter().enumerate() {
            let mut source = edit.graph().find(name)?;
            let ty = edit.graph().node(source)?.output().clone();
            if quantizer.wants_norm_in_front() {
                source = norm_in_front(edit, source)?;
            }
            let (point, parameters) = match group.as_deref().and_then(|group| groups.get(group)) {
                Some(shared) => shared.clone(),
                None => {
                    let mut parameters = Vec::new();
                    for (parameter, role) in quantizer.parameters() {
                        let path = format!("{name}.{parameter}");
                        parameters.push(edit.add_parameter(&path, *role, nothing(quantizer))?);
                    }
                    (index + 1, parameters)
                }
            };
            if let Some(group) = group {
                groups.insert(group, (point, parameters.clone()));
            }
            let inputs: Vec<NodeId> = [source].into_iter().chain(parameters).collect();
            let name = format!("{name}.quantised");
            let node = edit.insert_after(source, &name, quantizer.op(false, point)?, &inputs)?;
            edit.set_type(node, ty)?;
        }
        for (name, gradient) in &self.gradients {
            let layer = edit.graph().find(name)?;
            let ty = edit.graph().node(layer)?.output().clone();
            let op = Quantizer::DorefaGradient(*gradient).op(false, 0)?;
            let node = edit.insert_after(layer, &format!("{name}.gradient"), op, &[layer])?;
            edit.set_type(node, ty)?;
        }
        for (layer, window) in windows {
            scale::insert(edit, *layer, window)?;
        }
        Ok(())
    }
}

/// The scale of an activation before a batch was seen.
fn nothing(quantizer: &Quantizer) -> TensorData {
    let length = match quantizer {
        Quantizer::AbcActivation(abc) => abc.bases,
        _ => 1,
    };
    TensorData::zeros::<f32, _>([length])
}

/// Whether a weight's output channels are in axis 1: those of a linear layer and of a transposed convolution.
pub(super) fn is_turned(graph: &Graph, parameter: NodeId) -> Result<bool, GraphError> {
    let last = last_of_chain(graph, parameter)?;
    Ok(graph.users(last).any(|(_, user)| matches!(user.op(), Op::Linear | Op::ConvTranspose(_))))
}

/// The last node of the chain that a parameter goes through before a layer reads it: masks.
fn last_of_chain(graph: &Graph, parameter: NodeId) -> Result<NodeId, GraphError> {
    let mut last = parameter;
    loop {
        let next = graph.users(last).find(|(_, user)| {
            user.inputs().first() == Some(&last)
                && !matches!(user.op(), Op::Conv(_) | Op::ConvTranspose(_) | Op::Linear)
        });
        match next {
            Some((id, _)) if op::parameter_behind(graph, id)?.is_some() => last = id,
            _ => return Ok(last),
        }
    }
}

/// The initial parameters for a weight.
fn start(quantizer: &Quantizer, value: &TensorData, turned: bool) -> Result<Vec<TensorData>, QuantError> {
    fn at_rank<const D: usize>(
        quantizer: &Quantizer,
        value: &TensorData,
        turned: bool,
    ) -> Result<Vec<TensorData>, QuantError> {
        let device = host();
        let x = turn(Tensor::<D>::from_data(value.clone(), &device), turned);
        let data = |value: Value| {
            let value = match value.float::<D>() {
                Ok(tensor) if D > 1 => turn(tensor, turned).into(),
                _ => value,
            };
            value.data().map_err(|error| QuantError::Run { why: error.to_string() })
        };
        quantizer.initial(x)?.into_iter().map(data).collect()
    }
    match value.shape().len() {
        1 => at_rank::<1>(quantizer, value, turned),
        2 => at_rank::<2>(quantizer, value, turned),
        3 => at_rank::<3>(quantizer, value, turned),
        4 => at_rank::<4>(quantizer, value, turned),
        5 => at_rank::<5>(quantizer, value, turned),
        rank => Err(QuantError::Shape {
            what: "the weight",
            got: value.shape().to_vec(),
            wanted: format!("1 to 5 axes, not {rank},"),
        }),
    }
}

/// Where plans compute: the host, whatever the network trains on.
pub(super) fn host() -> Device {
    #[cfg(feature = "flex")]
    {
        Device::flex()
    }
    #[cfg(not(feature = "flex"))]
    {
        Device::default()
    }
}

/// A batch normalisation in front of what is read of `source`, none if there is one already, and no rectifier between. Returns what to quantise.
fn norm_in_front(edit: &mut Edit, source: NodeId) -> Result<NodeId, QuantError> {
    let (mut source, mut behind) = (source, source);
    loop {
        let node = edit.graph().node(behind)?;
        let alone = edit.graph().users(behind).count() == 1 || behind == source;
        let (op, before) = (node.op().clone(), node.inputs().first().copied());
        match (op, before) {
            (Op::Activation(_), Some(before)) if alone => {
                edit.remove(behind)?;
                if behind == source {
                    source = before;
                }
                behind = before;
            }
            (Op::BatchNorm(_), _) => return Ok(source),
            // Neither changes the order of values.
            (
                Op::Pool(Pool { kind: PoolKind::Max, .. }) | Op::Reshape { .. } | Op::Dropout { .. },
                Some(before),
            ) => {
                behind = before;
            }
            _ => return norm_after(edit, source),
        }
    }
}

/// A batch normalisation behind a layer, unless there is one.
fn norm_behind(edit: &mut Edit, layer: NodeId) -> Result<(), QuantError> {
    let present = edit.graph().users(layer).any(|(_, user)| matches!(user.op(), Op::BatchNorm(_)));
    if !present {
        norm_after(edit, layer)?;
    }
    Ok(())
}

fn norm_after(edit: &mut Edit, source: NodeId) -> Result<NodeId, QuantError> {
    let node = edit.graph().node(source)?;
    let name = format!("{}.batch_norm", node.name());
    let Some(channels) = node.output().shape.dim(1).and_then(|dim| dim.fixed()) else {
        let why =
            format!("has shape {}: a batch normalisation needs channels in axis 1", node.output().shape);
        return Err(QuantError::Plan { name: node.name().to_owned(), why });
    };
    let mut inputs = vec![source];
    for (what, role, value) in [
        ("gamma", Role::Weight, 1.0_f32),
        ("beta", Role::Weight, 0.0),
        ("running_mean", Role::Buffer, 0.0),
        ("running_var", Role::Buffer, 1.0),
    ] {
        let data = TensorData::new(vec![value; channels], [channels]);
        inputs.push(edit.add_parameter(&format!("{name}.{what}"), role, data)?);
    }
    let op = Op::BatchNorm(BatchNorm { epsilon: 1e-5, momentum: Some(0.1) });
    Ok(edit.insert_after(source, &name, op, &inputs)?)
}
