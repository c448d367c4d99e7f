//! Cross-layer equalisation over a whole network.

use burn::tensor::{Device, Tensor, TensorData};
use kd_graph::{Activation, Graph, GraphError, NodeId, Op, Reduction, Role};

use super::equalise;
use crate::QuantError;
use crate::data::{numbers, tensor};

/// How often all pairs are gone through at most.
const SWEEPS: usize = 40;
/// The greatest change of a channel's factor that counts as none.
const SETTLED: f64 = 1e-3;

/// Two layers that were rescaled together.
#[derive(Clone, Debug, PartialEq)]
pub struct EqualisedPair {
    /// The layer whose output channels were divided by `scale`.
    pub first: String,
    /// The layer whose input channels were multiplied by it.
    pub second: String,
    /// The nodes whose results are now those of before divided by `scale`: the first layer and what lies between.
    pub between: Vec<String>,
    /// One factor per channel.
    pub scale: Vec<f64>,
}

/// Equalises every two convolutions or linear layers between which there are only functions with $f(sx) = s f(x)$: rectifiers, pooling, flattening; and
/// each read by one node only. Goes through them until the channels' factors settle, because a layer may be second of one pair and first of the next.
/// Fold batch normalisations before ([`Graph::fold_batch_norm`]): one in between is not homogeneous.
///
/// The network computes what it computed before, up to rounding. [`equalise`] has the formula and the paper.
///
/// # Errors
/// [`QuantError::NonFinite`] for weights that are not finite, [`QuantError::Graph`] for a graph that contradicts itself; it is then as it was.
pub fn equalise_graph(graph: &mut Graph) -> Result<Vec<EqualisedPair>, QuantError> {
    let mut changed = graph.clone();
    let mut pairs = Vec::new();
    for (id, _) in graph.nodes() {
        pairs.extend(Pair::starting_at(graph, id)?);
    }
    let mut scales: Vec<Vec<f64>> = vec![Vec::new(); pairs.len()];
    for _ in 0..SWEEPS {
        let mut change = 0.0_f64;
        for (pair, total) in pairs.iter().zip(&mut scales) {
            let scale = pair.balance(&mut changed)?;
            change = scale.iter().fold(change, |change, s| change.max((s - 1.0).abs()));
            total.resize(scale.len(), 1.0);
            total.iter_mut().zip(scale).for_each(|(total, s)| *total *= s);
        }
        if change < SETTLED {
            break;
        }
    }
    let name = |id: NodeId| Ok(graph.node(id)?.name().to_owned());
    let named = pairs.iter().zip(scales).map(|(pair, scale)| {
        Ok(EqualisedPair {
            first: name(pair.first)?,
            second: name(pair.second)?,
            between: pair.between.iter().map(|&id| name(id)).collect::<Result<_, GraphError>>()?,
            scale,
        })
    });
    let named = named.collect::<Result<_, GraphError>>()?;
    *graph = changed;
    Ok(named)
}

/// A weight seen as three axes, one of them the channels'.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub weight: NodeId,
    pub shape: [usize; 3],
    pub axis: usize,
}

/// Two layers between which there are only homogeneous functions.
pub(super) struct Pair {
    pub first: NodeId,
    pub second: NodeId,
    /// The first layer and what follows it up to the second.
    pub between: Vec<NodeId>,
    out: View,
    /// The first layer's.
    pub bias: Option<NodeId>,
    /// The second layer's weight by the channels between them.
    pub input: View,
}

impl Pair {
    pub fn starting_at(graph: &Graph, first: NodeId) -> Result<Option<Self>, GraphError> {
        let Some(out) = output_view(graph, first)? else { return Ok(None) };
        let bias = graph.node(first)?.inputs().get(2).copied();
        if let Some(bias) = bias
            && !own(graph, bias)?
        {
            return Ok(None);
        }
        let channels = out.shape.get(out.axis).copied().unwrap_or(0);
        let mut between = vec![first];
        let mut last = first;
        loop {
            let mut users = graph.users(last);
            let (Some((next, node)), None) = (users.next(), users.next()) else { return Ok(None) };
            if graph.outputs().contains(&last) || node.inputs().first() != Some(&last) {
                return Ok(None);
            }
            match node.op() {
                Op::Conv(_) | Op::Linear => {
                    let view = input_view(graph, next, channels)?;
                    return Ok(view.map(|input| Self { first, second: next, between, out, bias, input }));
                }
                op if homogeneous(op) && keeps_channels(graph, first, next)? => {
                    between.push(next);
                    last = next;
                }
                _ => return Ok(None),
            }
        }
    }

