//! A user's own model made smaller in place.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Int, Tensor, TensorData};

use crate::{PruneError, PrunePlan};

/// Layers of burn that keep a size in a field, which no visitor reaches.
const FIXED: [(&str, &str); 6] = [
    ("GroupNorm", "its numbers of groups and channels are fields"),
    ("InstanceNorm", "its number of channels is a field"),
    ("MultiHeadAttention", "its numbers of heads and of features are fields"),
    ("Lstm", "its hidden size is a field"),
    ("BiLstm", "its hidden size is a field"),
    ("Gru", "its hidden size is a field"),
];

/// Cuts the parameters and running statistics of a burn model, in place and by path, as a plan that was made for its graph says. Convolutions, linear
/// layers, embeddings, batch and layer normalisation work as they are; what keeps a size in a field is refused before anything is changed.
///
/// A cut parameter gets a new identity: an optimizer starts anew with it. Clones of the model share running statistics with it, as burn's clones do;
/// take a copy with `valid()`. Numbers written into the model's own `forward`, such as those of a reshape, are not seen: trace the smaller
/// model to be sure.
///
/// ```
/// use burn::module::Module;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor, activation::relu};
/// use kd_prune::{Budget, ChannelPruner, Stopwatch, shrink};
///
/// #[derive(Module, Debug)]
/// struct Net { hidden: Linear, output: Linear }
///
/// let device = Device::flex();
/// let mut net = Net {
///     hidden: LinearConfig::new(4, 8).init(&device),
///     output: LinearConfig::new(8, 3).init(&device),
/// };
/// let forward = |net: &Net, x: Tensor<2>| net.output.forward(relu(net.hidden.forward(x)));
/// let graph = kd_graph::trace(&net, Tensor::<2>::zeros([2, 4], &device), forward)?;
/// let plan = ChannelPruner::new(Budget::Macs(0.5.into())).plan(&graph, &Stopwatch::new(&device))?;
/// shrink(&mut net, &plan)?;
/// assert_eq!(net.hidden.weight.dims(), [4, 4]);
/// assert_eq!(net.output.weight.dims(), [4, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`PruneError::InPlace`] names the parameter and the field that stands in the way; the graph's own module,
/// [`PrunePlan::apply`], has no such limit. [`PruneError::Architecture`] for a model that the plan was not made for. The model is then as it was.
pub fn shrink<M: Module>(model: &mut M, plan: &PrunePlan) -> Result<(), PruneError> {
    if let Some((parameter, groups)) = plan.grouped().next() {
        let reason = format!("its layer's `groups` is a field, which would have to become {groups}");
        return Err(PruneError::InPlace { parameter: parameter.to_owned(), reason });
    }
    let mut found = Found::default();
    model.visit(&mut found);
    for (path, _, _) in plan.axes() {
        let Some((shape, fixed)) = found.parameters.get(path) else {
            let difference = format!("it has a parameter `{path}`, which is missing here");
            return Err(PruneError::Architecture { difference });
        };
        if plan.shape_before(path) != Some(shape.as_str()) {
            let there = plan.shape_before(path).unwrap_or("none");
            let difference = format!("`{path}` has the shape {there} there and {shape} here");
            return Err(PruneError::Architecture { difference });
        }
        if let Some(reason) = fixed {
            return Err(PruneError::InPlace { parameter: path.to_owned(), reason: (*reason).to_owned() });
        }
    }
    *model = model.clone().map(&mut Cut { plan, path: Vec::new() });
    Ok(())
}

/// Shape and limits of every float parameter, by path.
#[derive(Default)]
struct Found {
    path: Vec<String>,
    containers: Vec<String>,
    parameters: BTreeMap<String, (String, Option<&'static str>)>,
}

impl ModuleVisitor for Found {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.push(name.to_owned());
        self.containers.push(container.rsplit(':').next().unwrap_or(container).to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
        self.containers.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let sizes = param.lazy_shape().to_vec();
        let shape = kd_graph::Shape::fixed(sizes).to_string();
        let fixed =
            FIXED.iter().find(|(layer, _)| self.containers.iter().any(|container| container == layer));
        self.parameters.insert(self.path.join("."), (shape, fixed.map(|(_, reason)| *reason)));
    }
}

struct Cut<'a> {
    plan: &'a PrunePlan,
    path: Vec<String>,
}

