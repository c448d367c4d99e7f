//! What a plan is made from.

use serde::{Deserialize, Serialize};

use super::quantizer::{AbcBases, Adder, ApotBits, HashedBy, Place};
use super::{Quantizer, Uniform};
use crate::binary::{
    AbcNet, BinaryConnect, SibnnActivation, SignActivation, SttnActivation, SttnWeight, Xnor, XnorGradient,
    Zero,
};
use crate::power::PowerOfTwo;
use crate::sharing::KMeans;
use crate::ternary::{Ttq, Twn};
use crate::{DorefaActivation, DorefaGradient, DorefaWeight, Grid, Pact, QuantError};

/// What happens to the first and the last layer, which suffer most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ends {
    /// They stay in float.
    Float,
    /// They are quantised like all others.
    Same,
    /// They get so many bits: observed ranges where the others have them, learned steps otherwise.
    Bits(u32),
}

/// What [`QuantPlan::new`](super::QuantPlan::new) spreads over a network.
///
/// | Setting | Default | Purpose |
/// |---|---|---|
/// | `weights` | | the quantiser of weights |
/// | `activations` | none | that of activations |
/// | `gradients` | none | that of the gradients of layers' results |
/// | `ends` | 8 bits | first and last layer |
/// | `exclude` | none | layers that stay in float, by name, `*` for any letters |
/// | `fold-batch-norm` | no | weights are quantised with the scale of the batch normalisation behind the layer in them, as they are deployed |
/// | `scale-map` | no | XNOR-Net's map of activation scales behind binary layers ([`ScaleMap`](crate::binary::ScaleMap)) |
/// | `everywhere` | yes | activations are quantised also where they are added, concatenated and averaged, at one scale each: an integer network needs it |
///
/// ```
/// use kd_quant::plan::PlanSettings;
///
/// let settings = PlanSettings { exclude: vec!["layer4.*".into()], ..PlanSettings::lsq(4)? };
/// let text = toml::to_string(&settings).unwrap();
/// assert_eq!(toml::from_str::<PlanSettings>(&text).unwrap(), settings);
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PlanSettings {
    /// The quantiser of weights.
    pub weights: Quantizer,
    /// That of activations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activations: Option<Quantizer>,
    /// That of gradients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradients: Option<DorefaGradient>,
    /// First and last layer.
    #[serde(default = "eight")]
    pub ends: Ends,
    /// Layers left in float.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Whether batch normalisations are folded.
    #[serde(default)]
    pub fold_batch_norm: bool,
    /// Whether results of layers that read signs are multiplied with the map of their activations' scales.
    #[serde(default)]
    pub scale_map: bool,
    /// Whether sums, concatenations and means read codes too.
    #[serde(default = "yes")]
    pub everywhere: bool,
}

fn eight() -> Ends {
    Ends::Bits(8)
}

fn yes() -> bool {
    true
}

impl PlanSettings {
    /// These two quantisers, all else by default.
    pub fn new(weights: Quantizer, activations: Option<Quantizer>) -> Self {
        let (gradients, exclude, fold_batch_norm, scale_map) = (None, Vec::new(), false, false);
        let (ends, everywhere) = (eight(), yes());
        Self { weights, activations, gradients, ends, exclude, fold_batch_norm, scale_map, everywhere }
    }

    /// As [`new`](Self::new), with the first and the last layer in float and activations quantised in front of layers only, as binary networks are.
    fn inner(weights: Quantizer, activations: Option<Quantizer>) -> Self {
        Self { ends: Ends::Float, everywhere: false, ..Self::new(weights, activations) }
    }

    /// Integers of 8 bits: weights per channel, activations by a moving average.
    ///
    /// # Errors
    /// Never: 8 bits are in range.
    pub fn int8() -> Result<Self, QuantError> {
        Self::uniform(8)
    }

