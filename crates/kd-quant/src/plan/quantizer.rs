//! Every method as one type.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::uniform::Uniform;
use crate::binary::{
    AbcNet, BinaryConnect, SibnnActivation, SignActivation, SignGradient, SttnActivation, SttnWeight, Xnor,
};
use crate::error::in_range;
use crate::observer::{RangeMethod, Symmetry};
use crate::power::PowerOfTwo;
use crate::sharing::KMeans;
use crate::ternary::{Ttq, Twn};
use crate::{DorefaActivation, DorefaGradient, DorefaWeight, Granularity, Grid, Lsq, Pact, QuantError};

/// A method with its settings. In a file, `method` names it.
///
/// | `method` | of | parameters beside the tensor |
/// |---|---|---|
/// | `uniform` | weights, activations | `scale`, `zero_point`, observed |
/// | `lsq` | weights, activations | `scale`, learned |
/// | `pact` | activations | `clip`, learned |
/// | `dorefa-weight`, `dorefa-activation`, `dorefa-gradient` | as they say | |
/// | `binary-connect` | weights (BinaryConnect, BNN) | |
/// | `xnor` | weights (BWN, XNOR-Net, SiBNN) | |
/// | `sign` | activations (BNN, XNOR-Net) | |
/// | `abc-weight`, `abc-activation` | as they say | activations: `shifts`, `scales`, learned |
/// | `sibnn` | activations | |
/// | `sttn-weight`, `sttn-activation` | as they say | weights: `second`, the other real weight |
/// | `twn` | weights | |
/// | `ttq` | weights | `positive`, `negative`, learned |
/// | `power-of-two` | weights | |
/// | `apot-weight`, `apot-activation` | as they say | `clip`, learned |
/// | `k-means` | weights | in its place: `codes` and `centroids`, learned ([`share_weights`](crate::sharing::share_weights)) |
/// | `hashed` | weights (HashedNets) | in its place: `buckets`, learned ([`hash_weight`](crate::sharing::hash_weight)) |
/// | `adder` | layers (AdderNet) | |
///
/// ```
/// use kd_quant::plan::Quantizer;
///
/// let text = r#"{"method": "lsq", "grid": {"min": -8, "max": 7}}"#;
/// let quantizer: Quantizer = serde_json::from_str(text).unwrap();
/// assert_eq!(quantizer, Quantizer::lsq_weight(4)?);
/// assert_eq!(quantizer.to_string(), "lsq 4 bit, -8..7");
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case")]
pub enum Quantizer {
    /// A grid over an observed range.
    Uniform(Uniform),
    /// A grid with a learned step.
    Lsq(Lsq),
    /// Activations up to a learned level.
    Pact(Pact),
    /// DoReFa's weights.
    DorefaWeight(DorefaWeight),
    /// DoReFa's activations.
    DorefaActivation(DorefaActivation),
    /// DoReFa's gradients: values pass.
    DorefaGradient(DorefaGradient),
    /// Signs of weights.
    BinaryConnect(BinaryConnect),
    /// Scaled signs of weights.
    Xnor(Xnor),
    /// Signs of activations.
    Sign(SignActivation),
    /// Weights as a sum of binaries.
    AbcWeight(AbcNet),
    /// Activations as a sum of shifted binaries.
    AbcActivation(AbcBases),
    /// Activations of 0 and 1.
    Sibnn(SibnnActivation),
    /// Ternary weights as two binaries.
    SttnWeight(SttnWeight),
    /// Ternary activations.
    SttnActivation(SttnActivation),
    /// Ternary weights by a threshold.
    Twn(Twn),
    /// Ternary weights with learned scales.
    Ttq(Ttq),
    /// Weights that are powers of two.
    PowerOfTwo(PowerOfTwo),
    /// Weights that are sums of powers of two.
    ApotWeight(ApotBits),
    /// Activations that are sums of powers of two.
    ApotActivation(ApotBits),
    /// Weights of a few trained values.
    KMeans(KMeans),
    /// Weights drawn from few parameters by a hash.
    Hashed(HashedBy),
    /// No quantiser: the layer sums absolute differences in place of products.
    Adder(Adder),
}

/// How many shifted binaries an activation is made of, from 1 to 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbcBases {
    /// $N$.
    pub bases: usize,
}

