//! AdderNet's layers in a network.

use burn::tensor::Tensor;
use kd_graph::{Edit, Kernel, NodeId, Op, Scalar, Value};

use super::quantizer::Adder;
use crate::QuantError;
use crate::adder::AdderConv;

/// What the names of these operations begin with; the layer's settings follow as JSON.
const PREFIX: &str = "adder";

/// Puts an adder layer in the place of a convolution or linear layer. A bias goes: the batch normalisation behind has one.
pub(super) fn replace(edit: &mut Edit, layer: NodeId, adder: Adder) -> Result<(), QuantError> {
    let node = edit.graph().node(layer)?.clone();
    let wrong = |why: &str| QuantError::Plan { name: node.name().to_owned(), why: why.to_owned() };
    let conv = match node.op() {
        Op::Linear if node.output().shape.rank() == 2 => AdderConv { stride: 1, padding: 0, eta: adder.eta },
        Op::Conv(conv) => {
            let (Some(&stride), Some(&(padding, _))) = (conv.stride.first(), conv.padding.first()) else {
                return Err(wrong("has no window"));
            };
            let square = conv.axes() == 2
                && conv.stride.iter().all(|&other| other == stride)
                && conv.padding.iter().all(|&other| other == (padding, padding))
                && conv.dilation.iter().all(|&dilation| dilation == 1)
                && conv.groups == 1;
            if !square {
                return Err(wrong(
                    "is no plain square convolution, which is what an adder layer can stand for",
                ));
            }
            AdderConv { stride, padding, eta: adder.eta }
        }
        _ => return Err(wrong("is no layer that an adder layer can stand for")),
    };
    let inputs: Vec<NodeId> = node.inputs().iter().copied().take(2).collect();
    let settings =
        serde_json::to_string(&conv).map_err(|error| QuantError::Run { why: error.to_string() })?;
    let op = Op::Custom { name: format!("{PREFIX}{settings}"), attributes: Vec::new() };
    edit.replace(layer, op, &inputs)?;
    edit.set_type(layer, node.output().clone())?;
    Ok(())
}

/// The kernel of an operation, or none for another operation.
pub(super) fn kernel(name: &str) -> Result<Option<AdderKernel>, QuantError> {
    let Some(settings) = name.strip_prefix(PREFIX) else { return Ok(None) };
    let why = |error: serde_json::Error| format!("is no adder layer: {error}");
    let conv = serde_json::from_str(settings);
    conv.map(|conv| Some(AdderKernel { conv }))
        .map_err(|error| QuantError::Plan { name: name.to_owned(), why: why(error) })
}

#[derive(Debug)]
pub(super) struct AdderKernel {
    conv: AdderConv,
}

impl Kernel for AdderKernel {
    fn run(&self, inputs: Vec<Value>, _attributes: &[Scalar]) -> Result<Value, String> {
        let [x, weight] = inputs.as_slice() else {
            return Err(format!("an adder layer reads an input and a weight, not {} tensors", inputs.len()));
        };
        if x.rank() == 2 {
            let x: Tensor<2> = x.float().map_err(|error| error.to_string())?;
            let weight: Tensor<2> = weight.float().map_err(|error| error.to_string())?;
            let y = self.conv.linear(x, weight.transpose());
            return y.map(Value::from).map_err(|error| error.to_string());
        }
        let x: Tensor<4> = x.float().map_err(|error| error.to_string())?;
        let weight: Tensor<4> = weight.float().map_err(|error| error.to_string())?;
        self.conv.forward(x, weight).map(Value::from).map_err(|error| error.to_string())
    }
}
