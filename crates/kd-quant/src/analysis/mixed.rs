//! Bits for every layer by measured loss.

use burn::tensor::Device;
use kd_graph::{Graph, Value};

use super::place::{Place, ready};
use super::{Choice, allocate};
use crate::integer::IntegerNetwork;
use crate::plan::{QuantPlan, Quantizer};
use crate::power::PowerOfTwo;
use crate::{Grid, QuantError};

/// What [`mixed_bits`] decided, and what it was based on.
#[derive(Clone, Debug, PartialEq)]
pub struct MixedBits {
    /// The plan with the chosen bits of every weight.
    pub plan: QuantPlan,
    /// For every weight, in execution order, its path, what was measured, and the index of the choice.
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
/// Each layer is quantised alone, its weight at each of the `widths` and what it reads as the plan has it, set by the `batches`; `loss` measures what that
/// costs above the network in float, on codes, as it is deployed. A knapsack ([`allocate`]) takes the best combination, as if losses added up. Weights whose
/// method has one width (signs and sums of them, three values, hashed weights, adder layers) keep it, and their bytes count.
///
/// ```
/// use burn::tensor::{Device, Tensor, TensorData};
/// use kd_graph::{Graph, Op, Role, Shape, TensorType};
/// use kd_quant::analysis::mixed_bits;
/// use kd_quant::integer::IntegerNetwork;
/// use kd_quant::plan::{PlanSettings, QuantPlan};
///
/// # let device = Device::flex();
/// # let mut graph = Graph::new();
/// # let x = graph.input("x", TensorType::float(Shape::batched([2])))?;
/// # let w = graph.parameter("a.weight", Role::Weight, TensorData::from([[0.5f32, -1.0], [0.3, 0.7]]))?;
/// # let a = graph.add("a", Op::Linear, &[x, w])?;
/// # let w = graph.parameter("b.weight", Role::Weight, TensorData::from([[0.1f32, -0.9], [0.7, 0.4]]))?;
/// # let b = graph.add("b", Op::Linear, &[a, w])?;
/// # graph.set_outputs(&[b])?;
/// # let batch = vec![Tensor::<2>::from_data([[1.0, 2.0], [3.0, -1.0]], &device).into()];
/// # let wrong = |_network: &IntegerNetwork<Tensor<2>>| Ok(0.1);
/// // `graph` is a traced network of two layers, `batch` some of its inputs, `wrong` says which part of the validation data a network takes for another.
/// let plan = QuantPlan::new(&graph, &PlanSettings::int8()?)?;
/// // Four codes and two scales a layer: 12 bytes at eight bits, 10 at four.
/// let mixed = mixed_bits(&graph, &plan, &device, &[batch], &[8, 4], 22, wrong)?;
/// assert_eq!(mixed.bytes(), 22);
/// println!("{}", mixed.plan);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`QuantError::Setting`] for a budget below the narrowest widths, a width that a method hasn't, a loss that is not finite; [`QuantError::Empty`] without
/// batches; as [`QuantPlan::apply`]; what `loss` returns.
pub fn mixed_bits<I>(
    graph: &Graph,
    plan: &QuantPlan,
    device: &Device,
    batches: &[Vec<Value>],
    widths: &[u32],
    budget: usize,
    mut loss: impl FnMut(&IntegerNetwork<I>) -> Result<f64, QuantError>,
) -> Result<MixedBits, QuantError> {
    let float = loss(&IntegerNetwork::new(graph, device)?)?;
    let places = Place::all(graph, plan)?;
    let mut measured: Vec<Vec<Choice>> = Vec::new();
    for place in &places {
        let own = [place.quantizer.bits()];
        let mut choices = Vec::new();
        for &bits in if place.quantizer.has_one_width() { &own } else { widths } {
            let alone = place.alone(plan, &place.quantizer.at_bits(bits)?);
            let quantised = ready(graph, &alone, device, batches)?;
            let loss = loss(&IntegerNetwork::new(&quantised, device)?)? - float;
            choices.push(Choice { bits, bytes: place.storage(&quantised)?.bytes(), loss });
        }
        measured.push(choices);
    }
    let chosen = allocate(&measured, budget)?;
    let mut plan = plan.clone();
    let mut choices = Vec::new();
    for ((place, measured), index) in places.into_iter().zip(measured).zip(chosen) {
        if let Some(choice) = measured.get(index) {
            plan.weights.insert(place.weight.clone(), place.quantizer.at_bits(choice.bits)?);
        }
        choices.push((place.weight, measured, index));
    }
    Ok(MixedBits { plan, choices })
}

impl Quantizer {
    /// Whether [`at_bits`](Self::at_bits) has no choice.
    fn has_one_width(&self) -> bool {
        use Quantizer::{ApotWeight, DorefaWeight, KMeans, Lsq, PowerOfTwo, Uniform};
        !matches!(self, Uniform(_) | Lsq(_) | DorefaWeight(_) | PowerOfTwo(_) | ApotWeight(_) | KMeans(_))
    }

    /// The same method with another number of bits; k-means with $2^b$ centroids.
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
            Quantizer::PowerOfTwo(method) => *method = PowerOfTwo::new(bits)?,
            Quantizer::KMeans(method) => method.clusters = Grid::unsigned(bits)?.max() as usize + 1,
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