/// Bits of additive powers of two: 3 to 8 for weights, sign included, 2 to 8 for activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApotBits {
    /// The bits.
    pub bits: u32,
}

/// How many times fewer parameters a hashed weight has than elements, at least 1, and the hash's seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HashedBy {
    /// Elements for every parameter.
    pub factor: usize,
    /// The seed.
    #[serde(default)]
    pub seed: u32,
}

/// AdderNet's layer in place of a convolution or linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adder {
    /// The factor on the weight's normalised gradient; 0.2 in the paper.
    pub eta: f32,
}

/// What a quantiser is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Weights.
    Weight,
    /// Activations.
    Activation,
    /// Either of them.
    Any,
    /// The gradients of a layer's result.
    Gradient,
}

impl Quantizer {
    /// LSQ for weights: signed, one step.
    ///
    /// # Errors
    /// [`QuantError::Setting`] unless `bits` is from 2 to 8.
    pub fn lsq_weight(bits: u32) -> Result<Self, QuantError> {
        Ok(Quantizer::Lsq(Lsq::new(Grid::signed(bits)?)?))
    }

    /// LSQ for activations: unsigned, one step. A plan makes it signed where values are.
    ///
    /// # Errors
    /// [`QuantError::Setting`] unless `bits` is from 1 to 8.
    pub fn lsq_activation(bits: u32) -> Result<Self, QuantError> {
        Ok(Quantizer::Lsq(Lsq::new(Grid::unsigned(bits)?)?))
    }

