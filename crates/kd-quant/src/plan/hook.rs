//! Quantisation-aware training as a hook of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use kd_core::Time;
use kd_graph::{Binary, Graph, Kernels, NodeId, Op};
use kd_train::{Hook, HookError, Learner, LearnerState, TensorMap, map_weights};
use serde::{Deserialize, Serialize};

use super::kernel::{kernels_for, turn};
use super::watch::{Watch, moves};
use super::{Quantizer, fold, sites};
use crate::QuantError;
use crate::observer::{RangeMethod, Ranges};

/// Keeps a quantised network as its methods want it, after every step: scales positive, real weights of binary networks clipped, scales of observed
/// weights and activations up to date. Ranges of extremes ([`RangeMethod::MinMax`], [`RangeMethod::MovingAverage`]) go on moving with the training
/// batches; others stay as [`initialise`](super::initialise) set them. Its state goes into checkpoints.
///
/// ```text
/// let (hook, kernels) = QuantHook::new(&quantised)?;
/// let student: Traced<Tensor<4>> = GraphModule::with_kernels(quantised, &device, &kernels)?.into();
/// let run = Run::new(folder, settings, objective, &device).hook(hook.freeze_statistics(8));
/// ```
#[derive(Clone, Debug)]
pub struct QuantHook {
    /// What happens to which parameter, by its path.
    targets: BTreeMap<String, Target>,
    /// Quantisers with moving ranges, by the number of their place, with the paths of scale and zero point.
    moving: BTreeMap<usize, (Quantizer, [String; 2])>,
    /// Flags of batch normalisations.
    norms: BTreeSet<String>,
    watch: Arc<Watch>,
    freeze_ranges: Option<usize>,
    freeze_statistics: Option<usize>,
    state: State,
}

/// A parameter that a method has a say in.
#[derive(Clone, Debug)]
enum Target {
    /// The real weight, and the paths of what is observed of it.
    Weight {
        quantizer: Quantizer,
        turned: bool,
        observed: Vec<String>,
        folded: Option<(String, String, f64)>,
        /// Paths of the masks in front of the quantiser.
        masks: Vec<String>,
    },
    /// Parameter number `index` of the quantiser.
    Parameter { quantizer: Quantizer, turned: bool, index: usize },
}

/// What a checkpoint keeps: the ends of moving ranges, as bits.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    ranges: BTreeMap<usize, [u32; 2]>,
    statistics_frozen: bool,
}

impl QuantHook {
    /// The hook of a quantised graph, and the kernels that go with it.
    ///
    /// # Errors
    /// As [`kernels`](super::kernels).
    pub fn new(graph: &Graph) -> Result<(Self, Kernels), QuantError> {
        let watch = Arc::new(Watch::default());
        let kernels = kernels_for(graph, &watch)?;
        let mut hook = Self {
            targets: BTreeMap::new(),
            moving: BTreeMap::new(),
            norms: norms(graph),
            watch,
            freeze_ranges: None,
            freeze_statistics: None,
            state: State::default(),
        };
        for site in sites(graph)? {
            let name = |id| Ok::<_, QuantError>(graph.node(id)?.name().to_owned());
            let paths: Vec<String> = site.parameters.iter().map(|&id| name(id)).collect::<Result<_, _>>()?;
            let (quantizer, turned) = (site.quantizer, site.turned);
            let uniform = matches!(quantizer, Quantizer::Uniform(_));
            match (site.weight, paths.as_slice()) {
                (Some(weight), _) => {
                    let observed = if uniform { paths.clone() } else { Vec::new() };
                    let quantizer = quantizer.clone();
                    let folded =
                        fold::folded(graph, site.source)?.map(|pair| pair.paths(graph)).transpose()?;
                    let masks = masks(graph, site.source)?;
                    hook.targets
                        .insert(name(weight)?, Target::Weight { quantizer, turned, observed, folded, masks });
                }
                (None, [scale, zero_point]) if moves(&quantizer) => {
                    let ends = hook.ends(graph, &quantizer, [scale, zero_point])?;
                    hook.state.ranges.insert(site.point, ends.map(f32::to_bits));
                    let paths = [scale.clone(), zero_point.clone()];
                    hook.moving.insert(site.point, (quantizer.clone(), paths));
                }
                _ => {}
            }
            if !uniform {
                for (index, path) in paths.into_iter().enumerate() {
                    let quantizer = quantizer.clone();
                    hook.targets.insert(path, Target::Parameter { quantizer, turned, index });
                }
            }
        }
        Ok((hook, kernels))
    }

    /// Observed ranges of activations stay from this epoch on, counted from 0.
    #[must_use]
    pub fn freeze_ranges(self, epoch: usize) -> Self {
        Self { freeze_ranges: Some(epoch), ..self }
    }

    /// Batch normalisations use their running statistics, and no longer move them, from this epoch on, counted from 0: what is trained last is then what
    /// is evaluated. From the start, a hook can do it after the first step.
    #[must_use]
    pub fn freeze_statistics(self, epoch: usize) -> Self {
        Self { freeze_statistics: Some(epoch), ..self }
    }

