//! Network slimming: channels whose normalisation scales are driven to zero go.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::Module;
use burn::tensor::Tensor;
use kd_core::Time;
use kd_graph::{Dependencies, Graph, Op, Position};
use kd_train::{Gradients, Hook, HookError, Learner, TensorMap};

use crate::{Array, Arrays, PruneError, PrunePlan, batch_norm_scales};

/// The threshold of network slimming: of all `n` scales $|\gamma|$ sorted, the one at `floor(n * share)`; channels above it stay.
///
/// A threshold that no scale exceeds would leave nothing: then the largest scale of every layer stays nevertheless, see
/// [`slimming_channels`].
///
/// # Errors
/// [`PruneError::Setting`] for a share outside `[0, 1)`, or when there is no normalisation.
pub fn slimming_threshold(scales: &Arrays, share: f64) -> Result<f32, PruneError> {
    if !(0.0..1.0).contains(&share) {
        return Err(PruneError::setting("share", share, "0 or more and below 1"));
    }
    let mut all: Vec<f32> = scales.values().flat_map(|scales| scales.values()).map(|s| s.abs()).collect();
    all.sort_by(f32::total_cmp);
    let at = (all.len() as f64 * share) as usize;
    let none =
        || PruneError::setting("network", "without batch normalisation", "one with batch normalisation");
    all.get(at).copied().ok_or_else(none)
}

/// Which channels of every normalisation stay: those above the threshold, and of every layer at least the largest.
pub fn slimming_channels(scales: &Arrays, threshold: f32) -> BTreeMap<String, Vec<usize>> {
    let kept = |(path, scales): (&String, &Array)| {
        let scales = scales.map(f32::abs);
        let above = scales.values().iter().enumerate().filter(|(_, scale)| **scale > threshold);
        let mut kept: Vec<usize> = above.map(|(channel, _)| channel).collect();
        if kept.is_empty() {
            kept = crate::top_k(scales.values(), 1, crate::Ties::LowerIndex)
                .into_iter()
                .enumerate()
                .filter_map(|(channel, keep)| keep.then_some(channel))
                .collect();
        }
        (path.clone(), kept)
    };
    scales.iter().map(kept).collect()
}

/// Network slimming of a trained network: one threshold over all batch normalisations; what can be removed physically is.
///
/// Channels that several normalisations share, as on a residual path, go only if every normalisation that scales them agrees, so
/// that a removed channel was small wherever it was made. Every group of channels keeps at least one. The shifts $\beta$ of removed channels
/// are lost, as in the reference: [`PruneReport::lost_shift`] says how large they were.
///
/// Liu et al., *Learning Efficient Convolutional Networks through Network Slimming* (2017).
///
/// # Errors
/// As [`slimming_threshold`] and [`PrunePlan::new`].
pub fn slim(graph: &Graph, share: f64) -> Result<(PrunePlan, PruneReport), PruneError> {
    let scales = batch_norm_scales(graph)?;
    let threshold = slimming_threshold(&scales, share)?;
    let kept = slimming_channels(&scales, threshold);
    let dependencies = graph.dependencies();
    let positions = agreed(&dependencies, &scales, &kept);
    let lost_shift = lost_shift(graph, &dependencies, &positions)?;
    let plan = PrunePlan::new(graph, positions.iter().copied())?;
    Ok((plan, PruneReport { threshold, channels: positions.len(), lost_shift }))
}

/// What [`slim`] found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PruneReport {
    /// The threshold on $|\gamma|$.
    pub threshold: f32,
    /// Number of removed positions; a position that several layers share counts once.
    pub channels: usize,
    /// The largest $|\beta|$ of a removed channel: 0 means that removing is the same as $\gamma = 0$.
    pub lost_shift: f32,
}

fn agreed(
    dependencies: &Dependencies,
    scales: &Arrays,
    kept: &BTreeMap<String, Vec<usize>>,
) -> BTreeSet<Position> {
    let mut removed = BTreeSet::new();
    for group in dependencies.groups() {
        let norms: Vec<_> =
            group.members.iter().filter(|member| scales.contains_key(&member.parameter)).collect();
        let goes = |index: usize| {
            let mut votes = norms.iter().filter_map(|member| {
                let kept = kept.get(&member.parameter)?;
                let channels = member.indices.get(index).filter(|channels| !channels.is_empty())?;
                Some(channels.iter().all(|channel| !kept.contains(channel)))
            });
            let fixed = group.fixed.get(index).is_none_or(Option::is_some);
            // No vote is no reason to remove.
            !fixed && votes.next().is_some_and(|first| first && votes.all(|vote| vote))
        };
        let mut going: Vec<usize> = (0..group.len()).filter(|index| goes(*index)).collect();
        if going.len() == group.len() {
            going.pop();
        }
        removed.extend(going.into_iter().map(|index| group.position(index)));
    }
    removed
}

