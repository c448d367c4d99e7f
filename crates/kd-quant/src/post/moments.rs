//! What a network's own numbers say about its activations, without data.

use std::collections::BTreeMap;

use kd_graph::{Activation, Binary, Dim, Graph, GraphError, Node, NodeId, Op, PadMode, Range, Reduction};
use serde::{Deserialize, Serialize};

use crate::QuantError;
use crate::error::in_range;
use crate::observer::Ranges;

/// How activations are estimated without data.
///
/// Behind a batch normalisation a channel is taken to be normal with mean $\beta$ and deviation $|\gamma|$. Elsewhere moments are propagated: through a
/// layer $\mathrm{E}\,y = \sum w\,\mathrm{E}\,x + b$ and, its inputs being independent, $\mathrm{Var}\,y = \sum w^2\,\mathrm{Var}\,x$; through a rectifier those
/// of a rectified normal variable; sums add both. A range is the mean plus and minus so many deviations, cut where the activation function cuts.
///
/// Inputs are not independent (neighbouring pixels are alike), so that deviations come out too small in a network without batch normalisation.
///
/// Nagel et al., *Data-Free Quantization Through Weight Equalization and Bias Correction*, ICCV 2019.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct DataFree {
    /// Half the width of a range in deviations; default 6.
    pub deviations: f64,
    /// Mean of the network's input; default 0, as after normalisation.
    pub input_mean: f64,
    /// Deviation of the network's input; default 1.
    pub input_deviation: f64,
}

impl Default for DataFree {
    fn default() -> Self {
        Self { deviations: 6.0, input_mean: 0.0, input_deviation: 1.0 }
    }
}

/// Estimates of an activation, one number per channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    /// The means.
    pub mean: Vec<f64>,
    /// The standard deviations.
    pub deviation: Vec<f64>,
    /// The least values to be expected.
    pub low: Vec<f64>,
    /// The greatest.
    pub high: Vec<f64>,
}

impl Moments {
    fn normal(mean: Vec<f64>, deviation: Vec<f64>, width: f64) -> Self {
        let end = |sign: f64| mean.iter().zip(&deviation).map(|(m, d)| m + sign * width * d).collect();
        Self { low: end(-1.0), high: end(1.0), mean, deviation }
    }

    /// One range for all channels.
    pub fn range(&self) -> Ranges {
        let low = self.low.iter().copied().fold(f64::INFINITY, f64::min);
        let high = self.high.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Ranges::single(low as f32, high as f32)
    }

    /// Every channel divided by its factor; factors are repeated where channels are.
    pub(super) fn divided(&self, by: &[f64]) -> Self {
        let times = (self.mean.len() / by.len().max(1)).max(1);
        let of = |values: &[f64]| {
            let factors = by.iter().flat_map(|factor| std::iter::repeat_n(*factor, times));
            values.iter().zip(factors).map(|(value, factor)| value / factor).collect()
        };
        Self {
            mean: of(&self.mean),
            deviation: of(&self.deviation),
            low: of(&self.low),
            high: of(&self.high),
        }
    }

    /// Every channel less a number; what was never negative stays so where `rectified`. Numbers are repeated where channels are.
    pub(super) fn less(&self, by: &[f64], rectified: bool) -> Self {
        let times = (self.mean.len() / by.len().max(1)).max(1);
        let of = |values: &[f64], least: f64| {
            let by = by.iter().flat_map(|c| std::iter::repeat_n(*c, times));
            values.iter().zip(by).map(|(value, c)| (value - c).max(least)).collect()
        };
        let least = if rectified && self.low.iter().all(|low| *low >= 0.0) { 0.0 } else { f64::NEG_INFINITY };
        Self {
            mean: of(&self.mean, f64::NEG_INFINITY),
            deviation: self.deviation.clone(),
            low: of(&self.low, least),
            high: of(&self.high, least),
        }
    }

    /// Of $\min(\max(x, a), b)$; the moments are exact for $a = 0$ and no upper bound.
    fn clamped(&self, min: f64, max: f64) -> Self {
        let moments = self.mean.iter().zip(&self.deviation).map(|(&m, &d)| {
            let (mean, deviation) = rectified(m - min, d);
            (mean + min, deviation)
        });
        let (mean, deviation) =
            if min.is_finite() { moments.unzip() } else { (self.mean.clone(), self.deviation.clone()) };
        let cut = |values: &[f64]| values.iter().map(|v| v.clamp(min, max)).collect();
        Self { mean: cut(&mean), deviation, low: cut(&self.low), high: cut(&self.high) }
    }

    fn repeated(&self, times: usize) -> Self {
        let of = |values: &[f64]| values.iter().flat_map(|v| std::iter::repeat_n(*v, times)).collect();
        Self {
            mean: of(&self.mean),
            deviation: of(&self.deviation),
            low: of(&self.low),
            high: of(&self.high),
        }
    }

