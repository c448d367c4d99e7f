//! What a quantised network takes when its codes are packed.

use std::collections::BTreeSet;

use kd_graph::{Graph, NodeId};

use crate::QuantError;
use crate::plan::{Quantizer, Site, fold_trained, sites};
use crate::sharing::{self, Form};

/// The bytes of a quantised graph as it is stored: codes at the bits that the number of their levels needs, without gaps between them, and everything else,
/// scales, biases, normalisations and layers left in float, as the tensors in the graph are.
///
/// | weight | bytes |
/// |---|---|
/// | codes on a grid, signs, three values | the codes; four for every scale; one for every zero point, unless all are zero |
/// | a table of levels (TTQ, powers of two, ABC-Net) | the codes; four for every learned number or scale of a base |
/// | k-means | the codes, of $\lceil \log_2 \text{levels} \rceil$ bits; four for every centroid |
/// | hashed | four for every bucket |
/// | in float, an adder layer's too | four for every element |
///
/// What makes a weight in training only is not counted: the real weight behind the codes, a mask, STTN's second weight. Folded normalisations are in the
/// weights, as [`fold_trained`] leaves them. Of a float graph these are its [`weight_bytes`](kd_graph::Cost::weight_bytes).
///
/// ```
/// use burn::tensor::TensorData;
/// use kd_graph::{Graph, Op, Role, Shape, TensorType};
/// use kd_quant::analysis::packed_bytes;
/// use kd_quant::plan::{PlanSettings, QuantPlan};
///
/// let mut graph = Graph::new();
/// let x = graph.input("x", TensorType::float(Shape::batched([2])))?;
/// let w = graph.parameter("a.weight", Role::Weight, TensorData::from([[0.5f32, -1.0], [0.3, 0.7]]))?;
/// let a = graph.add("a", Op::Linear, &[x, w])?;
/// graph.set_outputs(&[a])?;
/// assert_eq!(packed_bytes(&graph)?, 4 * 4);
/// let quantised = QuantPlan::new(&graph, &PlanSettings::int8()?)?.apply(&graph)?;
/// // Four codes with a scale for either output; the input's scale and zero point.
/// assert_eq!(packed_bytes(&quantised)?, 4 + 2 * 4 + 2 * 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`QuantError::Plan`] for a quantised weight that is computed by other nodes than masks and folded normalisations; [`QuantError::Graph`] for a graph that
/// contradicts itself.
pub fn packed_bytes(graph: &Graph) -> Result<usize, QuantError> {
    let graph = &fold_trained(graph)?;
    let stored = stored(graph)?;
    let mut replaced = BTreeSet::new();
    for weight in &stored {
        leaves(graph, weight.node, &mut replaced)?;
    }
    let others = graph.parameters().filter(|(id, _)| !replaced.contains(id));
    let others = others.filter_map(|(id, _)| graph.value(id)).map(|value| value.as_bytes().len());
    Ok(others.sum::<usize>() + stored.iter().map(|weight| weight.storage.bytes()).sum::<usize>())
}

/// A node and all that it is made of.
fn leaves(graph: &Graph, id: NodeId, found: &mut BTreeSet<NodeId>) -> Result<(), QuantError> {
    if found.insert(id) {
        graph.node(id)?.inputs().iter().try_for_each(|&input| leaves(graph, input, found))?;
    }
    Ok(())
}

/// A weight that is not stored as it is.
pub(super) struct Stored {
    /// Path of the parameter.
    pub path: String,
    /// The quantised weight, or the buckets of a hashed one.
    pub node: NodeId,
    pub storage: Storage,
}

/// Numbers, and what they need beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Storage {
    numbers: usize,
    bits: u32,
    beside: Beside,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    /// Bytes of scales and zero points, whatever the bits.
    Scales(usize),
    /// So many centroids, which more bits are more of.
    Codebook(usize),
}

impl Storage {
    /// Of numbers in f32.
    pub fn float(numbers: usize) -> Self {
        Self { numbers, bits: 32, beside: Beside::Scales(0) }
    }

    /// Bits of each number.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// All of it.
    pub fn bytes(&self) -> usize {
        self.bytes_at(self.bits)
    }

