//! `[quantize]` of a recipe.

use std::path::PathBuf;

use kd_core::{SettingsError, in_range};
use kd_graph::Graph;
use kd_quant::QuantError;
use kd_quant::plan::{Ends, PlanSettings, Preset, QuantPlan, Quantizer};
use kd_train::RunSettings;
use serde::{Deserialize, Serialize};

use super::plan_file::{folded_on_grids, for_training, read_plan};
use crate::experiment::StudyError;

/// `[quantize]`: what the trained network is quantised to, and how it trains on.
///
/// | key | default | |
/// |---|---|---|
/// | `method` | this or `plan` | see [`Preset`]: `"int8"`, `"xnor"`, `{ lsq = { bits = 4 } }`, ... |
/// | `plan` | this or `method` | the file of a plan that a `kd quantize` has written, edited or not; relative to the working directory |
/// | `ends` | the method's | first and last layer: `"float"`, `"same"` or `{ bits = 8 }` |
/// | `exclude` | none | layers left in float, by name, `*` for any letters |
/// | `scale-map` | no | XNOR-Net and BNN: results of binary layers times the map of their activations' scales |
/// | `fold-batch-norm` | no | `int8`, `uniform`, `lsq`: weights are quantised with the scale of the batch normalisation behind in them, as they are deployed |
/// | `freeze-ranges` | never | the epoch, from 0, from which observed ranges of activations stay as they are |
/// | `freeze-statistics` | never | the epoch, from 0, from which batch normalisations no longer move their statistics |
/// | `distil` | no | learns from its float self as well |
/// | `temperature` | 1 | above 0: how much `distil` softens both |
/// | `run` | the recipe's `[run]` | training while quantised |
/// | `control` | true | whether the float network trains on for as many epochs beside |
///
/// `ends`, `exclude` and `scale-map` are a method's; a plan says them itself.
///
/// A quantised network can't follow a very soft teacher: small probabilities ask for differences between logits that few bits don't have, and published
/// accuracies collapse at high temperatures. That is why 1 is the default, and 2 is much.
///
/// Without `fold-batch-norm` weights are quantised as they are, and the normalisation behind goes into the requantisation of the layer's sums; with it, it
/// goes into the weight first, as most deployments have it. Both compute on codes what was trained.
///
/// ```
/// use kd::quantising::QuantizeSettings;
///
/// let settings: QuantizeSettings = toml::from_str("method = { lsq = { bits = 4 } }\ndistil = true")?;
/// settings.validate()?;
/// assert_eq!(settings.teacher_temperature(), Some(1.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct QuantizeSettings {
    /// The method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Preset>,
    /// The plan's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PathBuf>,
    /// First and last layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<Ends>,
    /// Layers left in float.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Whether binary layers have the map of their activations' scales.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub scale_map: bool,
    /// Whether batch normalisations are folded into what is quantised.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fold_batch_norm: bool,
    /// When ranges stand still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze_ranges: Option<usize>,
    /// When statistics stand still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze_statistics: Option<usize>,
    /// Whether the float network teaches.
    #[serde(default, alias = "distill", skip_serializing_if = "std::ops::Not::not")]
    pub distil: bool,
    /// How softly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
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
        Self { method: Some(method), ..Self::empty() }
    }

    /// The plan of this file, all else by default.
    pub fn following(plan: impl Into<PathBuf>) -> Self {
        Self { plan: Some(plan.into()), ..Self::empty() }
    }

    fn empty() -> Self {
        Self {
            method: None,
            plan: None,
            ends: None,
            exclude: Vec::new(),
            scale_map: false,
            fold_batch_norm: false,
            freeze_ranges: None,
            freeze_statistics: None,
            distil: false,
            temperature: None,
            run: None,
            control: yes(),
        }
    }

    /// The same training by the plan of this file, in place of the method or plan that there was.
    #[must_use]
    pub fn with_plan(self, plan: impl Into<PathBuf>) -> Self {
        let plan = Some(plan.into());
        Self { method: None, plan, ends: None, exclude: Vec::new(), scale_map: false, ..self }
    }

    /// The temperature at which the float network teaches, if it does.
    pub fn teacher_temperature(&self) -> Option<f64> {
        self.distil.then(|| self.temperature.unwrap_or(1.0))
    }

    /// What the method's plans are made from; none for a plan of a file.
    ///
    /// # Errors
    /// [`QuantError::Setting`] for bits out of range and the like.
    pub fn plan_settings(&self) -> Result<Option<PlanSettings>, QuantError> {
        let Some(method) = self.method else { return Ok(None) };
        let method = method.settings()?;
        let ends = self.ends.unwrap_or(method.ends);
        let (exclude, scale_map, fold_batch_norm) =
            (self.exclude.clone(), self.scale_map, self.fold_batch_norm);
        let settings = PlanSettings { ends, exclude, scale_map, fold_batch_norm, ..method };
        settings.validate()?;
        Ok(Some(settings))
    }

    /// The plan for a float network: the method's, or that of the file.
    ///
    /// # Errors
    /// [`StudyError::Io`] and [`StudyError::PlanFile`] for a file that is not there or no plan; [`StudyError::Quant`] for a plan of another network, and for
    /// settings that have nothing to act on in this one.
    pub fn plan(&self, graph: &Graph) -> Result<QuantPlan, StudyError> {
        self.validate()?;
        let plan = match (self.plan_settings()?, &self.plan) {
            (Some(settings), _) => QuantPlan::new(graph, &settings)?,
            (None, Some(file)) => {
                let mut plan = for_training(read_plan(file)?, graph)?;
                if self.fold_batch_norm {
                    plan.folded.extend(folded_on_grids(&plan, graph)?);
                }
                plan
            }
            (None, None) => return Err(neither().into()),
        };
        plan.check(graph)?;
        let of_plan = |key, value: String, ok, allowed: &str| match ok {
            true => Ok(()),
            false => Err(QuantError::Setting { key, value, allowed: allowed.to_owned() }),
        };
        let folds = !self.fold_batch_norm || !plan.folded.is_empty();
        let allowed = "false: no batch normalisation stands behind a layer whose weights get a grid";
        of_plan("fold-batch-norm", self.fold_batch_norm.to_string(), folds, allowed)?;
        if let Some(epoch) = self.freeze_ranges {
            let mut quantizers = plan.activations.values().map(|point| &point.quantizer);
            let observed = quantizers.any(|quantizer| matches!(quantizer, Quantizer::Uniform(_)));
            let allowed = "left out: no activation has a range that is observed";
            of_plan("freeze-ranges", epoch.to_string(), observed, allowed)?;
        }
        Ok(plan)
    }

    /// Checks every value that can be checked without a network.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn validate(&self) -> Result<(), SettingsError> {
        match (&self.method, &self.plan) {
            (None, None) => return Err(neither()),
            (Some(_), Some(plan)) => {
                let allowed =
                    "left out where there is a `method`: one of them says which tensor gets which quantiser";
                in_range("plan", plan.display(), false, allowed)?;
            }
            (Some(_), None) => {
                let settings = self.plan_settings();
                settings.map_err(|error| SettingsError::Parse(error.to_string()))?;
            }
            (None, Some(_)) => {
                let allowed = "left out where there is a `plan`, which says it itself";
                let ends = serde_json::to_string(&self.ends).unwrap_or_default();
                in_range("ends", ends, self.ends.is_none(), allowed)?;
                in_range("exclude", self.exclude.join(", "), self.exclude.is_empty(), allowed)?;
                in_range("scale-map", self.scale_map, !self.scale_map, allowed)?;
            }
        }
        if let Some(temperature) = self.temperature {
            let fits = temperature > 0.0 && temperature.is_finite();
            in_range("temperature", temperature, fits, "above 0 and finite, or left out")?;
            in_range("temperature", temperature, self.distil, "left out without `distil = true`")?;
        }
        self.run.as_ref().map_or(Ok(()), RunSettings::validate)
    }
}