    /// The range that scale and zero point stand for.
    fn ends(
        &self,
        graph: &Graph,
        quantizer: &Quantizer,
        paths: [&String; 2],
    ) -> Result<[f32; 2], QuantError> {
        let Quantizer::Uniform(uniform) = quantizer else { return Ok([0.0; 2]) };
        let first = |path: &String| {
            let value = graph.value(graph.find(path)?);
            Ok::<f32, QuantError>(value.and_then(|value| value.iter::<f32>().next()).unwrap_or_default())
        };
        let (scale, zero) = (first(paths[0])?, first(paths[1])?);
        Ok([uniform.grid.min(), uniform.grid.max()].map(|code| (code as f32 - zero) * scale))
    }

    /// Takes in what the watch saw; returns the new scales and zero points by path.
    fn move_ranges(&mut self) -> Result<BTreeMap<String, Vec<f32>>, QuantError> {
        let mut new = BTreeMap::new();
        for (point, (low, high)) in self.watch.take() {
            let Some((Quantizer::Uniform(uniform), [scale, zero_point])) = self.moving.get(&point) else {
                continue;
            };
            let old = self.state.ranges.get(&point).map_or([low, high], |ends| ends.map(f32::from_bits));
            let ends = match uniform.range {
                RangeMethod::MovingAverage { constant } => {
                    [old[0] + constant * (low - old[0]), old[1] + constant * (high - old[1])]
                }
                _ => [old[0].min(low), old[1].max(high)],
            };
            self.state.ranges.insert(point, ends.map(f32::to_bits));
            let parameters = Ranges::single(ends[0], ends[1]).parameters(uniform.grid, uniform.symmetry)?;
            new.insert(scale.clone(), parameters.scale);
            let codes = parameters.zero_point.into_iter().map(|code| code as f32).collect();
            new.insert(zero_point.clone(), codes);
        }
        Ok(new)
    }

    /// Masks, and scales and running variances of folded batch normalisations, of weights that are observed.
    fn vectors<M: Module>(&self, module: &M) -> BTreeMap<String, Vec<f32>> {
        let wanted: BTreeSet<&String> = self
            .targets
            .values()
            .filter_map(|target| match target {
                Target::Weight { folded, observed, masks, .. } if !observed.is_empty() => {
                    let norm = folded.iter().flat_map(|(gamma, variance, _)| [gamma, variance]);
                    Some(norm.chain(masks))
                }
                _ => None,
            })
            .flatten()
            .collect();
        let mut read = Read { wanted, found: BTreeMap::new(), path: Vec::new() };
        if !read.wanted.is_empty() {
            // Its statistics have their last update.
            module.valid().visit(&mut read);
        }
        read.found
    }

    fn freeze<M: Module>(&self, module: M) -> M {
        module.map(&mut Freeze { norms: &self.norms, path: Vec::new() })
    }
}

/// The paths of the masks that a weight is multiplied with before it is quantised.
fn masks(graph: &Graph, mut id: NodeId) -> Result<Vec<String>, QuantError> {
    let mut masks = Vec::new();
    while let [first, rest @ ..] = graph.node(id)?.inputs() {
        if matches!(graph.node(id)?.op(), Op::Binary(Binary::Mul)) {
            for &mask in rest {
                masks.push(graph.node(mask)?.name().to_owned());
            }
        }
        id = *first;
    }
    Ok(masks)
}

/// The training flags of a graph's batch normalisations.
fn norms(graph: &Graph) -> BTreeSet<String> {
    let flag = |(_, node): (_, &kd_graph::Node)| {
        let (Op::BatchNorm(_), [_, _, _, mean, _]) = (node.op(), node.inputs()) else { return None };
        let path = graph.node(*mean).ok()?.name().strip_suffix("running_mean")?;
        Some(format!("{path}training"))
    };
    graph.nodes().filter_map(flag).collect()
}

impl<N: Module> Hook<N> for QuantHook {
    fn name(&self) -> &str {
        "quantisation"
    }

    fn after_step(&mut self, time: Time, learner: Learner<N>) -> Result<Learner<N>, HookError> {
        let failed = |error: QuantError| HookError(error.to_string());
        let Learner { student, adapters } = learner;
        let vectors = self.vectors(&student);
        let mut project = Project { targets: &self.targets, vectors, observed: BTreeMap::new(), wrong: None };
        let mut student = map_weights(student, &mut project);
        let (mut observed, wrong) = (project.observed, project.wrong);
        wrong.map_or(Ok(()), Err).map_err(failed)?;
        if self.freeze_ranges.is_none_or(|epoch| time.epoch < epoch) {
            observed.extend(self.move_ranges().map_err(failed)?);
        }
        if !observed.is_empty() {
            student = map_weights(student, &mut Assign { values: observed });
        }
        if self.freeze_statistics.is_some_and(|epoch| time.epoch >= epoch) && !self.state.statistics_frozen {
            self.state.statistics_frozen = true;
            student = self.freeze(student);
        }
        Ok(Learner { student, adapters })
    }

