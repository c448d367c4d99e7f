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
}

/// Kernels by the name of their operation.
pub type Kernels = BTreeMap<String, Arc<dyn Kernel>>;