fn neither() -> SettingsError {
    SettingsError::Parse("name a `method`, or the file of a `plan`".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(text: &str) -> String {
        toml::from_str::<QuantizeSettings>(text).unwrap().validate().unwrap_err().to_string()
    }

    #[test]
    fn values_out_of_range_and_unknown_methods_are_refused() {
        for (text, expected) in [
            ("method = { lsq = { bits = 9 } }", "`bits` is 9, but it must be from 1 to 8"),
            ("method = \"int8\"\ndistil = true\ntemperature = 0.0", "`temperature` is 0"),
            ("method = \"int8\"\ntemperature = 2.0", "left out without `distil = true`"),
            ("ends = \"same\"", "name a `method`, or the file of a `plan`"),
            ("method = \"int8\"\nplan = \"p.json\"", "`plan` is p.json, but it must be left out"),
            ("plan = \"p.json\"\nends = \"same\"", "`ends` is \"same\", but it must be left out"),
            ("plan = \"p.json\"\nexclude = [\"a\", \"b\"]", "`exclude` is a, b, but it must be left out"),
            ("plan = \"p.json\"\nscale-map = true", "`scale-map` is true, but it must be left out"),
        ] {
            let error = refused(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
        let settings = |text: &str| toml::from_str::<QuantizeSettings>(text);
        assert!(settings("method = \"int7\"").unwrap_err().to_string().contains("`int8`"));
        assert!(settings("method = \"int8\"\ncolour = 1").is_err());
    }

    #[test]
    fn the_float_network_teaches_at_a_low_temperature_once_it_is_asked_to() {
        let temperature = |text: &str| {
            let settings: QuantizeSettings = toml::from_str(text).unwrap();
            settings.validate().unwrap();
            settings.teacher_temperature()
        };
        assert_eq!(temperature("method = \"int8\""), None);
        assert_eq!(temperature("method = \"int8\"\ndistil = true"), Some(1.0));
        assert_eq!(temperature("method = \"int8\"\ndistill = true\ntemperature = 2.0"), Some(2.0));
    }

    #[test]
    fn settings_come_back_from_a_file_as_they_were() {
        for text in [
            "method = \"int8\"\nfold-batch-norm = true\nfreeze-ranges = 0\nfreeze-statistics = 3",
            "method = { uniform = { bits = 4 } }\nends = \"same\"\nexclude = [\"a\"]\ndistil = true",
            "plan = \"runs/a/plan.json\"\ncontrol = false\nrun.epochs = 3",
        ] {
            let settings: QuantizeSettings = toml::from_str(text).unwrap();
            settings.validate().unwrap();
            let again: QuantizeSettings = toml::from_str(&toml::to_string(&settings).unwrap()).unwrap();
            assert_eq!(again, settings, "{text}");
        }
    }

    #[test]
    fn a_plan_takes_the_place_of_a_method_and_its_exceptions() {
        let text = "method = \"int8\"\nends = \"same\"\nexclude = [\"a\"]\ndistil = true";
        let settings: QuantizeSettings = toml::from_str(text).unwrap();
        let followed = settings.with_plan("p.json");
        followed.validate().unwrap();
        assert_eq!(followed, QuantizeSettings { distil: true, ..QuantizeSettings::following("p.json") });
    }
}
