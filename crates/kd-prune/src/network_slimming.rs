//! Network slimming as a whole: train sparse, remove, recover, and again.

use burn::tensor::Device;
use kd_graph::Graph;
use serde::{Deserialize, Serialize};

use crate::{
    Absorbed, Array, Budget, ChannelImportance, ChannelNorm, ChannelPruner, PruneError, PrunePlan,
    PruneReport, Reduce, SparsifyScales, Stopwatch, batch_norm_scales, slim,
};

/// How much a pass of [`NetworkSlimming`] removes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlimTarget {
    /// Channels below one threshold over all scales: this share of them, as in the paper.
    Channels(f64),
    /// The channels of the smallest scales, until this much is left.
    Budget(Budget),
}

/// Network slimming from a network to a smaller one.
///
/// | key | default | range | meaning |
/// |---|---|---|---|
/// | `lambda` | 1e-4 | above 0 | factor of $\sum\lvert\gamma\rvert$ in the loss; 1e-5 for ResNets in the paper |
/// | `initial-scale` | 0.5 | above 0, or none | what every $\gamma$ starts from |
/// | `targets` | half of all channels, once | one or more | what every pass removes, from what the pass before has left |
///
/// A pass trains with [`SparsifyScales`], removes what its target says ([`slim`], or [`slim_within`]), gives what removed channels still gave to the layers that
/// read them ([`PrunePlan::absorb`]), and trains without the penalty to recover.
///
/// Liu et al., *Learning Efficient Convolutional Networks through Network Slimming* (2017).
///
/// ```
/// use kd_prune::{Budget, NetworkSlimming, SlimTarget};
///
/// let twice = vec![SlimTarget::Channels(0.5), SlimTarget::Budget(Budget::Parameters(0.3.into()))];
/// let slimming = NetworkSlimming { lambda: 1e-3, targets: twice, ..Default::default() }.validate()?;
/// assert!(NetworkSlimming { lambda: -1.0, ..slimming }.validate().is_err());
/// # Ok::<(), kd_prune::PruneError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct NetworkSlimming {
    /// Factor of the penalty.
    pub lambda: f64,
    /// What every scale starts from; none leaves them as they are.
    pub initial_scale: Option<f64>,
    /// What every pass removes.
    pub targets: Vec<SlimTarget>,
}

impl Default for NetworkSlimming {
    fn default() -> Self {
        Self { lambda: 1e-4, initial_scale: Some(0.5), targets: vec![SlimTarget::Channels(0.5)] }
    }
}

/// What a network is trained for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlimStage {
    /// With the penalty, before channels go.
    Sparse {
        /// From 0.
        pass: usize,
    },
    /// Without it, after they went.
    Recover {
        /// From 0.
        pass: usize,
    },
}

/// A pass of [`NetworkSlimming`].
#[derive(Clone, Debug)]
pub struct SlimPass {
    /// What was removed.
    pub plan: PrunePlan,
    /// Threshold and number.
    pub report: PruneReport,
    /// What became of the shifts of removed channels.
    pub absorbed: Vec<Absorbed>,
}

impl NetworkSlimming {
    /// Refuses settings out of range.
    ///
    /// # Errors
    /// [`PruneError::Setting`].
    pub fn validate(self) -> Result<Self, PruneError> {
        SparsifyScales::new(self.lambda, [""; 0])?;
        if let Some(scale) = self.initial_scale.filter(|scale| !(*scale > 0.0 && scale.is_finite())) {
            return Err(PruneError::setting("initial-scale", scale, "a positive number, or left out"));
        }
        if self.targets.is_empty() {
            return Err(PruneError::setting("targets", "empty", "one target for every pass"));
        }
        for target in &self.targets {
            match *target {
                SlimTarget::Channels(share) if !(share > 0.0 && share < 1.0) => {
                    return Err(PruneError::setting("targets", share, "a share above 0 and below 1"));
                }
                SlimTarget::Channels(_) => {}
                SlimTarget::Budget(budget) => budget.validate().map(drop)?,
            }
        }
        Ok(self)
    }

    /// A fresh network whose scales are the initial ones.
    ///
    /// # Errors
    /// [`PruneError::Shape`] for scales that can't be read.
    pub fn initialised(&self, graph: Graph) -> Result<Graph, PruneError> {
        self.initial_scale.map_or(Ok(graph.clone()), |scale| with_scales(graph, scale))
    }

    /// Runs all passes. `train` trains a network to the end of a stage, with the hook if there is one, and gives it back; how, on what and for how
    /// long is its own affair: a [`Run`](kd_train::Run) with the hook, with or without the network before as teacher. `device` is where
    /// networks are run to find out what their channels give.
    ///
    /// # Errors
    /// What `train` returns, and [`PruneError`] as [`slim`] and [`PrunePlan::absorb`].
    pub fn run<E: From<PruneError>>(
        &self,
        mut graph: Graph,
        device: &Device,
        mut train: impl FnMut(SlimStage, Graph, Option<SparsifyScales>) -> Result<Graph, E>,
    ) -> Result<(Graph, Vec<SlimPass>), E> {
        graph = self.initialised(graph)?;
        let mut passes = Vec::new();
        for (pass, target) in self.targets.iter().enumerate() {
            let hook = SparsifyScales::new(self.lambda, batch_norm_scales(&graph)?.into_keys())?;
            graph = train(SlimStage::Sparse { pass }, graph, Some(hook))?;
            let (plan, report) = match *target {
                SlimTarget::Channels(share) => slim(&graph, share)?,
                SlimTarget::Budget(budget) => slim_within(&graph, budget, &Stopwatch::new(device))?,
            };
            let (smaller, absorbed) = plan.absorb(&graph, device)?;
            graph = train(SlimStage::Recover { pass }, smaller, None)?;
            passes.push(SlimPass { plan, report, absorbed });
        }
        Ok((graph, passes))
    }
}

/// As [`slim`], with the lowest threshold that brings the network within a budget. A channel that several normalisations share counts with the
/// largest of their scales, so that it goes only if all agree. `stopwatch` is used for a budget of milliseconds only.
///
/// # Errors
/// As [`ChannelPruner::plan`].
pub fn slim_within(
    graph: &Graph,
    budget: Budget,
    stopwatch: &Stopwatch,
) -> Result<(PrunePlan, PruneReport), PruneError> {
    let dependencies = graph.dependencies();
    let largest = ChannelImportance { norm: ChannelNorm::BatchNorm, reduce: Reduce::Max, normalise: false };
    let scores = largest.score(graph, &dependencies)?;
    let plan = ChannelPruner::new(budget).plan_by(graph, &scores, stopwatch)?;
    let removed = plan.removed(graph)?;
    let score = |position: &kd_graph::Position| scores.get(&position.group)?.get(position.index).copied();
    let threshold = removed.iter().filter_map(score).fold(0.0, f32::max);
    let lost_shift = crate::slimming::lost_shift(graph, &dependencies, &removed)?;
    Ok((plan, PruneReport { threshold, channels: removed.len(), lost_shift }))
}

/// A network whose normalisations all have this scale.
fn with_scales(mut graph: Graph, scale: f64) -> Result<Graph, PruneError> {
    let scales: Vec<_> = batch_norm_scales(&graph)?
        .into_iter()
        .map(|(path, old)| Ok((graph.find(&path)?, old.map(|_| scale as f32))))
        .collect::<Result<_, PruneError>>()?;
    graph
        .edit(|edit| scales.iter().try_for_each(|(id, scale)| edit.set_value(*id, Array::to_data(scale))))?;
    Ok(graph)
}
