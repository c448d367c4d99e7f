//! What quantisation does to every layer of a network.

use std::collections::BTreeMap;

use burn::tensor::Device;
use kd_graph::{Graph, GraphModule, NodeId, Op, Value};

use super::report::{Analysis, LayerReport};
use super::{Distortion, packed_bytes};
use crate::error::in_range;
use crate::integer::{QuantisedWeight, quantised_weights};
use crate::plan::{Lattice, QuantPlan, Site, initialise, kernels, sites};
use crate::{Grid, QuantError};

/// Measures every layer that a plan quantises.
///
/// `batches` set the scales of activations; layers' results are compared on the first of them. `score` says how good a network is: an accuracy on
/// validation data, or minus a loss. It is asked for the float network, the quantised one, and once for every layer.
///
/// # Errors
/// As [`QuantPlan::apply`] and [`initialise`]; [`QuantError::Setting`] for a score that is not finite; what `score` returns.
///
/// ```
/// use burn::tensor::{Device, Tensor, TensorData};
/// use kd_graph::{Graph, Op, Role, Shape, TensorType};
/// use kd_quant::analysis::analyse;
/// use kd_quant::plan::{PlanSettings, QuantPlan};
///
/// # let device = Device::flex();
/// # let mut graph = Graph::new();
/// # let x = graph.input("x", TensorType::float(Shape::batched([2])))?;
/// # let w = graph.parameter("a.weight", Role::Weight, TensorData::from([[0.5f32, -1.0], [0.3, 0.7]]))?;
/// # let a = graph.add("a", Op::Linear, &[x, w])?;
/// # graph.set_outputs(&[a])?;
/// # let batch = vec![Tensor::<2>::from_data([[1.0, 2.0], [3.0, -1.0]], &device).into()];
/// // `graph` is a traced network, `batch` some of its inputs.
/// let plan = QuantPlan::new(&graph, &PlanSettings::int8()?)?;
/// let analysis = analyse(&graph, &plan, &device, &[batch], |_network| Ok(1.0))?;
/// assert!(analysis.layers[0].weight_error.sqnr > 40.0);
/// assert!(analysis.to_string().contains("a.weight"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn analyse(
    graph: &Graph,
    plan: &QuantPlan,
    device: &Device,
    batches: &[Vec<Value>],
    mut score: impl FnMut(&GraphModule) -> Result<f64, QuantError>,
) -> Result<Analysis, QuantError> {
    let Some(first) = batches.first() else {
        return Err(QuantError::Empty { what: "the list of batches to calibrate with" });
    };
    let mut finite = |module: &GraphModule| {
        let score = score(module)?;
        in_range("score", score, score.is_finite(), "finite")?;
        Ok::<_, QuantError>(score)
    };
    let float = GraphModule::new(graph.clone(), device).map_err(words)?;
    let whole = ready(graph, plan, device, batches)?;
    let weights = quantised_weights(&whole, device)?;
    let places: Vec<Place> =
        weights.iter().map(|weight| Place::of(&whole, weight)).collect::<Result<_, _>>()?;
    let wanted: Vec<NodeId> =
        places.iter().map(|place| graph.find(&place.layer)).collect::<Result<_, _>>()?;
    let (_, results) = float.run_tapped(first.clone(), &wanted).map_err(words)?;

    let mut layers = Vec::new();
    for ((weight, place), result) in weights.iter().zip(&places).zip(&results) {
        let alone = ready(graph, &place.alone(plan), device, batches)?;
        let module = module(&alone, device)?;
        let input = activation(&alone, place)?;
        let taps: Vec<NodeId> =
            [alone.find(&place.layer)?].into_iter().chain(input.as_ref().map(|site| site.node)).collect();
        let (_, seen) = module.run_tapped(first.clone(), &taps).map_err(words)?;
        let saturated_inputs = match (&input, seen.get(1)) {
            (Some(site), Some(value)) => match site.lattice(&alone)? {
                Some(lattice) => Some(saturated(&codes(&numbers(value)?, &lattice), &lattice)),
                None => None,
            },
            _ => None,
        };
        let output = seen.first().map(numbers).transpose()?.unwrap_or_default();
        let (grid, blocks, zero_points) = storage(weight)?;
        layers.push(LayerReport {
            weight: weight.path.clone(),
            layer: place.layer.clone(),
            quantizer: weight.site.quantizer.to_string(),
            bits: grid.bits(),
            weight_error: Distortion::between(&weight.real, &weight.quantised)?,
            output_error: Distortion::between(&numbers(result)?, &output)?,
            saturated_weights: weight.codes.as_ref().map(|(codes, lattice)| saturated(codes, lattice)),
            saturated_inputs,
            alone: finite(&module)?,
            bytes: packed_bytes(weight.real.len(), grid, blocks, zero_points),
            bytes_at: (1..=8)
                .map(|bits| Ok(packed_bytes(weight.real.len(), Grid::unsigned(bits)?, blocks, zero_points)))
                .collect::<Result<_, QuantError>>()?,
        });
    }
    Ok(Analysis { float: finite(&float)?, quantised: finite(&module(&whole, device)?)?, layers })
}

