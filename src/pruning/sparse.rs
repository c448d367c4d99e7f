//! Methods that make a network sparse while it is trained: `gradual-magnitude`, `sparse-training`; and `two-of-four`.

use burn::tensor::Device;
use kd_graph::Graph;
use kd_prune::{
    Allocation, ErdosRenyi, GradualPruning, MaskSearch, Masks, Polynomial, PolynomialConvention, PruneError,
    Pruner, Random, Schedule, SparseTraining, SparseTrainingSettings, Subject, rewound, two_of_four,
};
use kd_train::Hook;
use serde::{Deserialize, Serialize};

use super::channels::setting;
use super::magnitude::stored;
use super::zeros::mask_zeros;
use super::{Fresh, Method, Net, Pruned, ToPrune};
use crate::experiment::StudyError;

/// What the first row is called when that network is sparse already.
pub(super) const SPARSE: &str = "trained sparse";

/// `method = "gradual-magnitude"`: the smallest weights of all layers go while the network is trained, more and more of them.
///
/// Zhu and Gupta, *To Prune, or Not to Prune* (2017).
///
/// | key | default | range |
/// |---|---|---|
/// | `schedule` | polynomial to 0.9, from step 500 to 2000, every 100 | see [`Schedule`]; the steps are those of the first training |
/// | `allocation` | `global` | as for `magnitude` |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct GradualMagnitude {
    /// How many go when.
    pub schedule: Schedule,
    /// Where they go.
    pub allocation: Allocation,
}

impl Default for GradualMagnitude {
    fn default() -> Self {
        let polynomial = Polynomial {
            initial: 0.0,
            target: 0.9,
            begin: 500,
            end: 2000,
            every: 100,
            power: 3.0,
            convention: PolynomialConvention::Paper,
        };
        Self { schedule: Schedule::Polynomial(polynomial), allocation: Allocation::Global }
    }
}

impl Method for GradualMagnitude {
    fn validate(&self) -> Result<(), PruneError> {
        self.schedule.validate().map(drop)
    }

    fn trained(&self) -> &'static str {
        SPARSE
    }

    fn hooks(&self, graph: &Graph) -> Result<Vec<Box<dyn Hook<Net>>>, StudyError> {
        let parameters: Vec<String> = subject(graph).parameters().map(str::to_owned).collect();
        Ok(vec![Box::new(GradualPruning::new(self.schedule, self.allocation.clone(), parameters)?)])
    }

    fn prune(&self, network: &ToPrune<'_>) -> Result<Pruned, StudyError> {
        mask_zeros(network)
    }
}

/// `method = "sparse-training"`: a network that is sparse from the beginning, and whose connections move: SET, RigL, SNFS, DSR.
///
/// | key | default | range |
/// |---|---|---|
/// | `sparsity` | 0.9 | above 0, below 1: share of all weights that are not there |
/// | `allocation` | `{ erdos-renyi = {} }` | where the random connections of the beginning lie |
/// | `training` | RigL | see [`SparseTrainingSettings`]: `rule`, `every`, `drop`, `seed` |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct SparseFromScratch {
    /// Share of weights that are not there.
    pub sparsity: f64,
    /// Where the first connections lie.
    pub allocation: Allocation,
    /// How connections move.
    pub training: SparseTrainingSettings,
}

impl Default for SparseFromScratch {
    fn default() -> Self {
        let allocation = Allocation::ErdosRenyi(ErdosRenyi::default());
        Self { sparsity: 0.9, allocation, training: SparseTrainingSettings::default() }
    }
}

impl SparseFromScratch {
    /// The connections of the beginning: a function of the settings and the network's shapes alone.
    fn first(&self, graph: &Graph) -> Result<Masks, PruneError> {
        let subject = subject(graph);
        let random = Pruner::new(Random { seed: self.training.seed }).allocation(self.allocation.clone());
        random.masks(&subject, &subject.dense()?, self.sparsity)
    }
}

impl Method for SparseFromScratch {
    fn validate(&self) -> Result<(), PruneError> {
        share(self.sparsity)?;
        self.training.validate().map(drop)
    }

    fn trained(&self) -> &'static str {
        SPARSE
    }

    fn prepare(&self, graph: Graph, _fresh: &Fresh<'_>) -> Result<Graph, StudyError> {
        Ok(rewound(&graph, &self.first(&graph)?)?)
    }

    fn hooks(&self, graph: &Graph) -> Result<Vec<Box<dyn Hook<Net>>>, StudyError> {
        Ok(vec![Box::new(SparseTraining::new(self.training, self.first(graph)?)?)])
    }

    fn prune(&self, network: &ToPrune<'_>) -> Result<Pruned, StudyError> {
        mask_zeros(network)
    }
}

/// `method = "two-of-four"`: the two smallest of every four weights along the inputs of a layer go, as tensor cores can skip them.
///
/// Mishra et al., *Accelerating Sparse Deep Neural Networks* (2021).
///
/// | key | default | |
/// |---|---|---|
/// | `search` | `inputs` | `inputs`, or `transposable` for a mask whose transpose is 2:4 as well |
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct TwoOfFour {
    /// How masks are searched.
    pub search: MaskSearch,
}

impl Method for TwoOfFour {
    fn validate(&self) -> Result<(), PruneError> {
        Ok(())
    }

    fn prune(&self, network: &ToPrune<'_>) -> Result<Pruned, StudyError> {
        let masks = two_of_four(&subject(network.graph), self.search)?;
        if masks.is_empty() {
            let none = "no layer has inputs in fours, so that nothing can be 2:4";
            return Err(StudyError::Other(none.to_owned()));
        }
        Ok(Pruned { notes: vec![stored(network.pass, &masks)], masks, ..Default::default() })
    }
}

pub(super) fn share(sparsity: f64) -> Result<(), PruneError> {
    setting("sparsity", sparsity, sparsity > 0.0 && sparsity < 1.0, "above 0 and below 1")
}

/// Only weights are looked at, so that the device does not matter.
pub(super) fn subject(graph: &Graph) -> Subject<'_> {
    Subject::new(graph, &Device::default())
}
