//! A quantised network in integers.
//!
//! | File | What |
//! |---|---|
//! | `compile`, `fuse`, `weights` | from a graph with quantisers to steps |
//! | `step`, `cell` | what runs |
//! | `single` | what has no integer form, in float |
//! | `burn_module` | as a network that can be evaluated |
//! | `agreement` | against the training form |

mod agreement;
mod burn_module;
mod cell;
mod compile;
mod fuse;
mod single;
mod step;
mod weights;

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use burn::tensor::Device;
use kd_graph::{Graph, NodeId, RunError, Value};
use serde::{Deserialize, Serialize};

pub use agreement::{Agreement, Differences};
pub(crate) use weights::{QuantisedWeight, quantised_weights};

use super::{Format, Requantization};
use crate::QuantError;
use cell::Cell;
use compile::{Compiled, Compiling, evaluated};
use step::Step;

/// How an [`IntegerNetwork`] computes.
///
/// | Setting | Default | Purpose |
/// |---|---|---|
/// | `requantization` | float | how accumulators become codes |
/// | `products` | packed | how products of codes are summed up |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IntegerSettings {
    /// How accumulators become codes.
    pub requantization: Requantization,
    /// How products of codes are summed up.
    pub products: Products,
}

/// How products of codes are summed up; the sums are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Products {
    /// On packed rows: [`PackedWeights`](super::PackedWeights).
    #[default]
    Packed,
    /// By definition, slowly: [`conv2d`](super::conv2d) and [`matmul`](super::matmul).
    Reference,
}

/// A node that an integer network computes in float.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FloatNode {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// A network on codes: what integer hardware computes of a graph whose quantisers are in place, after training or calibration.
///
/// Convolutions and linear layers whose input and weight lie on evenly spaced levels sum up products of codes in i32. What follows them, up to the next
/// quantiser, is merged into one requantisation $q = \mathrm{saturate}(\mathrm{round}(a\,m_c) + z)$: the bias (in the accumulator, if its step is fine
/// enough to hold it, else in f32), a batch normalisation (in $m_c$ and the bias), rectifiers and clamps (bounds on $q$); poolings by maximum are taken of
/// codes. Sums of codes of one scale and means ([`average_pool2d`](super::average_pool2d)) are accumulators too; sums of different scales are brought
/// together in f32 ([`add`](super::add)). Codes of one scale are concatenated as they are, which is why a plan gives what is concatenated one scale.
/// Reshapes, slices and zero padding move codes.
///
/// Everything else runs in float between codes, by the very operations of the training form, and is listed in [`float_nodes`](Self::float_nodes): layers
/// that the plan left out, layers whose weights are a table of levels (TTQ, powers of two, ABC-Net, k-means, HashedNets), means whose windows have other
/// numbers of elements at the edge, concatenations of different scales, softmax, layer normalisation. Binary
/// networks sum up products of $\pm 1$ in i32; scale, normalisation and sign (or a ternary activation) behind them are one comparison of the accumulator
/// with a threshold of its channel, which gives what the same arithmetic in f32 gives, bit for bit. A normalisation behind a maximum is part of it if all
/// its factors are positive.
///
/// `I` is what the network takes, as for [`Traced`](kd_core::Traced). There is nothing to train: it has no parameters.
///
/// ```
/// use burn::tensor::{Device, Tensor, TensorData};
/// use kd_graph::{Activation, Graph, Op, Role, Shape, TensorType};
/// use kd_quant::integer::IntegerNetwork;
/// use kd_quant::plan::{PlanSettings, QuantPlan, initialise};
///
/// # let device = Device::flex();
/// # let mut graph = Graph::new();
/// # let x = graph.input("x", TensorType::float(Shape::batched([2])))?;
/// # let w1 = graph.parameter("a.weight", Role::Weight, TensorData::from([[0.5f32, -1.0], [0.25, 0.75]]))?;
/// # let w2 = graph.parameter("b.weight", Role::Weight, TensorData::from([[0.5f32, -1.0], [0.25, 0.75]]))?;
/// # let a = graph.add("a", Op::Linear, &[x, w1])?;
/// # let relu = graph.add("relu", Op::Activation(Activation::Relu), &[a])?;
/// # let b = graph.add("b", Op::Linear, &[relu, w2])?;
/// # graph.set_outputs(&[b])?;
/// // `graph` is a traced network, `batch` some of its inputs.
/// # let batch = Tensor::<2>::from_data([[1.0, 2.0], [3.0, -1.0]], &device);
/// let mut quantised = QuantPlan::new(&graph, &PlanSettings::int8()?)?.apply(&graph)?;
/// initialise(&mut quantised, &device, [vec![batch.clone().into()]])?;
/// let network = IntegerNetwork::<Tensor<2>>::new(&quantised, &device)?;
/// assert!(network.float_nodes().is_empty());
/// let logits = network.run(vec![batch.into()])?;
/// assert_eq!(logits[0].shape(), [2, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct IntegerNetwork<I> {
    shared: Arc<Shared>,
    steps: Vec<Step>,
    constants: BTreeMap<NodeId, Value>,
    device: Device,
    input: PhantomData<fn(I)>,
}