    /// The same if every number had so many bits.
    pub fn bytes_at(&self, bits: u32) -> usize {
        let beside = match self.beside {
            Beside::Scales(bytes) => bytes,
            Beside::Codebook(centroids) if bits == self.bits => 4 * centroids,
            Beside::Codebook(_) => 4 << bits,
        };
        (self.numbers * bits as usize).div_ceil(8) + beside
    }
}

/// All weights of a graph, folded normalisations settled, that are not stored as they are.
pub(super) fn stored(graph: &Graph) -> Result<Vec<Stored>, QuantError> {
    let mut found = Vec::new();
    for site in sites(graph)? {
        let Some(weight) = site.weight else { continue };
        let numbers = graph.node(weight)?.output().shape.elements(1);
        let beside = Beside::Scales(beside(graph, &site)?);
        let storage = Storage { numbers, bits: site.quantizer.bits(), beside };
        found.push(Stored { path: graph.node(weight)?.name().to_owned(), node: site.node, storage });
    }
    for weight in sharing::stored(graph)? {
        let Some(&first) = weight.parameters.first() else { continue };
        let numbers = graph.node(first)?.output().shape.elements(1);
        let (node, storage) = match weight.form {
            Form::Codes { levels, centroids } => {
                let look_up = graph.users(first).next().map_or(first, |(user, _)| user);
                let bits = usize::BITS - levels.saturating_sub(1).leading_zeros();
                (look_up, Storage { numbers, bits, beside: Beside::Codebook(centroids) })
            }
            Form::Buckets { .. } => (first, Storage::float(numbers)),
        };
        found.push(Stored { path: weight.path, node, storage });
    }
    Ok(found)
}

