//! From one value per example to one loss.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// How the per-example values of a loss become one number. There is no default hidden behind a name: the objective uses
/// [`Mean`](Reduction::Mean) unless a recipe says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reduction {
    /// Mean over the examples.
    #[default]
    Mean,
    /// Sum over the examples.
    Sum,
}

impl Reduction {
    /// `[examples]` to `[1]`.
    pub fn apply(self, per_example: Tensor<1>) -> Tensor<1> {
        match self {
            Reduction::Mean => per_example.mean(),
            Reduction::Sum => per_example.sum(),
        }
    }
}
