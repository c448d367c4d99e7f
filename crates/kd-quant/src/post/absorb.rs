//! Bias absorption: what a rectifier never cuts goes into the next layer's bias.

use std::collections::BTreeMap;

use burn::tensor::TensorData;
use kd_graph::{Graph, NodeId, Op, PoolKind};

use super::Moments;
use super::pairs::{Pair, own, values};
use crate::QuantError;

/// How many deviations below its mean a channel is taken to have no values.
const DEVIATIONS: f64 = 3.0;

/// Two layers, of which the second took over a part of the first one's bias.
#[derive(Clone, Debug, PartialEq)]
pub struct AbsorbedBias {
    /// The layer whose bias is smaller by `shift`.
    pub first: String,
    /// The layer whose bias makes up for it.
    pub second: String,
    /// The nodes whose results are now those of before less `shift`: the first layer and what lies between.
    pub between: Vec<String>,
    /// $c$, one number per channel, 0 where nothing was moved.
    pub shift: Vec<f64>,
}

/// Takes $c$ from the biases of layers and gives $W c$ to those of the next ones.
///
/// $$ c_i = \max(0, \beta_i - 3 \gamma_i), \qquad b^{(1)} \leftarrow b^{(1)} - c, \qquad b^{(2)} \leftarrow b^{(2)} + W^{(2)} c $$
///
/// A channel that is normal with mean $\beta_i$ and deviation $\gamma_i$ lies above $c_i$ but for one value in a thousand, and there a rectifier gives
/// $r(y - c) = r(y) - c$: the network computes what it computed before, and the range of its activations is smaller by $c$. Equalisation makes biases large,
/// so that this comes after it ([`equalise_graph`](super::equalise_graph), whose pairs these are). Left as they are: layers without known `moments` or
/// without biases of their own, and pairs in whose second layer (or mean in between) zero padding stands beside the activations: there the constant would
/// be missing at the border.
///
/// Nagel et al., *Data-Free Quantization Through Weight Equalization and Bias Correction*, ICCV 2019, section 4.1.3.
///
/// # Errors
/// [`QuantError::NonFinite`] for weights that are not finite, [`QuantError::Graph`] for a graph that contradicts itself; it is then as it was.
pub fn absorb_biases(
    graph: &mut Graph,
    moments: &BTreeMap<String, Moments>,
) -> Result<Vec<AbsorbedBias>, QuantError> {
    let mut changed = graph.clone();
    let mut absorbed = Vec::new();
    for (first, node) in graph.nodes() {
        let Some(of) = moments.get(node.name()) else { continue };
        let above = |(mean, deviation): (&f64, &f64)| (mean - DEVIATIONS * deviation).max(0.0);
        let shift: Vec<f64> = of.mean.iter().zip(&of.deviation).map(above).collect();
        if shift.iter().all(|c| *c == 0.0) {
            continue;
        }
        let Some(pair) = Pair::starting_at(graph, first)? else { continue };
        let name = |id: NodeId| Ok::<_, QuantError>(graph.node(id)?.name().to_owned());
        if pair.absorb(&mut changed, &shift)? {
            absorbed.push(AbsorbedBias {
                first: name(pair.first)?,
                second: name(pair.second)?,
                between: pair.between.iter().map(|&id| name(id)).collect::<Result<_, _>>()?,
                shift,
            });
        }
    }
    *graph = changed;
    Ok(absorbed)
}

impl Pair {
    /// Moves as much of the bias; false where it can't be.
    fn absorb(&self, graph: &mut Graph, shift: &[f64]) -> Result<bool, QuantError> {
        let second = graph.node(self.second)?;
        let (op, bias) = (second.op().clone(), second.inputs().get(2).copied());
        let (Some(from), Some(to)) = (self.bias, bias) else { return Ok(false) };
        let mut padded =
            matches!(&op, Op::Conv(conv) if conv.padding.iter().any(|&padding| padding != (0, 0)));
        for &id in &self.between {
            padded |= matches!(graph.node(id)?.op(), Op::Pool(pool)
                if matches!(pool.kind, PoolKind::Average { .. }) && pool.padding.iter().any(|&padding| padding > 0));
        }
        let before = values(graph, from)?;
        if padded || before.len() != shift.len() || !own(graph, to)? {
            return Ok(false);
        }
        let mut after: Vec<f64> = values(graph, to)?.into_iter().map(f64::from).collect();
        let [_, rows, columns] = self.input.shape;
        for (at, weight) in values(graph, self.input.weight)?.into_iter().enumerate() {
            let place = [at / (rows * columns), at / columns % rows, at % columns];
            let out = if matches!(op, Op::Linear) { place[2] } else { place[0] };
            if let (Some(after), Some(c)) = (after.get_mut(out), shift.get(place[self.input.axis])) {
                *after += f64::from(weight) * c;
            }
        }
        let before: Vec<f32> = before.iter().zip(shift).map(|(b, c)| (f64::from(*b) - c) as f32).collect();
        let after: Vec<f32> = after.into_iter().map(|b| b as f32).collect();
        let vector = |values: Vec<f32>| {
            let length = values.len();
            TensorData::new(values, [length])
        };
        graph.edit(|edit| {
            edit.set_value(from, vector(before))?;
            edit.set_value(to, vector(after))
        })?;
        Ok(true)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution, Tensor};
    use kd_graph::{Activation, Conv, GraphModule, Role, Shape, TensorType};

