//! Traced graphs as networks: every node's name is a tap.

use std::fmt;
use std::marker::PhantomData;

use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
};
use burn::tensor::Device;
use kd_graph::{GraphModule, Kind, NodeId, RunError, Tensors, Value as GraphValue};

use crate::taps::Wanted;
use crate::{Network, OUTPUT, Output, Taps, Value};

/// Runs the graph. Its taps are the names of its nodes, parameters included; a name that no node has is refused with the nearest names.
/// [`OUTPUT`] is the graph's first result, whatever nodes are called; further results are `output_1`, `output_2`, ...
impl Network for GraphModule {
    type Input = Vec<GraphValue>;
    type Output = Result<Vec<GraphValue>, RunError>;

    fn forward(&self, input: Self::Input, taps: &mut Taps) -> Self::Output {
        let wanted = wanted(self, taps);
        if wanted.is_empty() {
            return self.run(input);
        }
        let nodes: Vec<NodeId> = wanted.iter().map(|(_, node)| *node).collect();
        match self.run_tapped(input, &nodes) {
            Ok((outputs, values)) => {
                wanted.into_iter().zip(&values).for_each(|((name, _), value)| record(name, value, taps));
                Ok(outputs)
            }
            Err(error) => {
                wanted.into_iter().for_each(|(name, _)| taps.refuse(name, error.to_string()));
                Err(error)
            }
        }
    }

    fn macs(&self) -> Option<u64> {
        self.to_graph().ok()?.cost(1).ok().map(|cost| cost.macs)
    }
}

/// Which nodes were asked for; names that no node has are refused.
fn wanted(module: &GraphModule, taps: &mut Taps) -> Vec<(String, NodeId)> {
    let graph = module.graph();
    let (mut wanted, mut unknown) = (Vec::new(), Vec::new());
    match taps.wanted() {
        Wanted::None => {}
        Wanted::All => {
            let computed = graph.nodes().filter(|(_, node)| !node.op().is_leaf());
            wanted.extend(computed.map(|(id, node)| (node.name().to_owned(), id)));
        }
        Wanted::Only(names) => {
            for name in names.iter().filter(|name| *name != OUTPUT) {
                match graph.find(name) {
                    Ok(id) => wanted.push((name.clone(), id)),
                    Err(error) => unknown.push((name.clone(), error.to_string())),
                }
            }
        }
    }
    for (name, reason) in unknown {
        taps.refuse(name, reason);
    }
    wanted
}

pub(crate) fn record(name: String, value: &GraphValue, taps: &mut Taps) {
    match erased(value) {
        Some(value) => taps.insert(name, value),
        None => taps.refuse(name, format!("it has {} axes; taps have 1 to 8", value.rank())),
    }
}

/// The value behind burn's typed tensors; truth values become the integers 0 and 1.
fn erased(value: &GraphValue) -> Option<Value> {
    macro_rules! at_rank {
        ($($rank:literal)*) => {
            match (value.kind(), value.rank()) {
                $((Kind::Float, $rank) => value.float::<$rank>().ok().map(Value::from),)*
                $((Kind::Int, $rank) => value.int::<$rank>().ok().map(Value::from),)*
                $((Kind::Bool, $rank) => value.bool::<$rank>().ok().map(|tensor| tensor.int().into()),)*
                _ => None,
            }
        };
    }
    at_rank!(1 2 3 4 5 6 7 8)
}

impl Output for Result<Vec<GraphValue>, RunError> {
    fn record(self, taps: &mut Taps) {
        match self {
            Ok(values) => {
                for (index, value) in values.iter().enumerate() {
                    let name = if index == 0 { OUTPUT.to_owned() } else { format!("{OUTPUT}_{index}") };
                    record(name, value, taps);
                }
            }
            Err(error) => taps.refuse(OUTPUT, error.to_string()),
        }
    }
}

/// A graph with the input type of the model that it was traced from, to stand in that model's place: as teacher or student of a run whose
/// batches hold this type. `I` is what the traced forward pass takes: a tensor, or a tuple of tensors.
///
/// ```
/// use burn::module::Module;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor, activation::relu};
/// use kd_core::{Network, Taps, Traced};
/// use kd_graph::GraphModule;
///
/// #[derive(Module, Debug)]
/// struct Plain { hidden: Linear, last: Linear } // knows nothing of taps
///
/// # let device = Device::flex();
/// let model = Plain {
///     hidden: LinearConfig::new(4, 8).init(&device),
///     last: LinearConfig::new(8, 3).init(&device),
/// };
/// let x = Tensor::<2>::ones([5, 4], &device);
/// let graph = kd_graph::trace(&model, x.clone(), |model, x| model.last.forward(relu(model.hidden.forward(x))))?;
/// let network: Traced<Tensor<2>> = GraphModule::new(graph, &device)?.into();
///
/// let taps = network.run(x, Taps::only(["relu", "rely"]));
/// assert_eq!(taps.get::<2>("relu")?.dims(), [5, 8]);
/// assert_eq!(taps.get::<2>("output")?.dims(), [5, 3]);
/// assert!(taps.value("rely").unwrap_err().to_string().contains("the nearest names are `relu`"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Traced<I> {
    module: GraphModule,
    input: PhantomData<fn(I)>,
}

impl<I> Traced<I> {
    /// The graph.
    pub fn module(&self) -> &GraphModule {
        &self.module
    }

