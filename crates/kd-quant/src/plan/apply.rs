//! A plan becomes nodes.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use kd_graph::{Edit, Graph, GraphError, NodeId, Op, Value};

use super::choose::{Point, QuantPlan};
use super::kernel::turn;
use super::lattice::held;
use super::norm::{norm_behind, norm_in_front, readers, redirect, redirect_results};
use super::walk::{is_layer, moves};
use super::{Quantizer, adder, fold, op, scale};
use crate::QuantError;
use crate::data::numbers;
use crate::sharing::{hash_weight, share_weights};

impl QuantPlan {
    /// The network with quantisers.
    ///
    /// Weights get theirs between the parameter (or its mask) and the layers; scales start from the weight, which is brought into its method's range first
    /// (binary methods clip real weights). Weights that share values are replaced by
    /// what they are made of, as [`share_weights`] and [`hash_weight`] do. Activations get theirs behind the node that
    /// makes them, for all its readers or for layers only; their scales are zero until [`initialise`](super::initialise) has seen a batch. What a method
    /// needs around it is put there: a batch normalisation in front of binary activations, in place of a rectifier, and behind weights that have lost their
    /// magnitude; a map of scales where the plan names the layer. A shortcut keeps its rectifier and its real values.
    ///
    /// # Errors
    /// As [`check`](Self::check), and what a method says of a weight that it can't start from.
    pub fn apply(&self, graph: &Graph) -> Result<Graph, QuantError> {
        self.check(graph)?;
        let windows = self.windows(graph)?;
        let mut quantised = graph.clone();
        self.project(&mut quantised)?;
        let starts = self.starts(&quantised)?;
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
                // The biases of adder layers, and rectifiers that nobody reads any more.
                quantised.remove_dead()?;
                Ok(quantised)
            }
        }
    }

    /// Brings real weights into the range in which their methods keep them, as after every step.
    fn project(&self, graph: &mut Graph) -> Result<(), QuantError> {
        let mut values = Vec::new();
        for (path, quantizer) in &self.weights {
            let id = graph.find(path)?;
            if let Some(value) = graph.value(id) {
                values.push((id, projected(quantizer, value, is_turned(graph, id)?)?));
            }
        }
        graph.edit(|edit| values.into_iter().try_for_each(|(id, value)| edit.set_value(id, value)))?;
        Ok(())
    }

    /// Puts codes and centroids, or buckets, in the place of weights.
    fn share(&self, graph: &mut Graph) -> Result<(), QuantError> {
        let mut shared = BTreeMap::new();
        for (path, quantizer) in &self.weights {
            match quantizer {
                Quantizer::KMeans(kmeans) => {
                    // What a mask takes away has no part in the clusters.
                    let id = graph.find(path)?;
                    let masked = held(graph, last_of_chain(graph, id)?)?;
                    graph.edit(|edit| edit.set_value(id, masked))?;
                    shared.insert(path.clone(), *kmeans);
                }
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
            if graph.value(id).is_none() {
                continue;
            }
            let value = held(graph, last_of_chain(graph, id)?)?;
            let value = match self.pair(graph, id)? {
                Some(pair) => pair.scaled(graph, &value)?,
                None => value,
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
        for (index, (name, Point { quantizer, group, layers_only })) in self.activations.iter().enumerate() {
            let source = edit.graph().find(name)?;
            let ty = edit.graph().node(source)?.output().clone();
            let users = if *layers_only {
                self.layers_behind(edit.graph(), source)?
            } else {
                edit.graph().users(source).map(|(id, _)| id).collect()
            };
            if users.is_empty() && *layers_only {
                let why = "is read by no layer whose weight is quantised".to_owned();
                return Err(QuantError::Plan { name: name.clone(), why });
            }
            let value = if quantizer.wants_norm_in_front() {
                norm_in_front(edit, source, users.len() == readers(edit.graph(), source))?
            } else {
                source
            };
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
            let inputs: Vec<NodeId> = [value].into_iter().chain(parameters).collect();
            let node = edit.add(&format!("{name}.quantised"), quantizer.op(false, point)?, &inputs)?;
            edit.set_type(node, ty)?;
            for user in users {
                redirect(edit, user, source, node)?;
            }
            if !layers_only {
                redirect_results(edit, source, node)?;
            }
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

    /// The nodes that read a tensor for a layer of the plan: the layer itself, or what moves the tensor's numbers about in front of it.
    fn layers_behind(&self, graph: &Graph, source: NodeId) -> Result<Vec<NodeId>, QuantError> {
        let mut found = Vec::new();
        for (id, user) in graph.users(source) {
            let wanted = match user.inputs() {
                [x, weight, ..] if is_layer(user.op()) && *x == source => {
                    let parameter = op::parameter_behind(graph, *weight)?;
                    let path = parameter.map(|id| graph.node(id)).transpose()?.map(|node| node.name());
                    path.is_some_and(|path| self.weights.contains_key(path))
                }
                _ => moves(user.op()) && !self.layers_behind(graph, id)?.is_empty(),
            };
            if wanted {
                found.push(id);
            }
        }
        Ok(found)
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
pub(super) fn last_of_chain(graph: &Graph, parameter: NodeId) -> Result<NodeId, GraphError> {
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

/// A real weight within the range in which its method keeps it.
fn projected(quantizer: &Quantizer, value: &TensorData, turned: bool) -> Result<TensorData, QuantError> {
    fn at_rank<const D: usize>(
        quantizer: &Quantizer,
        value: &TensorData,
        turned: bool,
    ) -> Result<TensorData, QuantError> {
        let x = turn(Tensor::<D>::from_data(value.clone(), &host()), turned);
        let y = turn(quantizer.project(x), turned);
        Ok(TensorData::new(numbers("a weight", y)?, value.shape().clone()))
    }
    match value.shape().len() {
        1 => at_rank::<1>(quantizer, value, turned),
        2 => at_rank::<2>(quantizer, value, turned),
        3 => at_rank::<3>(quantizer, value, turned),
        4 => at_rank::<4>(quantizer, value, turned),
        5 => at_rank::<5>(quantizer, value, turned),
        _ => Ok(value.clone()),
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