    /// One step of both weights; the factors.
    fn balance(&self, graph: &mut Graph) -> Result<Vec<f64>, QuantError> {
        let device = host();
        let read = |view: View| -> Result<Tensor<3>, QuantError> {
            Ok(tensor(values(graph, view.weight)?, view.shape, &device))
        };
        let bias = match self.bias {
            Some(id) => {
                let values = values(graph, id)?;
                let length = values.len();
                Some(tensor::<1>(values, [length], &device))
            }
            None => None,
        };
        let (first, second) = (read(self.out)?, read(self.input)?);
        let result = equalise(first, self.out.axis, bias, second, self.input.axis)?;
        let scale = numbers("the factors", result.scale)?;
        let mut new = vec![
            (self.out.weight, numbers("the weight", result.first)?),
            (self.input.weight, numbers("the weight", result.second)?),
        ];
        if let (Some(id), Some(bias)) = (self.bias, result.bias) {
            new.push((id, numbers("the bias", bias)?));
        }
        graph.edit(|edit| {
            new.into_iter().try_for_each(|(id, values)| {
                let shape = edit.graph().node(id)?.output().shape.at(1);
                edit.set_value(id, TensorData::new(values, shape))
            })
        })?;
        Ok(scale.into_iter().map(f64::from).collect())
    }
}

/// Where weights are rescaled, whatever the network runs on.
pub(super) fn host() -> Device {
    #[cfg(feature = "flex")]
    return Device::flex();
    #[cfg(not(feature = "flex"))]
    return Device::default();
}

/// The finite numbers of a parameter.
pub(super) fn values(graph: &Graph, id: NodeId) -> Result<Vec<f32>, QuantError> {
    let values: Vec<f32> = graph.value(id).map(|value| value.iter::<f32>().collect()).unwrap_or_default();
    crate::data::check_finite("a parameter", &values)?;
    Ok(values)
}

/// Whether a node is a learned parameter under one path, read once.
pub(super) fn own(graph: &Graph, id: NodeId) -> Result<bool, GraphError> {
    let alone = graph.users(id).count() == 1 && !graph.outputs().contains(&id);
    let aliases = match graph.node(id)?.op() {
        Op::Parameter { role: Role::Weight, aliases } => aliases,
        _ => return Ok(false),
    };
    Ok(alone && aliases.is_empty())
}

fn homogeneous(op: &Op) -> bool {
    let activation = |activation: &Activation| {
        matches!(activation, Activation::Relu | Activation::LeakyRelu { .. } | Activation::Prelu)
    };
    match op {
        Op::Activation(of) => activation(of),
        Op::Reduce { kind: Reduction::Mean, .. } => true,
        op => {
            matches!(op, Op::Pool(_) | Op::AdaptiveAvgPool { .. } | Op::Dropout { .. } | Op::Reshape { .. })
        }
    }
}

/// Whether the second axis still starts with the channels of the first layer, each as often as there are places.
fn keeps_channels(graph: &Graph, first: NodeId, node: NodeId) -> Result<bool, GraphError> {
    let (from, to) = (&graph.node(first)?.output().shape, &graph.node(node)?.output().shape);
    let (Some(channels), Some(now)) =
        (from.dim(1).and_then(|d| d.fixed()), to.dim(1).and_then(|d| d.fixed()))
    else {
        return Ok(false);
    };
    let flattened =
        to.rank() == 2 && now.is_multiple_of(channels) && graph.node(node)?.op().word() == "reshape";
    Ok(from.dim(0) == to.dim(0) && (now == channels || flattened))
}

fn output_view(graph: &Graph, layer: NodeId) -> Result<Option<View>, GraphError> {
    let node = graph.node(layer)?;
    let Some(&weight) = node.inputs().get(1) else { return Ok(None) };
    let shape = graph.node(weight)?.output().shape.at(1);
    let view = match (node.op(), shape.as_slice()) {
        (Op::Conv(_), [out, rest @ ..]) => View { weight, shape: [*out, rest.iter().product(), 1], axis: 0 },
        (Op::Linear, &[input, out]) if node.output().shape.rank() == 2 => {
            View { weight, shape: [input, out, 1], axis: 1 }
        }
        _ => return Ok(None),
    };
    Ok(own(graph, weight)?.then_some(view))
}

