//! Random networks of all that moves channels about.

use kd_graph::{
    Activation, BatchNorm, Binary, Conv, Dim, Graph, NodeId, Op, PadMode, Range, Role, Scalar, Shape,
    TensorType,
};

use super::support::Random;

/// Height and width of all maps.
const SIDE: usize = 4;
const CLASSES: usize = 3;

struct Builder<'r> {
    graph: Graph,
    random: &'r mut Random,
    /// Maps made so far.
    maps: Vec<NodeId>,
}

/// A dozen operations on maps, then a linear layer.
pub fn random(random: &mut Random) -> Graph {
    let mut graph = Graph::new();
    let input = graph.input("input", TensorType::float(Shape::batched([3, SIDE, SIDE]))).unwrap();
    let mut build = Builder { graph, random, maps: Vec::new() };
    let stem = build.conv(input, 6, 1);
    build.maps = vec![stem];
    for _ in 0..12 {
        let map = build.map();
        build.maps.push(map);
    }
    build.end()
}

impl Builder<'_> {
    /// A map, the later the likelier.
    fn pick(&mut self) -> NodeId {
        let back = self.random.below(3).min(self.maps.len() - 1);
        self.maps[self.maps.len() - 1 - back]
    }

    fn channels(&self, map: NodeId) -> usize {
        self.graph.node(map).unwrap().output().shape.dim(1).unwrap().fixed().unwrap()
    }

    fn add(&mut self, op: Op, inputs: &[NodeId]) -> NodeId {
        let name = self.graph.free_name(&op.word());
        self.graph.add(&name, op, inputs).unwrap()
    }

    fn parameter(&mut self, name: &str, sizes: &[usize]) -> NodeId {
        let (name, value) = (self.graph.free_name(name), self.random.tensor(sizes));
        self.graph.parameter(&name, Role::Weight, value).unwrap()
    }

    fn map(&mut self) -> NodeId {
        let x = self.pick();
        let channels = self.channels(x);
        match self.random.below(11) {
            0 | 1 => {
                let out = 2 + self.random.below(7);
                self.conv(x, out, 1)
            }
            2 => {
                let groups: Vec<_> =
                    (1..=channels).filter(|groups| channels.is_multiple_of(*groups)).collect();
                let groups = groups[self.random.below(groups.len())];
                let out = groups * (1 + self.random.below(3));
                self.conv(x, out, groups)
            }
            3 => self.norm(x),
            4 => {
                let rare = self.random.below(4) == 0;
                self.add(Op::Activation(if rare { Activation::Sigmoid } else { Activation::Relu }), &[x])
            }
            5 => {
                let other = self.pick();
                let other =
                    if self.channels(other) == channels { other } else { self.conv(other, channels, 1) };
                self.add(Op::Binary(Binary::Add), &[x, other])
            }
            6 if channels < 16 => {
                let other = self.pick();
                self.add(Op::Cat { axis: 1 }, &[x, other])
            }
            7 => {
                let start = self.random.below(channels);
                let end = start + 1 + self.random.below(channels - start);
                self.slice(x, start, end)
            }
            8 => self.shuffle(x),
            9 if channels < 16 => {
                let padding = vec![(0, 0), (self.random.below(3), self.random.below(3)), (0, 0), (0, 0)];
                self.add(Op::Pad { padding, mode: PadMode::Constant(Scalar::Float(0.0)) }, &[x])
            }
            _ => {
                let table = self.parameter("table", &[1, channels, 1, 1]);
                self.add(Op::Binary(Binary::Mul), &[x, table])
            }
        }
    }

    fn conv(&mut self, x: NodeId, out: usize, groups: usize) -> NodeId {
        let side = [1, 3][self.random.below(2)];
        let weight = self.parameter("conv.weight", &[out, self.channels(x) / groups, side, side]);
        let bias = self.parameter("conv.bias", &[out]);
        let padding = vec![(side / 2, side / 2); 2];
        self.add(
            Op::Conv(Conv { stride: vec![1; 2], padding, dilation: vec![1; 2], groups }),
            &[x, weight, bias],
        )
    }

    fn norm(&mut self, x: NodeId) -> NodeId {
        let channels = self.channels(x);
        let [gamma, beta, mean] = ["gamma", "beta", "mean"].map(|name| self.parameter(name, &[channels]));
        let variance = self.graph.free_name("variance");
        let ones = burn::tensor::TensorData::ones::<f32, _>([channels]);
        let variance = self.graph.parameter(&variance, Role::Buffer, ones).unwrap();
        let op = Op::BatchNorm(BatchNorm { epsilon: 1e-5, momentum: None });
        self.add(op, &[x, gamma, beta, mean, variance])
    }

    fn slice(&mut self, x: NodeId, start: usize, end: usize) -> NodeId {
        let dims = self.graph.node(x).unwrap().output().shape.dims().to_vec();
        let mut ranges: Vec<_> = dims.into_iter().map(Range::all).collect();
        ranges[1] = Range { start: Dim::Fixed(start), end: Dim::Fixed(end), step: 1 };
        if self.random.below(3) == 0 {
            ranges[1].step = -1;
        }
        self.add(Op::Slice { ranges }, &[x])
    }

    /// Channels dealt out to a few piles, which are put one on the other.
    fn shuffle(&mut self, x: NodeId) -> NodeId {
        let channels = self.channels(x);
        let piles = [2, 3, 4].into_iter().find(|piles| channels.is_multiple_of(*piles)).unwrap_or(1);
        let apart = Shape::batched([channels / piles, piles, SIDE, SIDE]);
        let x = self.add(Op::Reshape { shape: apart }, &[x]);
        let x = self.add(Op::Permute { axes: vec![0, 2, 1, 3, 4] }, &[x]);
        self.add(Op::Reshape { shape: Shape::batched([channels, SIDE, SIDE]) }, &[x])
    }

    fn end(mut self) -> Graph {
        let (a, b) = (self.pick(), self.pick());
        let x = self.add(Op::Cat { axis: 1 }, &[a, b]);
        let features = self.channels(x) * SIDE * SIDE;
        let x = self.add(Op::Reshape { shape: Shape::batched([features]) }, &[x]);
        let weight = self.parameter("fc.weight", &[features, CLASSES]);
        let fc = self.add(Op::Linear, &[x, weight]);
        self.graph.set_outputs(&[fc]).unwrap();
        self.graph
    }
}
