//! L0 regularisation of a graph with gates.

use std::collections::BTreeSet;

use burn::module::Module;
use burn::tensor::Tensor;
use kd_core::{Step, Term, TermError, Time, Wants};
use kd_graph::Graph;
use kd_train::{Hook, HookError, Learner, TensorMap, map_weights};

use super::Gates;
use crate::{PruneError, l0_penalty};

/// The expected number of weights that are not zero, and the weight decay of those, as a term of the objective:
///
/// $$\sum_\text{layers} \sum_g P(z_g \ne 0) \left(\tfrac12 \delta \lVert w_g \rVert^2 + \lambda n_g\right)$$
///
/// The paper divides by the number of training images, which is the term's weight here: `1.0 / images`. Louizos et al., *Learning Sparse Neural
/// Networks through L0 Regularization* (2018).
#[derive(Clone, Debug)]
pub struct L0Penalty {
    gates: Vec<Gates>,
    lambda: f64,
    weight_decay: f64,
}

impl L0Penalty {
    /// Over all gates of a graph. `weight_decay` is that of the gated weights, which the optimizer must not decay again.
    ///
    /// # Errors
    /// [`PruneError::Setting`] for a graph without gates, or a factor that is negative.
    pub fn new(graph: &Graph, lambda: f64, weight_decay: f64) -> Result<Self, PruneError> {
        for (key, value) in [("lambda", lambda), ("weight-decay", weight_decay)] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(PruneError::setting(key, value, "0 or more"));
            }
        }
        let gates = Gates::of(graph)?;
        if gates.is_empty() {
            return Err(PruneError::setting(
                "network",
                "without gates",
                "one with gates, see `insert_gates`",
            ));
        }
        Ok(Self { gates, lambda, weight_decay })
    }
}

impl Term for L0Penalty {
    fn wants(&self) -> Wants {
        let student = self.gates.iter().flat_map(|gates| [gates.weight.clone(), gates.log_alpha.clone()]);
        Wants { student: student.collect(), ..Wants::default() }
    }

    fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError> {
        let mut sum: Option<Tensor<1>> = None;
        for gates in &self.gates {
            let open = gates.distribution.open(step.student::<1>(&gates.log_alpha)?);
            let weight = step.student.value(&gates.weight)?;
            macro_rules! of_rank {
                ($($rank:literal)*) => {
                    match weight.rank() {
                        $($rank => {
                            let weight = weight.float::<$rank>()?;
                            l0_penalty(weight, gates.axis, open, self.weight_decay, self.lambda)
                        })*
                        rank => return Err(TermError::Other(format!("`{}` has {rank} axes, not 1 to 5", gates.weight))),
                    }
                };
            }
            let penalty = of_rank!(1 2 3 4 5);
            sum = Some(match sum {
                Some(sum) => sum + penalty,
                None => penalty,
            });
        }
        sum.ok_or_else(|| TermError::Other("there are no gates".to_owned()))
    }
}

/// A hook that keeps every $\ln\alpha$ within $\ln 10^{-2}$ and $\ln 10^2$, as the authors' code does: a gate that is all but surely closed, or open, still
/// has a gradient.
#[derive(Clone, Debug)]
pub struct ClampGates {
    paths: BTreeSet<String>,
}

impl ClampGates {
    /// For all gates of a graph.
    ///
    /// # Errors
    /// As [`Gates::of`].
    pub fn new(graph: &Graph) -> Result<Self, PruneError> {
        Ok(Self { paths: Gates::of(graph)?.into_iter().map(|gates| gates.log_alpha).collect() })
    }
}

impl TensorMap for ClampGates {
    fn map<const D: usize>(&mut self, path: &str, tensor: Tensor<D>) -> Tensor<D> {
        let bound = 100f64.ln();
        if self.paths.contains(path) { tensor.clamp(-bound, bound) } else { tensor }
    }
}

impl<N: Module> Hook<N> for ClampGates {
    fn name(&self) -> &str {
        "clamp-gates"
    }

    fn after_step(&mut self, _time: Time, learner: Learner<N>) -> Result<Learner<N>, HookError> {
        Ok(Learner { student: map_weights(learner.student, self), ..learner })
    }
}