    fn plus(&self, other: &Self) -> Self {
        let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a + b).collect();
        Self {
            mean: sum(&self.mean, &other.mean),
            deviation: self.deviation.iter().zip(&other.deviation).map(|(a, b)| a.hypot(*b)).collect(),
            low: sum(&self.low, &other.low),
            high: sum(&self.high, &other.high),
        }
    }

    fn constant(value: f64, channels: usize) -> Self {
        let all = vec![value; channels];
        Self { mean: all.clone(), deviation: vec![0.0; channels], low: all.clone(), high: all }
    }

    /// Some channels.
    fn part(&self, (from, to): (usize, usize)) -> Self {
        let of = |values: &[f64]| values.get(from..to).map(<[f64]>::to_vec).unwrap_or_default();
        Self {
            mean: of(&self.mean),
            deviation: of(&self.deviation),
            low: of(&self.low),
            high: of(&self.high),
        }
    }

    /// Others in place of some channels.
    fn replaced(&self, (from, to): (usize, usize), by: &Self) -> Option<Self> {
        (by.mean.len() == to.checked_sub(from)?)
            .then(|| self.part((0, from)).followed_by(by).followed_by(&self.part((to, self.mean.len()))))
    }

    fn followed_by(mut self, other: &Self) -> Self {
        self.mean.extend(&other.mean);
        self.deviation.extend(&other.deviation);
        self.low.extend(&other.low);
        self.high.extend(&other.high);
        self
    }
}

/// Mean and deviation of $\max(0, z)$ with $z \sim N(\beta, \gamma^2)$.
fn rectified(beta: f64, gamma: f64) -> (f64, f64) {
    if gamma <= 0.0 {
        return (beta.max(0.0), 0.0);
    }
    let ratio = beta / gamma;
    let density = (-ratio * ratio / 2.0).exp() / std::f64::consts::TAU.sqrt();
    let below = 0.5 * (1.0 + libm::erf(ratio * std::f64::consts::FRAC_1_SQRT_2));
    let mean = gamma * density + beta * below;
    let square = (beta * beta + gamma * gamma) * below + beta * gamma * density;
    (mean, (square - mean * mean).max(0.0).sqrt())
}

impl DataFree {
    /// Checks every value.
    ///
    /// # Errors
    /// [`QuantError::Setting`].
    pub fn validate(&self) -> Result<(), QuantError> {
        let positive = |value: f64| value > 0.0 && value.is_finite();
        in_range("deviations", self.deviations, positive(self.deviations), "above 0")?;
        in_range("input-deviation", self.input_deviation, positive(self.input_deviation), "above 0")?;
        in_range("input-mean", self.input_mean, self.input_mean.is_finite(), "finite")
    }

    /// Estimates of every node's result, by name, as far as they go: behind an operation for which there is no rule, nothing is known until the next batch
    /// normalisation.
    ///
    /// # Errors
    /// [`QuantError::Setting`] for settings out of range.
    pub fn moments(&self, graph: &Graph) -> Result<BTreeMap<String, Moments>, QuantError> {
        self.validate()?;
        let mut known: BTreeMap<NodeId, Moments> = BTreeMap::new();
        for (id, node) in graph.nodes() {
            if let Some(moments) = self.of_node(graph, node, &known)? {
                known.insert(id, moments);
            }
        }
        let named = known.into_iter().map(|(id, moments)| Ok((graph.node(id)?.name().to_owned(), moments)));
        Ok(named.collect::<Result<_, GraphError>>()?)
    }

