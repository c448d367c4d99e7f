//! Functions and methods.

use kd_graph::{Activation, Binary, Dim, NodeId, Op, Range, Reduction, Scalar, Shape, Unary};

use super::{Arguments, Importer};
use crate::case::Failure;
use crate::value::Value;

impl Importer {
    pub(super) fn function(
        &mut self,
        name: &str,
        target: &str,
        arguments: &Arguments,
    ) -> Result<Value, Failure> {
        let first = arguments.get(0, "input")?;
        let activation = |activation| Op::Activation(activation);
        let op = match target {
            "getattr" => return self.attribute(first.tensor()?, arguments.get(1, "name")?),
            "size" => {
                let sizes = self.attribute(first.tensor()?, &Value::Name("shape".into()))?.list();
                let Some(axis) = arguments.optional(1, "dim") else { return Ok(Value::List(sizes)) };
                return Ok(sizes[axis.axis(sizes.len())?].clone());
            }
            "getitem" => return self.item(name, first, arguments.get(1, "index")?),
            "contiguous" | "clone" | "detach" | "float" | "dropout" => return Ok(first.clone()),
            "add" | "iadd" | "sub" | "mul" | "imul" | "truediv" | "div" | "floordiv" => {
                return self.arithmetic(name, target, first, arguments.get(1, "other")?);
            }
            "cat" | "concat" => {
                let parts: Result<Vec<_>, _> = first.list().iter().map(Value::tensor).collect();
                let parts = parts?;
                let rank = self.shape(*parts.first().ok_or("nothing to concatenate")?)?.rank();
                let axis = arguments.optional(1, "dim").map_or(Ok(0), |axis| axis.axis(rank))?;
                return self.add(name, Op::Cat { axis }, &parts).map(Value::Tensor);
            }
            "split" | "chunk" => return self.split(name, target == "chunk", first.tensor()?, arguments),
            "matmul" | "bmm" => {
                let inputs = [first.tensor()?, arguments.get(1, "other")?.tensor()?];
                return self.add(name, Op::Matmul, &inputs).map(Value::Tensor);
            }
            "flatten" => return self.flatten(name, first.tensor()?, arguments, 1).map(Value::Tensor),
            "view" | "reshape" => return self.view(name, first.tensor()?, &arguments.rest(1)),
            "transpose" | "permute" => return self.permute(name, target, first.tensor()?, arguments),
            "unsqueeze" | "squeeze" => return self.squeeze(name, target, first.tensor()?, arguments),
            "mean" | "sum" => return self.reduce(name, target, first.tensor()?, arguments),
            "softmax" | "log_softmax" => {
                let rank = self.shape(first.tensor()?)?.rank();
                let axis = arguments.get(1, "dim")?.axis(rank)?;
                if target == "softmax" { Op::Softmax { axis } } else { Op::LogSoftmax { axis } }
            }
            "relu" | "relu_" => activation(Activation::Relu),
            "relu6" => Op::Clamp { min: 0.0, max: 6.0 },
            "gelu" => activation(Activation::Gelu),
            "silu" => activation(Activation::Silu),
            "sigmoid" => activation(Activation::Sigmoid),
            "tanh" => activation(Activation::Tanh),
            "neg" => Op::Unary(Unary::Neg),
            "exp" => Op::Unary(Unary::Exp),
            other => return Err(format!("the function `{other}` is not known")),
        };
        self.add(name, op, &[first.tensor()?]).map(Value::Tensor)
    }

    fn attribute(&self, x: NodeId, name: &Value) -> Result<Value, Failure> {
        match name {
            Value::Name(name) if name == "shape" => {
                Ok(Value::List(self.shape(x)?.dims().iter().map(|dim| Value::Size(*dim)).collect()))
            }
            other => Err(format!("the attribute {other:?} is not known")),
        }
    }