    /// The method's name, as in files.
    pub fn method(&self) -> &'static str {
        match self {
            Quantizer::Uniform(_) => "uniform",
            Quantizer::Lsq(_) => "lsq",
            Quantizer::Pact(_) => "pact",
            Quantizer::DorefaWeight(_) => "dorefa-weight",
            Quantizer::DorefaActivation(_) => "dorefa-activation",
            Quantizer::DorefaGradient(_) => "dorefa-gradient",
            Quantizer::BinaryConnect(_) => "binary-connect",
            Quantizer::Xnor(_) => "xnor",
            Quantizer::Sign(_) => "sign",
            Quantizer::AbcWeight(_) => "abc-weight",
            Quantizer::AbcActivation(_) => "abc-activation",
            Quantizer::Sibnn(_) => "sibnn",
            Quantizer::SttnWeight(_) => "sttn-weight",
            Quantizer::SttnActivation(_) => "sttn-activation",
            Quantizer::Twn(_) => "twn",
            Quantizer::Ttq(_) => "ttq",
            Quantizer::PowerOfTwo(_) => "power-of-two",
            Quantizer::ApotWeight(_) => "apot-weight",
            Quantizer::ApotActivation(_) => "apot-activation",
            Quantizer::KMeans(_) => "k-means",
            Quantizer::Hashed(_) => "hashed",
            Quantizer::Adder(_) => "adder",
        }
    }

    /// What it is for.
    pub fn place(&self) -> Place {
        match self {
            Quantizer::Uniform(_) | Quantizer::Lsq(_) => Place::Any,
            Quantizer::DorefaWeight(_)
            | Quantizer::BinaryConnect(_)
            | Quantizer::Xnor(_)
            | Quantizer::AbcWeight(_)
            | Quantizer::SttnWeight(_)
            | Quantizer::Twn(_)
            | Quantizer::Ttq(_)
            | Quantizer::PowerOfTwo(_)
            | Quantizer::ApotWeight(_)
            | Quantizer::KMeans(_)
            | Quantizer::Hashed(_)
            | Quantizer::Adder(_) => Place::Weight,
            Quantizer::DorefaGradient(_) => Place::Gradient,
            _ => Place::Activation,
        }
    }

    /// Whether it keeps no more than the order of its input around zero: it then wants a batch normalisation in front and no rectifier.
    pub fn wants_norm_in_front(&self) -> bool {
        use Quantizer::{AbcActivation, Sibnn, Sign, SttnActivation};
        matches!(self, Sign(_) | Sibnn(_) | SttnActivation(_) | AbcActivation(_))
    }

    /// Whether its weights have lost their magnitude: a batch normalisation has to follow the layer.
    pub fn wants_norm_behind(&self) -> bool {
        matches!(self, Quantizer::BinaryConnect(_) | Quantizer::ApotWeight(_) | Quantizer::Adder(_))
            || matches!(self, Quantizer::Twn(twn) if !twn.scaled)
    }

    /// Whether zero is among its values: pruned weights then stay pruned.
    pub fn has_zero(&self) -> bool {
        use Quantizer::{AbcWeight, BinaryConnect, DorefaWeight, Sign, SttnWeight, Xnor};
        !matches!(self, BinaryConnect(_) | Xnor(_) | Sign(_) | AbcWeight(_) | DorefaWeight(_) | SttnWeight(_))
    }

    /// Which elements share a scale; methods with one way only say tensor.
    pub(super) fn granularity(&self) -> Granularity {
        match self {
            Quantizer::Uniform(uniform) => uniform.granularity,
            Quantizer::Lsq(lsq) => lsq.granularity,
            Quantizer::Twn(twn) => twn.granularity,
            _ => Granularity::Tensor,
        }
    }

    /// Bits that a packed value takes.
    pub fn bits(&self) -> u32 {
        match self {
            Quantizer::Uniform(uniform) => uniform.grid.bits(),
            Quantizer::Lsq(lsq) => lsq.grid.bits(),
            Quantizer::Pact(pact) => pact.bits(),
            Quantizer::DorefaWeight(DorefaWeight { bits, .. })
            | Quantizer::DorefaActivation(DorefaActivation { bits, .. })
            | Quantizer::DorefaGradient(DorefaGradient { bits }) => *bits,
            Quantizer::BinaryConnect(_) | Quantizer::Xnor(_) | Quantizer::Sign(_) | Quantizer::Sibnn(_) => 1,
            Quantizer::AbcWeight(abc) => abc.shifts().len() as u32,
            Quantizer::AbcActivation(abc) => abc.bases as u32,
            Quantizer::SttnWeight(_) | Quantizer::SttnActivation(_) => 2,
            Quantizer::Twn(_) | Quantizer::Ttq(_) => 2,
            Quantizer::PowerOfTwo(power) => power.bits(),
            Quantizer::ApotWeight(apot) | Quantizer::ApotActivation(apot) => apot.bits,
            Quantizer::KMeans(kmeans) => usize::BITS - kmeans.clusters.saturating_sub(1).leading_zeros(),
            // Parameters are floats.
            Quantizer::Hashed(_) | Quantizer::Adder(_) => 32,
        }
    }

    /// Checks what serde could not: numbers of bits in range, blocks of activations.
    ///
    /// # Errors
    /// [`QuantError::Setting`] with the key, the value and what is allowed.
    pub fn validate(&self) -> Result<(), QuantError> {
        match self {
            Quantizer::Lsq(lsq) => Lsq::new(lsq.grid).map(|_| ()),
            Quantizer::Uniform(uniform) => uniform.observer().map(|_| ()),
            Quantizer::DorefaWeight(DorefaWeight { bits, .. })
            | Quantizer::DorefaActivation(DorefaActivation { bits, .. })
            | Quantizer::DorefaGradient(DorefaGradient { bits }) => Grid::unsigned(*bits).map(|_| ()),
            Quantizer::AbcWeight(abc) => AbcNet::new(abc.shifts().len(), Default::default()).map(|_| ()),
            Quantizer::AbcActivation(AbcBases { bases }) => {
                in_range("bases", bases, (1..=8).contains(bases), "from 1 to 8")
            }
            Quantizer::ApotWeight(ApotBits { bits }) => {
                in_range("bits", bits, (3..=8).contains(bits), "from 3 to 8")
            }
            Quantizer::ApotActivation(ApotBits { bits }) => {
                in_range("bits", bits, (2..=8).contains(bits), "from 2 to 8")
            }
            Quantizer::KMeans(KMeans { clusters, .. }) => {
                in_range("clusters", clusters, (1..=256).contains(clusters), "from 1 to 256")
            }
            Quantizer::Hashed(HashedBy { factor, .. }) => {
                in_range("factor", factor, *factor > 0, "at least 1")
            }
            Quantizer::Adder(Adder { eta }) => {
                in_range("eta", eta, *eta > 0.0 && eta.is_finite(), "positive and finite")
            }
            Quantizer::Twn(Twn { threshold, clip, .. }) => {
                in_range(
                    "threshold",
                    threshold,
                    *threshold >= 0.0 && threshold.is_finite(),
                    "finite, and 0 or more",
                )?;
                let clip = clip.unwrap_or(1.0);
                in_range("clip", clip, clip > 0.0, "positive")
            }
            Quantizer::Ttq(Ttq { threshold, .. }) => {
                in_range("threshold", threshold, (0.0..1.0).contains(threshold), "from 0 to below 1")
            }
            Quantizer::Sibnn(SibnnActivation { low, high, .. }) => in_range(
                "low",
                low,
                low < high && low.is_finite() && high.is_finite(),
                format!("below `high`, {high}"),
            ),
            Quantizer::Sign(SignActivation { gradient: SignGradient::Clipped { clip, .. }, .. }) => {
                in_range("clip", clip, *clip > 0.0, "positive")
            }
            _ => Ok(()),
        }
    }

    /// The same method with as many bits, for values that are never negative or that are of either sign; methods of one kind of values stay.
    ///
    /// # Errors
    /// [`QuantError::Setting`] for one signed bit.
    pub(super) fn for_sign(&self, negative: bool) -> Result<Self, QuantError> {
        let grid =
            |grid: Grid| if negative { Grid::signed(grid.bits()) } else { Grid::unsigned(grid.bits()) };
        Ok(match self {
            Quantizer::Lsq(lsq) => Quantizer::Lsq(Lsq { grid: grid(lsq.grid)?, ..*lsq }),
            Quantizer::Uniform(uniform) if uniform.symmetry == Symmetry::Symmetric => {
                Quantizer::Uniform(Uniform { grid: grid(uniform.grid)?, ..*uniform })
            }
            other => other.clone(),
        })
    }
}

