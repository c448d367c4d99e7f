//! The integers of a quantised weight.

use kd_graph::NodeId;

use super::cell::numbers;
use super::compile::{Compiling, run};
use crate::plan::{Lattice, Quantizer, Site};
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
            return Ok(Err("its weight is not quantised".to_owned()));
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
