//! Lottery tickets: weights go back to where they were early in training, and masks stay.

mod connectivity;
mod snapshot;

use std::collections::BTreeMap;

use burn::tensor::Device;
use kd_graph::{Graph, Kind, Op};
use serde::{Deserialize, Serialize};

pub use connectivity::{Instability, between, instability};
pub use snapshot::Snapshot;

use crate::subject::{value, with_values};
use crate::{Allocation, Arrays, Magnitude, Masks, PruneError, Pruner, Subject};

/// Iterative magnitude pruning with rewinding.
///
/// In every round a network is trained, the share of its remaining weights with the smallest magnitude goes, and the others return to the values
/// that they had at an earlier point: at initialisation, or after the first steps, see [`Snapshot`].
///
/// | key | default | range |
/// |---|---|---|
/// | `rounds` | 15 | 1 or more; after 15 rounds of 0.2, 3.5 % of the weights remain |
/// | `share` | 0.2 | of the remaining weights, what goes in a round; above 0 and below 1 |
/// | `shares` | none | other shares for single weights by path; the paper halves that of the output layer |
/// | `global` | false | one ranking over all layers, as for deep networks; `shares` then does not count |
///
/// Frankle and Carbin, *The Lottery Ticket Hypothesis* (2019); rewinding to a later step: Frankle et al., *Linear Mode Connectivity and the Lottery
/// Ticket Hypothesis* (2020).
///
/// ```
/// use kd_prune::{LotteryTicket, PruneError};
/// # use burn::tensor::TensorData;
/// # use kd_graph::{Graph, Op, Role, Shape, TensorType};
/// # let mut graph = Graph::new();
/// # let x = graph.input("x", TensorType::float(Shape::batched([4])))?;
/// # let weight = graph.parameter("weight", Role::Weight, TensorData::from([[1.0f32], [-4.0], [3.0], [2.0]]))?;
/// # let y = graph.add("y", Op::Linear, &[x, weight])?;
/// # graph.set_outputs(&[y])?;
/// let method = LotteryTicket { rounds: 2, share: 0.5, ..LotteryTicket::default() };
/// // Training is left out here: every round returns the network as it got it.
/// let rounds = method.search(&graph, |_round, network, _masks| Ok::<_, PruneError>(network))?;
/// let kept: Vec<usize> = rounds.iter().map(|round| round.masks["weight"].kept()).collect();
/// assert_eq!(kept, [4, 2, 1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct LotteryTicket {
    /// How often is pruned.
    pub rounds: usize,
    /// Of the remaining weights, what goes in a round.
    pub share: f64,
    /// Other shares by the path of the weight.
    pub shares: BTreeMap<String, f64>,
    /// One ranking over all layers.
    pub global: bool,
}

impl Default for LotteryTicket {
    fn default() -> Self {
        Self { rounds: 15, share: 0.2, shares: BTreeMap::new(), global: false }
    }
}

/// One round of [`LotteryTicket::search`].
#[derive(Clone, Debug)]
pub struct TicketRound {
    /// 0 is the dense network.
    pub round: usize,
    /// What the round trained with: the ticket.
    pub masks: Masks,
    /// What came out.
    pub trained: Graph,
}

impl TicketRound {
    /// The share of weights that remain, of those that are pruned at all.
    pub fn remaining(&self) -> f64 {
        let (kept, all) = self
            .masks
            .values()
            .fold((0, 0), |(kept, all), mask| (kept + mask.kept(), all + mask.keep().len()));
        kept as f64 / all.max(1) as f64
    }
}

