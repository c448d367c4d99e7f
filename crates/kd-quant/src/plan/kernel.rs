//! Quantisers as kernels of a graph module.

use std::sync::Arc;

use burn::tensor::Tensor;
use kd_graph::{Graph, Kernel, Kernels, Scalar, Value};

use super::initialise::{Collector, check_initialised};
use super::op::{point, turned};
use super::{Quantizer, sites};
use crate::QuantError;

/// The kernels of a graph's quantisers, for [`GraphModule::with_kernels`](kd_graph::GraphModule::with_kernels).
///
/// # Errors
/// [`QuantError::Uninitialised`] for a scale that nobody has set; [`QuantError::Plan`] for a node whose settings can't be read.
pub fn kernels(graph: &Graph) -> Result<Kernels, QuantError> {
    check_initialised(graph)?;
    kernels_with(graph, None)
}

/// As [`kernels`], and shows activations to a collector on the way.
pub(super) fn kernels_with(graph: &Graph, collector: Option<&Arc<Collector>>) -> Result<Kernels, QuantError> {
    let mut kernels = Kernels::new();
    for site in sites(graph)? {
        let kd_graph::Op::Custom { name, .. } = graph.node(site.node)?.op() else { continue };
        let kernel = QuantKernel { quantizer: site.quantizer, collector: collector.cloned() };
        kernels.insert(name.clone(), Arc::new(kernel));
    }
    Ok(kernels)
}

#[derive(Debug)]
struct QuantKernel {
    quantizer: Quantizer,
    collector: Option<Arc<Collector>>,
}

impl Kernel for QuantKernel {
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
        if let Some(collector) = &self.collector
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
