//! Quantisers in a network: which tensor gets which, and training with them.
//!
//! A quantiser in a graph is a node: behind a parameter (and behind its mask, if there is one) for a weight, behind the node that makes it for an
//! activation. Everything that it needs is in the graph, its settings in the operation's name and its scales in parameters beside, so that a saved graph
//! loads and runs without the plan that made it.
//!
//! ```
//! use burn::tensor::{Device, Tensor, TensorData};
//! use kd_graph::{Activation, Graph, GraphModule, Op, Role, Shape, TensorType};
//! use kd_quant::plan::{PlanSettings, QuantPlan, initialise, kernels};
//!
//! # let device = Device::flex();
//! # let mut graph = Graph::new();
//! # let x = graph.input("x", TensorType::float(Shape::batched([2])))?;
//! # let w1 = graph.parameter("a.weight", Role::Weight, TensorData::from([[0.5f32, -1.0], [0.25, 0.75]]))?;
//! # let w2 = graph.parameter("b.weight", Role::Weight, TensorData::from([[0.5f32, -1.0], [0.25, 0.75]]))?;
//! # let a = graph.add("a", Op::Linear, &[x, w1])?;
//! # let relu = graph.add("relu", Op::Activation(Activation::Relu), &[a])?;
//! # let b = graph.add("b", Op::Linear, &[relu, w2])?;
//! # graph.set_outputs(&[b])?;
//! // `graph` is a traced network.
//! let plan = QuantPlan::new(&graph, &PlanSettings::lsq(4)?)?;
//! assert!(plan.to_string().contains("relu"));
//! let mut quantised = plan.apply(&graph)?;
//! let batch = Tensor::<2>::from_data([[1.0, 2.0], [3.0, -1.0]], &device);
//! initialise(&mut quantised, &device, [vec![batch.clone().into()]])?;
//! let module = GraphModule::with_kernels(quantised.clone(), &device, &kernels(&quantised)?)?;
//! let y: Tensor<2> = module.forward(batch)?;
//! assert_eq!(y.dims(), [2, 2]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Training is a [`Run`](kd_train::Run) with a [`QuantHook`].

mod adder;
mod apply;
mod check;
mod choose;
mod compute;
mod fold;
mod hook;
mod initialise;
mod kernel;
mod lattice;
mod methods;
mod named;
mod norm;
mod op;
mod preset;
mod quantizer;
mod scale;
mod settings;
#[cfg(test)]
mod tests;
mod uniform;
mod walk;
mod watch;

pub use choose::{Point, QuantPlan};
pub use fold::fold_trained;
pub use hook::QuantHook;
pub use initialise::initialise;
pub(crate) use initialise::refuse_constant;
pub use kernel::kernels;
pub use lattice::Lattice;
pub use methods::{QUANT_METHODS, QuantMethodInfo};
pub use op::{Site, sites};
pub use preset::Preset;
pub use quantizer::{AbcBases, Adder, ApotBits, HashedBy, Place, Quantizer};
pub use settings::{Ends, PlanSettings};
pub use uniform::Uniform;
