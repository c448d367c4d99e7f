//! The type of a node's result, from its operation and the types of its inputs.

use crate::{Op, TensorType};

/// Why an operation does not fit its inputs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InferError {
    /// Too few or too many inputs.
    #[error("{op} takes {wanted} inputs, not {got}")]
    Inputs {
        /// The operation.
        op: String,
        /// How many it takes.
        wanted: &'static str,
        /// How many there are.
        got: usize,
    },
    /// Shapes, kinds and attributes contradict each other.
    #[error("{op} of {}: {reason}", inputs.join(" and "))]
    Mismatch {
        /// The operation.
        op: String,
        /// Types of its inputs.
        inputs: Vec<String>,
        /// What contradicts what.
        reason: String,
    },
}

/// The type of the result.
///
/// # Errors
/// [`InferError`] when the operation does not fit the inputs.
pub fn infer(op: &Op, inputs: &[TensorType]) -> Result<TensorType, InferError> {
    let _ = inputs;
    Err(InferError::Mismatch { op: op.word(), inputs: Vec::new(), reason: "not written yet".into() })
}