    /// Observed ranges.
    ///
    /// # Errors
    /// [`QuantError::Setting`] unless `bits` is from 2 to 8.
    pub fn uniform(bits: u32) -> Result<Self, QuantError> {
        let (weights, activations) = (Uniform::weight(bits)?, Uniform::activation(bits)?);
        Ok(Self::new(Quantizer::Uniform(weights), Some(Quantizer::Uniform(activations))))
    }

    /// Learned steps.
    ///
    /// # Errors
    /// [`QuantError::Setting`] unless `bits` is from 2 to 8.
    pub fn lsq(bits: u32) -> Result<Self, QuantError> {
        Ok(Self::new(Quantizer::lsq_weight(bits)?, Some(Quantizer::lsq_activation(bits)?)))
    }

    /// DoReFa-Net: weights, activations and, if given, gradients; ends in float.
    ///
    /// # Errors
    /// [`QuantError::Setting`] unless all bits are from 1 to 8.
    pub fn dorefa(weights: u32, activations: u32, gradients: Option<u32>) -> Result<Self, QuantError> {
        let weights = Quantizer::DorefaWeight(DorefaWeight::new(weights)?);
        let activations = Quantizer::DorefaActivation(DorefaActivation::new(activations)?);
        let gradients = gradients.map(DorefaGradient::new).transpose()?;
        Ok(Self { gradients, ..Self::inner(weights, Some(activations)) })
    }

    /// PACT's activations with DoReFa's weights, as in its paper; ends in float.
    ///
    /// # Errors
    /// [`QuantError::Setting`] unless `bits` is from 1 to 8.
    pub fn pact(bits: u32) -> Result<Self, QuantError> {
        let weights = Quantizer::DorefaWeight(DorefaWeight::new(bits)?);
        Ok(Self::inner(weights, Some(Quantizer::Pact(Pact::new(bits)?))))
    }

    /// BNN: signs of weights and activations everywhere but at the input.
    pub fn bnn() -> Self {
        let weights = Quantizer::BinaryConnect(BinaryConnect::default());
        let activations = Quantizer::Sign(SignActivation::default());
        Self { ends: Ends::Same, ..Self::inner(weights, Some(activations)) }
    }

    /// BinaryConnect: signs of weights everywhere.
    pub fn binary_connect() -> Self {
        let weights = Quantizer::BinaryConnect(BinaryConnect::default());
        Self { ends: Ends::Same, ..Self::inner(weights, None) }
    }

    /// Binary weight networks: XNOR-Net's weights alone.
    pub fn bwn() -> Self {
        Self::inner(Quantizer::Xnor(Xnor::default()), None)
    }

    /// XNOR-Net; without its map of activation scales, as its public implementations are trained (see [`ScaleMap`](crate::binary::ScaleMap)), unless
    /// `scale_map` is set.
    pub fn xnor() -> Self {
        let activations = Quantizer::Sign(SignActivation::default());
        Self::inner(Quantizer::Xnor(Xnor::default()), Some(activations))
    }

    /// ABC-Net with so many binary weights and activations.
    ///
    /// # Errors
    /// [`QuantError::Setting`] unless both are from 1 to 8.
    pub fn abc_net(weights: usize, activations: usize) -> Result<Self, QuantError> {
        let weights = Quantizer::AbcWeight(AbcNet::new(weights, Zero::default())?);
        let activations = Quantizer::AbcActivation(AbcBases { bases: activations });
        activations.validate()?;
        Ok(Self::inner(weights, Some(activations)))
    }

    /// SiBNN: activations of 0 and 1.
    pub fn sibnn() -> Self {
        let weights = Xnor { centre: false, gradient: XnorGradient::WithoutScale, ..Xnor::default() };
        Self::inner(Quantizer::Xnor(weights), Some(Quantizer::Sibnn(SibnnActivation::default())))
    }

    /// Soft-threshold ternary networks.
    pub fn sttn() -> Self {
        let weights = Quantizer::SttnWeight(SttnWeight::default());
        Self::inner(weights, Some(Quantizer::SttnActivation(SttnActivation::default())))
    }

    /// Ternary weight networks.
    pub fn twn() -> Self {
        Self::inner(Quantizer::Twn(Twn::default()), None)
    }

