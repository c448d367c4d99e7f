//! What a method has done to a network, to be done to others.

use burn::tensor::{Device, TensorData};
use kd_graph::Graph;
use kd_prune::{
    KeepMasks, Masks, PruneError, PrunePlan, factorise, fold_masks, insert_masks, remove_constant_branches,
};

/// What is left. The parts were done in the order of the fields.
#[derive(Clone, Debug, Default)]
pub struct Pruned {
    /// Weights of linear layers that were split in two.
    pub factorised: Vec<String>,
    /// Weights of layers that a shortcut has taken the place of.
    pub skipped: Vec<String>,
    /// What was removed physically, each for what the one before left.
    pub plans: Vec<PrunePlan>,
    /// What was masked.
    pub masks: Masks,
    /// The network that is left, if more has changed than that: biases that took up what removed channels gave, say.
    pub graph: Option<Graph>,
    /// Anything that the report should say.
    pub notes: Vec<String>,
}

impl Pruned {
    /// The same on another network of the architecture. What branches without a layer still give is found on `device`.
    ///
    /// # Errors
    /// [`PruneError::Architecture`] for a network of another one.
    pub fn replay(&self, graph: &Graph, device: &Device) -> Result<Graph, PruneError> {
        let mut graph = graph.clone();
        // A network from the same training is split already.
        for weight in self.factorised.iter().filter(|weight| graph.find(weight).is_ok()).collect::<Vec<_>>() {
            factorise(&mut graph, weight)?;
        }
        if !self.skipped.is_empty() {
            for weight in &self.skipped {
                let id = graph.find(weight)?;
                let zeros = TensorData::zeros::<f32, _>(graph.node(id)?.output().shape.at(1));
                graph.edit(|edit| edit.set_value(id, zeros))?;
            }
            remove_constant_branches(&mut graph, device)?;
        }
        for plan in &self.plans {
            graph = plan.apply(&graph)?;
        }
        if self.masks.is_empty() {
            return Ok(graph);
        }
        insert_masks(&mut graph, &self.masks)?;
        fold_masks(&mut graph)?;
        Ok(graph)
    }

    /// The network that recovery begins with.
    ///
    /// # Errors
    /// As [`replay`](Self::replay).
    pub fn start(&self, graph: &Graph, device: &Device) -> Result<Graph, PruneError> {
        self.graph.clone().map_or_else(|| self.replay(graph, device), Ok)
    }

    /// A hook that keeps what was masked at zero.
    pub fn keep(&self) -> Option<KeepMasks> {
        (!self.masks.is_empty()).then(|| KeepMasks::new(self.masks.clone()))
    }

    /// Adds what another pass has pruned.
    pub fn then(&mut self, next: Pruned) {
        self.factorised.extend(next.factorised);
        self.skipped.extend(next.skipped);
        self.plans.extend(next.plans);
        self.masks.extend(next.masks);
        self.graph = next.graph;
        self.notes.extend(next.notes);
    }
}
