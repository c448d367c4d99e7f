//! From a graph with quantisers to integer steps.

use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::Device;
use kd_graph::{Activation, Binary, Graph, Kernels, NodeId, Op, PadMode, Pool, PoolKind, Reduction, Value};

use super::cell::numbers;
use super::fuse::Tail;
use super::single::Single;
use super::step::{Product, Step, Work, uniform};
use super::weights::Obstacle;
use super::{FloatNode, IntegerSettings, Products};
use crate::QuantError;
use crate::integer::epilogue::{Scales, Target};
use crate::integer::pool::mean_step;
use crate::integer::{Format, PackedWeights, Window};
use crate::plan::{Quantizer, Site, kernels, sites};

/// A graph half way to an integer network.
pub(super) struct Compiling<'a> {
    pub graph: &'a Graph,
    pub device: Device,
    pub kernels: Kernels,
    pub sites: BTreeMap<NodeId, Site>,
    /// What does not depend on the network's inputs.
    pub constants: BTreeMap<NodeId, Value>,
    /// Which codes a node's result has; `None` for numbers.
    formats: BTreeMap<NodeId, Option<Format>>,
    merged: BTreeSet<NodeId>,
    settings: IntegerSettings,
    steps: Vec<Step>,
    float: Vec<FloatNode>,
}

/// What came of it.
pub(super) struct Compiled {
    pub steps: Vec<Step>,
    pub constants: BTreeMap<NodeId, Value>,
    pub formats: BTreeMap<NodeId, Format>,
    pub float: Vec<FloatNode>,
}

/// The graph without what does nothing in evaluation: dropouts and the quantisers of gradients.
pub(super) fn evaluated(graph: &Graph) -> Result<Graph, QuantError> {
    let mut idle = Vec::new();
    for (id, node) in graph.nodes() {
        let gradient = matches!(Quantizer::of(node.op())?, Some(Quantizer::DorefaGradient(_)));
        if gradient || matches!(node.op(), Op::Dropout { .. }) {
            idle.push(id);
        }
    }
    let mut graph = graph.clone();
    graph.edit(|edit| idle.into_iter().try_for_each(|id| edit.remove(id)))?;
    Ok(graph)
}

/// What burn or a graph says, as an error.
pub(super) fn run(why: String) -> QuantError {
    QuantError::Run { why }
}

impl<'a> Compiling<'a> {
    pub fn new(graph: &'a Graph, device: &Device, settings: IntegerSettings) -> Result<Self, QuantError> {
        Ok(Self {
            graph,
            device: device.clone().without_autodiff(),
            kernels: kernels(graph)?,
            sites: sites(graph)?.into_iter().map(|site| (site.node, site)).collect(),
            constants: BTreeMap::new(),
            formats: BTreeMap::new(),
            merged: BTreeSet::new(),
            settings,
            steps: Vec::new(),
            float: Vec::new(),
        })
    }

    /// Works out what does not depend on the network's inputs: quantised weights, above all.
    pub fn settle_constants(&mut self) -> Result<(), QuantError> {
        for (id, _) in self.graph.nodes() {
            if let Some(value) = self.graph.value(id) {
                self.constants.insert(id, Value::from_data((**value).clone(), &self.device));
            } else if self.is_constant(id)? {
                let value = Single::new(self, id)?.0.run(Vec::new()).map_err(run)?;
                self.constants.insert(id, value);
            }
        }
        Ok(())
    }

    pub fn compile(mut self) -> Result<Compiled, QuantError> {
        // A layer looks ahead to the parameters of what follows it.
        self.settle_constants()?;
        for (id, node) in self.graph.nodes() {
            if matches!(node.op(), Op::Input) {
                self.formats.insert(id, None);
            } else if !self.constants.contains_key(&id) && !self.merged.contains(&id) {
                self.step(id)?;
            }
        }
        self.free();
        let formats = self.formats.into_iter().filter_map(|(id, format)| Some((id, format?)));
        let formats = formats.collect();
        Ok(Compiled { steps: self.steps, constants: self.constants, formats, float: self.float })
    }

    fn is_constant(&self, id: NodeId) -> Result<bool, QuantError> {
        let node = self.graph.node(id)?;
        let constant = node.inputs().iter().all(|input| self.constants.contains_key(input));
        Ok(constant && !matches!(node.op(), Op::Input) && !node.output().shape.has_batch())
    }