    fn end_epoch(&mut self, time: Time, mut state: LearnerState<N>) -> Result<LearnerState<N>, HookError> {
        if self.freeze_statistics.is_some_and(|epoch| time.epoch + 1 >= epoch) {
            self.state.statistics_frozen = true;
            let Learner { student, adapters } = state.learner;
            state.learner = Learner { student: self.freeze(student), adapters };
        }
        Ok(state)
    }

    fn save(&self) -> Result<serde_json::Value, HookError> {
        serde_json::to_value(&self.state).map_err(|error| HookError(error.to_string()))
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<(), HookError> {
        self.state = serde_json::from_value(state).map_err(|error| HookError(error.to_string()))?;
        Ok(())
    }

    fn rebuild(&mut self, learner: Learner<N>) -> Result<Learner<N>, HookError> {
        if !self.state.statistics_frozen {
            return Ok(learner);
        }
        let Learner { student, adapters } = learner;
        Ok(Learner { student: self.freeze(student), adapters })
    }
}

/// Puts every tensor in the state that its method wants, and observes weights.
struct Project<'a> {
    targets: &'a BTreeMap<String, Target>,
    vectors: BTreeMap<String, Vec<f32>>,
    observed: BTreeMap<String, Vec<f32>>,
    wrong: Option<QuantError>,
}

impl Project<'_> {
    /// A weight without what its masks take away.
    fn masked<const D: usize>(&self, weight: Tensor<D>, masks: &[String]) -> Tensor<D> {
        let values = masks.iter().filter_map(|path| self.vectors.get(path));
        values.fold(weight, |weight, mask| {
            let (shape, device) = (weight.dims(), weight.device());
            weight * crate::data::tensor(mask.clone(), shape, &device)
        })
    }

    /// A weight with the scale of the batch normalisation behind its layer in it.
    fn folded<const D: usize>(&self, weight: Tensor<D>, by: Option<&(String, String, f64)>) -> Tensor<D> {
        let Some((gamma, variance, epsilon)) = by else { return weight };
        let (Some(gamma), Some(variance)) = (self.vectors.get(gamma), self.vectors.get(variance)) else {
            return weight;
        };
        let factors = fold::factors(gamma, variance, *epsilon);
        let mut shape = [1; D];
        if let Some(first) = shape.first_mut() {
            *first = factors.len();
        }
        let device = weight.device();
        weight * crate::data::tensor(factors, shape, &device)
    }
}

impl TensorMap for Project<'_> {
    fn map<const D: usize>(&mut self, path: &str, tensor: Tensor<D>) -> Tensor<D> {
        match self.targets.get(path) {
            None => tensor,
            Some(Target::Parameter { quantizer, turned, index }) => {
                turn(quantizer.project_parameter(*index, turn(tensor, *turned)), *turned)
            }
            Some(Target::Weight { quantizer, turned, observed, folded, masks }) => {
                let weight = quantizer.project(turn(tensor, *turned));
                if !observed.is_empty() {
                    let kept = turn(self.masked(turn(weight.clone(), *turned), masks), *turned);
                    match quantizer.initial(self.folded(kept, folded.as_ref())) {
                        Ok(values) => {
                            for (path, value) in observed.iter().zip(values) {
                                let numbers = value.data().map(|data| data.iter::<f32>().collect());
                                self.observed.insert(path.clone(), numbers.unwrap_or_default());
                            }
                        }
                        Err(error) => self.wrong = self.wrong.take().or(Some(error)),
                    }
                }
                turn(weight, *turned)
            }
        }
    }
}

/// Sets vectors by path.
struct Assign {
    values: BTreeMap<String, Vec<f32>>,
}

impl TensorMap for Assign {
    fn map<const D: usize>(&mut self, path: &str, tensor: Tensor<D>) -> Tensor<D> {
        match self.values.remove(path) {
            Some(values) if values.len() == tensor.dims().iter().product::<usize>() => {
                Tensor::from_data(TensorData::new(values, tensor.dims()), &tensor.device())
            }
            _ => tensor,
        }
    }
}

/// Reads vectors by path, running statistics among them.
struct Read<'a> {
    wanted: BTreeSet<&'a String>,
    found: BTreeMap<String, Vec<f32>>,
    path: Vec<String>,
}

impl ModuleVisitor for Read<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.join(".");
        if self.wanted.contains(&path) {
            self.found.insert(path, param.val().detach().into_data().iter::<f32>().collect());
        }
    }
}

/// Turns batch normalisations' flags off.
struct Freeze<'a> {
    norms: &'a BTreeSet<String>,
    path: Vec<String>,
}

impl ModuleMapper for Freeze<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_flag(&mut self, flag: Param<burn::module::Flag>) -> Param<burn::module::Flag> {
        if self.norms.contains(&self.path.join(".")) { flag.with_value(false) } else { flag }
    }
}
