//! `method = "network-slimming"`: channels whose normalisation scales an L1 term drives to zero.

use burn::tensor::Device;
use kd_graph::Graph;
use kd_prune::{
    ChannelImportance, ChannelNorm, Exactness, NetworkSlimming, PruneError, Sensitivity, SlimTarget,
    SparsifyScales, batch_norm_scales, slim, slim_within,
};
use kd_train::Hook;

use super::{Fresh, Method, Net, Pruned, ToPrune};
use crate::experiment::StudyError;

impl Method for NetworkSlimming {
    fn validate(&self) -> Result<(), PruneError> {
        self.clone().validate().map(drop)
    }

    fn prepare(&self, graph: Graph, _fresh: &Fresh<'_>) -> Result<Graph, StudyError> {
        if batch_norm_scales(&graph)?.is_empty() {
            let (key, value) =
                ("student.model".to_owned(), "a network without batch normalisation".to_owned());
            let allowed = "one with batch normalisation, whose scales network slimming looks at".to_owned();
            return Err(PruneError::Setting { key, value, allowed }.into());
        }
        Ok(self.initialised(graph)?)
    }

    fn hooks(&self, graph: &Graph) -> Result<Vec<Box<dyn Hook<Net>>>, StudyError> {
        let scales = batch_norm_scales(graph)?;
        Ok(vec![Box::new(SparsifyScales::new(self.lambda, scales.into_keys())?)])
    }

    fn passes(&self) -> usize {
        self.targets.len()
    }

    fn prune(&self, network: &ToPrune<'_>) -> Result<Pruned, StudyError> {
        let target = self.targets.get(network.pass.saturating_sub(1)).copied();
        let (plan, report) = match target.unwrap_or(SlimTarget::Channels(0.5)) {
            SlimTarget::Channels(share) => slim(network.graph, share)?,
            SlimTarget::Budget(budget) => slim_within(network.graph, budget, network.stopwatch)?,
        };
        let (graph, absorbed) = plan.absorb(network.graph, &network.stopwatch.device)?;
        let lost = absorbed.iter().filter(|layer| layer.exactness == Exactness::Lost).count();
        let notes = vec![format!(
            "Pass {}: {} channels below the threshold of {:.3} went, with shifts of at most {:.3}, lost in {lost} of {} layers that read them; {}.",
            network.pass,
            report.channels,
            report.threshold,
            report.lost_shift,
            absorbed.len(),
            plan.cost(network.graph)?
        )];
        Ok(Pruned { plans: vec![plan], notes, graph: Some(graph), ..Default::default() })
    }

    fn sensitivity(
        &self,
        graph: &Graph,
        _device: &Device,
        sparsities: &[f64],
        measure: &mut dyn FnMut(&Graph) -> Result<f64, StudyError>,
    ) -> Result<Sensitivity, StudyError> {
        let importance = ChannelImportance { norm: ChannelNorm::BatchNorm, ..Default::default() };
        Sensitivity::of_channels(graph, &importance, sparsities, true, measure)
    }
}