    /// The codes of what a node reads first.
    fn source(&self, id: NodeId) -> Result<Option<(NodeId, Format)>, QuantError> {
        let source = self.graph.node(id)?.inputs().first().copied();
        Ok(source.and_then(|source| Some((source, (*self.formats.get(&source)?)?))))
    }

    fn step(&mut self, id: NodeId) -> Result<(), QuantError> {
        if let Some(site) = self.sites.get(&id).cloned() {
            return self.quantiser(id, &site);
        }
        let graph = self.graph;
        let node = graph.node(id)?;
        if let Op::Conv(_) | Op::Linear = node.op() {
            return match self.layer(id)? {
                Ok(()) => Ok(()),
                Err(reason) => self.in_float(id, reason),
            };
        }
        if let (Op::Binary(Binary::Add), [a, b]) = (node.op(), node.inputs()) {
            return self.add(id, [*a, *b]);
        }
        if let Op::Cat { axis } = node.op() {
            return self.concatenate(id, *axis);
        }
        let Some((source, format)) = self.source(id)? else {
            return self.in_float(id, format!("{} of what is not quantised", node.op().word()));
        };
        if let Some((gain, shift)) = self.batch_norm(id)? {
            let scales = uniform(format.codes.scale).then(&gain, &shift);
            return self.fused(id, vec![source], scales, |_, epilogue| Ok(Work::Affine { epilogue }));
        }
        if let Some(work) = self.code_move(id, format)? {
            self.push(id, vec![source], work, Some(format));
            return Ok(());
        }
        if let Some((kernel, window)) = self.mean(id)? {
            let scales = uniform(mean_step(format.codes.scale, kernel));
            return self.fused(id, vec![source], scales, |_, epilogue| {
                Ok(Work::SumPool { kernel, window, epilogue })
            });
        }
        self.in_float(id, format!("{} has no integer form", node.op().word()))
    }

    /// What only moves codes about, or compares them.
    fn code_move(&self, id: NodeId, format: Format) -> Result<Option<Work>, QuantError> {
        let node = self.graph.node(id)?;
        let zero = |mode: &PadMode| matches!(mode, PadMode::Constant(value) if value.as_f64() == 0.0);
        Ok(match node.op() {
            Op::Activation(Activation::Relu) => Some(Work::Bound { least: format.codes.zero_point }),
            Op::Pool(pool @ Pool { kind: PoolKind::Max, .. }) if !pool.ceil && pool.kernel.len() == 2 => {
                let pair = |values: &[usize]| [values[0], values[1]];
                let window = Window::new(pair(&pool.stride), pair(&pool.padding));
                let window = Window { dilation: pair(&pool.dilation), ..window };
                Some(Work::MaxPool { kernel: pair(&pool.kernel), window })
            }
            Op::Pool(Pool { kind: PoolKind::Max, .. })
            | Op::Reshape { .. }
            | Op::Permute { .. }
            | Op::Slice { .. }
            | Op::Expand { .. }
            | Op::Repeat { .. }
            | Op::Flip { .. }
            | Op::Select { .. } => Some(Work::Move { rule: Single::new(self, id)?.0 }),
            Op::Pad { mode, .. } if zero(mode) => Some(Work::Move { rule: Single::new(self, id)?.0 }),
            _ => None,
        })
    }

    /// The window of a mean that divides by the same number everywhere.
    fn mean(&self, id: NodeId) -> Result<Option<([usize; 2], Window)>, QuantError> {
        let node = self.graph.node(id)?;
        let input = self.graph.node(node.inputs()[0])?.output().shape.clone();
        let fixed = |axis: usize| input.dim(axis).and_then(|dim| dim.fixed());
        let (Some(height), Some(width), 4) = (fixed(2), fixed(3), input.rank()) else { return Ok(None) };
        Ok(match node.op() {
            Op::Pool(pool) => match (pool.kind, pool.kernel.as_slice()) {
                (PoolKind::Average { count_padding }, &[kh, kw]) if !pool.ceil => {
                    let whole = count_padding || pool.padding.iter().all(|&padding| padding == 0);
                    let (stride, padding) =
                        ([pool.stride[0], pool.stride[1]], [pool.padding[0], pool.padding[1]]);
                    whole.then(|| ([kh, kw], Window::new(stride, padding)))
                }
                _ => None,
            },
            Op::AdaptiveAvgPool { size } => match size.as_slice() {
                &[h, w] if h > 0 && w > 0 && height % h == 0 && width % w == 0 => {
                    let kernel = [height / h, width / w];
                    Some((kernel, Window::new(kernel, [0, 0])))
                }
                _ => None,
            },
            Op::Reduce { kind: Reduction::Mean, axes: Some(axes) }
                if matches!(axes.as_slice(), [2, 3] | [3, 2]) =>
            {
                Some(([height, width], Window::default()))
            }
            _ => None,
        })
    }

