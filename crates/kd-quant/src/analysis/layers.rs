//! What quantisation does to every layer of a network.

use std::collections::BTreeMap;

use burn::tensor::Device;
use kd_graph::{Graph, GraphModule, NodeId, Value};

use super::Distortion;
use super::place::{Place, ready};
use super::report::{Analysis, LayerReport};
use crate::error::in_range;
use crate::integer::{IntegerNetwork, QuantisedWeight, quantised_weights};
use crate::plan::{Lattice, QuantPlan, fold_trained, kernels, sites};
use crate::{QuantError, sharing};

/// Measures every layer that a plan quantises.
///
/// `batches` set the scales of activations; weights and layers' results are compared with the float network's on the first of them, in the training form.
/// Batch normalisations that the plan folds are folded: a result is then compared behind them.
///
/// `score` says how good a network is: an accuracy on validation data, or minus a loss. It is asked for the network in float, for the quantised one, and
/// once for every layer; what is quantised computes in integers, as it is deployed. `I` is what the network takes. Whole networks on codes take their time:
/// score large ones on some of the data. [`Analysis::agreement`] says how far the training form is from the integer form.
///
/// # Errors
/// As [`QuantPlan::apply`] and [`initialise`](crate::plan::initialise); [`QuantError::Empty`] without batches; [`QuantError::Setting`] for a score that is
/// not finite; what `score` returns.
///
/// ```
/// use burn::tensor::{Device, Tensor, TensorData};
/// use kd_graph::{Graph, Op, Role, Shape, TensorType};
/// use kd_quant::analysis::analyse;
/// use kd_quant::integer::IntegerNetwork;
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
/// let score = |_network: &IntegerNetwork<Tensor<2>>| Ok(1.0);
/// let analysis = analyse(&graph, &plan, &device, &[batch], score)?;
/// assert!(analysis.layers[0].weight_error.sqnr > 40.0);
/// assert!(analysis.to_string().contains("a.weight"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn analyse<I>(
    graph: &Graph,
    plan: &QuantPlan,
    device: &Device,
    batches: &[Vec<Value>],
    mut score: impl FnMut(&IntegerNetwork<I>) -> Result<f64, QuantError>,
) -> Result<Analysis, QuantError> {
    let Some(first) = batches.first() else {
        return Err(QuantError::Empty { what: "the list of batches to calibrate with" });
    };
    let mut finite = |network: &IntegerNetwork<I>| {
        let score = score(network)?;
        in_range("score", score, score.is_finite(), "finite")?;
        Ok::<_, QuantError>(score)
    };
    let whole = ready(graph, plan, device, batches)?;
    // Nothing of the first is quantised: all of it runs in float.
    let float = finite(&IntegerNetwork::new(graph, device)?)?;
    let network = IntegerNetwork::new(&whole, device)?;
    let (quantised, agreement) = (finite(&network)?, network.agreement([first.clone()])?);

    let places = Place::all(graph, plan)?;
    let mut changes = changes(&whole, device)?;
    let names = places.iter().flat_map(|place| [&*place.float, &*place.read]);
    let seen = taps(&GraphModule::new(graph.clone(), device).map_err(words)?, first, names)?;
    let mut layers = Vec::new();
    for (place, float) in places.iter().zip(seen.chunks_exact(2)) {
        let [result, real] = float else { continue };
        let alone = ready(graph, &place.alone(plan, &place.quantizer), device, batches)?;
        let (output, saturated_inputs) = run(&alone, place, first, device)?;
        let storage = place.storage(&whole)?;
        // An adder layer's weight is not changed.
        let same = || Change { folded: real.clone(), quantised: real.clone(), codes: None };
        let change = changes.remove(&place.weight).unwrap_or_else(same);
        let real = if place.is_folded() { &change.folded } else { real };
        layers.push(LayerReport {
            weight: place.weight.clone(),
            layer: place.layer.clone(),
            quantizer: place.quantizer.to_string(),
            bits: storage.bits(),
            weight_error: Distortion::between(real, &change.quantised)?,
            output_error: Distortion::between(result, &output)?,
            saturated_weights: change.codes.as_ref().map(|(codes, lattice)| saturated(codes, lattice)),
            saturated_inputs,
            flips: None,
            alone: finite(&IntegerNetwork::new(&alone, device)?)?,
            bytes: storage.bytes(),
            bytes_at: (1..=8).map(|bits| storage.bytes_at(bits)).collect(),
        });
    }
    Ok(Analysis { float, quantised, agreement, layers })
}