impl ModuleMapper for Cut<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join(".");
        let axes: Vec<(usize, &[usize])> =
            (0..D).filter_map(|axis| Some((axis, self.plan.kept(&path, axis)?))).collect();
        if axes.is_empty() {
            return param;
        }
        let learns = param.is_require_grad();
        let (_, tensor, mapper) = param.consume();
        let on_tape = tensor.is_autodiff();
        let mut tensor = if on_tape { tensor.inner() } else { tensor };
        for (axis, kept) in axes {
            let indices: Vec<i64> = kept.iter().filter_map(|&index| i64::try_from(index).ok()).collect();
            let count = indices.len();
            let indices = Tensor::<1, Int>::from_data(TensorData::new(indices, [count]), &tensor.device());
            tensor = tensor.select(axis, indices);
        }
        // A leaf again, or no gradient would reach it.
        let tensor = if on_tape { tensor.autodiff().set_require_grad(learns) } else { tensor };
        Param::from_mapped_value(ParamId::new(), tensor, mapper)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::nn::conv::{Conv2d, Conv2dConfig};
    use burn::nn::{BatchNorm, BatchNormConfig, GroupNorm, GroupNormConfig, Linear, LinearConfig};
    use burn::tensor::activation::relu;
    use burn::tensor::{Device, Distribution};
    use kd_graph::{Graph, trace};

    use crate::{Budget, ChannelPruner, Stopwatch};

    #[derive(Module, Debug)]
    struct Net {
        stem: Conv2d,
        norm: BatchNorm,
        branch: Conv2d,
        middle: Option<GroupNorm>,
        head: Linear,
    }

    impl Net {
        fn new(groups: usize, group_norm: bool, device: &Device) -> Self {
            Self {
                stem: Conv2dConfig::new([3, 8], [3, 3]).init(device),
                norm: BatchNormConfig::new(8).init(device),
                branch: Conv2dConfig::new([8, 8], [1, 1]).with_groups(groups).init(device),
                middle: group_norm.then(|| GroupNormConfig::new(8, 8).init(device)),
                head: LinearConfig::new(8, 5).init(device),
            }
        }

        fn forward(&self, x: Tensor<4>) -> Tensor<2> {
            let x = relu(self.norm.forward(self.stem.forward(x)));
            let mut x = x.clone() + self.branch.forward(x);
            if let Some(norm) = &self.middle {
                x = norm.forward(x);
            }
            self.head.forward(x.mean_dim(2).mean_dim(3).flatten(1, 3))
        }
    }

    fn planned(net: &Net) -> (Graph, PrunePlan) {
        let device = Device::flex();
        let graph = trace(net, Tensor::<4>::zeros([1, 3, 8, 8], &device), Net::forward).unwrap();
        let pruner = ChannelPruner::new(Budget::Channels(0.5.into()));
        let plan = pruner.plan(&graph, &Stopwatch::new(&device)).unwrap();
        assert!(!plan.is_empty());
        (graph, plan)
    }

    #[test]
    fn a_model_with_a_residual_and_batch_norm_shrinks_to_what_its_graph_shrinks_to() {
        let device = Device::flex();
        let mut net = Net::new(1, false, &device);
        let (graph, plan) = planned(&net);
        shrink(&mut net, &plan).unwrap();
        assert_eq!(net.norm.running_mean.value().dims(), [4]);
        let images = Tensor::<4>::random([2, 3, 8, 8], Distribution::Default, &device);
        let module = kd_graph::GraphModule::new(plan.apply(&graph).unwrap(), &device).unwrap();
        let expected: Tensor<2> = module.with_engine(kd_graph::Engine::Burn).forward(images.clone()).unwrap();
        expected.into_data().assert_eq(&net.forward(images).into_data(), true);
        // It trains on.
        let net = net.train();
        let images = Tensor::<4>::random([2, 3, 8, 8], Distribution::Default, &device.autodiff());
        let grads = net.forward(images).sum().backward();
        assert_eq!(net.branch.weight.val().grad(&grads).unwrap().dims(), [4, 4, 1, 1]);
    }

    #[test]
    fn a_field_that_fixes_a_size_is_named_and_the_model_left_alone() {
        let device = Device::flex();
        for (groups, group_norm, parameter, field) in
            [(8, false, "branch.weight", "`groups`"), (1, true, "middle.", "field")]
        {
            let mut net = Net::new(groups, group_norm, &device);
            let (_, plan) = planned(&net);
            let error = shrink(&mut net, &plan).unwrap_err().to_string();
            assert!(error.contains(parameter) && error.contains(field), "{error}");
            assert!(error.contains("PrunePlan::apply"), "{error}");
            assert_eq!(net.stem.weight.dims(), [8, 3, 3, 3]);
        }
    }

    #[test]
    fn a_model_that_the_plan_was_not_made_for_is_left_alone() {
        let device = Device::flex();
        let mut net = Net::new(1, false, &device);
        let (_, plan) = planned(&net);
        shrink(&mut net, &plan).unwrap();
        let error = shrink(&mut net, &plan).unwrap_err().to_string();
        assert!(error.contains("another architecture") && error.contains("[4"), "{error}");
        let mut other = LinearConfig::new(3, 3).init(&device);
        assert!(shrink(&mut other, &plan).unwrap_err().to_string().contains("missing here"));
    }
}
