//! Operations that do not come from burn.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use super::Value;
use crate::Scalar;

/// What an [`Op::Custom`](crate::Op::Custom) computes.
///
/// ```
/// use std::sync::Arc;
/// use burn::tensor::{Device, Tensor};
/// use kd_graph::{Graph, GraphModule, Kernel, Kernels, Op, Scalar, Shape, TensorType, Value};
///
/// /// `x² · factor`
/// #[derive(Debug)]
/// struct Square;
///
/// impl Kernel for Square {
///     fn run(&self, inputs: Vec<Value>, attributes: &[Scalar]) -> Result<Value, String> {
///         let [x] = inputs.as_slice() else { return Err(format!("one input, not {}", inputs.len())) };
///         let x = x.float::<2>().map_err(|error| error.to_string())?;
///         Ok((x.clone() * x * attributes[0].as_f64()).into())
///     }
/// }
///
/// let mut graph = Graph::new();
/// let ty = TensorType::float(Shape::batched([2]));
/// let x = graph.input("x", ty.clone())?;
/// let op = Op::Custom { name: "square".into(), attributes: vec![Scalar::Float(0.5)] };
/// let y = graph.add_typed("square", op, &[x], ty)?;
/// graph.set_outputs(&[y])?;
///
/// let device = Device::flex();
/// let kernels: Kernels = [("square".to_owned(), Arc::new(Square) as Arc<dyn Kernel>)].into();
/// let module = GraphModule::with_kernels(graph, &device, &kernels)?;
/// let result: Tensor<2> = module.forward(Tensor::<2>::from_data([[2.0, 4.0]], &device))?;
/// assert_eq!(result.into_data().try_to_vec::<f32>().unwrap(), [2.0, 8.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Kernel: Debug + Send + Sync {
    /// The result; on an autodiff device with its gradient. An `Err` says in words what does not fit.
    ///
    /// # Errors
    /// Inputs that it can't compute with.
    fn run(&self, inputs: Vec<Value>, attributes: &[Scalar]) -> Result<Value, String>;

    /// Whether training computes something else: noise is added, say. The node then has a training flag of its own, as a dropout has, and
    /// [`train`](Self::train) is called instead of [`run`](Self::run) while the flag is on and an input is on an autodiff device.
    fn differs_in_training(&self) -> bool {
        false
    }

    /// The result in training.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    fn train(&self, inputs: Vec<Value>, attributes: &[Scalar]) -> Result<Value, String> {
        self.run(inputs, attributes)
    }
}

/// Kernels by the name of their operation.
pub type Kernels = BTreeMap<String, Arc<dyn Kernel>>;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use burn::module::Module;
    use burn::tensor::{Device, Tensor};

    use super::*;
    use crate::{Graph, GraphModule, Op, Shape, TensorType};

    /// Adds 1 in training, nothing otherwise.
    #[derive(Debug)]
    struct Bump;

    impl Kernel for Bump {
        fn run(&self, mut inputs: Vec<Value>, _: &[Scalar]) -> Result<Value, String> {
            inputs.pop().ok_or_else(|| "no input".to_owned())
        }

        fn differs_in_training(&self) -> bool {
            true
        }

        fn train(&self, inputs: Vec<Value>, attributes: &[Scalar]) -> Result<Value, String> {
            let x = self.run(inputs, attributes)?.float::<1>().map_err(|error| error.to_string())?;
            Ok((x + 1.0).into())
        }
    }

    #[test]
    fn a_kernel_trains_when_its_flag_is_on_and_an_input_is_on_the_tape_only() {
        let mut graph = Graph::new();
        let ty = TensorType::float(Shape::batched([]));
        let x = graph.input("x", ty.clone()).unwrap();
        let op = Op::Custom { name: "bump".into(), attributes: Vec::new() };
        let y = graph.add_typed("bump", op, &[x], ty).unwrap();
        graph.set_outputs(&[y]).unwrap();
        let device = Device::flex().autodiff();
        let kernels: Kernels = [("bump".to_owned(), Arc::new(Bump) as Arc<dyn Kernel>)].into();
        let module = GraphModule::with_kernels(graph, &device, &kernels).unwrap();
        let run = |module: &GraphModule, x: Tensor<1>| {
            let y: Tensor<1> = module.forward(x).unwrap();
            y.into_data().try_to_vec::<f32>().unwrap()
        };
        let x = Tensor::<1>::zeros([1], &device);
        assert_eq!(run(&module, x.clone()), [1.0]);
        assert_eq!(run(&module.clone().freeze(), x.clone()), [0.0]);
        assert_eq!(run(&module.valid(), x.inner()), [0.0]);
    }
}