/// What does not depend on the device.
struct Shared {
    /// As it was given: the training form.
    training: Graph,
    /// Without what does nothing in evaluation.
    graph: Graph,
    /// The codes of every node that has some.
    formats: BTreeMap<NodeId, Format>,
    float: Vec<FloatNode>,
    macs: Option<u64>,
}

impl<I> IntegerNetwork<I> {
    /// Of a graph with quantisers, with the default settings. What has no integer form runs on `device`.
    ///
    /// # Errors
    /// [`QuantError::Uninitialised`] for a scale that nobody has set, [`QuantError::Plan`] and [`QuantError::Graph`] for a graph that can't be read.
    pub fn new(graph: &Graph, device: &Device) -> Result<Self, QuantError> {
        Self::with_settings(graph, device, IntegerSettings::default())
    }

    /// As [`new`](Self::new).
    ///
    /// # Errors
    /// As [`new`](Self::new); [`QuantError::Setting`] for a layer that fixed point can't requantise.
    pub fn with_settings(
        graph: &Graph,
        device: &Device,
        settings: IntegerSettings,
    ) -> Result<Self, QuantError> {
        let evaluated = evaluated(graph)?;
        let compiling = Compiling::new(&evaluated, device, settings)?;
        let device = compiling.device.clone();
        let Compiled { steps, constants, formats, float } = compiling.compile()?;
        let macs = graph.cost(1).ok().map(|cost| cost.macs);
        let outputs = evaluated.outputs();
        let constants = constants.into_iter().filter(|(id, _)| outputs.contains(id)).collect();
        let shared = Shared { training: graph.clone(), graph: evaluated, formats, float, macs };
        Ok(Self { shared: Arc::new(shared), steps, constants, device, input: PhantomData })
    }

    /// What runs in float, in execution order, and why.
    pub fn float_nodes(&self) -> &[FloatNode] {
        &self.shared.float
    }

    /// How many results are codes.
    pub fn integer_nodes(&self) -> usize {
        self.shared.formats.len()
    }

    /// Inputs in, results out, both in the graph's order; results that are codes are given as the numbers they stand for.
    ///
    /// # Errors
    /// [`RunError`] for inputs of another number, shape or device.
    pub fn run(&self, inputs: Vec<Value>) -> Result<Vec<Value>, RunError> {
        self.run_observed(inputs, |_, _| {})
    }

    fn run_observed(
        &self,
        inputs: Vec<Value>,
        mut observe: impl FnMut(NodeId, &Cell),
    ) -> Result<Vec<Value>, RunError> {
        let graph = &self.shared.graph;
        if inputs.len() != graph.inputs().len() {
            let names = graph.inputs().iter().map(|&id| Ok(graph.node(id)?.name().to_owned()));
            let names = names.collect::<Result<_, RunError>>()?;
            return Err(RunError::Inputs { wanted: graph.inputs().len(), names, got: inputs.len() });
        }
        let mut cells: BTreeMap<NodeId, Cell> =
            graph.inputs().iter().copied().zip(inputs.into_iter().map(Cell::Plain)).collect();
        for step in &self.steps {
            let wrong = |reason| RunError::Op { node: step.name.clone(), reason };
            let read: Option<Vec<&Cell>> = step.inputs.iter().map(|id| cells.get(id)).collect();
            let read = read.ok_or_else(|| wrong("what it reads has no result of its own".to_owned()))?;
            let cell = step.work.run(&read, &self.device).map_err(wrong)?;
            observe(step.node, &cell);
            step.free.iter().for_each(|id| drop(cells.remove(id)));
            cells.insert(step.node, cell);
        }
        let result = |&id: &NodeId| match (cells.get(&id), self.constants.get(&id)) {
            (Some(cell), _) => Ok(cell.value(&self.device)),
            (None, Some(value)) => Ok(value.clone()),
            (None, None) => Err(RunError::Graph(kd_graph::GraphError::UnknownNode { id })),
        };
        graph.outputs().iter().map(result).collect()
    }
}
