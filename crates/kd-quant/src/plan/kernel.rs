//! Quantisers as kernels of a graph module.

use std::sync::Arc;

use burn::tensor::Tensor;
use kd_graph::{Graph, Kernel, Kernels, Scalar, Value};

use super::initialise::{Collector, check_initialised};
use super::op::{point, turned};
use super::watch::{Watch, moves};
use super::{Quantizer, adder, fold, scale, sites};
use crate::QuantError;

/// The kernels of a graph's quantisers, for [`GraphModule::with_kernels`](kd_graph::GraphModule::with_kernels).
///
/// # Errors
/// [`QuantError::Uninitialised`] for a scale that nobody has set; [`QuantError::Plan`] for a node whose settings can't be read.
pub fn kernels(graph: &Graph) -> Result<Kernels, QuantError> {
    check_initialised(graph)?;
    make(graph, &Mode::Run)
}

/// As [`kernels`], and shows activations in training to a watch.
pub(super) fn kernels_for(graph: &Graph, watch: &Arc<Watch>) -> Result<Kernels, QuantError> {
    check_initialised(graph)?;
    make(graph, &Mode::Watch(watch.clone()))
}

/// Shows activations to a collector and lets them pass.
pub(super) fn collecting(graph: &Graph, collector: &Arc<Collector>) -> Result<Kernels, QuantError> {
    make(graph, &Mode::Collect(collector.clone()))
}

/// What happens to activations.
#[derive(Clone, Debug)]
enum Mode {
    Run,
    Watch(Arc<Watch>),
    Collect(Arc<Collector>),
}

fn make(graph: &Graph, mode: &Mode) -> Result<Kernels, QuantError> {
    // Weights that share values in place of a parameter may be in the same network.
    let mut kernels = crate::sharing::kernels();
    for (_, node) in graph.nodes() {
        if let kd_graph::Op::Custom { name, .. } = node.op() {
            if let Some(kernel) = adder::kernel(name)? {
                kernels.insert(name.clone(), Arc::new(kernel));
            }
            if let Some(kernel) = scale::kernel(name)? {
                kernels.insert(name.clone(), Arc::new(kernel));
            }
            if let Some(kernel) = fold::kernel(name) {
                kernels.insert(name.clone(), Arc::new(kernel));
            }
        }
    }
    for site in sites(graph)? {
        let kd_graph::Op::Custom { name, .. } = graph.node(site.node)?.op() else { continue };
        let kernel = QuantKernel { quantizer: site.quantizer, mode: mode.clone() };
        kernels.insert(name.clone(), Arc::new(kernel));
    }
    Ok(kernels)
}

#[derive(Debug)]
struct QuantKernel {
    quantizer: Quantizer,
    mode: Mode,
}

impl Kernel for QuantKernel {
    fn differs_in_training(&self) -> bool {
        matches!(self.mode, Mode::Watch(_)) && moves(&self.quantizer)
    }

    fn train(&self, inputs: Vec<Value>, attributes: &[Scalar]) -> Result<Value, String> {
        if let (Mode::Watch(watch), Some(x), true) = (&self.mode, inputs.first(), point(attributes) > 0) {
            let seen = match x.rank() {
                1 => watch.see(point(attributes), &x.float::<1>().map_err(|error| error.to_string())?),
                2 => watch.see(point(attributes), &x.float::<2>().map_err(|error| error.to_string())?),
                3 => watch.see(point(attributes), &x.float::<3>().map_err(|error| error.to_string())?),
                5 => watch.see(point(attributes), &x.float::<5>().map_err(|error| error.to_string())?),
                _ => watch.see(point(attributes), &x.float::<4>().map_err(|error| error.to_string())?),
            };
            seen.map_err(|error| error.to_string())?;
        }
        self.run(inputs, attributes)
    }

    fn run(&self, inputs: Vec<Value>, attributes: &[Scalar]) -> Result<Value, String> {
        let Some((x, parameters)) = inputs.split_first() else {
            return Err("it reads no tensor".to_owned());
        };
        match x.rank() {
            1 => self.at_rank::<1>(x, parameters, attributes),
            2 => self.at_rank::<2>(x, parameters, attributes),
            3 => self.at_rank::<3>(x, parameters, attributes),
            4 => self.at_rank::<4>(x, parameters, attributes),
            5 => self.at_rank::<5>(x, parameters, attributes),
            rank => Err(format!("tensors of {rank} axes can't be quantised; of 1 to 5 they can")),
        }
    }
}

impl QuantKernel {
    fn at_rank<const D: usize>(
        &self,
        x: &Value,
        parameters: &[Value],
        attributes: &[Scalar],
    ) -> Result<Value, String> {
        let in_words = |error: QuantError| error.to_string();
        let turned = turned(attributes);
        let x: Tensor<D> = turn(x.float().map_err(|error| error.to_string())?, turned);
        if let Mode::Collect(collector) = &self.mode
            && collector.see(point(attributes), &self.quantizer, &x).map_err(in_words)?
        {
            return Ok(x.into());
        }
        let second = |value: &Value| match value.float::<D>() {
            Ok(tensor) if D > 1 => turn(tensor, turned).into(),
            _ => value.clone(),
        };
        let parameters: Vec<Value> = parameters.iter().map(second).collect();
        let y = self.quantizer.quantize(x, &parameters).map_err(in_words)?;
        Ok(turn(y, turned).into())
    }
}

/// With the first two axes swapped, so that output channels are in front, or back again.
pub(super) fn turn<const D: usize>(x: Tensor<D>, turned: bool) -> Tensor<D> {
    if turned && D > 1 { x.swap_dims(0, 1) } else { x }
}
