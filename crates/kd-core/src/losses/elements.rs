//! From one value per element of a map to one per example.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// How the elements of an example's feature map become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Elements {
    /// The sum over channels and positions, as the papers of OFD and AB, RepDistiller and mdistiller have it.
    #[default]
    Sum,
    /// The mean over channels and positions, as Knowledge-Distillation-Zoo has it.
    Mean,
}

impl Elements {
    /// `[batch, channel, h, w]` to `[batch]`.
    pub fn reduce(self, per_element: Tensor<4>) -> Tensor<1> {
        let flat = per_element.flatten::<2>(1, 3);
        let reduced = match self {
            Self::Sum => flat.sum_dim(1),
            Self::Mean => flat.mean_dim(1),
        };
        reduced.squeeze_dim::<1>(1)
    }
}