    fn of_node(
        &self,
        graph: &Graph,
        node: &Node,
        known: &BTreeMap<NodeId, Moments>,
    ) -> Result<Option<Moments>, GraphError> {
        let input = |index: usize| node.inputs().get(index).and_then(|id| known.get(id));
        let vector = |index: usize| {
            let id = *node.inputs().get(index)?;
            Some(graph.value(id)?.iter::<f64>().collect::<Vec<_>>())
        };
        let channels = node.output().shape.dim(1).and_then(|dim| dim.fixed());
        let first = input(0);
        Ok(match node.op() {
            Op::Input => channels.map(|channels| {
                let deviation = vec![self.input_deviation; channels];
                Moments::normal(vec![self.input_mean; channels], deviation, self.deviations)
            }),
            Op::BatchNorm(_) => match (vector(1), vector(2)) {
                (Some(gamma), Some(beta)) => {
                    let deviation = gamma.iter().map(|gamma| gamma.abs()).collect();
                    Some(Moments::normal(beta, deviation, self.deviations))
                }
                _ => None,
            },
            Op::Conv(_) | Op::Linear => match (first, Rows::of(graph, node)?) {
                (Some(x), Some(rows)) => {
                    let (mean, deviation) = rows.through(x, vector(2));
                    Some(Moments::normal(mean, deviation, self.deviations))
                }
                _ => None,
            },
            Op::Activation(Activation::Relu) => first.map(|x| x.clamped(0.0, f64::INFINITY)),
            Op::Clamp { min, max } if min <= max => first.map(|x| x.clamped(*min, *max)),
            Op::Binary(Binary::Add) => match (first, input(1)) {
                (Some(a), Some(b)) if a.mean.len() == b.mean.len() => Some(a.plus(b)),
                _ => None,
            },
            Op::Cat { axis: 1 } => {
                let parts: Option<Vec<&Moments>> = node.inputs().iter().map(|id| known.get(id)).collect();
                let joined =
                    |parts: Vec<&Moments>| parts.into_iter().fold(Moments::default(), Moments::followed_by);
                parts.map(joined)
            }
            Op::Pool(_) | Op::AdaptiveAvgPool { .. } | Op::Dropout { .. } | Op::Custom { .. } => {
                first.cloned()
            }
            Op::Reduce { kind: Reduction::Mean, axes: Some(axes) } if !axes.contains(&1) => first.cloned(),
            Op::Reshape { .. } => match (first, channels) {
                // Flattening puts a channel's places side by side.
                (Some(x), Some(now)) if !x.mean.is_empty() && now.is_multiple_of(x.mean.len()) => {
                    Some(x.repeated(now / x.mean.len()))
                }
                _ => None,
            },
            Op::Slice { ranges } => first.and_then(|x| Some(x.part(fixed(ranges.get(1)?)?))),
            Op::SliceAssign { ranges } => match (first, input(1), ranges.get(1).and_then(fixed)) {
                (Some(x), Some(value), Some(place)) => x.replaced(place, value),
                _ => None,
            },
            Op::Pad { padding, mode: PadMode::Constant(value) } => match (first, padding.get(1)) {
                (Some(x), Some(&(before, after))) => {
                    let border = |channels| Moments::constant(value.as_f64(), channels);
                    Some(border(before).followed_by(x).followed_by(&border(after)))
                }
                _ => None,
            },
            Op::Full { value, .. } => channels.map(|channels| Moments::constant(value.as_f64(), channels)),
            _ => None,
        })
    }
}

/// A part of an axis in steps of one, if it does not depend on the batch.
fn fixed(range: &Range) -> Option<(usize, usize)> {
    match range {
        Range { start: Dim::Fixed(start), end: Dim::Fixed(end), step: 1 } => Some((*start, *end)),
        _ => None,
    }
}

/// A weight as one row per output channel, `[out][in][window]`, and the input channel that each output channel's row starts at.
struct Rows {
    values: Vec<f64>,
    inputs: usize,
    window: usize,
    out: usize,
    groups: usize,
}

impl Rows {
    fn of(graph: &Graph, node: &Node) -> Result<Option<Self>, GraphError> {
        let Some(&weight) = node.inputs().get(1) else { return Ok(None) };
        let Some(data) = graph.value(weight) else { return Ok(None) };
        let values: Vec<f64> = data.iter::<f64>().collect();
        Ok(match (node.op(), &data.shape()[..]) {
            (Op::Conv(conv), [out, inputs, window @ ..]) => {
                let window = window.iter().product();
                Some(Self { values, inputs: *inputs, window, out: *out, groups: conv.groups.max(1) })
            }
            (Op::Linear, &[inputs, out]) if node.output().shape.rank() == 2 => {
                let row = |o: usize| values.iter().skip(o).step_by(out.max(1)).copied();
                let values = (0..out).flat_map(row).collect();
                Some(Self { values, inputs, window: 1, out, groups: 1 })
            }
            _ => None,
        })
    }

    /// Mean and deviation of every output channel.
    fn through(&self, x: &Moments, bias: Option<Vec<f64>>) -> (Vec<f64>, Vec<f64>) {
        let of = |o: usize| {
            let group = o / (self.out / self.groups).max(1);
            let (mut mean, mut variance) =
                (bias.as_ref().and_then(|bias| bias.get(o)).copied().unwrap_or(0.0), 0.0);
            let row = self.values.chunks(self.inputs * self.window).nth(o).unwrap_or_default();
            for (i, window) in row.chunks(self.window.max(1)).enumerate() {
                let channel = group * self.inputs + i;
                let (Some(m), Some(d)) = (x.mean.get(channel), x.deviation.get(channel)) else { continue };
                mean += window.iter().sum::<f64>() * m;
                variance += window.iter().map(|w| w * w).sum::<f64>() * d * d;
            }
            (mean, variance.sqrt())
        };
        (0..self.out).map(of).unzip()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution, Tensor, TensorData};
    use kd_graph::{BatchNorm, GraphModule, Role, Shape, TensorType};