/// The part of every weight's codes that differ between two quantised states of one network, by path, from 0 to 1: before and after an epoch of training,
/// say. Weights whose levels are a table are left out.
///
/// # Errors
/// [`QuantError::Length`] for graphs whose weights have different sizes; as [`IntegerNetwork::new`](crate::integer::IntegerNetwork::new).
pub fn flip_rates(
    before: &Graph,
    after: &Graph,
    device: &Device,
) -> Result<BTreeMap<String, f64>, QuantError> {
    let codes = |graph| {
        let weights = quantised_weights(graph, device)?.into_iter();
        let named = weights.filter_map(|weight| Some((weight.path, weight.codes?.0)));
        Ok::<BTreeMap<String, Vec<i32>>, QuantError>(named.collect())
    };
    let (before, mut after) = (codes(before)?, codes(after)?);
    let pairs =
        before.into_iter().filter_map(|(path, codes)| after.remove(&path).map(|other| (path, codes, other)));
    pairs.map(|(path, before, after)| Ok((path, super::flip_rate(&before, &after)?))).collect()
}

/// A quantised layer and the activation that it reads.
struct Place {
    weight: String,
    layer: String,
    activation: Option<String>,
}

impl Place {
    fn of(quantised: &Graph, weight: &QuantisedWeight) -> Result<Self, QuantError> {
        let Some((id, node)) = quantised.users(weight.site.node).next() else {
            let why = "is read by no layer".to_owned();
            return Err(QuantError::Plan { name: weight.path.clone(), why });
        };
        let layer = quantised.node(id)?.name().to_owned();
        let found: BTreeMap<NodeId, Site> =
            sites(quantised)?.into_iter().map(|site| (site.node, site)).collect();
        let mut at = node.inputs().first().copied();
        while let Some(id) = at {
            let node = quantised.node(id)?;
            if found.contains_key(&id) {
                let name = node.name();
                let activation = Some(name.strip_suffix(".quantised").unwrap_or(name).to_owned());
                return Ok(Self { weight: weight.path.clone(), layer, activation });
            }
            let moves = matches!(
                node.op(),
                Op::Reshape { .. } | Op::Permute { .. } | Op::Slice { .. } | Op::Pad { .. }
            );
            at = node.inputs().first().copied().filter(|_| moves);
        }
        Ok(Self { weight: weight.path.clone(), layer, activation: None })
    }

    /// The plan with this layer alone.
    fn alone(&self, plan: &QuantPlan) -> QuantPlan {
        let mut alone = QuantPlan { network: plan.network.clone(), ..QuantPlan::default() };
        let weight = plan.weights.get_key_value(&self.weight);
        alone.weights.extend(weight.map(|(path, quantizer)| (path.clone(), quantizer.clone())));
        let activation = self.activation.as_ref().and_then(|name| plan.activations.get_key_value(name));
        alone.activations.extend(activation.map(|(name, point)| (name.clone(), point.clone())));
        alone
    }
}

/// A plan applied, its scales set.
pub(super) fn ready(
    graph: &Graph,
    plan: &QuantPlan,
    device: &Device,
    batches: &[Vec<Value>],
) -> Result<Graph, QuantError> {
    let mut quantised = plan.apply(graph)?;
    initialise(&mut quantised, device, batches.iter().cloned())?;
    Ok(quantised)
}

pub(super) fn module(graph: &Graph, device: &Device) -> Result<GraphModule, QuantError> {
    GraphModule::with_kernels(graph.clone(), device, &kernels(graph)?).map_err(words)
}

fn activation(quantised: &Graph, place: &Place) -> Result<Option<Site>, QuantError> {
    let Some(name) = &place.activation else { return Ok(None) };
    let node = quantised.find(&format!("{name}.quantised"))?;
    Ok(sites(quantised)?.into_iter().find(|site| site.node == node))
}

/// Grid, blocks and whether there are zero points: what a packed weight takes.
pub(super) fn storage(weight: &QuantisedWeight) -> Result<(Grid, usize, bool), QuantError> {
    Ok(match &weight.codes {
        // A sign's two codes are -1 and 1: one bit.
        Some((_, lattice)) if weight.site.quantizer.bits() == 1 => {
            (Grid::unsigned(1)?, lattice.scale.len(), false)
        }
        Some((_, lattice)) => {
            let zero_points = lattice.zero_point.iter().any(|&zero| zero != 0);
            (lattice.grid, lattice.scale.len(), zero_points)
        }
        None => (Grid::unsigned(weight.site.quantizer.bits().clamp(1, 8))?, 1, false),
    })
}

fn codes(values: &[f32], lattice: &Lattice) -> Vec<i32> {
    let (scale, zero) = (lattice.scale.first().copied(), lattice.zero_point.first().copied());
    let (scale, zero) = (scale.unwrap_or(1.0), zero.unwrap_or(0));
    values.iter().map(|value| (value / scale).round_ties_even() as i32 + zero).collect()
}

/// The part of codes at an end of the grid that does not stand for zero: a rectifier's zeros are none that were cut off.
fn saturated(codes: &[i32], lattice: &Lattice) -> f64 {
    let (low, high) = (lattice.grid.min(), lattice.grid.max());
    let zero = lattice.zero_point.first().copied().unwrap_or(0);
    let at_end = |&&code: &&i32| code >= high || (code <= low && low != zero);
    codes.iter().filter(at_end).count() as f64 / codes.len().max(1) as f64
}

fn numbers(value: &Value) -> Result<Vec<f32>, QuantError> {
    Ok(value.data().map_err(words)?.iter::<f32>().collect())
}

fn words(error: impl std::fmt::Display) -> QuantError {
    QuantError::Run { why: error.to_string() }
}
