//! A network run as its graph wherever that computes the same.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
};
use burn::tensor::Device;
use kd_graph::{
    Engine, GraphError, GraphModule, ModuleError, NodeId, RunError, TensorMap, Tensors, TraceError,
    TrainingReport, Value as GraphValue, compare_training,
};

use crate::taps::Wanted;
use crate::traced::record;
use crate::{Kind, Network, OUTPUT, Output, Taps, Value};

/// A network that computes on its traced graph, and thereby on our kernels, with the taps, the parameters and their paths unchanged.
///
/// [`Compiled::new`] traces the network once. One that can't be traced, or that trains otherwise than its graph does (a dropout is not in a trace),
/// stays as it is. Which of the two it became is in [`graph`](Self::graph) and [`reason`](Self::reason).
///
/// ```
/// use burn::{module::Module, nn::{Linear, LinearConfig}, tensor::{activation::relu, Device, Tensor}};
/// use kd_core::{Compiled, Network, Taps};
/// use kd_graph::Engine;
///
/// #[derive(Module, Debug)]
/// struct Student { hidden: Linear, output: Linear }
///
/// impl Network for Student {
///     type Input = Tensor<2>;
///     type Output = Tensor<2>;
///     fn forward(&self, input: Tensor<2>, taps: &mut Taps) -> Tensor<2> {
///         let hidden = taps.tap("hidden", relu(self.hidden.forward(input)));
///         self.output.forward(hidden)
///     }
/// }
/// # let device = Device::flex();
/// # let student = Student { hidden: LinearConfig::new(4, 8).init(&device), output: LinearConfig::new(8, 3).init(&device) };
/// let student = Compiled::new(student, Tensor::zeros([2, 4], &device), Engine::Kernels);
/// assert!(student.graph().is_some());
/// let taps = student.run(Tensor::zeros([5, 4], &device), Taps::only(["hidden"]));
/// assert_eq!(taps.get::<2>("hidden")?.dims(), [5, 8]);
/// # Ok::<(), kd_core::TapError>(())
/// ```
#[derive(Clone)]
pub struct Compiled<N> {
    form: Form<N>,
    macs: Option<u64>,
}

#[derive(Clone)]
enum Form<N> {
    Native { network: N, reason: String },
    Graph { module: GraphModule, taps: BTreeMap<String, NodeId> },
}

