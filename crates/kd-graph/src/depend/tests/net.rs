//! Small graphs in the making.

use burn::tensor::TensorData;

use crate::{BatchNorm, Conv, Dependencies, Dim, Graph, NodeId, Op, Range, Role, Shape, TensorType};

/// A graph in the making; weights count up, so that what is cut can be recognised.
#[derive(Default)]
pub(super) struct Net(pub(super) Graph);

impl Net {
    pub(super) fn input(&mut self, sizes: &[usize]) -> NodeId {
        let name = self.0.free_name("input");
        self.0.input(&name, TensorType::float(Shape::batched(sizes.iter().copied()))).unwrap()
    }

    pub(super) fn parameter(&mut self, name: &str, sizes: &[usize]) -> NodeId {
        let count = sizes.iter().product::<usize>();
        let data = TensorData::new((0..count).map(|i| i as f32).collect(), sizes.to_vec());
        self.0.parameter(name, Role::Weight, data).unwrap()
    }

    pub(super) fn op(&mut self, op: Op, inputs: &[NodeId]) -> NodeId {
        let name = self.0.free_name(&op.word());
        self.0.add(&name, op, inputs).unwrap()
    }

    /// A 1x1 convolution with bias.
    pub(super) fn conv(&mut self, name: &str, x: NodeId, out: usize, groups: usize) -> NodeId {
        let channels = self.channels(x, 1);
        let weight = self.parameter(&format!("{name}.weight"), &[out, channels / groups, 1, 1]);
        let bias = self.parameter(&format!("{name}.bias"), &[out]);
        let conv = Conv { stride: vec![1; 2], padding: vec![(0, 0); 2], dilation: vec![1; 2], groups };
        self.0.add(name, Op::Conv(conv), &[x, weight, bias]).unwrap()
    }

    pub(super) fn linear(&mut self, name: &str, x: NodeId, out: usize) -> NodeId {
        let rank = self.0.node(x).unwrap().output().shape.rank();
        let into = self.channels(x, rank - 1);
        let weight = self.parameter(&format!("{name}.weight"), &[into, out]);
        let bias = self.parameter(&format!("{name}.bias"), &[out]);
        self.0.add(name, Op::Linear, &[x, weight, bias]).unwrap()
    }

    pub(super) fn norm(&mut self, name: &str, x: NodeId) -> NodeId {
        let channels = self.channels(x, 1);
        let parameters = ["gamma", "beta", "mean", "var"]
            .map(|part| self.parameter(&format!("{name}.{part}"), &[channels]));
        let inputs: Vec<_> = [x].into_iter().chain(parameters).collect();
        self.0.add(name, Op::BatchNorm(BatchNorm { epsilon: 1e-5, momentum: None }), &inputs).unwrap()
    }

    pub(super) fn slice(&mut self, x: NodeId, axis: usize, start: usize, end: usize) -> NodeId {
        let dims = self.0.node(x).unwrap().output().shape.dims().to_vec();
        let mut ranges: Vec<_> = dims.into_iter().map(Range::all).collect();
        ranges[axis] = Range { start: Dim::Fixed(start), end: Dim::Fixed(end), step: 1 };
        self.op(Op::Slice { ranges }, &[x])
    }

    pub(super) fn reshape(&mut self, x: NodeId, sizes: &[usize]) -> NodeId {
        self.op(Op::Reshape { shape: Shape::batched(sizes.iter().copied()) }, &[x])
    }

    pub(super) fn permute(&mut self, x: NodeId, axes: &[usize]) -> NodeId {
        self.op(Op::Permute { axes: axes.to_vec() }, &[x])
    }

    pub(super) fn channels(&self, x: NodeId, axis: usize) -> usize {
        self.0.node(x).unwrap().output().shape.dim(axis).unwrap().fixed().unwrap()
    }

    pub(super) fn end(&mut self, x: NodeId) -> Dependencies {
        self.0.set_outputs(&[x]).unwrap();
        self.0.dependencies()
    }
}
