//! From a graph to a flat list of steps.

use std::collections::HashMap;
use std::sync::Arc;

use super::fuse::Chain;
use super::{Kernel, Kernels, ModuleError};
use crate::{BatchNorm, Graph, NodeId, Op, Scalar, TensorType};

/// Everything that a run needs to know, worked out once: no look-up by name or node is left.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// What the caller gives; input `i` goes to slot `i`.
    pub inputs: Vec<Input>,
    /// In execution order.
    pub steps: Vec<Step>,
    /// What the caller gets.
    pub outputs: Vec<Arg>,
    /// How many results there are to keep while running.
    pub slots: usize,
    /// Where the result of every node is.
    pub places: HashMap<NodeId, Arg>,
}

#[derive(Clone, Debug)]
pub(super) struct Input {
    pub node: NodeId,
    pub name: String,
    pub ty: TensorType,
}

/// One call. It takes its arguments from slots, weights and constants, and puts its result in a slot: whoever replaces a run of nodes by
/// one fused call replaces their steps by one.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub node: NodeId,
    pub name: String,
    pub work: Work,
    pub args: Vec<Arg>,
    /// Where the result goes; `None` when nobody reads it.
    pub result: Option<usize>,
}

/// Where an argument comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Arg {
    /// The result of a step, or an input; after its last use it is freed.
    Slot { index: usize, last: bool },
    /// A parameter or buffer.
    Weight(usize),
    /// A constant.
    Constant(usize),
}

/// What a step calls.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// burn's operation.
    Op(Op),
    /// Batch norm with running statistics.
    BatchNorm(Norm),
    /// Dropout.
    Dropout { rate: f64, flag: usize },
    /// A run of nodes on our kernels.
    Chain(Arc<Chain>),
    /// An operation of the user.
    Custom {
        kernel: Arc<dyn Kernel>,
        attributes: Vec<Scalar>,
        /// Of a kernel that trains otherwise than it evaluates.
        flag: Option<usize>,
    },
}

/// A batch norm and what it keeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Norm {
    pub attributes: BatchNorm,
    /// The weights that hold running mean and variance and its flag, unless other nodes compute the statistics.
    pub state: Option<State>,
}

/// What batch norms of the same statistics share.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    pub mean: usize,
    pub variance: usize,
    pub flag: usize,
}

/// The parts of a module that are not in the plan.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// Nodes of parameters and buffers; weight `i` is that of node `i`.
    pub weights: Vec<NodeId>,
    /// Whether weight `i` is a running statistic.
    pub running: Vec<bool>,
    /// Nodes of constants.
    pub constants: Vec<NodeId>,
    /// Paths of the training flags.
    pub flags: Vec<String>,
}

impl Plan {
    /// Compiles a validated graph.
    pub(super) fn compile(graph: &Graph, kernels: &Kernels) -> Result<(Self, Parts), ModuleError> {
        let mut parts = Parts::default();
        let mut places = HashMap::new();
        let mut inputs = Vec::new();
        for (index, &node) in graph.inputs().iter().enumerate() {
            places.insert(node, Arg::Slot { index, last: false });
            let input = graph.node(node)?;
            inputs.push(Input { node, name: input.name().to_owned(), ty: input.output().clone() });
        }
        let mut plan = Self { slots: inputs.len(), inputs, steps: Vec::new(), outputs: Vec::new(), places };
        for (id, node) in graph.nodes() {
            match node.op() {
                Op::Input => {}
                Op::Parameter { .. } => {
                    plan.places.insert(id, Arg::Weight(parts.weights.len()));
                    parts.weights.push(id);
                    parts.running.push(false);
                }
                Op::Constant => {
                    plan.places.insert(id, Arg::Constant(parts.constants.len()));
                    parts.constants.push(id);
                }
                _ => plan.step(graph, id, kernels, &mut parts)?,
            }
        }
        plan.outputs = plan.args(graph.outputs());
        plan.mark_last_uses();
        Ok((plan, parts))
    }

    fn step(
        &mut self,
        graph: &Graph,
        id: NodeId,
        kernels: &Kernels,
        parts: &mut Parts,
    ) -> Result<(), ModuleError> {
        let node = graph.node(id)?;
        let args = self.args(node.inputs());
        let work = match node.op() {
            Op::BatchNorm(attributes) => {
                let state = state(graph, node.inputs(), &args, parts);
                Work::BatchNorm(Norm { attributes: *attributes, state })
            }
            Op::Dropout { rate } => Work::Dropout {
                rate: *rate,
                flag: flag(&mut parts.flags, format!("{}.training", node.name())),
            },
            Op::Custom { name, attributes } => {
                let missing = || ModuleError::Kernel {
                    node: node.name().to_owned(),
                    op: name.clone(),
                    known: kernels.keys().cloned().collect(),
                };
                let kernel = kernels.get(name).cloned().ok_or_else(missing)?;
                let trains = kernel.differs_in_training();
                let flag = trains.then(|| flag(&mut parts.flags, format!("{}.training", node.name())));
                Work::Custom { kernel, attributes: attributes.clone(), flag }
            }
            op => Work::Op(op.clone()),
        };
        let result = Some(self.slots);
        self.places.insert(id, Arg::Slot { index: self.slots, last: false });
        self.slots += 1;
        self.steps.push(Step { node: id, name: node.name().to_owned(), work, args, result });
        Ok(())
    }

    fn args(&self, nodes: &[NodeId]) -> Vec<Arg> {
        nodes.iter().filter_map(|node| self.places.get(node).copied()).collect()
    }

    /// From back to front: the first time that a slot is met is its last use, and a result never met is not kept.
    pub(super) fn mark_last_uses(&mut self) {
        let mut met = vec![false; self.slots];
        let mut mark = |args: &mut Vec<Arg>| {
            for arg in args.iter_mut().rev() {
                if let Arg::Slot { index, last } = arg
                    && let Some(met) = met.get_mut(*index)
                {
                    *last = !std::mem::replace(met, true);
                }
            }
        };
        mark(&mut self.outputs);
        for step in self.steps.iter_mut().rev() {
            mark(&mut step.args);
        }
        for step in &mut self.steps {
            step.result = step.result.filter(|&index| met.get(index).copied().unwrap_or(false));
        }
    }
}

/// Where a batch norm keeps its statistics, if both are buffers of the module.
fn state(graph: &Graph, inputs: &[NodeId], args: &[Arg], parts: &mut Parts) -> Option<State> {
    let [.., Arg::Weight(mean), Arg::Weight(variance)] = *args else { return None };
    let [.., mean_node, variance_node] = *inputs else { return None };
    let buffer = |node| match graph.node(node).ok()?.op() {
        Op::Parameter { role: crate::Role::Buffer, .. } => Some(()),
        _ => None,
    };
    buffer(mean_node).and(buffer(variance_node))?;
    *parts.running.get_mut(mean)? = true;
    *parts.running.get_mut(variance)? = true;
    // burn's layer calls its flag `training`, beside `running_mean`.
    let path = graph.node(mean_node).ok()?.name();
    let parent = path.rsplit_once('.').map_or(String::new(), |(parent, _)| format!("{parent}."));
    let flag = flag(&mut parts.flags, format!("{parent}training"));
    Some(State { mean, variance, flag })
}

/// The index of a flag, made if there is none of this path.
fn flag(flags: &mut Vec<String>, path: String) -> usize {
    flags.iter().position(|known| *known == path).unwrap_or_else(|| {
        flags.push(path);
        flags.len() - 1
    })
}