    fn arithmetic(&mut self, name: &str, target: &str, a: &Value, b: &Value) -> Result<Value, Failure> {
        let op = match target {
            "add" | "iadd" => Binary::Add,
            "sub" => Binary::Sub,
            "mul" | "imul" => Binary::Mul,
            _ => Binary::Div,
        };
        match (a, b) {
            (Value::Tensor(a), Value::Tensor(b)) => self.add(name, Op::Binary(op), &[*a, *b]),
            (Value::Tensor(x), number) => {
                let value = Scalar::Float(number.float()?);
                self.add(name, Op::Literal { op, value }, &[*x])
            }
            (number, Value::Tensor(x)) if matches!(op, Binary::Add | Binary::Mul) => {
                let value = Scalar::Float(number.float()?);
                self.add(name, Op::Literal { op, value }, &[*x])
            }
            (a, b) => {
                let (a, b) = (a.int()?, b.int()?);
                let number = match op {
                    Binary::Add => a.checked_add(b),
                    Binary::Sub => a.checked_sub(b),
                    Binary::Mul => a.checked_mul(b),
                    _ => a.checked_div_euclid(b),
                };
                return number.map(Value::Int).ok_or_else(|| format!("{target} of {a} and {b}"));
            }
        }
        .map(Value::Tensor)
    }

    /// An element of a tuple, or a part of a tensor.
    fn item(&mut self, name: &str, from: &Value, index: &Value) -> Result<Value, Failure> {
        if let Value::List(values) = from {
            return Ok(values[index.axis(values.len())?].clone());
        }
        let x = from.tensor()?;
        let shape = self.shape(x)?;
        let mut ranges: Vec<_> = shape.dims().iter().map(|dim| Range::all(*dim)).collect();
        let mut dropped = Vec::new();
        for (axis, index) in index.list().iter().enumerate() {
            let range = ranges.get_mut(axis).ok_or("more indices than axes")?;
            match index {
                Value::Call(slice, bounds, _) if slice == "slice" => {
                    let [start, end, step] = bounds.as_slice() else {
                        return Err("a slice has three parts".into());
                    };
                    if *start != Value::None {
                        range.start = Dim::Fixed(start.size()?);
                    }
                    if *end != Value::None {
                        range.end = Dim::Fixed(end.size()?);
                    }
                    if *step != Value::None {
                        range.step = step.size()? as isize;
                    }
                }
                number => {
                    let size = shape.dim(axis).and_then(Dim::fixed).ok_or("an index into the batch")?;
                    let start = number.axis(size)?;
                    *range = Range { start: Dim::Fixed(start), end: Dim::Fixed(start + 1), step: 1 };
                    dropped.push(axis);
                }
            }
        }
        let part = self.add(name, Op::Slice { ranges }, &[x])?;
        self.without(name, part, &dropped).map(Value::Tensor)
    }

    fn split(
        &mut self,
        name: &str,
        chunks: bool,
        x: NodeId,
        arguments: &Arguments,
    ) -> Result<Value, Failure> {
        let shape = self.shape(x)?;
        let axis = arguments.optional(2, "dim").map_or(Ok(0), |axis| axis.axis(shape.rank()))?;
        let size = shape.dim(axis).and_then(Dim::fixed).ok_or("a split of the batch")?;
        let sizes = match arguments.get(1, if chunks { "chunks" } else { "split_size_or_sections" })? {
            Value::List(sizes) => sizes.iter().map(Value::size).collect::<Result<Vec<_>, _>>()?,
            number => {
                let number = number.size()?.max(1);
                let each = if chunks { size.div_ceil(number) } else { number };
                (0..size.div_ceil(each)).map(|part| each.min(size - part * each)).collect()
            }
        };
        let mut start = 0;
        let mut parts = Vec::new();
        for size in sizes {
            let mut ranges: Vec<_> = shape.dims().iter().map(|dim| Range::all(*dim)).collect();
            ranges[axis] = Range { start: Dim::Fixed(start), end: Dim::Fixed(start + size), step: 1 };
            parts.push(Value::Tensor(self.add(name, Op::Slice { ranges }, &[x])?));
            start += size;
        }
        Ok(Value::List(parts))
    }

    pub(super) fn flatten(
        &mut self,
        name: &str,
        x: NodeId,
        arguments: &Arguments,
        place: usize,
    ) -> Result<NodeId, Failure> {
        let shape = self.shape(x)?;
        let start = arguments.optional(place, "start_dim").map_or(Ok(0), |axis| axis.axis(shape.rank()))?;
        let end = arguments.optional(place + 1, "end_dim").unwrap_or(&Value::Int(-1)).axis(shape.rank())?;
        let dims = shape.dims();
        let merged = product(&dims[start..=end])?;
        let dims = dims[..start].iter().chain([&merged]).chain(&dims[end + 1..]);
        self.add(name, Op::Reshape { shape: dims.copied().collect() }, &[x])
    }