    fn quantiser(&mut self, id: NodeId, site: &Site) -> Result<(), QuantError> {
        let Some(to) = self.format(site)? else {
            let reason = format!("the levels of {} are not evenly spaced", site.quantizer.method());
            return self.in_float(id, reason);
        };
        let rounding = self.rounding(id)?.is_some();
        let work = match self.source(id)? {
            Some(_) if rounding => Work::Rescale { to, least: to.grid.min(), most: to.grid.max() },
            _ => Work::Quantise { rule: Single::new(self, id)?.0, format: to },
        };
        self.push(id, vec![site.source], work, Some(to));
        Ok(())
    }

    /// A convolution or linear layer, or why it has no integers.
    fn layer(&mut self, id: NodeId) -> Result<Result<(), Obstacle>, QuantError> {
        let graph = self.graph;
        let node = graph.node(id)?;
        let [_, weight, bias @ ..] = node.inputs() else { return Ok(Err("it has no weight".to_owned())) };
        let Some((source, format)) = self.source(id)? else {
            return Ok(Err("its input is not quantised".to_owned()));
        };
        let integers = match self.weight(*weight)? {
            Ok(integers) => integers,
            Err(obstacle) => return Ok(Err(obstacle)),
        };
        let bias = match bias.first().map(|bias| self.constants.get(bias)) {
            None => Vec::new(),
            Some(Some(value)) => numbers(value).map_err(run)?,
            Some(None) => return Ok(Err("its bias depends on the input".to_owned())),
        };
        let shape = graph.node(*weight)?.output().shape.at(1);
        let step = integers.scale.iter().map(|scale| scale * format.codes.scale).collect();
        let (scales, codes, products) = (Scales { step, bias }, integers.codes, self.settings.products);
        match (node.op(), shape.as_slice()) {
            (Op::Conv(conv), &[out, inputs, kh, kw]) => {
                let window = Window {
                    stride: [conv.stride[0], conv.stride[1]],
                    padding: [conv.padding[0], conv.padding[1]],
                    dilation: [conv.dilation[0], conv.dilation[1]],
                };
                let (shape, groups) = ([out, inputs, kh, kw], conv.groups);
                self.fused(id, vec![source], scales, |bias, epilogue| {
                    let product = match products {
                        Products::Packed => {
                            Product::Packed(PackedWeights::new(&codes, shape, &[0], &bias, window, groups)?)
                        }
                        Products::Reference => {
                            Product::Reference { weight: codes, shape, bias, window, groups }
                        }
                    };
                    Ok(Work::Conv { product, epilogue })
                })?;
            }
            (Op::Linear, &[inputs, out]) => {
                self.fused(id, vec![source], scales, |bias, epilogue| {
                    let product = match products {
                        Products::Packed => {
                            Product::Packed(PackedWeights::linear(&codes, [inputs, out], &[0], &bias)?)
                        }
                        Products::Reference => {
                            let (shape, window) = ([inputs, out, 1, 1], Window::default());
                            Product::Reference { weight: codes, shape, bias, window, groups: 1 }
                        }
                    };
                    Ok(Work::Linear { product, epilogue })
                })?;
            }
            (op, _) => return Ok(Err(format!("{} has no integer form", op.word()))),
        }
        Ok(Ok(()))
    }

