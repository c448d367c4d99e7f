//! Networks built from what a case says of them.

use burn::tensor::{Device, Tensor, TensorData};
use kd_graph::{
    Activation, BatchNorm, Conv, Dim, Graph, GraphModule, NodeId, Op, Pool, PoolKind, Role, Shape, TensorType,
};
use kd_prune::{Array, Arrays};

use crate::case::{Failure, text};

/// Builds a graph layer by layer, with weights in PyTorch's layout and under its names.
pub struct Builder<'a> {
    pub graph: Graph,
    state: &'a Arrays,
    last: NodeId,
}

impl<'a> Builder<'a> {
    /// An input of this shape, whose first axis is the batch.
    pub fn new(input: &[usize], state: &'a Arrays) -> Result<Self, Failure> {
        let mut graph = Graph::new();
        let shape = Shape::batched(input.iter().skip(1).copied());
        let last = graph.input("x", TensorType::float(shape)).map_err(text)?;
        Ok(Self { graph, state, last })
    }

    fn tensor(&self, path: &str) -> Result<Array, Failure> {
        self.state.get(path).cloned().ok_or_else(|| format!("`{path}` is missing in the state"))
    }

    fn parameter(&mut self, path: &str, role: Role, value: &Array) -> Result<NodeId, Failure> {
        self.graph.parameter(path, role, value.to_data()).map_err(text)
    }

    fn add(&mut self, name: &str, op: Op, more: &[NodeId]) -> Result<(), Failure> {
        let inputs: Vec<_> = [self.last].into_iter().chain(more.iter().copied()).collect();
        let name = self.graph.free_name(name);
        self.last = self.graph.add(&name, op, &inputs).map_err(text)?;
        Ok(())
    }

    fn with_bias(&mut self, name: &str, mut inputs: Vec<NodeId>) -> Result<Vec<NodeId>, Failure> {
        let path = format!("{name}.bias");
        if let Some(bias) = self.state.get(&path).cloned() {
            inputs.push(self.parameter(&path, Role::Weight, &bias)?);
        }
        Ok(inputs)
    }

    pub fn linear(&mut self, name: &str) -> Result<(), Failure> {
        let path = format!("{name}.weight");
        let weight = transposed(&self.tensor(&path)?)?;
        let weight = self.parameter(&path, Role::Weight, &weight)?;
        let inputs = self.with_bias(name, vec![weight])?;
        self.add(name, Op::Linear, &inputs)
    }

    pub fn conv(&mut self, name: &str, padding: usize) -> Result<(), Failure> {
        let path = format!("{name}.weight");
        let weight = self.tensor(&path)?;
        let weight = self.parameter(&path, Role::Weight, &weight)?;
        let inputs = self.with_bias(name, vec![weight])?;
        let op = Conv {
            stride: vec![1; 2],
            padding: vec![(padding, padding); 2],
            dilation: vec![1; 2],
            groups: 1,
        };
        self.add(name, Op::Conv(op), &inputs)
    }

    pub fn batch_norm(&mut self, name: &str) -> Result<(), Failure> {
        let mut inputs = Vec::new();
        for part in ["weight", "bias", "running_mean", "running_var"] {
            let path = format!("{name}.{part}");
            let value = self.tensor(&path)?;
            let role = if part.starts_with("running") { Role::Buffer } else { Role::Weight };
            inputs.push(self.parameter(&path, role, &value)?);
        }
        self.add(name, Op::BatchNorm(BatchNorm { epsilon: 1e-5, momentum: None }), &inputs)
    }

    pub fn relu(&mut self) -> Result<(), Failure> {
        self.add("relu", Op::Activation(Activation::Relu), &[])
    }

    pub fn pool(&mut self, kind: PoolKind, size: usize) -> Result<(), Failure> {
        let op = Pool {
            kind,
            kernel: vec![size; 2],
            stride: vec![size; 2],
            padding: vec![0; 2],
            dilation: vec![1; 2],
            ceil: false,
        };
        self.add("pool", Op::Pool(op), &[])
    }

    pub fn average_all(&mut self) -> Result<(), Failure> {
        self.add("average", Op::AdaptiveAvgPool { size: vec![1, 1] }, &[])
    }

    pub fn flatten(&mut self) -> Result<(), Failure> {
        let dims = self.graph.node(self.last).map_err(text)?.output().shape.dims().to_vec();
        let merged: usize = dims.iter().skip(1).filter_map(|dim| dim.fixed()).product();
        let shape = [Dim::Batch(1), Dim::Fixed(merged)].into_iter().collect();
        self.add("flatten", Op::Reshape { shape }, &[])
    }

    pub fn done(mut self) -> Result<Graph, Failure> {
        self.graph.set_outputs(&[self.last]).map_err(text)?;
        self.graph.validate().map_err(text)?;
        Ok(self.graph)
    }
}

/// A matrix the other way round: PyTorch's linear weights are `[out, in]`, burn's `[in, out]`. Anything else as it is.
pub fn transposed(array: &Array) -> Result<Array, Failure> {
    let &[rows, columns] = array.shape() else { return Ok(array.clone()) };
    let value = |flat: usize| array.values()[flat % rows * columns + flat / rows];
    Array::new([columns, rows], (0..rows * columns).map(value).collect()).map_err(text)
}

/// The result of a graph for an input of rank `D`, in evaluation.
pub fn logits<const D: usize>(graph: &Graph, input: &Array) -> Result<Array, Failure> {
    let device = Device::flex();
    let module = GraphModule::new(graph.clone(), &device).map_err(text)?;
    let data: TensorData = input.to_data();
    let output: Tensor<2> = module.forward(Tensor::<D>::from_data(data, &device)).map_err(text)?;
    Array::from_data(&output.into_data()).map_err(text)
}

/// The network of a description such as `MLP [6, 8, 3] ReLU` or `Sequential(conv3x3 3->4 pad1 bias, BN, ReLU, ...); eval mode`. Layers are numbered as in
/// the description; flattening after a global pooling counts.
pub fn described(text: &str, input: &[usize], state: &Arrays) -> Result<Graph, Failure> {
    let mut builder = Builder::new(input, state)?;
    if let Some(rest) = text.strip_prefix("MLP [") {
        let widths = rest.split(']').next().unwrap_or_default().split(',').count();
        for layer in 0..widths.saturating_sub(1) {
            if layer > 0 {
                builder.relu()?;
            }
            builder.linear(&(2 * layer).to_string())?;
        }
        return builder.done();
    }
    let inside = text.strip_prefix("Sequential(").and_then(|rest| rest.split(')').next());
    let mut index = 0;
    for layer in inside.ok_or_else(|| format!("`{text}` is not known"))?.split(", ") {
        let name = index.to_string();
        match layer {
            "BN" => builder.batch_norm(&name)?,
            "ReLU" => builder.relu()?,
            "global avg pool" => {
                builder.average_all()?;
                builder.flatten()?;
                index += 1;
            }
            _ if layer.starts_with("Linear") => builder.linear(&name)?,
            _ if layer.starts_with("conv") => {
                let padding = layer.split("pad").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
                builder.conv(&name, padding.unwrap_or(0))?;
            }
            _ if layer.starts_with("AvgPool") => {
                let size = layer.trim_start_matches("AvgPool").parse().map_err(|_| layer.to_owned())?;
                builder.pool(PoolKind::Average { count_padding: true }, size)?;
            }
            other => return Err(format!("the layer `{other}` is not known")),
        }
        index += 1;
    }
    builder.done()
}
