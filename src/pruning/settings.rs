//! `[prune]` of a recipe.

use kd_core::{SettingsError, in_range};
use kd_train::RunSettings;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::{PruneMethod, Recovery};

/// `[prune]`: what is removed, and how the network recovers.
///
/// | key | default | |
/// |---|---|---|
/// | `method` | required | a name of [`PRUNE_METHODS`](super::PRUNE_METHODS), `kd list pruning`; its settings are keys of the same table |
/// | `recovery` | `distil` | `distil`: from the dense network; `fine-tune`; `{ rewind = EPOCH }`; `from-scratch` |
/// | `run` | the recipe's `[run]` | training after every pass |
/// | `control` | true | whether the same size is trained from scratch, for as many epochs as dense network and recovery together |
/// | `sensitivity` | none | sparsities at which every layer is tried alone, ascending, each above 0 and below 1: a table and a chart in the report |
/// | `sensitivity-images` | 1000 | 1 or more: validation images that the trial looks at, and the rest of their batch |
///
/// ```
/// use kd::pruning::{PruneMethod, PruneSettings, Recovery};
///
/// let text = r#"
/// method = "channels"
/// target = { macs = 0.5 }
/// recovery = "fine-tune"
/// "#;
/// let settings: PruneSettings = toml::from_str(text)?;
/// assert_eq!(settings.recovery, Recovery::FineTune);
/// assert!(matches!(settings.method, PruneMethod::Channels(_)));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Table", into = "Table")]
pub struct PruneSettings {
    /// What is removed.
    pub method: PruneMethod,
    /// How the network recovers.
    pub recovery: Recovery,
    /// Training after every pass.
    pub run: Option<RunSettings>,
    /// Whether there is a control.
    pub control: bool,
    /// Sparsities of the sensitivity analysis.
    pub sensitivity: Vec<f64>,
    /// Images of the sensitivity analysis.
    pub sensitivity_images: usize,
}

/// The keys that are the same for all methods.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct Common {
    recovery: Recovery,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<RunSettings>,
    control: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sensitivity: Vec<f64>,
    sensitivity_images: usize,
}

impl Default for Common {
    fn default() -> Self {
        let (recovery, run, sensitivity) = Default::default();
        Self { recovery, run, control: true, sensitivity, sensitivity_images: 1000 }
    }
}

const COMMON: [&str; 5] = ["recovery", "run", "control", "sensitivity", "sensitivity-images"];

impl PruneSettings {
    /// A method with the usual recovery.
    pub fn new(method: PruneMethod) -> Self {
        let Common { recovery, run, control, sensitivity, sensitivity_images } = Common::default();
        Self { method, recovery, run, control, sensitivity, sensitivity_images }
    }

    /// Checks every value that can be checked without a network.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn validate(&self) -> Result<(), SettingsError> {
        self.method.method().validate().map_err(|error| SettingsError::Parse(error.to_string()))?;
        self.run.as_ref().map_or(Ok(()), RunSettings::validate)?;
        let inside = self.sensitivity.iter().all(|sparsity| *sparsity > 0.0 && *sparsity < 1.0);
        let right = inside && self.sensitivity.is_sorted();
        let text = format!("{:?}", self.sensitivity);
        in_range("sensitivity", &text, right, "ascending, each above 0 and below 1")?;
        let needed = self.method.method().by_sensitivity() && self.sensitivity.is_empty();
        let allowed = "at least one share, ascending, for `allocation.sensitivity` to choose from";
        in_range("sensitivity", &text, !needed, allowed)?;
        in_range("sensitivity-images", self.sensitivity_images, self.sensitivity_images > 0, "1 or more")
    }
}

impl TryFrom<Table> for PruneSettings {
    type Error = toml::de::Error;

    fn try_from(mut table: Table) -> Result<Self, Self::Error> {
        let taken = COMMON.iter().filter_map(|key| Some(((*key).to_owned(), table.remove(*key)?)));
        let common: Table = taken.collect();
        let Common { recovery, run, control, sensitivity, sensitivity_images } = common.try_into()?;
        let method = table.try_into()?;
        Ok(Self { method, recovery, run, control, sensitivity, sensitivity_images })
    }
}

