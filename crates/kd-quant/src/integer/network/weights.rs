//! The integers of a quantised weight.

use burn::tensor::Device;
use kd_graph::{Graph, NodeId, Op};

use super::IntegerSettings;
use super::cell::numbers;
use super::compile::{Compiling, run};
use crate::plan::{Lattice, Quantizer, Site, sites};
use crate::{Granularity, QuantError};

/// A weight $w = s_c q$.
pub(super) struct IntegerWeight {
    /// $q$, in the parameter's own shape: what is left of a code without its zero point.
    pub codes: Vec<i32>,
    /// One scale, or one for each output channel.
    pub scale: Vec<f32>,
}

/// What stands in the way of integers.
pub(super) type Obstacle = String;

impl Compiling<'_> {
    /// The integers of the weight that a layer reads.
    pub fn weight(&self, id: NodeId) -> Result<Result<IntegerWeight, Obstacle>, QuantError> {
        let (Some(site), Some(quantised)) = (self.sites.get(&id), self.constants.get(&id)) else {
            return Ok(Err(match self.graph.node(id)?.op() {
                Op::Custom { name, .. } => format!("the values of its weight are a table ({name})"),
                _ => "its weight is not quantised".to_owned(),
            }));
        };
        let Some((granularity, scale)) = self.scales(site)? else {
            let method = site.quantizer.method();
            return Ok(Err(format!(
                "the levels of its weight ({method}) are not evenly spaced: they are used as a table"
            )));
        };
        let channel = match granularity {
            Granularity::Tensor => None,
            Granularity::Channel { axis: 0 } => Some(usize::from(site.turned)),
            other => return Ok(Err(format!("its weight has a scale for each of {other}"))),
        };
        let shape = quantised.shape();
        let (channels, inner) = match channel {
            Some(axis) => (shape.get(axis).copied().unwrap_or(1), shape.iter().skip(axis + 1).product()),
            None => (1, 1_usize),
        };
        if scale.len() != channels {
            return Err(QuantError::Length {
                what: "the scales of a weight",
                got: scale.len(),
                wanted: channels,
            });
        }
        let values = numbers(quantised).map_err(run)?;
        // Quantised values are their codes' differences times the scale, rounded once: the quotient is next to an integer.
        let code =
            |(i, value): (usize, &f32)| (value / scale[i / inner.max(1) % channels]).round_ties_even() as i32;
        let codes = values.iter().enumerate().map(code).collect();
        Ok(Ok(IntegerWeight { codes, scale }))
    }

    /// Which elements of a quantised weight share a scale, and the scales; none for a table of levels.
    fn scales(&self, site: &Site) -> Result<Option<(Granularity, Vec<f32>)>, QuantError> {
        // Nine bits, which no grid has, but integers do.
        if let Quantizer::DorefaWeight(method) = &site.quantizer
            && method.bits == 8
        {
            return Ok(Some((Granularity::Tensor, vec![1.0 / 255.0])));
        }
        let lattice = site.lattice(self.graph)?;
        Ok(lattice.map(|Lattice { granularity, scale, .. }| (granularity, scale)))
    }
}

/// A weight before and after its quantiser.
pub(crate) struct QuantisedWeight {
    /// The parameter's path.
    pub path: String,
    /// What is quantised, row-major: the parameter behind its mask.
    pub real: Vec<f32>,
    /// The quantised values.
    pub quantised: Vec<f32>,
    /// Their codes, and where these lie, unless they are a table of levels.
    pub codes: Option<(Vec<i32>, Lattice)>,
}

/// All quantised weights of a graph, in execution order.
///
/// # Errors
/// As [`IntegerNetwork::new`](super::IntegerNetwork::new).
pub(crate) fn quantised_weights(graph: &Graph, device: &Device) -> Result<Vec<QuantisedWeight>, QuantError> {
    let mut compiling = Compiling::new(graph, device, IntegerSettings::default())?;
    compiling.settle_constants()?;
    let mut weights = Vec::new();
    for site in sites(graph)? {
        let (Some(weight), Some(quantised)) = (site.weight, compiling.constants.get(&site.node)) else {
            continue;
        };
        let Some(real) = compiling.constants.get(&site.source) else { continue };
        let shape = quantised.shape();
        let (real, quantised) = (numbers(real).map_err(run)?, numbers(quantised).map_err(run)?);
        let lattice = site.lattice(graph)?.filter(|lattice| {
            matches!(lattice.granularity, Granularity::Tensor | Granularity::Channel { axis: 0 })
        });
        let codes = lattice.map(|lattice| {
            let axis = usize::from(site.turned && lattice.granularity != Granularity::Tensor);
            let inner: usize = shape.iter().skip(axis + 1).product();
            let blocks = lattice.scale.len().max(1);
            let code = |(i, value): (usize, &f32)| {
                // One block has every element.
                let block = if blocks == 1 { 0 } else { i / inner.max(1) % blocks };
                (value / lattice.scale[block]).round_ties_even() as i32 + lattice.zero_point[block]
            };
            (quantised.iter().enumerate().map(code).collect(), lattice)
        });
        let path = graph.node(weight)?.name().to_owned();
        weights.push(QuantisedWeight { path, real, quantised, codes });
    }
    Ok(weights)
}
