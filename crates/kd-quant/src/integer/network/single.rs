//! One node of a graph as a network of its own.

use burn::module::Module;
use burn::tensor::Device;
use kd_graph::{Graph, GraphModule, Kernels, NodeId, Op, Role, Value};

use super::compile::Compiling;
use crate::QuantError;

/// A node that runs in float, whatever its operation.
#[derive(Clone, Debug)]
pub(super) struct Single(GraphModule);

impl Single {
    /// The node with the constants that it reads, and the nodes that it reads at every run.
    pub fn new(compiling: &Compiling<'_>, id: NodeId) -> Result<(Self, Vec<NodeId>), QuantError> {
        let node = compiling.graph.node(id)?;
        let (mut alone, mut inputs, mut read) = (Graph::new(), Vec::new(), Vec::new());
        for (index, &input) in node.inputs().iter().enumerate() {
            let name = format!("input{index}");
            inputs.push(match compiling.constants.get(&input) {
                Some(value) => {
                    let data = value.data().map_err(|error| QuantError::Run { why: error.to_string() })?;
                    alone.parameter(&name, Role::Buffer, data)?
                }
                None => {
                    read.push(input);
                    alone.input(&name, compiling.graph.node(input)?.output().clone())?
                }
            });
        }
        if read.is_empty() && node.output().shape.has_batch() {
            // Nothing else tells it the size of the batch.
            let input = compiling
                .graph
                .inputs()
                .first()
                .copied()
                .ok_or(QuantError::Empty { what: "the list of inputs" })?;
            alone.input("batch", compiling.graph.node(input)?.output().clone())?;
            read.push(input);
        }
        let result = match node.op() {
            op @ Op::Custom { .. } => {
                alone.add_typed(node.name(), op.clone(), &inputs, node.output().clone())?
            }
            op => alone.add(node.name(), op.clone(), &inputs)?,
        };
        alone.set_outputs(&[result])?;
        let module = module(alone, &compiling.device, &compiling.kernels)?;
        Ok((Self(module), read))
    }

    /// The same on another device.
    pub fn moved_to(self, device: &Device) -> Self {
        Self(self.0.to_device(device))
    }

    pub fn run(&self, inputs: Vec<Value>) -> Result<Value, String> {
        let outputs = self.0.run(inputs).map_err(|error| error.to_string())?;
        outputs.into_iter().next().ok_or_else(|| "it has no result".to_owned())
    }
}

fn module(graph: Graph, device: &Device, kernels: &Kernels) -> Result<GraphModule, QuantError> {
    let module = GraphModule::with_kernels(graph, device, kernels);
    module.map_err(|error| QuantError::Run { why: error.to_string() })
}
