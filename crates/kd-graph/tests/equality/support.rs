//! Builds a graph of one operation and compares it with burn.

use burn::backend::Dispatch;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{Device, Int, Tensor, TensorData};
use kd_graph::{Dim, Graph, Kind, Op, Role, Shape, TensorType, Value};

pub use crate::model::{assert_same, burns, flat, gradients, loss, noise};

/// The batch size of a shape given as numbers.
pub const B: usize = usize::MAX;

/// An argument of the operation.
#[derive(Clone)]
pub enum Arg {
    /// Given at every run: floats around zero.
    Input(Vec<usize>),
    /// Given at every run: floats that are positive.
    Positive(Vec<usize>),
    /// Given at every run: integers below a bound.
    Ints(Vec<usize>, i64),
    /// Given at every run: truth values.
    Bools(Vec<usize>),
    /// A learned parameter.
    Weight(Vec<usize>),
}

use Arg::*;

impl Arg {
    fn shape(&self) -> &[usize] {
        match self {
            Input(shape) | Positive(shape) | Ints(shape, _) | Bools(shape) | Weight(shape) => shape,
        }
    }

    fn ty(&self) -> TensorType {
        let dim = |&size: &usize| if size == B { Dim::Batch(1) } else { Dim::Fixed(size) };
        let kind = match self {
            Ints(..) => Kind::Int,
            Bools(_) => Kind::Bool,
            _ => Kind::Float,
        };
        TensorType { kind, shape: self.shape().iter().map(dim).collect::<Shape>() }
    }

    fn data(&self, batch: usize, seed: u64) -> TensorData {
        let shape: Vec<usize> = self.shape().iter().map(|&s| if s == B { batch } else { s }).collect();
        let size = shape.iter().product();
        let mut numbers = noise(seed);
        match self {
            Input(_) | Weight(_) => TensorData::new(take(&mut numbers, size), shape),
            Positive(_) => {
                let values: Vec<f32> = take(&mut numbers, size).into_iter().map(|x| x.abs() + 0.1).collect();
                TensorData::new(values, shape)
            }
            Ints(_, bound) => {
                let values: Vec<i64> =
                    take(&mut numbers, size).into_iter().map(|x| (x.abs() * 1e4) as i64 % bound).collect();
                TensorData::new(values, shape)
            }
            Bools(_) => {
                let values: Vec<bool> = take(&mut numbers, size).into_iter().map(|x| x > 0.0).collect();
                TensorData::new(values, shape)
            }
        }
    }
}

pub fn take(numbers: &mut impl Iterator<Item = f32>, count: usize) -> Vec<f32> {
    numbers.take(count).collect()
}

/// Float leaves are rows reshaped, so that their gradients can be read whatever their rank.
fn leaf(data: &TensorData, device: &Device) -> (Value, Option<Tensor<1>>) {
    let shape = data.shape().clone();
    if !data.dtype().is_float() {
        return (value_of(data, device), None);
    }
    let row = TensorData::new(data.try_to_vec::<f32>().unwrap(), [data.num_elements()]);
    let leaf = Tensor::<1>::from_data(row, device);
    let leaf = if device.is_autodiff() { leaf.require_grad() } else { leaf };
    let shaped = Dispatch::float_reshape(leaf.clone().into_dispatch(), shape);
    (Value::Float(shaped), Some(leaf))
}

/// Integers and truth values as values.
pub fn value_of(data: &TensorData, device: &Device) -> Value {
    macro_rules! at_rank {
        ($($rank:literal)*) => {
            match data.rank() {
                $($rank => if data.dtype().is_float() {
                    Tensor::<$rank>::from_data(data.clone(), device).into()
                } else if data.dtype().is_bool() {
                    Tensor::<$rank, burn::tensor::Bool>::from_data(data.clone(), device).into()
                } else {
                    Tensor::<$rank, Int>::from_data(data.clone(), device).into()
                },)*
                _ => panic!("rank"),
            }
        };
    }
    at_rank!(1 2 3 4 5 6)
}

/// A graph of one operation.
pub fn graph_of(op: &Op, args: &[Arg]) -> Graph {
    let mut graph = Graph::new();
    let mut ids = Vec::new();
    for (index, arg) in args.iter().enumerate() {
        let id = match arg {
            Weight(_) => {
                graph.parameter(&format!("w{index}"), Role::Weight, arg.data(1, index as u64)).unwrap()
            }
            _ => graph.input(&format!("x{index}"), arg.ty()).unwrap(),
        };
        ids.push(id);
    }
    let output = graph.add("op", op.clone(), &ids).unwrap();
    graph.set_outputs(&[output]).unwrap();
    graph
}

/// The operation in a graph and `native` on the same arguments give the same result and gradients, with and without autodiff.
pub fn same(op: Op, args: &[Arg], native: impl Fn(&[Value]) -> Value) {
    check(op, args, native, true);
}

/// As [`same`], for operations that burn cannot differentiate.
pub fn same_without_gradient(op: Op, args: &[Arg], native: impl Fn(&[Value]) -> Value) {
    check(op, args, native, false);
}

fn check(op: Op, args: &[Arg], native: impl Fn(&[Value]) -> Value, differentiable: bool) {
    let graph = graph_of(&op, args);
    for device in [Device::flex(), Device::flex().autodiff()] {
        let module = burns(graph.clone(), &device).unwrap();
        for batch in [1, 7] {
            let what = format!("{op:?} with a batch of {batch}");
            let data: Vec<_> = args.iter().enumerate().map(|(i, arg)| arg.data(batch, i as u64)).collect();
            let leaves: Vec<_> = data.iter().map(|data| leaf(data, &device)).collect();
            let expected = native(&leaves.iter().map(|(value, _)| value.clone()).collect::<Vec<_>>());

            let given: Vec<_> = data.iter().map(|data| leaf(data, &device)).collect();
            let is_input = |index: &usize| !matches!(args[*index], Weight(_));
            let inputs = (0..args.len()).filter(is_input).map(|index| given[index].0.clone()).collect();
            let found = module.run(inputs).unwrap().remove(0);
            assert_eq!(found.kind(), expected.kind(), "{what}");
            assert_same(&found.data().unwrap(), &expected.data().unwrap(), &what);
            let ty = graph.node(graph.outputs()[0]).unwrap().output();
            assert_eq!(found.shape(), ty.shape.at(batch), "{what}: the inferred shape");

            let tracked = found.kind() == Kind::Float && flat(&expected).is_tracked();
            if !differentiable || !tracked {
                continue;
            }
            let expected_grads = loss(&expected).backward();
            let found_grads = loss(&found).backward();
            let parameters = gradients(&module, &found_grads);
            for index in 0..args.len() {
                let Some(leaf) = &leaves[index].1 else { continue };
                let expected = leaf.grad(&expected_grads).map(Tensor::into_data);
                let found = if is_input(&index) {
                    given[index].1.as_ref().and_then(|leaf| leaf.grad(&found_grads)).map(Tensor::into_data)
                } else {
                    let found = parameters.get(&format!("w{index}")).cloned();
                    let row = |data: TensorData| {
                        let size = data.num_elements();
                        TensorData::new(data.try_into_vec::<f32>().unwrap(), [size])
                    };
                    found.map(row)
                };
                match (found, expected) {
                    (Some(found), Some(expected)) => {
                        assert_same(&found, &expected, &format!("{what}: gradient {index}"));
                    }
                    (found, expected) => assert_eq!(found, expected, "{what}: gradient {index}"),
                }
            }
        }
    }
}