pub(crate) fn lost_shift(
    graph: &Graph,
    dependencies: &Dependencies,
    removed: &BTreeSet<Position>,
) -> Result<f32, PruneError> {
    let mut largest = 0.0f32;
    for (_, node) in graph.nodes().filter(|(_, node)| matches!(node.op(), Op::BatchNorm(_))) {
        let Some(&beta) = node.inputs().get(2) else { continue };
        let shifts = crate::subject::value(graph, graph.node(beta)?.name())?;
        let kept: BTreeSet<usize> =
            dependencies.kept(beta, 0, removed).unwrap_or_default().into_iter().collect();
        let lost = shifts.values().iter().enumerate().filter(|(channel, _)| !kept.contains(channel));
        largest = lost.map(|(_, shift)| shift.abs()).fold(largest, f32::max);
    }
    Ok(largest)
}

/// Adds $\lambda \, \text{sign}(\gamma)$ to a gradient, with $\text{sign}(0) = 0$.
///
/// # Errors
/// [`PruneError::Shape`] when the shapes differ.
pub fn l1_subgradient(weight: &Array, gradient: &Array, lambda: f64) -> Result<Array, PruneError> {
    let sign = |w: f32| if w == 0.0 { 0.0 } else { w.signum() };
    gradient.zip(weight, |g, w| g + lambda as f32 * sign(w))
}

/// A hook that adds $\lambda \, \text{sign}(\gamma)$ to the gradient of every normalisation's scale, after the backward pass and before the
/// optimizer: the sparsity that [`slim`] harvests. 1e-4 for VGG and 1e-5 for ResNets in the paper.
#[derive(Clone, Debug)]
pub struct SparsifyScales {
    lambda: f64,
    scales: BTreeSet<String>,
}

impl SparsifyScales {
    /// For the scales of these paths, as [`batch_norm_scales`] names them.
    ///
    /// # Errors
    /// [`PruneError::Setting`] for a factor that is not positive.
    pub fn new<N: Into<String>>(
        lambda: f64,
        scales: impl IntoIterator<Item = N>,
    ) -> Result<Self, PruneError> {
        if !(lambda > 0.0 && lambda.is_finite()) {
            return Err(PruneError::setting("lambda", lambda, "a positive number"));
        }
        // A run's paths begin with the part of the learner that they are in.
        let scales = scales.into_iter().map(|path| format!("student.{}", path.into())).collect();
        Ok(Self { lambda, scales })
    }
}

impl<N: Module> Hook<N> for SparsifyScales {
    fn name(&self) -> &str {
        "sparsify-scales"
    }

    fn before_step(
        &mut self,
        _time: Time,
        learner: &Learner<N>,
        gradients: &mut Gradients<'_, Learner<N>>,
    ) -> Result<(), HookError> {
        let mut signs = Signs { scales: &self.scales, found: BTreeMap::new() };
        learner.visit(&mut crate::visit::Weights::new(&mut signs));
        gradients.map(&mut AddSign { lambda: self.lambda, signs: signs.found });
        Ok(())
    }
}

struct Signs<'a> {
    scales: &'a BTreeSet<String>,
    found: BTreeMap<String, Tensor<1>>,
}

impl crate::visit::See for Signs<'_> {
    fn see<const D: usize>(&mut self, path: &str, tensor: Tensor<D>) {
        if self.scales.contains(path) {
            self.found.insert(path.to_owned(), tensor.sign().flatten(0, D.saturating_sub(1)));
        }
    }
}

struct AddSign {
    lambda: f64,
    signs: BTreeMap<String, Tensor<1>>,
}

impl TensorMap for AddSign {
    fn map<const D: usize>(&mut self, path: &str, gradient: Tensor<D>) -> Tensor<D> {
        match self.signs.get(path) {
            Some(sign) => {
                let shape = gradient.dims();
                gradient + sign.clone().reshape(shape).mul_scalar(self.lambda)
            }
            None => gradient,
        }
    }
}