    /// Trained ternary quantisation.
    pub fn ttq() -> Self {
        Self::inner(Quantizer::Ttq(Ttq::default()), None)
    }

    /// Weights that are powers of two, ends included.
    ///
    /// # Errors
    /// [`QuantError::Setting`] unless `bits` is from 2 to 8.
    pub fn power_of_two(bits: u32) -> Result<Self, QuantError> {
        let weights = Quantizer::PowerOfTwo(PowerOfTwo::new(bits)?);
        Ok(Self { ends: Ends::Same, ..Self::inner(weights, None) })
    }

    /// Additive powers of two.
    ///
    /// # Errors
    /// [`QuantError::Setting`] unless `bits` is from 3 to 8.
    pub fn apot(bits: u32) -> Result<Self, QuantError> {
        let (weights, activations) = (ApotBits { bits }, ApotBits { bits });
        let settings =
            Self::inner(Quantizer::ApotWeight(weights), Some(Quantizer::ApotActivation(activations)));
        settings.validate()?;
        Ok(settings)
    }

    /// AdderNet: sums of absolute differences in place of products; ends in float.
    pub fn adder() -> Self {
        Self::inner(Quantizer::Adder(Adder { eta: 0.2 }), None)
    }

    /// Deep Compression's second stage: weights of $2^b$ trained values, ends included.
    ///
    /// # Errors
    /// [`QuantError::Setting`] unless `bits` is from 1 to 8.
    pub fn shared(bits: u32) -> Result<Self, QuantError> {
        let clusters = Grid::unsigned(bits)?.max() as usize + 1;
        Ok(Self { ends: Ends::Same, ..Self::inner(Quantizer::KMeans(KMeans::new(clusters)), None) })
    }

    /// HashedNets: `factor` times fewer parameters in every weight, ends included.
    ///
    /// # Errors
    /// [`QuantError::Setting`] for a factor of 0.
    pub fn hashed(factor: usize) -> Result<Self, QuantError> {
        let hashed = Quantizer::Hashed(HashedBy { factor, seed: 0 });
        hashed.validate()?;
        Ok(Self { ends: Ends::Same, ..Self::inner(hashed, None) })
    }

    /// Checks every value and that quantisers are where they belong.
    ///
    /// # Errors
    /// [`QuantError::Setting`] with the key, the value and what is allowed.
    pub fn validate(&self) -> Result<(), QuantError> {
        let check = |key, quantizer: &Quantizer, places: [Place; 2]| {
            quantizer.validate()?;
            let fits = places.contains(&quantizer.place());
            crate::error::in_range(key, quantizer.method(), fits, format!("a method for {key}"))
        };
        check("weights", &self.weights, [Place::Any, Place::Weight])?;
        if let Some(activations) = &self.activations {
            check("activations", activations, [Place::Any, Place::Activation])?;
        }
        if let Some(gradients) = self.gradients {
            DorefaGradient::new(gradients.bits)?;
        }
        let signs = matches!(self.activations, Some(Quantizer::Sign(_)));
        crate::error::in_range(
            "scale-map",
            self.scale_map,
            signs || !self.scale_map,
            "false: it scales signs",
        )?;
        match self.ends {
            Ends::Bits(bits) => {
                crate::error::in_range("ends", bits, (2..=8).contains(&bits), "from 2 to 8 bits")
            }
            _ => Ok(()),
        }
    }

    /// The quantisers of a layer's weight and input.
    pub(super) fn of_layer(&self, end: bool) -> Result<Option<(Quantizer, Option<Quantizer>)>, QuantError> {
        let both = (self.weights.clone(), self.activations.clone());
        Ok(match self.ends {
            Ends::Float if end => None,
            Ends::Bits(bits) if end => {
                let other = match self.weights {
                    Quantizer::Uniform(_) => Self::uniform(bits)?,
                    _ => Self::lsq(bits)?,
                };
                Some((other.weights, self.activations.as_ref().and(other.activations)))
            }
            _ => Some(both),
        })
    }
}
