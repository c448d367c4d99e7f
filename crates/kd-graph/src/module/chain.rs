//! Running a chain on our kernels.

use burn::backend::ops::ModuleOps;
use burn::backend::{Dispatch, DispatchDevice, DispatchTensor, TensorMetadata};
use burn::tensor::{DType, Device, Tensor};

use super::fuse::Chain;
use super::ops::{Args, Reason};
use super::plan::Norm;
use super::{GraphModule, RunError, Value, batch_norm};
use crate::kernels::{self, Chains, FoldCache, Maybe, Norm as Normalise, Window};
use crate::{Graph, Op};

/// Whether a device has our kernels: flex, in single precision, with gradients or without.
pub(super) fn supported(device: &Device) -> bool {
    #[cfg(feature = "flex")]
    {
        let inner = device.clone().without_autodiff();
        let float = DType::from(device.settings().float_dtype);
        matches!(inner.as_dispatch(), DispatchDevice::Flex(_)) && float == DType::F32
    }
    #[cfg(not(feature = "flex"))]
    {
        let _ = (device, DType::F32, None::<DispatchDevice>);
        false
    }
}

/// Whether the floats that a caller gives have single precision.
pub(super) fn single(inputs: &[Value]) -> bool {
    !inputs.iter().any(|value| matches!(value, Value::Float(tensor) if tensor.dtype() != DType::F32))
}

/// Whether a graph leaves single precision on the way.
pub(super) fn leaves_single(graph: &Graph) -> bool {
    graph.nodes().any(|(_, node)| matches!(node.op(), Op::Cast { precision: Some(_), .. }))
}

/// Runs one chain. Its arguments have the types that the graph says.
pub(super) fn run(
    module: &GraphModule,
    chain: &Chain,
    mut args: Args,
    node: &str,
) -> Result<Value, RunError> {
    let wrong = |reason: Reason| RunError::Op { node: node.to_owned(), reason };
    let y = match chain {
        Chain::Conv { window, relu } => {
            let [x, weight] = floats(&mut args).map_err(wrong)?;
            let bias = Maybe::of(args.optional_float().map_err(wrong)?);
            Dispatch::chain_conv(x, weight, bias, *window, *relu)
        }
        Chain::ConvNorm { window, norm, relu, folded } => {
            let [x, weight] = floats(&mut args).map_err(wrong)?;
            let layer = Layer { module, norm, folded, relu: *relu, node };
            layer.run(Some((weight, *window)), x, args)?
        }
        Chain::Norm { norm, relu, folded } => {
            let [x] = floats(&mut args).map_err(wrong)?;
            Layer { module, norm, folded, relu: *relu, node }.run(None, x, args)?
        }
        Chain::Relu => {
            let [x] = floats(&mut args).map_err(wrong)?;
            Dispatch::chain_relu(x)
        }
        Chain::Add { relu } => {
            let [a, b] = floats(&mut args).map_err(wrong)?;
            Dispatch::chain_add(a, b, *relu)
        }
        Chain::Pool(pooling) => {
            let [x] = floats(&mut args).map_err(wrong)?;
            Dispatch::chain_pool(x, pooling.clone())
        }
        Chain::Linear { relu } => {
            let [x, weight] = floats(&mut args).map_err(wrong)?;
            let bias = Maybe::of(args.optional_float().map_err(wrong)?);
            Dispatch::chain_linear(x, weight, bias, *relu)
        }
    };
    Ok(Value::Float(y))
}

/// The next arguments.
fn floats<const N: usize>(args: &mut Args) -> Result<[DispatchTensor; N], Reason> {
    let tensors: Vec<_> = (0..N).map(|_| args.float()).collect::<Result<_, _>>()?;
    tensors.try_into().map_err(|tensors: Vec<_>| format!("{N} tensors, not {}", tensors.len()))
}

/// A batch norm with what is around it.
struct Layer<'a> {
    module: &'a GraphModule,
    norm: &'a Norm,
    folded: &'a FoldCache,
    relu: bool,
    node: &'a str,
}

