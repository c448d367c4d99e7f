//! FLOP: factorised layers whose size is a constraint, kept by multipliers that climb while it is not met.

use burn::module::Module;
use burn::tensor::Tensor;
use kd_core::{Probe, Schedule, Step, Term, TermError, TermParams, Time, Wants};
use kd_graph::Graph;
use kd_train::{Gradients, Hook, HookError, Learner, TensorMap};

use super::Gates;
use crate::PruneError;

/// Name of the multipliers among the term's parameters.
const MULTIPLIERS: &str = "multipliers";

/// What the multipliers start from: 0 in the paper, but a run takes a term that is exactly zero for a mistake.
const START: f64 = 1e-3;

/// The augmented Lagrangian of a target size, as a term of the objective:
///
/// $$\lambda_1 (t - \hat s) + \lambda_2 (t - \hat s)^2, \qquad \hat s = 1 - \frac{\sum_l \sum_k P(z_{lk} \ne 0) \, n_l}{\sum_l N_l}$$
///
/// with $n_l$ the weights that one gate of layer $l$ stands for, $N_l$ the weights of the layer before it was split in two, and $t$ the target sparsity, which rises linearly from
/// 0 over the first share of the run. The multipliers start at 0.001, are parameters of the term, and go up the gradient instead of down:
/// [`AscendMultipliers`] must be among the run's hooks. Wang et al., *Structured Pruning of Large Language Models* (2020).
#[derive(Clone, Debug)]
pub struct SizeLagrangian {
    gates: Vec<(Gates, usize)>,
    total: usize,
    target: Schedule,
}

impl SizeLagrangian {
    /// Over all gates of a graph, which lie on the left factors that [`factorise`](super::factorise) made or, without a second factor, on plain weights.
    ///
    /// # Errors
    /// [`PruneError::Setting`] for a graph without gates, a sparsity outside `(0, 1)` or a share outside `(0, 1]`.
    pub fn new(graph: &Graph, sparsity: f64, warm_up: f64) -> Result<Self, PruneError> {
        if !(sparsity > 0.0 && sparsity < 1.0) {
            return Err(PruneError::setting("sparsity", sparsity, "above 0 and below 1"));
        }
        if !(warm_up > 0.0 && warm_up <= 1.0) {
            return Err(PruneError::setting("warm-up", warm_up, "above 0, at most 1"));
        }
        let (mut all, mut total) = (Vec::new(), 0);
        for gates in Gates::of(graph)? {
            let size = |path: &str| Ok::<_, PruneError>(graph.node(graph.find(path)?)?.output().shape.at(1));
            let sizes = size(&gates.weight)?;
            let count = sizes.get(gates.axis).copied().unwrap_or(1).max(1);
            let own = sizes.iter().product::<usize>() / count;
            match gates.weight.strip_suffix("_left").and_then(|path| size(&format!("{path}_right")).ok()) {
                Some(right) => {
                    let outputs = right.get(1).copied().unwrap_or(0);
                    total += own * outputs;
                    all.push((gates, own + outputs));
                }
                None => {
                    total += own * count;
                    all.push((gates, own));
                }
            }
        }
        if all.is_empty() {
            return Err(PruneError::setting(
                "network",
                "without gates",
                "one with gates, see `insert_gates`",
            ));
        }
        Ok(Self { gates: all, total, target: Schedule::WarmUp { to: sparsity, share: warm_up } })
    }

    /// The size that is expected of a graph, as a share of what it was before it was split.
    ///
    /// # Errors
    /// [`GraphError`](kd_graph::GraphError) for another graph.
    pub fn expected_share(&self, graph: &Graph) -> Result<f64, PruneError> {
        let mut size = 0.0;
        for (gates, weights) in &self.gates {
            let crate::HardConcrete { temperature, lower, upper } = gates.distribution;
            let shift = temperature * (-lower / upper).ln();
            let log_alpha = crate::subject::value(graph, &gates.log_alpha)?;
            let open = |log_alpha: &f32| 1.0 / (1.0 + (shift - f64::from(*log_alpha)).exp());
            size += *weights as f64 * log_alpha.values().iter().map(open).sum::<f64>();
        }
        Ok(size / self.total.max(1) as f64)
    }
}

impl Term for SizeLagrangian {
    fn wants(&self) -> Wants {
        let student = self.gates.iter().map(|(gates, _)| gates.log_alpha.clone());
        Wants { student: student.collect(), ..Wants::default() }
    }

    fn init(&self, probe: &Probe, params: &mut TermParams<'_>) -> Result<(), TermError> {
        params.insert(MULTIPLIERS, Tensor::<1>::full([2], START, &probe.device))
    }

    fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError> {
        let mut size: Option<Tensor<1>> = None;
        for (gates, weights) in &self.gates {
            let open = gates.distribution.open(step.student::<1>(&gates.log_alpha)?);
            let part = open.sum().mul_scalar(*weights as f64 / self.total.max(1) as f64);
            size = Some(match size {
                Some(size) => size + part,
                None => part,
            });
        }
        let size = size.ok_or_else(|| TermError::Other("there are no gates".to_owned()))?;
        // How far the sparsity falls short of its target.
        let short = size.add_scalar(self.target.at(step.time) - 1.0);
        let multipliers = step.params.get::<1>(MULTIPLIERS)?;
        let pair = Tensor::cat(vec![short.clone(), short.square()], 0);
        Ok((multipliers * pair).sum())
    }
}

/// A hook that lets the multipliers of a [`SizeLagrangian`] climb: it turns their gradient round. Their own learning rate, without weight decay, is a matter of the
/// optimizer's groups: `{ pattern = '^adapters\..*\.multipliers$', learning-rate = ..., weight-decay = 0 }`.
#[derive(Clone, Debug)]
pub struct AscendMultipliers {
    path: String,
}

impl AscendMultipliers {
    /// Of the term of this name in the objective.
    pub fn new(term: &str) -> Self {
        Self { path: format!("adapters.{term}.{MULTIPLIERS}") }
    }
}

impl TensorMap for AscendMultipliers {
    fn map<const D: usize>(&mut self, path: &str, gradient: Tensor<D>) -> Tensor<D> {
        if path == self.path { gradient.neg() } else { gradient }
    }
}

impl<N: Module> Hook<N> for AscendMultipliers {
    fn name(&self) -> &str {
        "ascend-multipliers"
    }

    fn before_step(
        &mut self,
        _time: Time,
        _learner: &Learner<N>,
        gradients: &mut Gradients<'_, Learner<N>>,
    ) -> Result<(), HookError> {
        gradients.map(self);
        Ok(())
    }
}
