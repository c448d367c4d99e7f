//! Whether a plan goes with a network.

use std::collections::BTreeMap;

use kd_graph::{Graph, Op};

use super::apply::last_of_chain;
use super::choose::{Point, QuantPlan};
use super::lattice::held;
use super::quantizer::{Place, Quantizer};
use super::walk::{layers, network};
use super::{fold, scale};
use crate::{DorefaGradient, Granularity, QuantError};

impl QuantPlan {
    /// Whether the plan goes with a network, and every entry with its tensor.
    ///
    /// # Errors
    /// [`QuantError::Graph`] for an unknown name, with the nearest ones; [`QuantError::Plan`] for another network and for entries that don't fit;
    /// for weights that are constant or not finite, and for masked ones whose quantiser has no zero; [`QuantError::Setting`] for settings out of range.
    pub fn check(&self, graph: &Graph) -> Result<(), QuantError> {
        let wrong = |name: &str, why: &str| QuantError::Plan { name: name.to_owned(), why: why.to_owned() };
        for name in self.weights.keys().chain(self.activations.keys()).chain(self.gradients.keys()) {
            graph.find(name)?;
        }
        let found = network(graph)?;
        for (path, shape) in &self.network {
            match found.get(path) {
                Some(other) if other == shape => {}
                Some(other) => {
                    let why = format!(
                        "has shape {other:?} here and {shape:?} in the plan: it is for another network"
                    );
                    return Err(wrong(path, &why));
                }
                None => return Err(wrong(path, "is not in this graph: the plan is for another network")),
            }
        }
        if let Some(path) = found.keys().find(|path| !self.network.contains_key(*path)) {
            return Err(wrong(path, "is not in the plan: it is for another network"));
        }
        for name in &self.folded {
            if let Err(why) = fold::pair(graph, graph.find(name)?)? {
                return Err(wrong(name, why));
            }
        }
        let layers = layers(graph)?;
        for (path, quantizer) in &self.weights {
            quantizer.validate()?;
            if !matches!(quantizer.place(), Place::Weight | Place::Any) {
                return Err(wrong(path, &format!("gets {quantizer}, which is not for weights")));
            }
            if !layers.iter().any(|layer| layer.weight == *path) {
                return Err(wrong(path, "is the weight of no convolution or linear layer"));
            }
            let parameter = graph.find(path)?;
            let last = last_of_chain(graph, parameter)?;
            if last != parameter && !quantizer.has_zero() {
                let why = format!("is masked, but {quantizer} has no zero: what was pruned would come back");
                return Err(wrong(path, &why));
            }
            if graph.value(parameter).is_some() {
                check_weight(path, &held(graph, last)?.iter::<f32>().collect::<Vec<_>>())?;
            }
        }
        let mut groups: BTreeMap<&str, &Quantizer> = BTreeMap::new();
        for (name, Point { quantizer, group, .. }) in &self.activations {
            quantizer.validate()?;
            if !matches!(quantizer.place(), Place::Activation | Place::Any) {
                return Err(wrong(name, &format!("gets {quantizer}, which is not for activations")));
            }
            if quantizer.granularity() != Granularity::Tensor {
                return Err(wrong(name, &format!("gets {quantizer}: an activation has one scale")));
            }
            if matches!(graph.node(graph.find(name)?)?.op(), Op::Parameter { .. } | Op::Constant) {
                return Err(wrong(name, "is no activation: list a weight among the weights"));
            }
            if let Some(group) = group
                && *groups.entry(group).or_insert(quantizer) != quantizer
            {
                return Err(wrong(
                    name,
                    &format!("has another quantiser than the rest of its group `{group}`"),
                ));
            }
        }
        for (name, gradient) in &self.gradients {
            DorefaGradient::new(gradient.bits)?;
            if !layers.iter().any(|layer| layer.name == *name) {
                return Err(wrong(name, "is no convolution or linear layer"));
            }
        }
        for name in &self.scaled {
            let Some(layer) = layers.iter().find(|layer| layer.name == *name) else {
                graph.find(name)?;
                return Err(wrong(name, "is no convolution or linear layer"));
            };
            scale::window(graph, layer.node)?;
            let signs = self.activations.get(graph.node(layer.source)?.name());
            if !signs.is_some_and(|point| matches!(point.quantizer, Quantizer::Sign(_))) {
                return Err(wrong(name, "has a map of scales, but reads no signs"));
            }
        }
        Ok(())
    }
}

/// Refuses a weight to which no scale can be fitted.
///
/// # Errors
/// [`QuantError::Plan`] for one that is not finite, or the same everywhere.
fn check_weight(path: &str, values: &[f32]) -> Result<(), QuantError> {
    let wrong = |why: String| Err(QuantError::Plan { name: path.to_owned(), why });
    if let Some((index, value)) = values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
        return wrong(format!("holds {value} at index {index}: every value must be finite"));
    }
    match values {
        [first, rest @ ..] if !rest.is_empty() && rest.iter().all(|value| value == first) => wrong(format!(
            "is constant, {first} everywhere: there is nothing to quantise; leave it out of the plan"
        )),
        _ => Ok(()),
    }
}
