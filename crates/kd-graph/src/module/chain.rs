//! Running a chain on our kernels.

use burn::backend::ops::ModuleOps;
use burn::backend::{Dispatch, DispatchDevice, DispatchTensor};
use burn::tensor::{DType, Device, Tensor};

use super::fuse::Chain;
use super::ops::{Args, Reason};
use super::plan::Norm;
use super::{GraphModule, RunError, Value, batch_norm};
use crate::kernels::{self, Chains, FoldCache, Maybe, Norm as Normalise, Window};

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
