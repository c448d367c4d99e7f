//! Scales of activations from the first batches.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{Device, Tensor, TensorData};
use kd_graph::{Graph, GraphModule, NodeId, Value};

use super::kernel::collecting;
use super::{Quantizer, Site, Uniform, sites};
use crate::observer::{AnyObserver, Observer, Parameters};
use crate::{LEAST_STEP, QuantError};

/// Shows batches to a quantised network and sets the parameters of its activations' quantisers from what they see: observed ranges over all batches,
/// learned scales the largest that any of them asks for. Activations are not quantised meanwhile, weights are. Scales of weights are set when a plan is applied.
///
/// A batch is what the network takes, as [`Value::all`] makes it.
///
/// # Errors
/// [`QuantError::Empty`] without a batch; [`QuantError::Plan`] for activations that are not finite, and those that are zero in all batches;
/// [`QuantError::Run`] when the network does not take a batch. The graph is then as it was.
pub fn initialise(
    graph: &mut Graph,
    device: &Device,
    batches: impl IntoIterator<Item = Vec<Value>>,
) -> Result<(), QuantError> {
    let device = device.clone().without_autodiff();
    let sites: Vec<Site> = sites(graph)?.into_iter().filter(|site| site.weight.is_none()).collect();
    let mut names = BTreeMap::new();
    for site in &sites {
        names.entry(site.point).or_insert(graph.node(site.source)?.name().to_owned());
    }
    let collector = Arc::new(Collector { names, ..Collector::default() });
    let kernels = collecting(graph, &collector)?;
    let failed = |why: String| QuantError::Run { why };
    let module = GraphModule::with_kernels(graph.clone(), &device, &kernels);
    let module = module.map_err(|error| failed(error.to_string()))?;
    let mut shown = false;
    for batch in batches {
        let outcome = module.run(batch);
        collector.take_refusal().map_or(Ok(()), Err)?;
        outcome.map_err(|error| failed(error.to_string()))?;
        collector.end_batch()?;
        shown = true;
    }
    if !shown {
        return Err(QuantError::Empty { what: "the list of batches to initialise with" });
    }
    let seen = collector.take();
    let mut values: Vec<(NodeId, TensorData)> = Vec::new();
    for site in &sites {
        let found = match seen.get(&site.point) {
            Some(found) => found.parameters(&site.quantizer)?,
            None => continue,
        };
        if let (Some(("scale", _)), Some(scale)) = (site.quantizer.parameters().first(), found.first()) {
            refuse_constant(&collector.name(site.point), scale)?;
        }
        for (&node, value) in site.parameters.iter().zip(found) {
            let length = value.len();
            values.push((node, TensorData::new(value, [length])));
        }
    }
    graph.edit(|edit| values.into_iter().try_for_each(|(node, data)| edit.set_value(node, data)))?;
    Ok(())
}

/// Refuses an activation in which nothing but zero was seen.
pub(crate) fn refuse_constant(name: &str, scale: &[f32]) -> Result<(), QuantError> {
    if scale.iter().any(|&scale| scale > LEAST_STEP) {
        return Ok(());
    }
    let why = "is constant: zero in all that was seen, so that it has no range; show it other examples, or leave it out of the plan";
    Err(QuantError::Plan { name: name.to_owned(), why: why.to_owned() })
}

/// Refuses a graph with a scale of zero, which is how a plan leaves those of activations.
pub(super) fn check_initialised(graph: &Graph) -> Result<(), QuantError> {
    for site in sites(graph)? {
        let Some(&first) = site.parameters.first() else { continue };
        let zero = |id: &NodeId| graph.value(*id).is_some_and(|value| value.iter::<f32>().all(|v| v == 0.0));
        if site.weight.is_none() && site.parameters.iter().all(zero) {
            return Err(QuantError::Uninitialised { name: graph.node(first)?.name().to_owned() });
        }
    }
    Ok(())
}