impl LotteryTicket {
    /// Refuses settings out of range.
    ///
    /// # Errors
    /// [`PruneError::Setting`].
    pub fn validate(&self) -> Result<(), PruneError> {
        let fine = |share: f64| share > 0.0 && share < 1.0;
        if self.rounds == 0 {
            return Err(PruneError::setting("rounds", self.rounds, "1 or more"));
        }
        if !fine(self.share) {
            return Err(PruneError::setting("share", self.share, "above 0 and below 1"));
        }
        match self.shares.iter().find(|(_, share)| !fine(**share)) {
            Some((path, share)) => {
                Err(PruneError::setting(&format!("shares.{path}"), share, "above 0 and below 1"))
            }
            None => Ok(()),
        }
    }

    /// Trains and prunes: `rounds` + 1 trainings, the first of them dense. `train` gets the number of the round, the network to start from, zero
    /// where the masks prune, and the masks to keep, as with [`KeepMasks`](crate::KeepMasks). What is pruned are the weights of at least two axes
    /// that layers read.
    ///
    /// # Errors
    /// [`PruneError::Setting`] for settings out of range, [`PruneError::Graph`] for a path in `shares` that the network doesn't have, and
    /// whatever `train` returns.
    pub fn search<E: From<PruneError>>(
        &self,
        earlier: &Graph,
        mut train: impl FnMut(usize, Graph, &Masks) -> Result<Graph, E>,
    ) -> Result<Vec<TicketRound>, E> {
        self.validate()?;
        for path in self.shares.keys() {
            earlier.find(path).map_err(PruneError::from)?;
        }
        let mut masks = subject(earlier).dense()?;
        let mut rounds = Vec::new();
        for round in 0..=self.rounds {
            if let Some(TicketRound { trained, .. }) = rounds.last() {
                masks = self.masks(round, trained, &masks)?;
            }
            let trained = train(round, rewound(earlier, &masks)?, &masks)?;
            rounds.push(TicketRound { round, masks: masks.clone(), trained });
        }
        Ok(rounds)
    }

    /// The masks of a round, 1 or more, chosen by the magnitudes of what the round before it trained with `masks`.
    ///
    /// # Errors
    /// As [`Pruner::masks`].
    pub fn masks(&self, round: usize, trained: &Graph, masks: &Masks) -> Result<Masks, PruneError> {
        let gone = |share: f64| 1.0 - (1.0 - share).powf(round as f64);
        let allocation = if self.global {
            Allocation::Global
        } else {
            let share = |path: &String| self.shares.get(path).copied().unwrap_or(self.share);
            Allocation::PerLayer(masks.keys().map(|path| (path.clone(), gone(share(path)))).collect())
        };
        let pruner = Pruner::new(Magnitude::L1).allocation(allocation);
        pruner.masks(&subject(trained), masks, gone(self.share))
    }
}

/// Only weights are looked at, so that the device does not matter.
fn subject(graph: &Graph) -> Subject<'_> {
    Subject::new(graph, &Device::default())
}

/// The network at an earlier point with zeros where masks prune: a ticket. Everything is rewound: biases, normalisation and running statistics too.
///
/// # Errors
/// [`PruneError::Missing`] for a mask whose weight the network doesn't have, [`PruneError::Shape`] for one of another shape.
pub fn rewound(earlier: &Graph, masks: &Masks) -> Result<Graph, PruneError> {
    let weights = floats(earlier)?;
    let mut ticket = Arrays::new();
    for (path, mask) in masks {
        let weight = weights.get(path).ok_or_else(|| PruneError::Missing {
            what: "weight",
            parameter: path.clone(),
            known: weights.keys().cloned().collect(),
        })?;
        ticket.insert(path.clone(), mask.apply(weight)?);
    }
    with_values(earlier, &ticket)
}

/// All float parameters, buffers and running statistics included.
fn floats(graph: &Graph) -> Result<Arrays, PruneError> {
    let float = graph
        .parameters()
        .filter(|(_, node)| matches!(node.op(), Op::Parameter { .. }) && node.output().kind == Kind::Float);
    float.map(|(_, node)| Ok((node.name().to_owned(), value(graph, node.name())?))).collect()
}

#[cfg(test)]
mod tests;