    /// The graph.
    pub fn into_module(self) -> GraphModule {
        self.module
    }

    fn of(&self, module: GraphModule) -> Self {
        Self { module, input: PhantomData }
    }
}

impl<I> From<GraphModule> for Traced<I> {
    fn from(module: GraphModule) -> Self {
        Self { module, input: PhantomData }
    }
}

impl<I: Tensors + 'static> Network for Traced<I> {
    type Input = I;
    type Output = Result<Vec<GraphValue>, RunError>;

    fn forward(&self, input: I, taps: &mut Taps) -> Self::Output {
        Network::forward(&self.module, GraphValue::all(input), taps)
    }

    fn macs(&self) -> Option<u64> {
        self.module.macs()
    }
}

impl<I> Clone for Traced<I> {
    fn clone(&self) -> Self {
        self.of(self.module.clone())
    }
}

impl<I> fmt::Debug for Traced<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Traced").field(&self.module).finish()
    }
}

// By hand, because the derived implementation would put a field's name before every path.
impl<I> Module for Traced<I> {
    fn collect_devices(&self, devices: Devices) -> Devices {
        self.module.collect_devices(devices)
    }

    fn fork(self, device: &Device) -> Self {
        self.module.fork(device).into()
    }

    fn to_device(self, device: &Device) -> Self {
        Module::to_device(self.module, device).into()
    }

    fn train(self) -> Self {
        self.module.train().into()
    }

    fn valid(&self) -> Self {
        self.of(self.module.valid())
    }

    fn materialize(self) -> Self {
        self.module.materialize().into()
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        self.module.visit(visitor);
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        Module::map(self.module, mapper).into()
    }
}

impl<I> ModuleDisplayDefault for Traced<I> {
    fn content(&self, content: Content) -> Option<Content> {
        self.module.content(content)
    }
}

impl<I> ModuleDisplay for Traced<I> {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Tensor;
    use burn::tensor::activation::relu;

    #[derive(Module, Debug)]
    struct Plain {
        hidden: Linear,
        last: Linear,
    }

    impl Plain {
        fn forward(&self, x: Tensor<2>) -> Tensor<2> {
            self.last.forward(relu(self.hidden.forward(x)))
        }
    }

    fn traced(width: usize, device: &Device) -> (Plain, Traced<Tensor<2>>) {
        let plain = Device::flex();
        let model = Plain {
            hidden: LinearConfig::new(4, width).init(&plain),
            last: LinearConfig::new(width, 3).init(&plain),
        };
        let graph = kd_graph::trace(&model, Tensor::<2>::zeros([1, 4], &plain), Plain::forward).unwrap();
        (model, GraphModule::new(graph, device).unwrap().with_engine(kd_graph::Engine::Burn).into())
    }

    #[test]
    fn an_untouched_model_is_tapped_by_node_and_gives_its_own_output() {
        let device = Device::flex();
        let (model, network) = traced(8, &device);
        let x = Tensor::<2>::ones([2, 4], &device);
        let taps = network.run(x.clone(), Taps::only(["hidden", "hidden.weight"]));
        let hidden = model.hidden.forward(x.clone());
        assert_eq!(taps.get::<2>("hidden").unwrap().into_data(), hidden.into_data());
        assert_eq!(taps.get::<2>("hidden.weight").unwrap().into_data(), model.hidden.weight.to_data());
        assert_eq!(taps.get::<2>(OUTPUT).unwrap().into_data(), model.forward(x.clone()).into_data());
        let all = network.run(x, Taps::all());
        assert_eq!(all.names(), ["hidden", "last", OUTPUT, "relu"]);
        assert_eq!(network.macs(), Some(4 * 8 + 8 * 3));
    }

    #[test]
    fn a_run_that_fails_refuses_every_tap_with_the_reason() {
        let device = Device::flex();
        let (_, network) = traced(8, &device);
        let taps = network.run(Tensor::<2>::ones([2, 5], &device), Taps::only(["relu"]));
        for name in ["relu", OUTPUT] {
            let error = taps.value(name).unwrap_err().to_string();
            assert!(error.contains("float [B, 4], but a float tensor of shape [2, 5]"), "{error}");
        }
    }

    #[test]
    fn one_untouched_model_is_distilled_into_another() {
        use burn::optim::{GradientsParams, SgdConfig};
        let device = Device::flex().autodiff();
        let (_, teacher) = traced(8, &device);
        let (_, mut student) = traced(8, &device);
        let teacher = teacher.valid();
        let x = Tensor::<2>::ones([2, 4], &device);
        let wanted = || Taps::only(["hidden"]);
        let target = teacher.run(x.clone().inner(), wanted()).get::<2>("hidden").unwrap();
        let mut optimizer = SgdConfig::new().init();
        let mut losses = Vec::new();
        for _ in 0..20 {
            let hidden = student.run(x.clone(), wanted()).get::<2>("hidden").unwrap();
            let loss = (hidden - target.clone().autodiff()).square().sum();
            losses.push(loss.to_data().try_to_vec::<f32>().unwrap()[0]);
            let grads = GradientsParams::from_grads(loss.backward(), &student);
            student = optimizer.step(0.02, student, grads);
        }
        assert!(losses[19] < losses[0] / 100.0, "{losses:?}");
    }
}
