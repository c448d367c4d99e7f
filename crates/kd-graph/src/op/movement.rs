//! Attributes of operations that move elements without computing on them.

use serde::{Deserialize, Serialize};

use super::Scalar;
use crate::Dim;

/// The part of one axis that a slice takes.
///
/// With a negative step the part from `start` to `end` is read backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Range {
    /// First element.
    pub start: Dim,
    /// One after the last.
    pub end: Dim,
    /// Every how many elements; not zero.
    pub step: isize,
}

impl Range {
    /// A whole axis.
    pub fn all(size: Dim) -> Self {
        Self { start: Dim::Fixed(0), end: size, step: 1 }
    }

    /// Whether the range is a whole axis of this size, in order.
    pub fn is_all(&self, size: Dim) -> bool {
        *self == Self::all(size)
    }
}

/// How the border is filled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PadMode {
    /// With a literal.
    Constant(Scalar),
    /// By mirroring, without repeating the edge.
    Reflect,
    /// By repeating the edge.
    Edge,
}

/// How values between elements are made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // each is the method of its name
pub enum InterpolateMode {
    Nearest,
    NearestExact,
    Bilinear,
    Bicubic,
    Lanczos3,
}

/// What a reduction makes of the elements along its axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // each is the operation of its name
pub enum Reduction {
    Sum,
    Mean,
    Prod,
    Max,
    Min,
    MaxAbs,
    ArgMax,
    ArgMin,
    Any,
    All,
}
