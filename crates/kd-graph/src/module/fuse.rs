//! Runs of nodes that one kernel computes: which ones, and what takes their place in the plan.
//!
//! ```text
//! conv (+ bias) -> relu?
//! conv -> batch norm -> (+ residual)? -> relu?
//! batch norm -> (+ residual)? -> relu?
//! a + b -> relu?        relu        pooling        linear (+ bias) -> relu?
//! ```
//!
//! A result inside a chain is never seen, so a chain ends where somebody else reads one: a second consumer, the caller, a tap.

use std::collections::{HashMap, HashSet};

use super::plan::{Arg, Norm, Plan, Step, Work};
use crate::kernels::{FoldCache, Pooling, Window};
use crate::{Activation, Binary, Conv, Graph, Node, NodeId, Op, Pool, PoolKind};

/// What one kernel computes. Arguments are in the order of the graph's nodes; a residual comes last.
#[derive(Debug)]
pub(super) enum Chain {
    /// `x`, `weight`, `[bias]`.
    Conv { window: Window, relu: bool },
    /// `x`, `weight`, `gamma`, `beta`, `mean`, `variance`, `[residual]`.
    ConvNorm { window: Window, norm: Norm, relu: bool, folded: FoldCache },
    /// `x`, `gamma`, `beta`, `mean`, `variance`, `[residual]`.
    Norm { norm: Norm, relu: bool, folded: FoldCache },
    /// `x`.
    Relu,
    /// `a`, `b`.
    Add { relu: bool },
    /// `x`.
    Pool(Pooling),
    /// `x`, `weight`, `[bias]`.
    Linear { relu: bool },
}

impl Plan {
    /// The same plan with chains in place of what kernels can compute. The results of `kept` nodes stay visible.
    pub(super) fn fused(&self, graph: &Graph, kept: &HashSet<NodeId>) -> Self {
        let mut fuser = Fuser { graph, kept, plan: self, readers: readers(graph), taken: HashSet::new() };
        let mut ends: HashMap<NodeId, (Chain, Vec<Arg>)> = HashMap::new();
        for step in &self.steps {
            if fuser.taken.contains(&step.node) {
                continue;
            }
            if let Some((nodes, chain, args)) = fuser.chain(step) {
                let end = nodes.last().copied().unwrap_or(step.node);
                fuser.taken.extend(nodes);
                ends.insert(end, (chain, args));
            }
        }
        let inside = |node: &NodeId| fuser.taken.contains(node) && !ends.contains_key(node);
        let mut plan = self.clone();
        plan.steps.retain(|step| !inside(&step.node));
        for step in &mut plan.steps {
            if let Some((chain, args)) = ends.remove(&step.node) {
                step.work = Work::Chain(chain.into());
                step.args = args;
            }
        }
        plan.mark_last_uses();
        plan
    }
}

/// How often every node is read: by nodes, and by the caller.
fn readers(graph: &Graph) -> HashMap<NodeId, usize> {
    let mut readers = HashMap::new();
    for id in graph.nodes().flat_map(|(_, node)| node.inputs()).chain(graph.outputs()) {
        *readers.entry(*id).or_insert(0) += 1;
    }
    readers
}

struct Fuser<'a> {
    graph: &'a Graph,
    kept: &'a HashSet<NodeId>,
    plan: &'a Plan,
    readers: HashMap<NodeId, usize>,
    /// Nodes that are part of a chain already: of two chains that meet in a sum, the first one has it.
    taken: HashSet<NodeId>,
}

