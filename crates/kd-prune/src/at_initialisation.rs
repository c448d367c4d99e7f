//! Pruning before training.

use serde::{Deserialize, Serialize};

use crate::{
    Allocation, Grasp, Magnitude, Masks, PruneError, Pruner, Random, Rounds, Score, Snip, Subject, SynFlow,
    iterate,
};

/// A method that chooses masks of a network that has not been trained; [`KeepMasks`](crate::KeepMasks) then trains it sparse.
///
/// All rank the weights of all layers together, but the random control, whose layers have equal sparsity.
///
/// ```
/// use burn::tensor::{Device, TensorData};
/// use kd_graph::{Graph, Op, Role, Shape, TensorType};
/// use kd_prune::{AtInitialisation, Subject};
///
/// let mut graph = Graph::new();
/// let x = graph.input("x", TensorType::float(Shape::batched([2])))?;
/// let weight = graph.parameter("weight", Role::Weight, TensorData::from([[1.0f32], [2.0]]))?;
/// let y = graph.add("y", Op::Linear, &[x, weight])?;
/// graph.set_outputs(&[y])?;
/// let subject = Subject::new(&graph, &Device::flex());
/// let masks = AtInitialisation::Synflow { rounds: 3 }.masks(&subject, 0.5)?;
/// assert_eq!(masks["weight"].keep(), [false, true]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AtInitialisation {
    /// [`Snip`], in one round as in the paper.
    Snip,
    /// [`Grasp`], in one round as in the paper.
    Grasp,
    /// [`SynFlow`] in rounds; 100 in the paper. It needs no data.
    Synflow {
        /// Number of rounds.
        rounds: usize,
    },
    /// [`Magnitude`] of initial weights: what is left of training when nothing is known of data.
    Magnitude,
    /// [`Random`]: the control.
    Random {
        /// The seed.
        seed: u64,
    },
}

impl AtInitialisation {
    /// Masks at a sparsity of the whole, 0 to 1. SNIP and GraSP look at a batch: [`Subject::with_loss`].
    ///
    /// # Errors
    /// [`PruneError::Setting`] for no rounds or a sparsity out of range, [`PruneError::NoLoss`] without a batch.
    pub fn masks(self, subject: &Subject<'_>, sparsity: f64) -> Result<Masks, PruneError> {
        match self {
            Self::Snip => global(Snip, subject, sparsity, 1),
            Self::Grasp => global(Grasp::default(), subject, sparsity, 1),
            Self::Synflow { rounds: 0 } => Err(PruneError::setting("rounds", 0, "1 or more")),
            Self::Synflow { rounds } => global(SynFlow, subject, sparsity, rounds),
            Self::Magnitude => global(Magnitude::L1, subject, sparsity, 1),
            Self::Random { seed } => Pruner::new(Random { seed }).masks(subject, &subject.dense()?, sparsity),
        }
    }
}

fn global(
    score: impl Score,
    subject: &Subject<'_>,
    sparsity: f64,
    rounds: usize,
) -> Result<Masks, PruneError> {
    iterate(
        &Pruner::new(score).allocation(Allocation::Global),
        subject,
        sparsity,
        Rounds::Exponential(rounds),
    )
}
