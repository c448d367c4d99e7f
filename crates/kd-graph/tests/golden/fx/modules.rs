//! Layers.

use kd_graph::{Activation, BatchNorm, Conv, ConvTranspose, NodeId, Op, Pool, PoolKind};

use super::{Arguments, Importer};
use crate::case::Failure;
use crate::steps::Module;
use crate::value::Value;

fn field<T: Clone>(value: &Option<T>, name: &str) -> Result<T, Failure> {
    value.clone().ok_or_else(|| format!("the layer's `{name}` is missing"))
}

/// The arguments in a layer's printed form.
fn printed(module: &Module) -> Result<Arguments, Failure> {
    match Value::parse(module.repr.as_deref().unwrap_or("Layer()"))? {
        Value::Call(_, positional, named) => Ok(Arguments { positional, named }),
        other => Err(format!("{other:?} is not a layer")),
    }
}

impl Importer {
    pub(super) fn module(&mut self, name: &str, path: &str, arguments: &Arguments) -> Result<Value, Failure> {
        let x = arguments.get(0, "input")?.tensor()?;
        let module = self.modules.remove(path).ok_or_else(|| format!("no layer is called `{path}`"))?;
        let result = self.apply(name, &module, x);
        self.modules.insert(path.to_owned(), module);
        result.map(Value::Tensor)
    }

    fn apply(&mut self, name: &str, module: &Module, x: NodeId) -> Result<NodeId, Failure> {
        let rank = self.shape(x)?.rank();
        let op = match module.kind.as_str() {
            "Conv1d" | "Conv2d" | "Conv3d" => return self.conv(name, module, x),
            "ConvTranspose1d" | "ConvTranspose2d" | "ConvTranspose3d" => {
                return self.conv_transpose(name, module, x);
            }
            "Linear" => {
                let (into, out) = (field(&module.into, "in")?, field(&module.out, "out")?);
                return self.weighted(name, module, Op::Linear, x, &[into, out], out);
            }
            "BatchNorm1d" | "BatchNorm2d" | "BatchNorm3d" => {
                let (features, epsilon) = (field(&module.features, "features")?, field(&module.eps, "eps")?);
                let mut inputs = vec![x];
                for part in ["weight", "bias", "running_mean", "running_var"] {
                    inputs.push(self.parameter(&format!("{}.{part}", module.name), &[features])?);
                }
                return self.add(name, Op::BatchNorm(BatchNorm { epsilon, momentum: None }), &inputs);
            }
            "LayerNorm" => {
                let (shape, epsilon) = (field(&module.shape, "shape")?, field(&module.eps, "eps")?);
                let [features] = shape.as_slice() else {
                    return Err(format!("a layer norm over {} axes is not known", shape.len()));
                };
                let weight = self.parameter(&format!("{}.weight", module.name), &[*features])?;
                let bias = self.parameter(&format!("{}.bias", module.name), &[*features])?;
                return self.add(name, Op::LayerNorm { epsilon }, &[x, weight, bias]);
            }
            "Sequential" | "Identity" | "Dropout" | "Dropout2d" => return Ok(x),
            "Flatten" => return self.flatten(name, x, &printed(module)?, 0),
            "ReLU" => Op::Activation(Activation::Relu),
            "ReLU6" => Op::Clamp { min: 0.0, max: 6.0 },
            "GELU" => Op::Activation(Activation::Gelu),
            "SiLU" => Op::Activation(Activation::Silu),
            "Mish" => Op::Activation(Activation::Mish),
            "Hardswish" => Op::Activation(Activation::HardSwish),
            "Sigmoid" => Op::Activation(Activation::Sigmoid),
            "Tanh" => Op::Activation(Activation::Tanh),
            "MaxPool1d" | "MaxPool2d" | "MaxPool3d" => self.pool(module, PoolKind::Max, rank)?,
            "AvgPool1d" | "AvgPool2d" | "AvgPool3d" => {
                self.pool(module, PoolKind::Average { count_padding: true }, rank)?
            }
            "AdaptiveAvgPool1d" | "AdaptiveAvgPool2d" | "AdaptiveAvgPool3d" => Op::AdaptiveAvgPool {
                size: printed(module)?.get(0, "output_size")?.sizes(rank.saturating_sub(2))?,
            },
            other => return Err(format!("layers of type `{other}` are not known")),
        };
        self.add(name, op, &[x])
    }

    fn weighted(
        &mut self,
        name: &str,
        module: &Module,
        op: Op,
        x: NodeId,
        weight: &[usize],
        out: usize,
    ) -> Result<NodeId, Failure> {
        let mut inputs = vec![x, self.parameter(&format!("{}.weight", module.name), weight)?];
        if module.bias.unwrap_or(true) {
            inputs.push(self.parameter(&format!("{}.bias", module.name), &[out])?);
        }
        self.add(name, op, &inputs)
    }

    fn conv(&mut self, name: &str, module: &Module, x: NodeId) -> Result<NodeId, Failure> {
        let (into, out) = (field(&module.into, "in")?, field(&module.out, "out")?);
        let (kernel, groups) = (field(&module.kernel, "kernel")?, field(&module.groups, "groups")?);
        let op = Op::Conv(Conv {
            stride: field(&module.stride, "stride")?,
            padding: field(&module.padding, "padding")?.into_iter().map(|size| (size, size)).collect(),
            dilation: module.dilation.clone().unwrap_or_else(|| vec![1; kernel.len()]),
            groups,
        });
        let weight: Vec<_> = [out, into / groups].into_iter().chain(kernel).collect();
        self.weighted(name, module, op, x, &weight, out)
    }

    fn conv_transpose(&mut self, name: &str, module: &Module, x: NodeId) -> Result<NodeId, Failure> {
        let (into, out) = (field(&module.into, "in")?, field(&module.out, "out")?);
        let (kernel, groups) = (field(&module.kernel, "kernel")?, field(&module.groups, "groups")?);
        let op = Op::ConvTranspose(ConvTranspose {
            stride: field(&module.stride, "stride")?,
            padding: field(&module.padding, "padding")?,
            padding_out: vec![0; kernel.len()],
            dilation: module.dilation.clone().unwrap_or_else(|| vec![1; kernel.len()]),
            groups,
        });
        let weight: Vec<_> = [into, out / groups].into_iter().chain(kernel).collect();
        self.weighted(name, module, op, x, &weight, out)
    }

    fn pool(&self, module: &Module, kind: PoolKind, rank: usize) -> Result<Op, Failure> {
        let (printed, axes) = (printed(module)?, rank.saturating_sub(2));
        let kernel = printed.get(0, "kernel_size")?.sizes(axes)?;
        let sizes = |place, name, otherwise: &[usize]| match printed.optional(place, name) {
            Some(value) => value.sizes(axes),
            None => Ok(otherwise.to_vec()),
        };
        Ok(Op::Pool(Pool {
            kind,
            stride: sizes(1, "stride", &kernel)?,
            padding: sizes(2, "padding", &vec![0; axes])?,
            dilation: sizes(3, "dilation", &vec![1; axes])?,
            ceil: printed.named.get("ceil_mode") == Some(&Value::Bool(true)),
            kernel,
        }))
    }
}
