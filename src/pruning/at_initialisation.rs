//! `method = "at-initialisation"`: single weights before training.

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;
use kd_graph::{Graph, Value};
use kd_prune::{KeepMasks, Mask, PruneError, Subject, rewound};
use kd_train::{Hook, HostBatch};
use serde::{Deserialize, Serialize};

use super::channels::setting;
use super::sparse::{SPARSE, share, subject};
use super::zeros::mask_zeros;
use super::{Fresh, Method, Net, Pruned, ToPrune};
use crate::experiment::StudyError;

/// Pruning at initialisation: what a score says is least needed goes before the first step, and what is left is trained.
///
/// Lee et al., *SNIP: Single-shot Network Pruning based on Connection Sensitivity* (2019); Wang et al., *Picking Winning Tickets Before Training by Preserving Gradient
/// Flow* (2020); Tanaka et al., *Pruning Neural Networks without Any Data by Iteratively Conserving Synaptic Flow* (2020).
///
/// | key | default | range |
/// |---|---|---|
/// | `score` | `snip` | `snip`, `grasp`, `synflow`; the controls `magnitude` and `random` |
/// | `sparsity` | 0.9 | above 0, below 1: share of all weights that go |
/// | `batches` | 1 | 1 or more: training batches that SNIP and GraSP look at |
/// | `rounds` | 100 | 1 or more: rounds of SynFlow |
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct AtInitialisation {
    /// What a weight is worth.
    pub score: InitialScore,
    /// Share of weights that go.
    pub sparsity: f64,
    /// Training batches that are looked at.
    pub batches: usize,
    /// Rounds of SynFlow.
    pub rounds: usize,
}

/// What [`AtInitialisation`] ranks weights by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InitialScore {
    /// How much the loss feels the weight.
    #[default]
    Snip,
    /// How much the flow of gradients feels it.
    Grasp,
    /// How much flows through it, in rounds and without data.
    Synflow,
    /// Its size.
    Magnitude,
    /// Nothing: the control, drawn by the run's seed.
    Random,
}

impl Default for AtInitialisation {
    fn default() -> Self {
        Self { score: InitialScore::default(), sparsity: 0.9, batches: 1, rounds: 100 }
    }
}

impl AtInitialisation {
    fn score(&self, seed: u64) -> kd_prune::AtInitialisation {
        match self.score {
            InitialScore::Snip => kd_prune::AtInitialisation::Snip,
            InitialScore::Grasp => kd_prune::AtInitialisation::Grasp,
            InitialScore::Synflow => kd_prune::AtInitialisation::Synflow { rounds: self.rounds },
            InitialScore::Magnitude => kd_prune::AtInitialisation::Magnitude,
            InitialScore::Random => kd_prune::AtInitialisation::Random { seed },
        }
    }
}

impl Method for AtInitialisation {
    fn validate(&self) -> Result<(), PruneError> {
        share(self.sparsity)?;
        setting("batches", self.batches, self.batches > 0, "1 or more")?;
        setting("rounds", self.rounds, self.rounds > 0, "1 or more")
    }

    fn trained(&self) -> &'static str {
        SPARSE
    }

    fn prepare(&self, graph: Graph, fresh: &Fresh<'_>) -> Result<Graph, StudyError> {
        let mut subject = Subject::new(&graph, fresh.device);
        if matches!(self.score, InitialScore::Snip | InitialScore::Grasp) {
            let (images, target) = first_batches(fresh, self.batches)?;
            subject = subject.with_loss(vec![images.into()], move |outputs| loss(outputs, &target));
        }
        let masks = self.score(fresh.seed).masks(&subject, self.sparsity)?;
        Ok(rewound(&graph, &masks)?)
    }

    fn hooks(&self, graph: &Graph) -> Result<Vec<Box<dyn Hook<Net>>>, StudyError> {
        let weights = subject(graph).weights()?;
        let masks = weights.into_iter().map(|(path, weight)| (path, Mask::of_nonzeros(&weight))).collect();
        Ok(vec![Box::new(KeepMasks::new(masks))])
    }

    fn prune(&self, network: &ToPrune<'_>) -> Result<Pruned, StudyError> {
        mask_zeros(network)
    }
}

/// The run's first training batches as one, and the probabilities of its classes.
fn first_batches(fresh: &Fresh<'_>, batches: usize) -> Result<(Tensor<4>, Tensor<2>), StudyError> {
    let (mut images, mut targets) = (Vec::new(), Vec::new());
    for loaded in fresh.data.train(fresh.seed)?.epoch(0, 0).take(batches) {
        let (input, target) = loaded?.batch.to_device(fresh.device);
        images.push(input);
        targets.push(match target.int::<1>() {
            Ok(labels) => labels.one_hot::<2>(fresh.data.classes().len()).float(),
            // Mixed images have probabilities already.
            Err(_) => target.float::<2>().map_err(|error| StudyError::Other(error.to_string()))?,
        });
    }
    Ok((Tensor::cat(images, 0), Tensor::cat(targets, 0)))
}

/// Cross-entropy: the mean over all images of $-\sum_c p_c \ln q_c$.
fn loss(outputs: &[Value], target: &Tensor<2>) -> Result<Tensor<1>, PruneError> {
    let first = outputs.first().ok_or_else(|| PruneError::Loss("there is no output".to_owned()))?;
    let log = log_softmax(first.float::<2>()?, 1);
    Ok((log * target.clone().autodiff()).sum_dim(1).mean().neg())
}