impl<'a> Fuser<'a> {
    /// The longest chain that starts at a step, as its nodes, what they are together, and the arguments.
    fn chain(&self, step: &Step) -> Option<(Vec<NodeId>, Chain, Vec<Arg>)> {
        let node = self.graph.node(step.node).ok()?;
        let mut nodes = vec![step.node];
        let mut args = step.args.clone();
        let chain = match (&step.work, node.op()) {
            (_, Op::Conv(conv)) => {
                let window = window(conv)?;
                let norm = if args.len() == 2 { self.norm(step.node) } else { None };
                match norm {
                    Some((norm, statistics, id)) => {
                        nodes.push(id);
                        args.extend(statistics);
                        args.extend(self.residual(&mut nodes));
                        let relu = self.relu(&mut nodes);
                        Chain::ConvNorm { window, norm, relu, folded: FoldCache::default() }
                    }
                    None => Chain::Conv { window, relu: self.relu(&mut nodes) },
                }
            }
            (Work::BatchNorm(norm), _) if node.output().shape.rank() == 4 => {
                args.extend(self.residual(&mut nodes));
                let relu = self.relu(&mut nodes);
                Chain::Norm { norm: *norm, relu, folded: FoldCache::default() }
            }
            (_, Op::Activation(Activation::Relu)) => Chain::Relu,
            (_, Op::Binary(Binary::Add)) if self.alike(node) => Chain::Add { relu: self.relu(&mut nodes) },
            (_, Op::Pool(pool)) => Chain::Pool(pooling(pool)?),
            (_, Op::AdaptiveAvgPool { size }) => Chain::Pool(Pooling::Adaptive { size: pair(size)? }),
            (_, Op::Linear) if node.output().shape.rank() == 2 => {
                Chain::Linear { relu: self.relu(&mut nodes) }
            }
            _ => return None,
        };
        Some((nodes, chain, args))
    }

    /// The one node that reads a result nobody else looks at.
    fn only_reader(&self, id: NodeId) -> Option<(NodeId, &'a Node)> {
        if self.readers.get(&id) != Some(&1) || self.kept.contains(&id) {
            return None;
        }
        self.graph.users(id).next().filter(|(reader, _)| !self.taken.contains(reader))
    }

    /// A batch norm right behind, with its attributes and the arguments besides its input.
    fn norm(&self, id: NodeId) -> Option<(Norm, Vec<Arg>, NodeId)> {
        let (reader, node) = self.only_reader(id)?;
        let step = self.plan.steps.iter().find(|step| step.node == reader)?;
        match &step.work {
            Work::BatchNorm(norm) if node.inputs().first() == Some(&id) => {
                Some((*norm, step.args.get(1..)?.to_vec(), reader))
            }
            _ => None,
        }
    }

    /// The other side of a sum right behind the chain, which then becomes part of it.
    fn residual(&self, nodes: &mut Vec<NodeId>) -> Option<Arg> {
        let last = *nodes.last()?;
        let (reader, node) = self.only_reader(last)?;
        if !(matches!(node.op(), Op::Binary(Binary::Add)) && self.alike(node)) {
            return None;
        }
        let other = node.inputs().iter().find(|input| **input != last)?;
        let arg = self.plan.places.get(other).copied()?;
        nodes.push(reader);
        Some(arg)
    }

    /// Whether a rectifier follows; it becomes part of the chain.
    fn relu(&self, nodes: &mut Vec<NodeId>) -> bool {
        let next = nodes.last().and_then(|last| self.only_reader(*last));
        match next {
            Some((id, node)) if matches!(node.op(), Op::Activation(Activation::Relu)) => {
                nodes.push(id);
                true
            }
            _ => false,
        }
    }

    /// Whether all inputs have the type of the result: nothing is broadcast.
    fn alike(&self, node: &Node) -> bool {
        let ty = |id: &NodeId| self.graph.node(*id).ok().map(Node::output);
        node.output().kind == crate::Kind::Float
            && node.inputs().iter().all(|id| ty(id) == Some(node.output()))
    }
}

fn pair(sizes: &[usize]) -> Option<[usize; 2]> {
    sizes.try_into().ok()
}

/// The window of a convolution over two axes with as much padding before as after.
fn window(conv: &Conv) -> Option<Window> {
    let even = conv.padding.iter().map(|&(before, after)| (before == after).then_some(before));
    Some(Window {
        stride: pair(&conv.stride)?,
        padding: pair(&even.collect::<Option<Vec<_>>>()?)?,
        dilation: pair(&conv.dilation)?,
        groups: conv.groups,
    })
}

/// A pooling over two axes whose windows all lie on the padded input.
fn pooling(pool: &Pool) -> Option<Pooling> {
    if pool.ceil {
        return None;
    }
    let (kernel, stride, padding) = (pair(&pool.kernel)?, pair(&pool.stride)?, pair(&pool.padding)?);
    Some(match pool.kind {
        PoolKind::Max => Pooling::Max { kernel, stride, padding, dilation: pair(&pool.dilation)? },
        PoolKind::Average { count_padding } => Pooling::Average { kernel, stride, padding, count_padding },
    })
}
