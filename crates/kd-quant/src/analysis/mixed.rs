//! Bits for every layer by measured loss.

use burn::tensor::Device;
use kd_graph::{Graph, GraphModule, Value};

use super::layers::{module, ready, storage};
use super::{Choice, allocate, packed_bytes};
use crate::integer::quantised_weights;
use crate::plan::{QuantPlan, Quantizer};
use crate::{Grid, QuantError};

/// What [`mixed_bits`] decided, and what it was based on.
#[derive(Clone, Debug, PartialEq)]
pub struct MixedBits {
    /// The plan with the chosen bits of every weight.
    pub plan: QuantPlan,
    /// For every weight, by path, what was measured, and the index of the choice.
    pub choices: Vec<(String, Vec<Choice>, usize)>,
}

impl MixedBits {
    /// Packed bytes of all weights.
    pub fn bytes(&self) -> usize {
        self.choices
            .iter()
            .filter_map(|(_, choices, chosen)| choices.get(*chosen))
            .map(|choice| choice.bytes)
            .sum()
    }
}

/// Chooses the bits of every weight in a plan so that the losses they cause are least and the packed weights fit into a budget of bytes.
///
/// Each weight is quantised alone at each of the `widths`; `loss` measures what that costs above the float network. A knapsack ([`allocate`]) takes the best
/// combination, as if losses added up. Activations stay in float meanwhile, and as the plan has them in the result.
///
/// # Errors
/// [`QuantError::Setting`] for a budget below the narrowest widths, a width that a method hasn't, a loss that is not finite; [`QuantError::Empty`] without
/// batches; as [`QuantPlan::apply`]; what `loss` returns.
pub fn mixed_bits(
    graph: &Graph,
    plan: &QuantPlan,
    device: &Device,
    batches: &[Vec<Value>],
    widths: &[u32],
    budget: usize,
    mut loss: impl FnMut(&GraphModule) -> Result<f64, QuantError>,
) -> Result<MixedBits, QuantError> {
    let float = GraphModule::new(graph.clone(), device);
    let float = loss(&float.map_err(|error| QuantError::Run { why: error.to_string() })?)?;
    let mut measured: Vec<Vec<Choice>> = Vec::new();
    for (path, quantizer) in &plan.weights {
        let mut choices = Vec::new();
        for &bits in widths {
            let mut alone = QuantPlan { network: plan.network.clone(), ..QuantPlan::default() };
            alone.weights.insert(path.clone(), quantizer.at_bits(bits)?);
            let quantised = ready(graph, &alone, device, batches)?;
            let mut bytes = 0;
            for weight in quantised_weights(&quantised, device)? {
                let (grid, blocks, zero_points) = storage(&weight)?;
                bytes += packed_bytes(weight.real.len(), grid, blocks, zero_points);
            }
            choices.push(Choice { bits, bytes, loss: loss(&module(&quantised, device)?)? - float });
        }
        measured.push(choices);
    }
    let chosen = allocate(&measured, budget)?;
    let mut plan = plan.clone();
    for ((quantizer, choices), &index) in plan.weights.values_mut().zip(&measured).zip(&chosen) {
        if let Some(choice) = choices.get(index) {
            *quantizer = quantizer.at_bits(choice.bits)?;
        }
    }
    let choices = plan.weights.keys().cloned().zip(measured).zip(chosen);
    let choices = choices.map(|((path, choices), index)| (path, choices, index)).collect();
    Ok(MixedBits { plan, choices })
}

impl Quantizer {
    /// The same method with another number of bits.
    ///
    /// # Errors
    /// [`QuantError::Setting`] for a number that the method hasn't: signs have one, ternary weights two.
    pub fn at_bits(&self, bits: u32) -> Result<Self, QuantError> {
        let mut other = self.clone();
        match &mut other {
            Quantizer::Uniform(method) => method.grid = method.grid.with_bits(bits)?,
            Quantizer::Lsq(method) => method.grid = method.grid.with_bits(bits)?,
            Quantizer::DorefaWeight(method) => method.bits = Grid::unsigned(bits)?.bits(),
            Quantizer::DorefaActivation(method) => method.bits = Grid::unsigned(bits)?.bits(),
            Quantizer::ApotWeight(method) | Quantizer::ApotActivation(method) => method.bits = bits,
            fixed if fixed.bits() == bits => {}
            fixed => {
                let allowed = format!("{}: {} has no other number", fixed.bits(), fixed.method());
                return Err(QuantError::Setting { key: "bits", value: bits.to_string(), allowed });
            }
        }
        other.validate()?;
        Ok(other)
    }
}
