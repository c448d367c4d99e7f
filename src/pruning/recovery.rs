//! What happens after pruning.

use kd_core::Objective;
use kd_core::losses::{CrossEntropySettings, SoftTargetsSettings};
use serde::{Deserialize, Serialize};

use crate::experiment::StudyError;

/// How a pruned network gets its accuracy back. Whatever is chosen, the same size is trained from scratch beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recovery {
    /// It learns from the network that it was, whose outputs are softened, and from the labels.
    #[default]
    Distil,
    /// It trains on, from labels alone.
    FineTune,
    /// What is left goes back to what it was after so many epochs of the dense network's training (0: the initial weights) and trains again. Frankle and Carbin,
    /// *The Lottery Ticket Hypothesis* (2019); Renda et al., *Comparing Rewinding and Fine-tuning in Neural Network Pruning* (2020).
    Rewind(usize),
    /// Nothing: only the control is trained.
    FromScratch,
}

impl Recovery {
    /// What the rows of the table are called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Distil => "distilled",
            Self::FineTune => "fine-tuned",
            Self::Rewind(_) => "rewound",
            Self::FromScratch => "from scratch",
        }
    }
}

/// Learning from the dense network, and a little from labels.
pub(super) fn distillation() -> Result<Objective, StudyError> {
    let soft = SoftTargetsSettings::default().build()?;
    let labels = CrossEntropySettings::default().build()?;
    Ok(Objective::new().with("soft-targets", soft, 0.9).with("cross-entropy", labels, 0.1))
}