/// Why a network stays as it is.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("it has no parameters, so that nothing says where it should run")]
    NoParameters,
    #[error("it can't be traced: {0}")]
    Trace(#[from] TraceError),
    #[error("its graph can't be run: {0}")]
    Module(#[from] ModuleError),
    #[error("its graph can't be edited: {0}")]
    Graph(#[from] GraphError),
    #[error("its graph did not run: {0}")]
    Run(#[from] RunError),
    #[error("{0}")]
    Trains(Box<TrainingReport>),
}

impl<N: Network> Compiled<N>
where
    N::Input: Tensors,
{
    /// Traces a network with an input of any batch size; its numbers do not matter.
    ///
    /// Draws from the device's random numbers where the network has layers whose training a trace does not show.
    pub fn new(network: N, sample: N::Input, engine: Engine) -> Self {
        let macs = network.macs();
        match compile(&network, sample, engine) {
            Ok((module, taps)) => Self { form: Form::Graph { module, taps }, macs },
            Err(refusal) => {
                tracing::info!("the network runs layer by layer on burn's operations: {refusal}");
                Self { form: Form::Native { network, reason: refusal.to_string() }, macs }
            }
        }
    }
}

/// The graph of a network, and which node every tap is.
fn compile<N: Network>(
    network: &N,
    sample: N::Input,
    engine: Engine,
) -> Result<(GraphModule, BTreeMap<String, NodeId>), Refusal>
where
    N::Input: Tensors,
{
    let names = RefCell::new(Vec::new());
    let forward = |network: &N, input: N::Input| {
        let seen = Seen::of(network.run(input, Taps::all()));
        *names.borrow_mut() = seen.0.iter().map(|(name, _)| name.clone()).collect();
        seen
    };
    let device = network.devices().into_iter().next().ok_or(Refusal::NoParameters)?;
    let mut graph = kd_graph::trace(network, sample.clone(), forward)?;
    let taps: BTreeMap<_, _> = names.borrow().iter().cloned().zip(graph.outputs().iter().copied()).collect();
    if !graph.unseen().is_empty() {
        let burns = GraphModule::new(graph.clone(), &device)?.with_engine(Engine::Burn);
        let report = compare_training(network, &burns, sample, forward)?;
        if !report.is_exact() {
            return Err(Refusal::Trains(Box::new(report)));
        }
    }
    let output = taps.get(OUTPUT).copied().into_iter().collect::<Vec<_>>();
    graph.set_outputs(&output)?;
    Ok((GraphModule::new(graph, &device)?.with_engine(engine), taps))
}

impl<N> Compiled<N> {
    /// Gradient checkpointing, as in [`GraphModule::with_recompute`]; a network that runs as it is stays so.
    #[must_use]
    pub fn with_recompute(self, recompute: bool) -> Self {
        self.map_form(|network| network, |module| module.with_recompute(recompute))
    }

    /// The graph, if it runs as one.
    pub fn graph(&self) -> Option<&GraphModule> {
        match &self.form {
            Form::Graph { module, .. } => Some(module),
            Form::Native { .. } => None,
        }
    }

    /// Why it runs as it is instead.
    pub fn reason(&self) -> Option<&str> {
        match &self.form {
            Form::Graph { .. } => None,
            Form::Native { reason, .. } => Some(reason),
        }
    }

    /// The same network around another graph, which keeps the nodes that are tapped; one that runs as it is stays so.
    pub(crate) fn exchange(self, module: GraphModule) -> Self {
        let macs = module.macs();
        match self.form {
            Form::Native { .. } => self,
            Form::Graph { taps, .. } => Self { form: Form::Graph { module, taps }, macs },
        }
    }

    /// The same form around another module.
    fn map_form(self, native: impl FnOnce(N) -> N, graph: impl FnOnce(GraphModule) -> GraphModule) -> Self {
        let form = match self.form {
            Form::Native { network, reason } => Form::Native { network: native(network), reason },
            Form::Graph { module, taps } => Form::Graph { module: graph(module), taps },
        };
        Self { form, macs: self.macs }
    }
}

impl<N: Network> Network for Compiled<N>
where
    N::Input: Tensors,
{
    type Input = N::Input;
    type Output = CompiledOutput<N::Output>;

    fn forward(&self, input: N::Input, taps: &mut Taps) -> Self::Output {
        let (module, known) = match &self.form {
            Form::Native { network, .. } => return CompiledOutput::Native(network.forward(input, taps)),
            Form::Graph { module, taps } => (module, taps),
        };
        let mut wanted = Vec::new();
        for (name, &node) in known.iter().filter(|(name, _)| *name != OUTPUT) {
            if taps.wants(name) {
                wanted.push((name.clone(), node));
            } else {
                taps.offer(name);
            }
        }
        // Any other node can be tapped by its own name.
        if let Wanted::Only(names) = taps.wanted() {
            let others = names.iter().filter(|name| !known.contains_key(*name));
            wanted.extend(others.filter_map(|name| Some((name.clone(), module.graph().find(name).ok()?))));
        }
        let nodes: Vec<NodeId> = wanted.iter().map(|(_, node)| *node).collect();
        CompiledOutput::Graph(module.run_tapped(GraphValue::all(input), &nodes).map(|(outputs, values)| {
            wanted.into_iter().zip(&values).for_each(|((name, _), value)| record(name, value, taps));
            outputs
        }))
    }

    fn macs(&self) -> Option<u64> {
        self.macs
    }
}

/// What a [`Compiled`] network gives.
pub enum CompiledOutput<O> {
    /// The network's own output.
    Native(O),
    /// The graph's results.
    Graph(Result<Vec<GraphValue>, RunError>),
}

impl<O: Output> Output for CompiledOutput<O> {
    fn record(self, taps: &mut Taps) {
        match self {
            CompiledOutput::Native(output) => output.record(taps),
            CompiledOutput::Graph(results) => results.record(taps),
        }
    }
}

/// The output and all taps of one forward pass, by name.
#[derive(Clone)]
struct Seen(Vec<(String, Value)>);

impl Seen {
    fn of(taps: Taps) -> Self {
        let named = |name: String| Some((name.clone(), taps.value(&name).ok()?.clone()));
        Self(taps.names().into_iter().filter_map(named).collect())
    }
}

impl Tensors for Seen {
    fn map(self, map: &mut impl TensorMap) -> Self {
        Self(self.0.into_iter().map(|(name, value)| (name, mapped(&value, map))).collect())
    }
}

/// A tap of any rank through a map of tensors.
fn mapped(value: &Value, map: &mut impl TensorMap) -> Value {
    macro_rules! at_rank {
        ($($rank:literal)*) => {
            match (value.kind(), value.rank()) {
                $((Kind::Float, $rank) => value.float::<$rank>().map_or_else(|_| value.clone(), |t| map.float(t).into()),)*
                $((Kind::Int, $rank) => value.int::<$rank>().map_or_else(|_| value.clone(), |t| map.int(t).into()),)*
                _ => value.clone(),
            }
        };
    }
    at_rank!(1 2 3 4 5 6 7 8)
}

// By hand, because the derived implementation would put a variant's name before every path.
impl<N: Module> Module for Compiled<N> {
    fn collect_devices(&self, devices: Devices) -> Devices {
        match &self.form {
            Form::Native { network, .. } => network.collect_devices(devices),
            Form::Graph { module, .. } => module.collect_devices(devices),
        }
    }

    fn fork(self, device: &Device) -> Self {
        self.map_form(|network| network.fork(device), |module| module.fork(device))
    }

    fn to_device(self, device: &Device) -> Self {
        self.map_form(|network| network.to_device(device), |module| Module::to_device(module, device))
    }

    fn train(self) -> Self {
        self.map_form(Module::train, Module::train)
    }

    fn valid(&self) -> Self {
        let form = match &self.form {
            Form::Native { network, reason } => {
                Form::Native { network: network.valid(), reason: reason.clone() }
            }
            Form::Graph { module, taps } => Form::Graph { module: module.valid(), taps: taps.clone() },
        };
        Self { form, macs: self.macs }
    }

    fn materialize(self) -> Self {
        self.map_form(Module::materialize, Module::materialize)
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        match &self.form {
            Form::Native { network, .. } => network.visit(visitor),
            Form::Graph { module, .. } => module.visit(visitor),
        }
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        let form = match self.form {
            Form::Native { network, reason } => Form::Native { network: network.map(mapper), reason },
            Form::Graph { module, taps } => Form::Graph { module: Module::map(module, mapper), taps },
        };
        Self { form, macs: self.macs }
    }
}

impl<N: fmt::Debug> fmt::Debug for Compiled<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.form {
            Form::Native { network, .. } => f.debug_tuple("Compiled").field(network).finish(),
            Form::Graph { module, .. } => f.debug_tuple("Compiled").field(module).finish(),
        }
    }
}

impl<N: Module> ModuleDisplayDefault for Compiled<N> {
    fn content(&self, content: Content) -> Option<Content> {
        match &self.form {
            Form::Native { .. } => Some(content),
            Form::Graph { module, .. } => module.content(content),
        }
    }
}

impl<N: Module> ModuleDisplay for Compiled<N> {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
    use burn::tensor::Tensor;
    use burn::tensor::activation::relu;

    #[derive(Module, Debug)]
    struct Student {
        hidden: Linear,
        dropout: Dropout,
        output: Linear,
    }

    impl Network for Student {
        type Input = Tensor<2>;
        type Output = Tensor<2>;
        fn forward(&self, input: Tensor<2>, taps: &mut Taps) -> Tensor<2> {
            let hidden = taps.tap("features", relu(self.hidden.forward(input)));
            self.output.forward(self.dropout.forward(hidden))
        }
        fn macs(&self) -> Option<u64> {
            Some(56)
        }
    }

    fn student(rate: f64, device: &Device) -> Student {
        Student {
            hidden: LinearConfig::new(4, 8).init(device),
            dropout: DropoutConfig::new(rate).init(),
            output: LinearConfig::new(8, 3).init(device),
        }
    }

    #[test]
    fn it_gives_what_the_network_gives_under_the_same_taps_and_paths() {
        let device = Device::flex();
        let native = student(0.0, &device);
        let compiled = Compiled::new(native.clone(), Tensor::ones([1, 4], &device), Engine::Burn);
        assert_eq!((compiled.reason(), compiled.macs()), (None, Some(56)));
        let x = Tensor::<2>::ones([5, 4], &device) * 0.5;
        for name in ["features", OUTPUT] {
            let [ours, theirs] = [
                compiled.run(x.clone(), Taps::only([name])).get::<2>(name).unwrap(),
                native.run(x.clone(), Taps::only([name])).get::<2>(name).unwrap(),
            ];
            ours.into_data().assert_eq(&theirs.into_data(), true);
        }
        assert_eq!(compiled.run(x.clone(), Taps::all()).names(), ["features", OUTPUT]);
        let back = student(0.0, &device).load_record(compiled.into_record());
        back.hidden.weight.val().into_data().assert_eq(&native.hidden.weight.val().into_data(), true);
    }

    #[test]
    fn any_node_can_be_tapped_and_a_name_that_nobody_has_lists_the_taps() {
        let device = Device::flex();
        let compiled = Compiled::new(student(0.0, &device), Tensor::ones([1, 4], &device), Engine::Kernels);
        let taps = compiled.run(Tensor::ones([2, 4], &device), Taps::only(["hidden", "feature"]));
        assert_eq!(taps.get::<2>("hidden").unwrap().dims(), [2, 8]);
        let error = taps.value("feature").unwrap_err().to_string();
        assert!(error.contains("there is no tap `feature`") && error.contains("features"), "{error}");
    }

    #[test]
    fn a_network_that_drops_in_training_stays_as_it_is() {
        let device = Device::flex();
        let compiled = Compiled::new(student(0.5, &device), Tensor::ones([2, 4], &device), Engine::Kernels);
        assert!(compiled.graph().is_none());
        assert!(compiled.reason().unwrap().contains("dropout"), "{:?}", compiled.reason());
        let taps = compiled.run(Tensor::ones([5, 4], &device), Taps::only(["features"]));
        assert_eq!(taps.get::<2>("features").unwrap().dims(), [5, 8]);
    }
}