/// The part of every weight's codes that differ between two quantised states of one network, by path, from 0 to 1: before and after an epoch of training,
/// or rounded to the nearest and otherwise. Weights whose levels are a table are left out. [`Analysis::set_flips`] takes the rates.
///
/// # Errors
/// [`QuantError::Length`] for graphs whose weights have different sizes; as [`IntegerNetwork::new`] and [`fold_trained`].
pub fn flip_rates(
    before: &Graph,
    after: &Graph,
    device: &Device,
) -> Result<BTreeMap<String, f64>, QuantError> {
    let codes = |graph| {
        let weights = quantised_weights(&fold_trained(graph)?, device)?.into_iter();
        let named = weights.filter_map(|weight| Some((weight.path, weight.codes?.0)));
        Ok::<BTreeMap<String, Vec<i32>>, QuantError>(named.collect())
    };
    let (before, mut after) = (codes(before)?, codes(after)?);
    let pairs =
        before.into_iter().filter_map(|(path, codes)| after.remove(&path).map(|other| (path, codes, other)));
    pairs.map(|(path, before, after)| Ok((path, super::flip_rate(&before, &after)?))).collect()
}

/// What became of a weight.
struct Change {
    /// What is quantised: the weight with a folded normalisation in it, and as the method projects it.
    folded: Vec<f32>,
    quantised: Vec<f32>,
    /// Of what lies on a lattice.
    codes: Option<(Vec<i32>, Lattice)>,
}

/// All weights that are not the float network's any more, by path.
fn changes(quantised: &Graph, device: &Device) -> Result<BTreeMap<String, Change>, QuantError> {
    let weights = quantised_weights(quantised, device)?.into_iter();
    let changed =
        |QuantisedWeight { path, real, quantised, codes }| (path, Change { folded: real, quantised, codes });
    let mut changes: BTreeMap<String, Change> = weights.map(changed).collect();
    for weight in sharing::stored(quantised)? {
        let whole = weight.whole(quantised)?;
        changes.insert(weight.path, Change { folded: Vec::new(), quantised: whole, codes: None });
    }
    Ok(changes)
}

/// What a layer gives, in the training form, and the part of what it reads that is cut off, if that is quantised.
fn run(
    alone: &Graph,
    place: &Place,
    batch: &[Value],
    device: &Device,
) -> Result<(Vec<f32>, Option<f64>), QuantError> {
    let module = GraphModule::with_kernels(alone.clone(), device, &kernels(alone)?).map_err(words)?;
    let name = place.activation.as_ref().map(|name| format!("{name}.quantised"));
    let names = [&place.quantised].into_iter().chain(&name).map(String::as_str);
    let mut seen = taps(&module, batch, names)?.into_iter();
    let (output, input) = (seen.next().unwrap_or_default(), seen.next());
    let site = sites(alone)?.into_iter().find(|site| site.weight.is_none());
    let lattice = site.map(|site| site.lattice(alone)).transpose()?.flatten();
    let saturated = lattice.zip(input).map(|(lattice, input)| saturated(&codes(&input, &lattice), &lattice));
    Ok((output, saturated))
}

/// The numbers of some nodes' results on a batch.
fn taps<'a>(
    module: &GraphModule,
    batch: &[Value],
    names: impl Iterator<Item = &'a str>,
) -> Result<Vec<Vec<f32>>, QuantError> {
    let nodes: Vec<NodeId> = names.map(|name| module.graph().find(name)).collect::<Result<_, _>>()?;
    let (_, seen) = module.run_tapped(batch.to_vec(), &nodes).map_err(words)?;
    seen.iter().map(|value| Ok(value.data().map_err(words)?.iter::<f32>().collect())).collect()
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

fn words(error: impl std::fmt::Display) -> QuantError {
    QuantError::Run { why: error.to_string() }
}
