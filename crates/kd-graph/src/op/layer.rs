//! Attributes of layers: operations that read parameters.

use serde::{Deserialize, Serialize};

/// Convolution over one to three axes, as in [`Op::Conv`](super::Op::Conv).
///
/// Every list has one entry for each axis that the window moves along; the size of the window is the weight's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Conv {
    /// Step between windows.
    pub stride: Vec<usize>,
    /// Zeros `(before, after)` every axis.
    pub padding: Vec<(usize, usize)>,
    /// Distance between the elements of a window; 1 is dense.
    pub dilation: Vec<usize>,
    /// Input and output channels fall into this many groups, each seeing only its own.
    pub groups: usize,
}

impl Conv {
    /// Number of axes that the window moves along.
    pub fn axes(&self) -> usize {
        self.stride.len()
    }
}

/// Transposed convolution over one to three axes, as in [`Op::ConvTranspose`](super::Op::ConvTranspose).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConvTranspose {
    /// Step between windows in the output.
    pub stride: Vec<usize>,
    /// Rows and columns cut off at both ends of every axis of the output.
    pub padding: Vec<usize>,
    /// Added at the end of every axis of the output.
    pub padding_out: Vec<usize>,
    /// Distance between the elements of a window; 1 is dense.
    pub dilation: Vec<usize>,
    /// Input and output channels fall into this many groups, each seeing only its own.
    pub groups: usize,
}

/// Normalisation of every channel over the batch, as in [`Op::BatchNorm`](super::Op::BatchNorm).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchNorm {
    /// Added to the variance.
    #[serde(with = "super::exact")]
    pub epsilon: f64,
    /// Share of the batch's statistics in the new running ones. A trace does not show it; `None` means that nobody has said.
    #[serde(with = "super::exact::option")]
    pub momentum: Option<f64>,
}

/// Scaled dot-product attention, as in [`Op::Attention`](super::Op::Attention).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attention {
    /// Factor of the scores; `None` is `1/sqrt(size of a query)`.
    #[serde(with = "super::exact::option")]
    pub scale: Option<f64>,
    /// Scores `s` become `softcap * tanh(s / softcap)`.
    #[serde(with = "super::exact::option")]
    pub softcap: Option<f64>,
    /// A position sees only itself and those before it.
    pub causal: bool,
    /// Whether a mask (true: not seen) is the fourth input.
    pub masked: bool,
    /// Whether a bias of the scores is the last input.
    pub biased: bool,
}

/// Attention by a chain of operations, as in [`Op::LayeredAttention`](super::Op::LayeredAttention).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayeredAttention {
    /// The scores are divided by this.
    #[serde(with = "super::exact")]
    pub divisor: f64,
    /// How many masks (true: not seen) follow `v`.
    pub masks: usize,
    /// What a score that is not seen becomes.
    #[serde(with = "super::exact")]
    pub fill: f64,
}

/// Window moved over the last axes, as in [`Op::Pool`](super::Op::Pool).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pool {
    /// What is taken of a window.
    pub kind: PoolKind,
    /// Size of the window along every axis it moves along.
    pub kernel: Vec<usize>,
    /// Step between windows.
    pub stride: Vec<usize>,
    /// Padding at both ends of every axis.
    pub padding: Vec<usize>,
    /// Distance between the elements of a window; 1 is dense, and always 1 for an average.
    pub dilation: Vec<usize>,
    /// Whether a last window that hangs over the end counts.
    pub ceil: bool,
}

/// What a pooling takes of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolKind {
    /// The largest value.
    Max,
    /// The mean.
    Average {
        /// Whether padding counts as elements.
        count_padding: bool,
    },
}