impl Layer<'_> {
    fn run(
        &self,
        conv: Option<(DispatchTensor, Window)>,
        x: DispatchTensor,
        mut args: Args,
    ) -> Result<DispatchTensor, RunError> {
        let wrong = |reason: Reason| RunError::Op { node: self.node.to_owned(), reason };
        let [gamma, beta, mean, variance] = floats(&mut args).map_err(wrong)?;
        let residual = args.optional_float().map_err(wrong)?;
        let epsilon = self.norm.attributes.epsilon;
        let Some(training) = batch_norm::training(self.module, self.norm, &x, self.node)? else {
            return Ok(self.evaluate(conv, x, [gamma, beta, mean, variance], residual));
        };

        let settings = Normalise { epsilon, relu: self.relu, recompute: self.module.recompute };
        let device = Value::Float(x.clone()).device();
        let residual = Maybe::of(residual);
        let (y, mean, variance) = match conv {
            Some((weight, window)) => {
                Dispatch::chain_conv_norm(x, weight, gamma, beta, residual, mean, window, settings)
            }
            None => Dispatch::chain_norm(x, gamma, beta, residual, settings),
        };
        let batch = [Tensor::from_dispatch(mean), Tensor::from_dispatch(variance)];
        training.update(self.module, batch, &device);
        Ok(y)
    }

    /// With running statistics.
    fn evaluate(
        &self,
        conv: Option<(DispatchTensor, Window)>,
        x: DispatchTensor,
        parts: [DispatchTensor; 4],
        residual: Option<DispatchTensor>,
    ) -> DispatchTensor {
        let epsilon = self.norm.attributes.epsilon;
        let settings = Normalise { epsilon, relu: self.relu, recompute: false };
        let folding = conv.as_ref().map(|(weight, window)| (weight, *window));
        if let Some(y) = kernels::evaluate(self.folded, folding, &x, &parts, residual.as_ref(), settings) {
            return y;
        }
        // A frozen layer inside a network that trains.
        let x = match conv {
            Some((weight, window)) => Dispatch::chain_conv(x, weight, Maybe::Absent, window, false),
            None => x,
        };
        let [gamma, beta, mean, variance] = parts;
        let y = Dispatch::batch_norm(x, gamma, beta, mean, variance, epsilon);
        match residual {
            Some(residual) => Dispatch::chain_add(y, residual, self.relu),
            None if self.relu => Dispatch::chain_relu(y),
            None => y,
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Activation, Kind, Shape, TensorType};

    #[test]
    fn a_graph_that_leaves_single_precision_computes_on_burn() {
        let mut graph = Graph::new();
        let x = graph.input("x", TensorType::float(Shape::batched([3]))).unwrap();
        let half = Op::Cast { kind: Kind::Float, precision: Some("f16".into()) };
        let half = graph.add("half", half, &[x]).unwrap();
        let relu = graph.add("relu", Op::Activation(Activation::Relu), &[half]).unwrap();
        graph.set_outputs(&[relu]).unwrap();
        let device = Device::flex();
        let module = GraphModule::new(graph, &device).unwrap();
        let x = Tensor::<2>::from_data([[-1.0, 0.5, 2.0]], &device);
        let y = module.run(vec![x.into()]).unwrap().remove(0).data().unwrap();
        assert_eq!(y.dtype(), DType::F16);
        assert_eq!(y.iter::<f32>().collect::<Vec<_>>(), [0.0, 0.5, 2.0]);
    }

    #[test]
    fn inputs_in_double_precision_compute_on_burn() {
        let mut graph = Graph::new();
        let x = graph.input("x", TensorType::float(Shape::batched([2]))).unwrap();
        let relu = graph.add("relu", Op::Activation(Activation::Relu), &[x]).unwrap();
        graph.set_outputs(&[relu]).unwrap();
        let device = Device::flex();
        let module = GraphModule::new(graph, &device).unwrap();
        let x = Tensor::<2>::from_data([[-1.0, 2.0]], &device).cast(burn::tensor::FloatDType::F64);
        let y = module.run(vec![x.into()]).unwrap().remove(0).data().unwrap();
        assert_eq!(y.iter::<f64>().collect::<Vec<_>>(), [0.0, 2.0]);
    }
}