    #[test]
    fn moments_of_a_rectified_normal_variable_are_the_integrals() {
        for (beta, gamma) in [(0.0_f64, 1.0_f64), (-0.7, 0.5), (1.3, 2.0), (0.4, 0.0)] {
            let (steps, mut mean, mut square) = (40_000, 0.0, 0.0);
            for i in 0..steps {
                let t = f64::from(i) / f64::from(steps) * 16.0 - 8.0;
                let density = (-t * t / 2.0).exp() / std::f64::consts::TAU.sqrt() * 16.0 / f64::from(steps);
                let value = (beta + gamma * t).max(0.0);
                mean += value * density;
                square += value * value * density;
            }
            let (got, deviation) = rectified(beta, gamma);
            assert!((got - mean).abs() < 1e-3, "{got} {mean}");
            assert!((deviation - (square - mean * mean).max(0.0).sqrt()).abs() < 1e-2, "{deviation}");
        }
    }

    /// Linear, batch normalisation, rectifier, linear.
    fn network(norm: bool) -> Graph {
        let mut graph = Graph::new();
        let x = graph.input("x", TensorType::float(Shape::batched([3]))).unwrap();
        let mut parameter = |path: &str, role, data| graph.parameter(path, role, data).unwrap();
        let w =
            parameter("a.weight", Role::Weight, TensorData::from([[1.0f32, -2.0], [0.5, 1.0], [0.0, 1.0]]));
        let b = parameter("a.bias", Role::Weight, TensorData::from([0.5f32, -1.0]));
        let gamma = parameter("n.gamma", Role::Weight, TensorData::from([-0.5f32, 2.0]));
        let beta = parameter("n.beta", Role::Weight, TensorData::from([0.25f32, -1.0]));
        let mean = parameter("n.running_mean", Role::Buffer, TensorData::from([0.0f32, 0.0]));
        let variance = parameter("n.running_var", Role::Buffer, TensorData::from([1.0f32, 1.0]));
        let v = parameter("c.weight", Role::Weight, TensorData::from([[1.0f32], [3.0]]));
        let mut y = graph.add("a", Op::Linear, &[x, w, b]).unwrap();
        if norm {
            let op = Op::BatchNorm(BatchNorm { epsilon: 1e-5, momentum: Some(0.1) });
            y = graph.add("n", op, &[y, gamma, beta, mean, variance]).unwrap();
        }
        let y = graph.add("relu", Op::Activation(Activation::Relu), &[y]).unwrap();
        let y = graph.add("c", Op::Linear, &[y, v]).unwrap();
        graph.set_outputs(&[y]).unwrap();
        graph.remove_dead().unwrap();
        graph
    }

    #[test]
    fn a_batch_normalisation_states_its_channels() {
        let moments = DataFree::default().moments(&network(true)).unwrap();
        let norm = &moments["n"];
        assert_eq!((norm.mean.as_slice(), norm.deviation.as_slice()), (&[0.25, -1.0][..], &[0.5, 2.0][..]));
        assert_eq!(norm.range(), Ranges::single(-13.0, 11.0));
        assert_eq!(moments["relu"].range(), Ranges::single(0.0, 11.0));
    }

    #[test]
    fn without_one_moments_are_those_of_independent_normal_inputs() {
        let graph = network(false);
        let moments = DataFree { input_mean: 0.5, input_deviation: 2.0, ..DataFree::default() }
            .moments(&graph)
            .unwrap();
        let device = Device::flex();
        device.seed(1);
        let x = Tensor::<2>::random([200_000, 3], Distribution::Normal(0.5, 2.0), &device);
        let module = GraphModule::new(graph.clone(), &device).unwrap();
        for name in ["a", "relu"] {
            let id = graph.find(name).unwrap();
            let (_, taps) = module.run_tapped(vec![x.clone().into()], &[id]).unwrap();
            let values = taps[0].float::<2>().unwrap();
            let mean = values.clone().mean_dim(0).into_data().try_to_vec::<f32>().unwrap();
            let deviation = values.var(0).sqrt().into_data().try_to_vec::<f32>().unwrap();
            for channel in 0..2 {
                let (m, d) = (moments[name].mean[channel], moments[name].deviation[channel]);
                assert!((f64::from(mean[channel]) - m).abs() < 0.03, "{name} {mean:?} {m}");
                assert!((f64::from(deviation[channel]) - d).abs() < 0.03, "{name} {deviation:?} {d}");
            }
        }
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let error = DataFree { deviations: -1.0, ..DataFree::default() }.moments(&Graph::new()).unwrap_err();
        assert_eq!(error.to_string(), "`deviations` is -1, but it must be above 0");
    }
}