/// How a range is found, in a word.
fn word(range: &RangeMethod) -> &'static str {
    match range {
        RangeMethod::MinMax {} => "min-max",
        RangeMethod::MovingAverage { .. } => "moving average",
        RangeMethod::Percentile { .. } => "percentile",
        RangeMethod::Histogram { .. } => "histogram",
        RangeMethod::Entropy { .. } => "entropy",
        RangeMethod::LeastError { .. } => "least error",
    }
}

impl fmt::Display for Quantizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} bit", self.method(), self.bits())?;
        match self {
            Quantizer::Lsq(lsq) => write!(f, ", {}..{}", lsq.grid.min(), lsq.grid.max())?,
            Quantizer::Uniform(uniform) => write!(f, ", {}..{}", uniform.grid.min(), uniform.grid.max())?,
            _ => {}
        }
        match self.granularity() {
            Granularity::Tensor => {}
            granularity => write!(f, ", per {granularity}")?,
        }
        if let Quantizer::Uniform(uniform) = self {
            let symmetric = if uniform.symmetry == Symmetry::Symmetric { "symmetric" } else { "affine" };
            write!(f, ", {symmetric}, {}", word(&uniform.range))?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        for (text, expected) in [
            (r#"{"method": "twn", "threshold": -0.1}"#, "`threshold` is -0.1"),
            (r#"{"method": "twn", "clip": 0.0}"#, "`clip` is 0"),
            (r#"{"method": "ttq", "threshold": 1.0}"#, "`threshold` is 1"),
            (
                r#"{"method": "sibnn", "low": 1.0, "high": 0.5}"#,
                "`low` is 1, but it must be below `high`, 0.5",
            ),
            (r#"{"method": "abc-activation", "bases": 0}"#, "`bases` is 0"),
            (r#"{"method": "adder", "eta": 0.0}"#, "`eta` is 0"),
            (r#"{"method": "k-means", "clusters": 300}"#, "`clusters` is 300"),
        ] {
            let quantizer: Quantizer = serde_json::from_str(text).unwrap();
            let error = quantizer.validate().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_uniform_quantiser_says_how_its_range_is_found() {
        let weight = Quantizer::Uniform(Uniform::weight(4).unwrap());
        assert_eq!(weight.to_string(), "uniform 4 bit, -7..7, per channel (axis 0), symmetric, min-max");
        let activation = Quantizer::Uniform(Uniform::activation(8).unwrap());
        assert_eq!(activation.to_string(), "uniform 8 bit, 0..255, affine, moving average");
    }
}
