//! What ranges and corrections are found from.

use burn::tensor::{Device, TensorData};
use kd_data::{Dataset, Loader};
use kd_graph::{Graph, NodeId, Tensors, Value};
use kd_train::HostBatch;

use super::Moments;
use crate::QuantError;
use crate::observer::Ranges;
use crate::plan::{Quantizer, initialise, refuse_constant, sites};
use std::collections::BTreeMap;

/// Examples, or the network's own statistics.
#[derive(Clone, Copy, Debug)]
pub enum Calibration<'a> {
    /// Batches of what the network takes, as [`batches`] reads them from a loader: a few hundred examples are usual.
    Batches(&'a [Vec<Value>]),
    /// No data: see [`DataFree`](super::DataFree).
    Statistics,
}

/// The first examples of a loader's first epoch, on a device: at least `examples`, in whole batches, or all that there are.
///
/// # Errors
/// [`QuantError::Run`] for a batch that can't be read; [`QuantError::Empty`] when there is none.
pub fn batches<D>(loader: &Loader<D>, examples: usize, device: &Device) -> Result<Vec<Vec<Value>>, QuantError>
where
    D: Dataset,
    D::Batch: HostBatch,
    <D::Batch as HostBatch>::Input: Tensors,
{
    let device = device.clone().without_autodiff();
    let (mut batches, mut seen) = (Vec::new(), 0);
    for loaded in loader.epoch(0, 0) {
        if seen >= examples {
            break;
        }
        let loaded = loaded.map_err(|error| QuantError::Run { why: error.to_string() })?;
        let batch = Value::all(loaded.batch.to_device(&device).0);
        seen += size(&batch);
        batches.push(batch);
    }
    if batches.is_empty() { Err(EMPTY) } else { Ok(batches) }
}

pub(super) const EMPTY: QuantError = QuantError::Empty { what: "the calibration set" };

/// Examples of a batch.
pub(super) fn size(batch: &[Value]) -> usize {
    batch.first().and_then(|value| value.shape().first().copied()).unwrap_or(0)
}

/// Sets the activations' scales and zero points.
///
/// # Errors
/// [`QuantError::Plan`] for an activation of which nothing is known without data, one that is zero for all examples, and one whose quantiser has no observed
/// range; else as [`initialise`].
pub(super) fn set_ranges(
    graph: &mut Graph,
    calibration: Calibration<'_>,
    moments: &BTreeMap<String, Moments>,
    device: &Device,
) -> Result<(), QuantError> {
    match calibration {
        Calibration::Batches([]) => Err(EMPTY),
        Calibration::Batches(batches) => initialise(graph, device, batches.iter().cloned()),
        Calibration::Statistics => set_from_moments(graph, moments),
    }
}

fn set_from_moments(graph: &mut Graph, moments: &BTreeMap<String, Moments>) -> Result<(), QuantError> {
    let sites: Vec<_> = sites(graph)?.into_iter().filter(|site| site.weight.is_none()).collect();
    // Places of one number share their parameters.
    let mut ranges: BTreeMap<usize, Ranges> = BTreeMap::new();
    for site in &sites {
        let name = graph.node(site.source)?.name();
        let known = moments.get(name).map(Moments::range).ok_or_else(|| QuantError::Plan {
            name: name.to_owned(),
            why: "has no statistics that are known without data; calibrate with examples".to_owned(),
        })?;
        ranges.entry(site.point).and_modify(|range| *range = hull(range, &known)).or_insert(known);
    }
    let mut values: Vec<(NodeId, Vec<f32>)> = Vec::new();
    for site in &sites {
        let (Quantizer::Uniform(uniform), &[scale, zero_point]) =
            (&site.quantizer, site.parameters.as_slice())
        else {
            let why = format!("gets {}, whose scale takes data; use `uniform`", site.quantizer);
            return Err(QuantError::Plan { name: graph.node(site.source)?.name().to_owned(), why });
        };
        let Some(range) = ranges.get(&site.point) else { continue };
        let found = range.parameters(uniform.grid, uniform.symmetry)?;
        refuse_constant(graph.node(site.source)?.name(), &found.scale)?;
        values.push((scale, found.scale));
        values.push((zero_point, found.zero_point.into_iter().map(|code| code as f32).collect()));
    }
    let vector = |values: Vec<f32>| {
        let length = values.len();
        TensorData::new(values, [length])
    };
    graph.edit(|edit| {
        values.into_iter().try_for_each(|(node, values)| edit.set_value(node, vector(values)))
    })?;
    Ok(())
}

fn hull(a: &Ranges, b: &Ranges) -> Ranges {
    let ends =
        |a: &[f32], b: &[f32], of: fn(f32, f32) -> f32| a.iter().zip(b).map(|(a, b)| of(*a, *b)).collect();
    Ranges { min: ends(&a.min, &b.min, f32::min), max: ends(&a.max, &b.max, f32::max) }
}