/// Sees activations pass, by the number of their place.
#[derive(Debug, Default)]
pub(super) struct Collector {
    seen: Mutex<BTreeMap<usize, Seen>>,
    /// What this batch showed at places whose ranges are observed. Places of one scale are observed as one tensor: an observer that averages over batches
    /// would otherwise take each of them for a batch.
    batch: Mutex<BTreeMap<usize, (Uniform, Vec<Tensor<1>>)>>,
    /// What the places are called.
    names: BTreeMap<usize, String>,
    /// The first activation that could not be taken in: a network's run tells of errors in its own words.
    refusal: Mutex<Option<QuantError>>,
}

#[derive(Debug)]
pub(super) enum Seen {
    Range(AnyObserver),
    Start(Vec<Vec<f32>>),
}

impl Collector {
    fn name(&self, point: usize) -> String {
        self.names.get(&point).cloned().unwrap_or_default()
    }

    /// An error of a place, which is named.
    fn refused(&self, point: usize) -> impl FnOnce(QuantError) -> QuantError {
        move |error| QuantError::Plan { name: self.name(point), why: format!("can't be quantised: {error}") }
    }

    fn take_refusal(&self) -> Option<QuantError> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Takes an activation in; false for a weight's quantiser, and one without parameters, which then compute as ever.
    pub fn see<const D: usize>(
        &self,
        point: usize,
        quantizer: &Quantizer,
        x: &Tensor<D>,
    ) -> Result<bool, QuantError> {
        self.take_in(point, quantizer, x).map_err(|error| {
            let error = self.refused(point)(error);
            let mut refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
            refusal.get_or_insert(error).clone()
        })
    }

    fn take_in<const D: usize>(
        &self,
        point: usize,
        quantizer: &Quantizer,
        x: &Tensor<D>,
    ) -> Result<bool, QuantError> {
        if point == 0 || quantizer.parameters().is_empty() {
            return Ok(false);
        }
        if let Quantizer::Uniform(uniform) = quantizer {
            let mut batch = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
            let (_, places) = batch.entry(point).or_insert_with(|| (*uniform, Vec::new()));
            places.push(x.clone().reshape([x.dims().iter().product::<usize>()]));
            return Ok(true);
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.get_mut(&point) {
            Some(Seen::Range(_)) => {}
            Some(Seen::Start(values)) => {
                // Places of one scale, and further batches: the largest.
                for (value, new) in values.iter_mut().zip(quantizer.initial(x.clone())?) {
                    value.iter_mut().zip(numbers(&new)?).for_each(|(value, new)| *value = value.max(new));
                }
            }
            None => {
                let values = quantizer.initial(x.clone())?;
                seen.insert(point, Seen::Start(values.iter().map(numbers).collect::<Result<_, _>>()?));
            }
        }
        Ok(true)
    }

    /// Lets observers see what a batch showed.
    pub fn end_batch(&self) -> Result<(), QuantError> {
        let batch = std::mem::take(&mut *self.batch.lock().unwrap_or_else(PoisonError::into_inner));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for (point, (uniform, places)) in batch {
            let tensor = Tensor::cat(places, 0);
            if let Some(Seen::Range(watcher)) = seen.get_mut(&point) {
                watcher.observe(tensor).map_err(self.refused(point))?;
            } else {
                let mut watcher = uniform.observer()?;
                watcher.observe(tensor).map_err(self.refused(point))?;
                seen.insert(point, Seen::Range(watcher));
            }
        }
        Ok(())
    }

    fn take(&self) -> BTreeMap<usize, Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Seen {
    fn parameters(&self, quantizer: &Quantizer) -> Result<Vec<Vec<f32>>, QuantError> {
        Ok(match (self, quantizer) {
            (Seen::Range(watcher), Quantizer::Uniform(uniform)) => {
                let Parameters { scale, zero_point } = uniform.parameters(watcher)?;
                vec![scale, zero_point.into_iter().map(|code| code as f32).collect()]
            }
            (Seen::Start(values), _) => values.clone(),
            (Seen::Range(_), _) => Vec::new(),
        })
    }
}

fn numbers(value: &Value) -> Result<Vec<f32>, QuantError> {
    let data = value.data().map_err(|error| QuantError::Run { why: error.to_string() })?;
    Ok(data.iter::<f32>().collect())
}