    fn add(&mut self, id: NodeId, [a, b]: [NodeId; 2]) -> Result<(), QuantError> {
        let formats = (self.formats.get(&a).copied().flatten(), self.formats.get(&b).copied().flatten());
        let (Some(of_a), Some(of_b)) = formats else {
            return self.in_float(id, "a summand is not quantised".to_owned());
        };
        if self.graph.node(a)?.output() != self.graph.node(b)?.output() {
            return self.in_float(id, "its summands have different shapes".to_owned());
        }
        if of_a.codes == of_b.codes {
            let scales = uniform(of_a.codes.scale);
            return self.fused(id, vec![a, b], scales, |_, epilogue| Ok(Work::Add { epilogue }));
        }
        let tail = self.tail(id, uniform(1.0))?;
        match tail.target {
            Some(Target { format: to, least, most, stairs: None }) if tail.scales == uniform(1.0) => {
                self.merge(tail, vec![a, b], Work::AddRescaled { to, least, most })
            }
            _ => self.in_float(id, "its summands have different scales".to_owned()),
        }
    }

    fn concatenate(&mut self, id: NodeId, axis: usize) -> Result<(), QuantError> {
        let inputs = self.graph.node(id)?.inputs().to_vec();
        let formats: Option<Vec<Format>> =
            inputs.iter().map(|input| self.formats.get(input).copied().flatten()).collect();
        match formats.as_deref() {
            Some([first, rest @ ..]) if rest.iter().all(|other| other == first) => {
                self.push(id, inputs, Work::Cat { axis }, Some(*first));
                Ok(())
            }
            Some(_) => self.in_float(id, "its inputs have different scales".to_owned()),
            None => self.in_float(id, "an input is not quantised".to_owned()),
        }
    }

    /// A layer together with all that can be merged into its requantisation.
    fn fused(
        &mut self,
        id: NodeId,
        inputs: Vec<NodeId>,
        scales: Scales,
        work: impl FnOnce(Vec<i32>, crate::integer::epilogue::Epilogue) -> Result<Work, QuantError>,
    ) -> Result<(), QuantError> {
        let tail = self.tail(id, scales)?;
        let (bias, epilogue) = tail.scales.finish(tail.target, self.settings.requantization)?;
        self.merge(tail, inputs, work(bias, epilogue)?)
    }

    /// A layer's step, and those of what only moves its codes about in front of the quantiser.
    fn merge(&mut self, tail: Tail, inputs: Vec<NodeId>, work: Work) -> Result<(), QuantError> {
        self.merged.extend(tail.merged);
        let Some((quantiser, target)) = tail.quantiser.zip(tail.target) else {
            self.push(tail.end, inputs, work, None);
            return Ok(());
        };
        let format = target.format;
        // Of a chain of results the last one is the quantiser's.
        let mut chain: Vec<NodeId> = [tail.end].into_iter().chain(tail.moves).collect();
        let mut works = vec![work];
        for &moved in chain.iter().skip(1) {
            let moved = self.code_move(moved, format)?;
            works.push(moved.ok_or_else(|| run("a merged node only moves codes".to_owned()))?);
        }
        if let Some(last) = chain.last_mut() {
            *last = quantiser;
        }
        let mut inputs = inputs;
        for (node, work) in chain.into_iter().zip(works) {
            self.push(node, inputs, work, Some(format));
            inputs = vec![node];
        }
        Ok(())
    }

    fn in_float(&mut self, id: NodeId, reason: String) -> Result<(), QuantError> {
        let (rule, read) = Single::new(self, id)?;
        let name = self.graph.node(id)?.name().to_owned();
        self.float.push(FloatNode { name, reason });
        self.push(id, read, Work::Float { rule }, None);
        Ok(())
    }

    fn push(&mut self, node: NodeId, inputs: Vec<NodeId>, work: Work, format: Option<Format>) {
        let name = self.graph.node(node).map_or_else(|_| String::new(), |node| node.name().to_owned());
        self.formats.insert(node, format);
        self.steps.push(Step { node, name, inputs, work, free: Vec::new() });
    }

    /// Says of every step what nobody reads behind it.
    fn free(&mut self) {
        let mut needed: BTreeSet<NodeId> = self.graph.outputs().iter().copied().collect();
        for step in self.steps.iter_mut().rev() {
            let unseen = |id: &NodeId| needed.insert(*id);
            step.free = step.inputs.iter().copied().filter(unseen).collect();
        }
    }
}
