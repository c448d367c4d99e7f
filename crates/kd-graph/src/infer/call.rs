//! One operation with the types of its inputs, and the questions that the rules ask about them.

use super::InferError;
use crate::{Dim, Kind, Op, TensorType};

pub(super) struct Call<'a> {
    pub op: &'a Op,
    pub inputs: &'a [TensorType],
}

pub(super) type Inferred<T = TensorType> = Result<T, InferError>;

impl<'a> Call<'a> {
    /// Exactly this many inputs.
    pub fn exactly<const N: usize>(&self) -> Inferred<&'a [TensorType; N]> {
        let wanted = ["0", "1", "2", "3", "4", "5"].get(N).copied().unwrap_or("other");
        self.inputs.try_into().map_err(|_| self.wrong_count(wanted))
    }

    /// This many inputs, and up to so many more.
    pub fn optional<const N: usize>(
        &self,
        most: usize,
        wanted: &'static str,
    ) -> Inferred<(&'a [TensorType; N], &'a [TensorType])> {
        match self.inputs.split_first_chunk() {
            Some((first, rest)) if rest.len() <= most => Ok((first, rest)),
            _ => Err(self.wrong_count(wanted)),
        }
    }

    pub fn wrong_count(&self, wanted: &'static str) -> InferError {
        InferError::Inputs { op: self.op.word(), wanted, got: self.inputs.len() }
    }

    pub fn unknown(&self, advice: &'static str) -> Inferred {
        Err(InferError::Unknown { op: self.op.word(), advice })
    }

    pub fn mismatch(&self, reason: impl Into<String>) -> InferError {
        InferError::Mismatch {
            op: self.op.word(),
            inputs: self.inputs.iter().map(ToString::to_string).collect(),
            reason: reason.into(),
        }
    }

    /// An error with this reason unless the condition holds.
    pub fn ensure<S: Into<String>>(&self, holds: bool, reason: impl FnOnce() -> S) -> Inferred<()> {
        if holds { Ok(()) } else { Err(self.mismatch(reason())) }
    }

    pub fn kind(&self, tensor: &TensorType, what: &str, kind: Kind) -> Inferred<()> {
        self.ensure(tensor.kind == kind, || format!("{what} must be {kind}, not {}", tensor.kind))
    }

    pub fn rank(&self, tensor: &TensorType, what: &str, rank: usize) -> Inferred<()> {
        let got = tensor.shape.rank();
        self.ensure(got == rank, || format!("{what} must have {rank} axes, not {got}"))
    }

    /// The axis of the tensor.
    pub fn axis(&self, tensor: &TensorType, axis: usize) -> Inferred<Dim> {
        let rank = tensor.shape.rank();
        tensor.shape.dim(axis).ok_or_else(|| self.mismatch(format!("there is no axis {axis} of {rank}")))
    }

    /// The axis counted from the last, which is 0.
    pub fn axis_from_end(&self, tensor: &TensorType, back: usize) -> Inferred<Dim> {
        let rank = tensor.shape.rank();
        let axis = rank.checked_sub(back + 1).and_then(|axis| tensor.shape.dim(axis));
        axis.ok_or_else(|| self.mismatch(format!("{rank} axes are too few")))
    }

    /// A size that may not depend on the batch.
    pub fn fixed(&self, dim: Dim, what: &str) -> Inferred<usize> {
        dim.fixed().ok_or_else(|| self.mismatch(format!("{what} depends on the batch ({dim})")))
    }

    /// A float tensor with one axis of this size.
    pub fn vector(&self, tensor: &TensorType, what: &str, size: usize) -> Inferred<()> {
        self.kind(tensor, what, Kind::Float)?;
        self.ensure(tensor.shape.dims() == [Dim::Fixed(size)], || {
            format!("{what} must be [{size}], not {}", tensor.shape)
        })
    }
}
