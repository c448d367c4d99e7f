//! The module.

use std::sync::Arc;

use burn::module::{Flag, Param};
use burn::tensor::{Device, TensorData};

use super::engine::{Engine, Fused};
use super::plan::Plan;
use super::weight::Weight;
use super::{Kernels, ModuleError, Value, ValueError};
use crate::{Graph, GraphError, NodeId, Op};

/// A graph as a burn module: it runs on any device, trains, can be tapped at every node, and its records carry the original module paths,
/// so that they load into the struct that was traced and back.
///
/// ```
/// use burn::module::Module;
/// use burn::nn::LinearConfig;
/// use burn::tensor::{Device, Tensor, TensorData};
/// use kd_graph::{Graph, GraphModule, Op, Role, Shape, TensorType};
///
/// let mut graph = Graph::new();
/// let x = graph.input("x", TensorType::float(Shape::batched([2])))?;
/// let weight = graph.parameter("weight", Role::Weight, TensorData::from([[1.0f32, 2.0], [3.0, 4.0]]))?;
/// let bias = graph.parameter("bias", Role::Weight, TensorData::from([0.0f32, 1.0]))?;
/// let fc = graph.add("fc", Op::Linear, &[x, weight, bias])?;
/// graph.set_outputs(&[fc])?;
///
/// let device = Device::flex();
/// let module = GraphModule::new(graph, &device)?;
/// let y: Tensor<2> = module.forward(Tensor::<2>::ones([1, 2], &device))?;
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [4.0, 7.0]);
///
/// // The record loads into burn's own layer.
/// let layer = LinearConfig::new(2, 2).init(&device).load_record(module.into_record());
/// let y = layer.forward(Tensor::<2>::ones([1, 2], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [4.0, 7.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// What holds for burn's modules holds here: training is a matter of the device (`module.train()` and inputs on an autodiff device), running
/// statistics are shared between clones and copied by `valid()` and `train()`, a record of a module in training misses the last update
/// of the running statistics (take it of `valid()`), and `freeze()` stops batch norm and dropout from training.
#[derive(Clone, Debug)]
pub struct GraphModule {
    pub(super) graph: Arc<Graph>,
    pub(super) plan: Arc<Plan>,
    /// Module path of every weight, split at the dots, with the paths of tied ones.
    pub(super) paths: Arc<Vec<Vec<WeightPath>>>,
    pub(super) flag_paths: Arc<Vec<WeightPath>>,
    pub(super) weight_nodes: Arc<Vec<NodeId>>,
    pub(super) weights: Vec<Weight>,
    pub(super) flags: Vec<Param<Flag>>,
    /// Never on an autodiff device: burn takes such tensors for constants.
    pub(super) constants: Vec<Value>,
    pub(super) device: Device,
    pub(super) engine: Engine,
    pub(super) recompute: bool,
    /// Shared by clones: it depends on the graph alone.
    pub(super) fused: Fused,
}

/// A module path, and the kind of the struct that holds the last segment.
#[derive(Clone, Debug)]
pub(super) struct WeightPath {
    pub segments: Vec<String>,
    pub container: &'static str,
}

impl WeightPath {
    fn new(path: &str, container: &'static str) -> Self {
        Self { segments: path.split('.').map(str::to_owned).collect(), container }
    }

    /// The path with dots.
    pub(super) fn joined(&self) -> String {
        self.segments.join(".")
    }
}

impl GraphModule {
    /// Compiles a graph and puts its parameters on a device; on an autodiff device the module is ready for training.
    ///
    /// # Errors
    /// [`ModuleError::Graph`] for a graph that contradicts itself, others for what a module cannot hold.
    pub fn new(graph: Graph, device: &Device) -> Result<Self, ModuleError> {
        Self::with_kernels(graph, device, &Kernels::new())
    }