fn input_view(graph: &Graph, layer: NodeId, channels: usize) -> Result<Option<View>, GraphError> {
    let node = graph.node(layer)?;
    let Some(&weight) = node.inputs().get(1) else { return Ok(None) };
    let shape = graph.node(weight)?.output().shape.at(1);
    let view = match (node.op(), shape.as_slice()) {
        (Op::Conv(conv), [out, input, rest @ ..]) if conv.groups == 1 && *input == channels => {
            View { weight, shape: [*out, *input, rest.iter().product()], axis: 1 }
        }
        // Depthwise: input channel and filter are one.
        (Op::Conv(conv), [out, 1, rest @ ..]) if conv.groups == channels && *out == channels => {
            View { weight, shape: [*out, rest.iter().product(), 1], axis: 0 }
        }
        (Op::Linear, &[input, out]) if channels > 0 && input.is_multiple_of(channels) => {
            View { weight, shape: [channels, input / channels, out], axis: 0 }
        }
        _ => return Ok(None),
    };
    Ok(own(graph, weight)?.then_some(view))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use burn::tensor::Distribution;
    use kd_graph::{Binary, Conv, GraphModule, Pool, PoolKind, Shape, TensorType};

    fn random(shape: impl Into<burn::tensor::Shape>) -> TensorData {
        let shape = shape.into();
        let flat =
            Tensor::<1>::random([shape.num_elements()], Distribution::Normal(0.0, 1.0), &Device::flex());
        TensorData::new(flat.into_data().try_to_vec::<f32>().unwrap(), shape)
    }

    fn conv(groups: usize) -> Op {
        let conv = Conv { stride: vec![1, 1], padding: vec![(1, 1), (1, 1)], dilation: vec![1, 1], groups };
        Op::Conv(conv)
    }

    /// Convolution, depthwise convolution, pooling, classifier; and a branch if asked for.
    fn network(branch: bool) -> Graph {
        Device::flex().seed(3);
        let mut graph = Graph::new();
        let x = graph.input("x", TensorType::float(Shape::batched([2, 4, 4]))).unwrap();
        let parameter = |graph: &mut Graph, path: &str, shape: Vec<usize>| {
            graph.parameter(path, Role::Weight, random(shape)).unwrap()
        };
        let relu = || Op::Activation(Activation::Relu);
        let (w, b) =
            (parameter(&mut graph, "a.weight", vec![3, 2, 3, 3]), parameter(&mut graph, "a.bias", vec![3]));
        let a = graph.add("a", conv(1), &[x, w, b]).unwrap();
        let a = graph.add("a.relu", relu(), &[a]).unwrap();
        let w = parameter(&mut graph, "b.weight", vec![3, 1, 3, 3]);
        let b = graph.add("b", conv(3), &[a, w]).unwrap();
        let b = if branch { graph.add("sum", Op::Binary(Binary::Add), &[b, a]).unwrap() } else { b };
        let b = graph.add("b.relu", relu(), &[b]).unwrap();
        let pool = Pool {
            kind: PoolKind::Max,
            kernel: vec![2, 2],
            stride: vec![2, 2],
            padding: vec![0, 0],
            dilation: vec![1, 1],
            ceil: false,
        };
        let pool = graph.add("pool", Op::Pool(pool), &[b]).unwrap();
        let flat = graph.add("flat", Op::Reshape { shape: Shape::batched([12]) }, &[pool]).unwrap();
        let w = parameter(&mut graph, "fc.weight", vec![12, 5]);
        let fc = graph.add("fc", Op::Linear, &[flat, w]).unwrap();
        graph.set_outputs(&[fc]).unwrap();
        graph
    }

    fn run(graph: &Graph) -> Tensor<2> {
        let device = Device::flex();
        let x = Tensor::<4>::from_data(
            TensorData::new((0..96).map(|i| (i as f32).sin()).collect(), [3, 2, 4, 4]),
            &device,
        );
        GraphModule::new(graph.clone(), &device).unwrap().forward(x).unwrap()
    }

    #[test]
    fn the_network_gives_what_it_gave_and_ranges_agree_from_layer_to_layer() {
        let before = network(false);
        let mut graph = before.clone();
        let pairs = equalise_graph(&mut graph).unwrap();
        let names: Vec<_> = pairs.iter().map(|pair| (pair.first.as_str(), pair.second.as_str())).collect();
        assert_eq!(names, [("a", "b"), ("b", "fc")]);
        assert_eq!(pairs[1].between, ["b", "b.relu", "pool", "flat"]);
        assert!((run(&before) - run(&graph)).abs().max().into_scalar::<f32>() < 1e-3);

        let range = |path: &str, shape: [usize; 3], axis: usize| -> Vec<f32> {
            let id = graph.find(path).unwrap();
            let w = tensor::<3>(values(&graph, id).unwrap(), shape, &Device::flex());
            let rows = crate::Granularity::Channel { axis }.split(w).unwrap();
            rows.abs().max_dim(1).into_data().try_to_vec().unwrap()
        };
        let (b, fc) = (range("b.weight", [3, 9, 1], 0), range("fc.weight", [3, 4, 5], 0));
        for (b, fc) in b.iter().zip(fc) {
            assert!((b / fc - 1.0).abs() < 0.01, "{b} {fc}");
        }
        assert_ne!(before, graph);
    }

    #[test]
    fn a_layer_that_is_read_twice_stays() {
        let mut graph = network(true);
        // `a` is read by `b` and by the sum; `b` goes into the sum, which is not homogeneous in it alone.
        assert_eq!(equalise_graph(&mut graph).unwrap(), []);
        assert_eq!(graph, network(true));
    }

    #[test]
    fn weights_that_are_not_finite_are_refused_and_nothing_is_changed() {
        let mut graph = network(false);
        let id = graph.find("b.weight").unwrap();
        let broken = TensorData::new(vec![f32::NAN; 27], [3, 1, 3, 3]);
        graph.edit(|edit| edit.set_value(id, broken)).unwrap();
        let first = graph.find("a.weight").unwrap();
        let before = graph.value(first).cloned();
        assert!(matches!(equalise_graph(&mut graph), Err(QuantError::NonFinite { .. })));
        assert_eq!(graph.value(first).cloned(), before);
    }
}