impl From<PruneSettings> for Table {
    fn from(settings: PruneSettings) -> Self {
        let PruneSettings { method, recovery, run, control, sensitivity, sensitivity_images } = settings;
        let common = Common { recovery, run, control, sensitivity, sensitivity_images };
        let tables = [Value::try_from(method), Value::try_from(common)];
        // Plain settings are always tables.
        tables.into_iter().flatten().filter_map(|value| value.as_table().cloned()).flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Result<PruneSettings, String> {
        toml::from_str::<PruneSettings>(text).map_err(|error| error.to_string())
    }

    #[test]
    fn settings_come_back_from_a_file_as_they_were() {
        for text in [
            "method = \"network-slimming\"\nlambda = 0.001\nrecovery = { rewind = 2 }",
            "method = \"channels\"\ntarget = { macs = { at-most = 5000.0 } }\nsensitivity = [0.25, 0.5]",
            "method = \"channels\"\ntarget = { milliseconds = 0.5 }\nallocation = { per-layer = { a = 0.5 } }",
            "method = \"magnitude\"\nsparsity = 0.95\ncontrol = false\nrun.epochs = 3",
            "method = \"gradual-magnitude\"\nschedule.one-shot = { target = 0.5, at = 10 }",
            "method = \"at-initialisation\"\nscore = \"grasp\"\nsparsity = 0.98",
            "method = \"surgery\"\nc = 1.5\nlayers = { a = 0.5 }\nprobability = { gamma = 0.0, power = 1.0, stop = 9 }",
            "method = \"l0\"\ngroup = \"filter\"\nlambda = 0.5",
            "method = \"variational-dropout\"\nlog-variance = -6.0",
            "method = \"flop\"\nsparsity = 0.5\nlayers = [\"fc1.weight\"]",
            "method = \"structured-sparsity\"\ngroup = \"layer\"",
            "method = \"magnitude\"\nallocation = { sensitivity = { max-drop = 0.01 } }\nsensitivity = [0.5]",
            "method = \"sparse-training\"\ntraining = { rule = \"set\", every = 50, drop.end = 700 }",
            "method = \"sparse-training\"\ntraining.rule.snfs.momentum = 0.9",
            "method = \"two-of-four\"\nsearch = \"transposable\"",
        ] {
            let settings = read(text).unwrap();
            settings.validate().unwrap();
            assert_eq!(read(&toml::to_string(&settings).unwrap()).unwrap(), settings, "{text}");
        }
    }

    #[test]
    fn an_unknown_method_or_key_lists_what_there_is() {
        let error = read("method = \"slimming\"").unwrap_err();
        assert!(error.contains("`slimming`") && error.contains("`network-slimming`"), "{error}");
        let error = read("method = \"magnitude\"\nsparcity = 0.5").unwrap_err();
        assert!(error.contains("`sparcity`") && error.contains("`sparsity`"), "{error}");
        let error = read("method = \"channels\"\ntarget = { flops = 0.5 }").unwrap_err();
        assert!(error.contains("`flops`") && error.contains("`macs`"), "{error}");
    }

    #[test]
    fn a_ratio_outside_its_range_is_refused_with_key_value_and_range() {
        for (text, key, value) in [
            ("method = \"channels\"\ntarget = { macs = 1.5 }", "macs", "1.5"),
            ("method = \"channels\"\ntarget = { macs = 0.0 }", "macs", "0"),
            (
                "method = \"channels\"\ntarget = { macs = 0.5 }\nallocation = { per-layer = { a = 1.0 } }",
                "a",
                "1",
            ),
            ("method = \"network-slimming\"\nlambda = -1.0", "lambda", "-1"),
            ("method = \"network-slimming\"\ntargets = [{ channels = 1.0 }]", "targets", "1"),
            ("method = \"magnitude\"\nsparsity = -0.1", "sparsity", "-0.1"),
            ("method = \"at-initialisation\"\nsparsity = 1.0", "sparsity", "1"),
            ("method = \"at-initialisation\"\nbatches = 0", "batches", "0"),
            (
                "method = \"surgery\"\nprobability = { gamma = -1.0, power = 1.0, stop = 9 }",
                "probability.gamma",
                "-1",
            ),
            ("method = \"l0\"\nopen = 1.0", "open", "1"),
            ("method = \"l0\"\ngroup = \"shape\"", "group", "shape"),
            ("method = \"variational-dropout\"\nwarm-up = 0.0", "warm-up", "0"),
            ("method = \"flop\"\nfactor = 0.0", "factor", "0"),
            (
                "method = \"magnitude\"\nallocation = { sensitivity = { max-drop = 0.01 } }",
                "sensitivity",
                "[]",
            ),
            (
                "method = \"magnitude\"\nallocation = { sensitivity = { max-drop = 1.0 } }\nsensitivity = [0.5]",
                "max-drop",
                "1",
            ),
            ("method = \"sparse-training\"\ntraining.every = 0", "every", "0"),
            ("method = \"gradual-magnitude\"\nschedule.one-shot = { target = 1.5, at = 0 }", "target", "1.5"),
            ("method = \"magnitude\"\nsensitivity = [0.5, 0.2]", "sensitivity", "[0.5, 0.2]"),
        ] {
            let error = read(text).unwrap().validate().unwrap_err().to_string();
            assert!(error.contains(&format!("`{key}`")) && error.contains(value), "{error}");
        }
    }
}