/// Bytes of a quantised weight's scales and zero points, or of what its levels are made of.
fn beside(graph: &Graph, site: &Site) -> Result<usize, QuantError> {
    if let Some(lattice) = site.lattice(graph)? {
        let shifted = lattice.zero_point.iter().any(|&zero| zero != 0);
        return Ok(lattice.scale.len() * (4 + usize::from(shifted)));
    }
    Ok(match &site.quantizer {
        // A scale for each base, and one that stands in no parameter.
        Quantizer::AbcWeight(abc) => 4 * abc.shifts().len(),
        Quantizer::DorefaWeight(_) => 4,
        _ => {
            site.parameters.iter().filter_map(|&id| graph.value(id)).map(|value| value.as_bytes().len()).sum()
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::plan::{Ends, PlanSettings, QuantPlan};
    use burn::tensor::TensorData;
    use kd_graph::{Op, Role, Shape, TensorType};

    /// Two linear layers, 40 to 30 to 10, with biases.
    fn network() -> Graph {
        let wave = |count: usize| (0..count).map(|i| (i as f32 * 0.7).sin() + 0.01).collect::<Vec<_>>();
        let mut graph = Graph::new();
        let mut x = graph.input("x", TensorType::float(Shape::batched([40]))).unwrap();
        for (name, inputs, outputs) in [("a", 40, 30), ("b", 30, 10)] {
            let data = TensorData::new(wave(inputs * outputs), [inputs, outputs]);
            let w = graph.parameter(&format!("{name}.weight"), Role::Weight, data).unwrap();
            let data = TensorData::new(wave(outputs), [outputs]);
            let b = graph.parameter(&format!("{name}.bias"), Role::Weight, data).unwrap();
            x = graph.add(name, Op::Linear, &[x, w, b]).unwrap();
        }
        graph.set_outputs(&[x]).unwrap();
        graph
    }

    /// Weights alone, in both layers.
    fn plan(graph: &Graph, settings: PlanSettings) -> QuantPlan {
        let settings = PlanSettings { ends: Ends::Same, activations: None, gradients: None, ..settings };
        QuantPlan::new(graph, &settings).unwrap()
    }

    /// Bytes of the first layer's weight and of the whole network.
    fn bytes(settings: Result<PlanSettings, QuantError>) -> (usize, usize) {
        let graph = network();
        let quantised = plan(&graph, settings.unwrap()).apply(&graph).unwrap();
        let stored = stored(&quantised).unwrap();
        let of = stored.iter().find(|weight| weight.path == "a.weight").map(|weight| weight.storage.bytes());
        (of.unwrap_or_default(), packed_bytes(&quantised).unwrap())
    }

    #[test]
    fn codes_take_the_bits_that_the_number_of_levels_needs() {
        // 1200 elements; DoReFa's 2^b levels lie two steps apart, on a lattice that spans more.
        for bits in 2..=8 {
            let wanted = 150 * bits as usize + 4;
            assert_eq!(bytes(PlanSettings::dorefa(bits, 8, None)).0, wanted, "{bits} bits");
            assert_eq!(bytes(PlanSettings::lsq(bits)).0, wanted, "{bits} bits");
        }
        assert_eq!(bytes(PlanSettings::int8()).0, 1200 + 30 * 4);
        // One bit for a sign with a scale for every output, two for three values, a sign for every base.
        assert_eq!(bytes(Ok(PlanSettings::bwn())).0, 150 + 30 * 4);
        assert_eq!(bytes(Ok(PlanSettings::twn())).0, 2 * 150 + 4);
        assert_eq!(bytes(Ok(PlanSettings::ttq())).0, 2 * 150 + 2 * 4);
        assert_eq!(bytes(PlanSettings::abc_net(3, 3)).0, 3 * 150 + 3 * 4);
    }

    #[test]
    fn weights_without_a_quantiser_are_not_free() {
        // Sixteen centroids and 1200 codes of four bits; a bucket for every eight elements; the float weights of adder layers.
        assert_eq!(bytes(PlanSettings::shared(4)).0, 600 + 16 * 4);
        assert_eq!(bytes(PlanSettings::hashed(8)).0, 150 * 4);
        // In place of biases there are normalisations of four numbers a channel.
        assert_eq!(bytes(Ok(PlanSettings::adder())), (0, 4 * (1200 + 300) + 4 * 4 * 40));
    }

    #[test]
    fn the_whole_is_the_sum_of_codes_and_of_what_stays_in_float() {
        let graph = network();
        assert_eq!(packed_bytes(&graph).unwrap() as u64, graph.cost(1).unwrap().weight_bytes);
        let biases = 4 * 40;
        assert_eq!(bytes(PlanSettings::lsq(4)).1, (600 + 4) + (150 + 4) + biases);
        assert_eq!(bytes(PlanSettings::shared(4)).1, (600 + 64) + (150 + 64) + biases);
        assert_eq!(bytes(PlanSettings::hashed(8)).1, 150 * 4 + 38 * 4 + biases);
    }

    #[test]
    fn a_codebook_grows_with_the_bits_and_scales_do_not() {
        let codes = Storage { numbers: 1000, bits: 4, beside: Beside::Codebook(13) };
        assert_eq!((codes.bytes(), codes.bytes_at(8), codes.bytes_at(2)), (500 + 52, 1000 + 1024, 250 + 16));
        let grid = Storage { beside: Beside::Scales(40), ..codes };
        assert_eq!((grid.bytes(), grid.bytes_at(8), grid.bytes_at(1)), (540, 1040, 165));
    }

    #[test]
    fn groups_have_a_scale_each_and_masks_are_in_the_codes() {
        let mut graph = network();
        let mut plan = plan(&graph, PlanSettings::int8().unwrap());
        let groups = std::collections::BTreeMap::from([("a.weight".to_owned(), 2)]);
        crate::hessian::set_bits(&mut plan, &groups, 20).unwrap();
        let mask: Vec<f32> = (0..1200).map(|i| if i % 3 == 0 { 0.0 } else { 1.0 }).collect();
        graph
            .edit(|edit| {
                let weight = edit.graph().find("a.weight")?;
                let mask = edit.add_parameter("a.mask", Role::Buffer, TensorData::new(mask, [40, 30]))?;
                edit.insert_after(weight, "a.masked", Op::Binary(kd_graph::Binary::Mul), &[weight, mask])
            })
            .unwrap();
        let quantised = plan.apply(&graph).unwrap();
        assert_eq!(stored(&quantised).unwrap()[0].storage.bytes(), 300 + 60 * 4);
        assert_eq!(packed_bytes(&quantised).unwrap(), (300 + 60 * 4) + (300 + 10 * 4) + 4 * 40);
    }
}
