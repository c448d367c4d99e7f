//! `[quantize]` of a recipe.

use kd_core::{SettingsError, in_range};
use kd_quant::QuantError;
use kd_quant::plan::{Ends, PlanSettings, Preset};
use kd_train::RunSettings;
use serde::{Deserialize, Serialize};

/// `[quantize]`: what the trained network is quantised to, and how it trains on.
///
/// | key | default | |
/// |---|---|---|
/// | `method` | required | see [`Preset`]: `"int8"`, `"xnor"`, `{ lsq = { bits = 4 } }`, ... |
/// | `ends` | the method's | first and last layer: `"float"`, `"same"` or `{ bits = 8 }` |
/// | `exclude` | none | layers left in float, by name, `*` for any letters |
/// | `scale-map` | no | XNOR-Net and BNN: results of binary layers times the map of their activations' scales |
/// | `temperature` | none | above 0: learns from its float self as well, softened so much |
/// | `freeze-statistics` | none | the epoch from which batch normalisations no longer move their statistics |
/// | `run` | the recipe's `[run]` | training while quantised |
/// | `control` | true | whether the float network trains on for as many epochs beside |
///
/// A quantised network can't follow a very soft teacher: small probabilities ask for differences between logits that few bits don't have, and published
/// accuracies collapse at high temperatures. Use 1 or 2.
///
/// ```
/// use kd::quantising::QuantizeSettings;
///
/// let settings: QuantizeSettings = toml::from_str("method = { lsq = { bits = 4 } }\ntemperature = 1.0")?;
/// assert_eq!(settings.plan()?.weights.bits(), 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct QuantizeSettings {
    /// The method.
    pub method: Preset,
    /// First and last layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<Ends>,
    /// Layers left in float.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Whether binary layers have the map of their activations' scales.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub scale_map: bool,
    /// Temperature of the float network as a teacher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// When statistics stand still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze_statistics: Option<usize>,
    /// Training while quantised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunSettings>,
    /// Whether there is a control.
    #[serde(default = "yes")]
    pub control: bool,
}

fn yes() -> bool {
    true
}

impl QuantizeSettings {
    /// This method, all else by default.
    pub fn new(method: Preset) -> Self {
        let (ends, exclude, temperature, freeze_statistics, run) = (None, Vec::new(), None, None, None);
        let (scale_map, control) = (false, yes());
        Self { method, ends, exclude, scale_map, temperature, freeze_statistics, run, control }
    }

    /// What the plan is made from.
    ///
    /// # Errors
    /// [`QuantError::Setting`] for bits out of range and the like.
    pub fn plan(&self) -> Result<PlanSettings, QuantError> {
        let method = self.method.settings()?;
        let ends = self.ends.unwrap_or(method.ends);
        let (exclude, scale_map) = (self.exclude.clone(), self.scale_map);
        let settings = PlanSettings { ends, exclude, scale_map, ..method };
        settings.validate()?;
        Ok(settings)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn validate(&self) -> Result<(), SettingsError> {
        self.plan().map_err(|error| SettingsError::Parse(error.to_string()))?;
        let temperature = self.temperature.unwrap_or(1.0);
        let fits = temperature > 0.0 && temperature.is_finite();
        in_range("temperature", temperature, fits, "above 0 and finite, or left out")?;
        self.run.as_ref().map_or(Ok(()), RunSettings::validate)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bits_and_temperatures_out_of_range_and_unknown_methods_are_refused() {
        let settings = |text: &str| toml::from_str::<QuantizeSettings>(text);
        let error = settings("method = { lsq = { bits = 9 } }").unwrap().validate().unwrap_err().to_string();
        assert!(error.contains("`bits` is 9, but it must be from 1 to 8"), "{error}");
        let error =
            settings("method = \"int8\"\ntemperature = 0.0").unwrap().validate().unwrap_err().to_string();
        assert!(error.contains("`temperature` is 0"), "{error}");
        assert!(settings("method = \"int7\"").unwrap_err().to_string().contains("`int8`"));
        assert!(settings("method = \"int8\"\ncolour = 1").is_err());
    }
}