    /// At most one size is -1: what is left.
    fn view(&mut self, name: &str, x: NodeId, sizes: &[Value]) -> Result<Value, Failure> {
        let known = sizes.iter().map(|size| match size {
            Value::Size(dim) => Ok(Some(*dim)),
            Value::Int(-1) => Ok(None),
            other => other.size().map(|size| Some(Dim::Fixed(size))),
        });
        let known: Vec<Option<Dim>> = known.collect::<Result<_, Failure>>()?;
        let (all, batches) = self.shape(x)?.volume();
        let (given, taken) = known.iter().flatten().copied().collect::<Shape>().volume();
        let left = all / given.max(1);
        let rest = if batches > taken { Dim::Batch(left) } else { Dim::Fixed(left) };
        let shape = known.into_iter().map(|dim| dim.unwrap_or(rest)).collect();
        self.add(name, Op::Reshape { shape }, &[x]).map(Value::Tensor)
    }

    fn permute(
        &mut self,
        name: &str,
        target: &str,
        x: NodeId,
        arguments: &Arguments,
    ) -> Result<Value, Failure> {
        let rank = self.shape(x)?.rank();
        let named: Result<Vec<_>, _> = arguments.rest(1).iter().map(|axis| axis.axis(rank)).collect();
        let mut axes: Vec<_> = (0..rank).collect();
        match (target, named?.as_slice()) {
            ("transpose", [a, b]) => axes.swap(*a, *b),
            ("permute", named) => axes = named.to_vec(),
            (_, named) => return Err(format!("{target} of {named:?}")),
        }
        self.add(name, Op::Permute { axes }, &[x]).map(Value::Tensor)
    }

    fn squeeze(
        &mut self,
        name: &str,
        target: &str,
        x: NodeId,
        arguments: &Arguments,
    ) -> Result<Value, Failure> {
        let shape = self.shape(x)?;
        if target == "squeeze" {
            let axis = arguments.get(1, "dim")?.axis(shape.rank())?;
            return self.without(name, x, &[axis]).map(Value::Tensor);
        }
        let axis = arguments.get(1, "dim")?.axis(shape.rank() + 1)?;
        let mut dims = shape.dims().to_vec();
        dims.insert(axis, Dim::Fixed(1));
        self.add(name, Op::Reshape { shape: dims.into_iter().collect() }, &[x]).map(Value::Tensor)
    }

    fn reduce(
        &mut self,
        name: &str,
        target: &str,
        x: NodeId,
        arguments: &Arguments,
    ) -> Result<Value, Failure> {
        let rank = self.shape(x)?.rank();
        let axes: Result<Vec<_>, _> =
            arguments.get(1, "dim")?.list().iter().map(|axis| axis.axis(rank)).collect();
        let axes = axes?;
        let kind = if target == "mean" { Reduction::Mean } else { Reduction::Sum };
        let kept = arguments.optional(2, "keepdim") == Some(&Value::Bool(true));
        let reduced = self.add(name, Op::Reduce { kind, axes: Some(axes.clone()) }, &[x])?;
        self.without(name, reduced, if kept { &[] } else { &axes }).map(Value::Tensor)
    }

    /// Axes of size 1 taken away.
    fn without(&mut self, name: &str, x: NodeId, axes: &[usize]) -> Result<NodeId, Failure> {
        if axes.is_empty() {
            return Ok(x);
        }
        let dims = self.shape(x)?.dims().to_vec();
        let left = dims.into_iter().enumerate().filter(|(axis, _)| !axes.contains(axis)).map(|(_, dim)| dim);
        self.add(name, Op::Reshape { shape: left.collect() }, &[x])
    }
}

fn product(dims: &[Dim]) -> Result<Dim, Failure> {
    match dims.iter().copied().collect::<Shape>().volume() {
        (size, 0) => Ok(Dim::Fixed(size)),
        (size, 1) => Ok(Dim::Batch(size)),
        _ => Err("two batch axes become one".to_owned()),
    }
}