    /// As [`new`](Self::new), for a graph with operations of the user.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`ModuleError::Kernel`] for an operation without kernel.
    pub fn with_kernels(mut graph: Graph, device: &Device, kernels: &Kernels) -> Result<Self, ModuleError> {
        graph.validate()?;
        let (plan, parts) = Plan::compile(&graph, kernels)?;
        let mut weights = Vec::new();
        let mut paths = Vec::new();
        for (&id, &running) in parts.weights.iter().zip(&parts.running) {
            let path = graph.node(id)?.name().to_owned();
            let Op::Parameter { role, aliases } = graph.node(id)?.op() else { continue };
            let container = container(&graph, id);
            let all = [&path].into_iter().chain(aliases);
            paths.push(all.map(|path| WeightPath::new(path, container)).collect());
            let weight = Weight::new(&path, *role, tensor(&graph, id)?, device)?;
            weights.push(if running { weight.into_running() } else { weight });
        }
        let inner = device.clone().without_autodiff();
        let constants = parts.constants.iter().map(|&id| Ok(Value::from_data(tensor(&graph, id)?, &inner)));
        let constants = constants.collect::<Result<_, ModuleError>>()?;
        // The weights are the module's from here on; a second copy would be stale after the first step.
        for id in &parts.weights {
            graph.values.remove(id);
        }
        Ok(Self {
            plan: Arc::new(plan),
            paths: Arc::new(paths),
            flags: parts.flags.iter().map(|_| Param::from_bool(true)).collect(),
            flag_paths: Arc::new(parts.flags.iter().map(|path| WeightPath::new(path, "Struct")).collect()),
            weight_nodes: Arc::new(parts.weights),
            weights,
            constants,
            device: device.clone(),
            engine: Engine::default(),
            recompute: false,
            fused: Fused::default(),
            graph: Arc::new(graph),
        })
    }

    /// The graph's structure. It holds no weights, for those change in training: [`to_graph`](Self::to_graph) has them.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The graph with the weights as they are now, to be saved, edited or compiled again.
    ///
    /// # Errors
    /// [`ValueError::Read`] when the device has failed.
    pub fn to_graph(&self) -> Result<Graph, ValueError> {
        let mut graph = (*self.graph).clone();
        for (&id, weight) in self.weight_nodes.iter().zip(&self.weights) {
            graph.values.insert(id, Arc::new(weight.settled().data()?));
        }
        Ok(graph)
    }

    /// The parameter or buffer of a path, tied paths included: tracked by autodiff when it is learned and lives on an autodiff device.
    pub fn weight(&self, path: &str) -> Option<Value> {
        let index = self.paths.iter().position(|paths| paths.iter().any(|known| known.joined() == path))?;
        self.weights.get(index).map(Weight::settled)
    }

    /// Where the parameters are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Whether a layer that trains otherwise than it evaluates may train.
    pub(super) fn is_training(&self, flag: usize) -> bool {
        self.flags.get(flag).is_some_and(|flag| flag.is_enabled())
    }
}

/// The tensor of a validated graph's parameter or constant.
fn tensor(graph: &Graph, id: NodeId) -> Result<TensorData, ModuleError> {
    let missing = || GraphError::Edit {
        name: graph.node(id).map_or_else(|_| String::new(), |node| node.name().to_owned()),
        reason: "its tensor is missing".to_owned(),
    };
    Ok(graph.value(id).map(|value| (**value).clone()).ok_or_else(missing)?)
}

/// The burn layer that a parameter belongs to, by what reads it: readers of foreign checkpoints tell layouts apart by it.
fn container(graph: &Graph, id: NodeId) -> &'static str {
    let layer = |op: &Op| match op {
        Op::Linear => Some("Struct:Linear"),
        Op::Conv(conv) => match conv.axes() {
            1 => Some("Struct:Conv1d"),
            2 => Some("Struct:Conv2d"),
            _ => Some("Struct:Conv3d"),
        },
        Op::ConvTranspose(conv) => match conv.stride.len() {
            1 => Some("Struct:ConvTranspose1d"),
            2 => Some("Struct:ConvTranspose2d"),
            _ => Some("Struct:ConvTranspose3d"),
        },
        Op::Embedding => Some("Struct:Embedding"),
        Op::BatchNorm(_) => Some("Struct:BatchNorm"),
        Op::LayerNorm { .. } => Some("Struct:LayerNorm"),
        Op::GroupNorm { .. } => Some("Struct:GroupNorm"),
        Op::InstanceNorm { .. } => Some("Struct:InstanceNorm"),
        Op::RmsNorm { .. } => Some("Struct:RmsNorm"),
        _ => None,
    };
    graph.users(id).find_map(|(_, user)| layer(user.op())).unwrap_or("Struct")
}