    /// Two convolutions and a linear layer with rectifiers between, whose biases keep all values far above zero.
    fn network(padding: usize) -> Graph {
        let device = Device::flex();
        device.seed(6);
        let random = |shape: &[usize]| {
            let count = shape.iter().product::<usize>();
            let values = Tensor::<1>::random([count], Distribution::Normal(0.0, 1.0), &device).into_data();
            TensorData::new(values.try_to_vec::<f32>().unwrap(), shape.to_vec())
        };
        let size = 4 + 2 * padding;
        let mut graph = Graph::new();
        let mut x = graph.input("x", TensorType::float(Shape::batched([2, 6, 6]))).unwrap();
        let layers = [
            ("a", vec![3, 2, 3, 3], 1, vec![50.0_f32; 3]),
            ("b", vec![4, 3, 3, 3], padding, vec![3000.0; 4]),
            ("fc", vec![4 * size * size, 5], 0, vec![1.0; 5]),
        ];
        for (name, shape, padding, bias) in layers {
            let w = graph.parameter(&format!("{name}.weight"), Role::Weight, random(&shape)).unwrap();
            let count = bias.len();
            let bias = TensorData::new(bias, [count]);
            let b = graph.parameter(&format!("{name}.bias"), Role::Weight, bias).unwrap();
            if name == "fc" {
                let flat = Op::Reshape { shape: Shape::batched([4 * size * size]) };
                x = graph.add("flat", flat, &[x]).unwrap();
                x = graph.add(name, Op::Linear, &[x, w, b]).unwrap();
            } else {
                let padding = vec![(padding, padding); 2];
                let conv = Conv { stride: vec![1; 2], padding, dilation: vec![1; 2], groups: 1 };
                x = graph.add(name, Op::Conv(conv), &[x, w, b]).unwrap();
                x = graph.add(&format!("{name}.relu"), Op::Activation(Activation::Relu), &[x]).unwrap();
            }
        }
        graph.set_outputs(&[x]).unwrap();
        graph
    }

    fn moments() -> BTreeMap<String, Moments> {
        let of = |mean: Vec<f64>, deviation: f64| {
            let deviation = vec![deviation; mean.len()];
            Moments { low: mean.clone(), high: mean.clone(), mean, deviation }
        };
        let a = of(vec![50.0, 25.0, 50.0], 10.0);
        BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), of(vec![3000.0; 4], 500.0))])
    }

    fn run(graph: &Graph) -> Vec<f32> {
        let pixels = (0..144).map(|i| (i as f32 * 0.7).sin()).collect();
        let x = Tensor::<4>::from_data(TensorData::new(pixels, [2, 2, 6, 6]), &Device::flex());
        let module = GraphModule::new(graph.clone(), &Device::flex()).unwrap();
        let y: Tensor<2> = module.forward(x).unwrap();
        y.into_data().try_to_vec().unwrap()
    }

    fn bias(graph: &Graph, layer: &str) -> Vec<f32> {
        values(graph, graph.find(&format!("{layer}.bias")).unwrap()).unwrap()
    }

    #[test]
    fn biases_move_on_and_the_network_gives_what_it_gave() {
        let before = network(0);
        let mut graph = before.clone();
        let absorbed = absorb_biases(&mut graph, &moments()).unwrap();
        let names: Vec<_> = absorbed.iter().map(|of| (of.first.as_str(), of.second.as_str())).collect();
        assert_eq!(names, [("a", "b"), ("b", "fc")]);
        // The mean of the second channel is less than three deviations above zero.
        assert_eq!(absorbed[0].shift, [20.0, 0.0, 20.0]);
        assert_eq!(bias(&graph, "a"), [30.0, 50.0, 30.0]);
        assert_eq!(absorbed[1].between, ["b", "b.relu", "flat"]);
        let (old, new) = (run(&before), run(&graph));
        let largest = old.iter().fold(0.0_f32, |max, v| max.max(v.abs()));
        assert!(old.iter().zip(&new).all(|(a, b)| (a - b).abs() < 1e-5 * largest), "{old:?} {new:?}");
        assert_ne!(bias(&graph, "fc"), bias(&before, "fc"));
    }

    #[test]
    fn layers_before_zero_padding_and_unknown_ones_keep_their_bias() {
        let mut graph = network(1);
        let absorbed = absorb_biases(&mut graph, &moments()).unwrap();
        assert_eq!(absorbed.iter().map(|of| of.first.as_str()).collect::<Vec<_>>(), ["b"]);
        assert_eq!(bias(&graph, "a"), [50.0; 3]);
        let before = network(0);
        let mut graph = before.clone();
        assert_eq!(absorb_biases(&mut graph, &BTreeMap::new()).unwrap(), []);
        assert_eq!(graph, before);
    }
}
