//! From gates and noise to plain weights, some of them zero.

use std::collections::BTreeMap;

use kd_graph::Graph;
use serde::{Deserialize, Serialize};

use super::Gates;
use super::noise::Noise;
use super::variational::log_alpha_of;
use crate::subject::value;
use crate::{Array, Mask, Masks, PruneError};

/// Which numbers take the place of gates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateRule {
    /// What evaluation computes: $\min(1, \max(0, \sigma(\ln\alpha)(\zeta-\gamma)+\gamma))$, as in the L0 paper.
    #[default]
    Expected,
    /// As many zeros as are expected, see [`HardConcrete::deterministic`](crate::HardConcrete::deterministic); FLOP takes 0.8.
    Count {
        /// Factor of $\ln\alpha$.
        factor: f64,
    },
}

/// Multiplies gates into their weights and removes them from the graph; returns how many of how many were closed, by weight.
///
/// Weights behind closed gates are then exactly zero: [`plan_zeros`](crate::plan_zeros) removes them physically.
///
/// # Errors
/// As [`Gates::of`].
pub fn fold_gates(graph: &mut Graph, rule: GateRule) -> Result<BTreeMap<String, (usize, usize)>, PruneError> {
    let mut closed = BTreeMap::new();
    for gates in Gates::of(graph)? {
        let log_alpha = value(graph, &gates.log_alpha)?;
        let z = match rule {
            GateRule::Expected => expected(&gates, &log_alpha),
            GateRule::Count { factor } => gates.distribution.deterministic(log_alpha.values(), factor),
        };
        let weight = value(graph, &gates.weight)?;
        let mut along = weight.along(gates.axis).into_iter().flatten();
        let folded = weight.map_in_order(|w| {
            let gate = along.next().and_then(|index| z.get(index).copied());
            w * gate.unwrap_or(1.0)
        });
        let zeros = z.iter().filter(|z| **z == 0.0).count();
        let nodes = gates.nodes;
        graph.edit(|edit| {
            edit.set_value(nodes.weight, folded.to_data())?;
            [nodes.product, nodes.shaped, nodes.gate, nodes.log_alpha]
                .into_iter()
                .try_for_each(|id| edit.remove(id))
        })?;
        closed.insert(gates.weight, (zeros, z.len()));
    }
    Ok(closed)
}

fn expected(gates: &Gates, log_alpha: &Array) -> Vec<f32> {
    let crate::HardConcrete { lower, upper, .. } = gates.distribution;
    let of = |log_alpha: &f32| {
        let s = 1.0 / (1.0 + (-f64::from(*log_alpha)).exp());
        (s * (upper - lower) + lower).clamp(0.0, 1.0) as f32
    };
    log_alpha.values().iter().map(of).collect()
}

/// Removes noise from the graph and sets weights to zero that are mostly noise, those with $\ln\alpha$ of `threshold` (3 in the paper) or more; returns the
/// masks of what is left, for [`KeepMasks`](crate::KeepMasks).
///
/// # Errors
/// [`GraphError::Edit`](kd_graph::GraphError::Edit) for noise that [`insert_noise`](super::insert_noise) did not make.
pub fn fold_noise(graph: &mut Graph, threshold: f64) -> Result<Masks, PruneError> {
    let mut masks = Masks::new();
    for noise in Noise::of(graph)? {
        let (theta, log_variance) = (value(graph, &noise.weight)?, value(graph, &noise.log_variance)?);
        let pairs = theta.values().iter().zip(log_variance.values());
        let keep = pairs.map(|(theta, log_variance)| log_alpha_of(*theta, *log_variance) < threshold);
        let mask = Mask::new(theta.shape(), keep.collect())?;
        let weight = mask.apply(&theta)?;
        let id = graph.find(&noise.weight)?;
        graph.edit(|edit| {
            edit.set_value(id, weight.to_data())?;
            edit.remove(noise.noisy)
        })?;
        masks.insert(noise.weight, mask);
    }
    graph.remove_dead()?;
    Ok(masks)
}
