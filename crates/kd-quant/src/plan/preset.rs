//! Methods by name, for recipes.

use serde::{Deserialize, Serialize};

use super::PlanSettings;
use crate::QuantError;

/// A published way to quantise a whole network. In a recipe: `method = "xnor"`, or `method = { lsq = { bits = 4 } }`.
///
/// ```
/// use kd_quant::plan::{PlanSettings, Preset};
///
/// let preset: Preset = serde_json::from_str(r#"{"lsq": {"bits": 4}}"#).unwrap();
/// assert_eq!(preset.settings()?, PlanSettings::lsq(4)?);
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Preset {
    /// [`PlanSettings::int8`].
    Int8,
    /// [`PlanSettings::uniform`].
    Uniform {
        /// From 2 to 8.
        bits: u32,
    },
    /// [`PlanSettings::lsq`].
    Lsq {
        /// From 2 to 8.
        bits: u32,
    },
    /// [`PlanSettings::dorefa`].
    Dorefa {
        /// From 1 to 8.
        weights: u32,
        /// From 1 to 8.
        activations: u32,
        /// From 1 to 8; gradients stay in float without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gradients: Option<u32>,
    },
    /// [`PlanSettings::pact`].
    Pact {
        /// From 1 to 8.
        bits: u32,
    },
    /// [`PlanSettings::bnn`].
    Bnn,
    /// [`PlanSettings::binary_connect`].
    BinaryConnect,
    /// [`PlanSettings::bwn`].
    Bwn,
    /// [`PlanSettings::xnor`].
    Xnor,
    /// [`PlanSettings::abc_net`].
    AbcNet {
        /// Binary weights, from 1 to 8.
        weights: usize,
        /// Binary activations, from 1 to 8.
        activations: usize,
    },
    /// [`PlanSettings::sibnn`].
    Sibnn,
    /// [`PlanSettings::sttn`].
    Sttn,
    /// [`PlanSettings::twn`].
    Twn,
    /// [`PlanSettings::ttq`].
    Ttq,
    /// [`PlanSettings::power_of_two`].
    PowerOfTwo {
        /// From 2 to 8.
        bits: u32,
    },
    /// [`PlanSettings::apot`].
    Apot {
        /// From 3 to 8.
        bits: u32,
    },
    /// [`PlanSettings::adder`].
    Adder,
    /// [`PlanSettings::shared`].
    Shared {
        /// From 1 to 8.
        bits: u32,
    },
    /// [`PlanSettings::hashed`].
    Hashed {
        /// Elements for every parameter, at least 1.
        factor: usize,
    },
}

impl Preset {
    /// What a plan is made from.
    ///
    /// # Errors
    /// [`QuantError::Setting`] with the key, the value and what is allowed.
    pub fn settings(self) -> Result<PlanSettings, QuantError> {
        Ok(match self {
            Preset::Int8 => PlanSettings::int8()?,
            Preset::Uniform { bits } => PlanSettings::uniform(bits)?,
            Preset::Lsq { bits } => PlanSettings::lsq(bits)?,
            Preset::Dorefa { weights, activations, gradients } => {
                PlanSettings::dorefa(weights, activations, gradients)?
            }
            Preset::Pact { bits } => PlanSettings::pact(bits)?,
            Preset::Bnn => PlanSettings::bnn(),
            Preset::BinaryConnect => PlanSettings::binary_connect(),
            Preset::Bwn => PlanSettings::bwn(),
            Preset::Xnor => PlanSettings::xnor(),
            Preset::AbcNet { weights, activations } => PlanSettings::abc_net(weights, activations)?,
            Preset::Sibnn => PlanSettings::sibnn(),
            Preset::Sttn => PlanSettings::sttn(),
            Preset::Twn => PlanSettings::twn(),
            Preset::Ttq => PlanSettings::ttq(),
            Preset::PowerOfTwo { bits } => PlanSettings::power_of_two(bits)?,
            Preset::Apot { bits } => PlanSettings::apot(bits)?,
            Preset::Adder => PlanSettings::adder(),
            Preset::Shared { bits } => PlanSettings::shared(bits)?,
            Preset::Hashed { factor } => PlanSettings::hashed(factor)?,
        })
    }
}
