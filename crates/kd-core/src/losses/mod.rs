//! Distillation losses, one file each, and the table that names them.
//!
//! Every loss has settings that a recipe can hold ([`LossSettings`]), a checked type with the mathematics as plain methods on tensors, and an
//! implementation of [`Term`]. [`METHODS`] lists them; a new loss is a new file and a new row.

mod cross_entropy;
mod fitnets;
mod logit_mse;
mod math;
mod pairs;
mod soft_targets;

use serde::de::DeserializeOwned;

use crate::settings::SettingsError;
use crate::term::Term;

pub use cross_entropy::{CrossEntropy, CrossEntropySettings};
pub use fitnets::{FitNets, FitNetsSettings};
pub use logit_mse::{LogitMse, LogitMseSettings};
pub use soft_targets::{Divergence, Ensemble, SoftTargets, SoftTargetsSettings, TemperatureScale};

/// Settings of a loss as a recipe writes them: unknown keys are refused, missing ones have defaults.
pub trait LossSettings: DeserializeOwned {
    /// The checked loss.
    type Loss: Term + 'static;

    /// Checks every value.
    ///
    /// # Errors
    /// [`SettingsError`], with key, value and allowed range.
    fn build(self) -> Result<Self::Loss, SettingsError>;
}

/// A row of [`METHODS`].
pub struct Method {
    /// The name in recipes, in the field's standard terms.
    pub name: &'static str,
    /// One line on what it does.
    pub summary: &'static str,
    /// Where it was published.
    pub paper: &'static str,
    /// The weight its paper (or its public code) uses beside a cross-entropy of weight 1.
    pub weight: f64,
    build: fn(toml::Table) -> Result<Box<dyn Term>, SettingsError>,
}

/// Every loss there is.
pub const METHODS: &[Method] = &[
    Method {
        name: "cross-entropy",
        summary: "hard labels, with label smoothing, class weights and ignored labels",
        paper: "Szegedy et al. 2016, arXiv:1512.00567 (label smoothing)",
        weight: 1.0,
        build: build::<CrossEntropySettings>,
    },
    Method {
        name: "soft-targets",
        summary: "tempered class probabilities of one or several teachers",
        paper: "Hinton, Vinyals, Dean 2015, arXiv:1503.02531",
        weight: 0.9,
        build: build::<SoftTargetsSettings>,
    },
    Method {
        name: "logit-mse",
        summary: "squared distance of logits",
        paper: "Ba, Caruana 2014, arXiv:1312.6184",
        weight: 1.0,
        build: build::<LogitMseSettings>,
    },
    Method {
        name: "fitnets",
        summary: "hidden features through a learned regressor (hints)",
        paper: "Romero et al. 2015, arXiv:1412.6550",
        weight: 100.0,
        build: build::<FitNetsSettings>,
    },
];

/// The loss called `name`, from the rest of its table in a recipe.
///
/// ```
/// let term = kd_core::losses::by_name("soft-targets", toml::toml! { temperature = 4.0 })?;
/// assert!(term.wants().needs_teacher);
/// let error = kd_core::losses::by_name("soft-targets", toml::toml! { temprature = 4.0 }).unwrap_err();
/// assert!(error.to_string().contains("temprature"));
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
///
/// # Errors
/// [`SettingsError::UnknownLoss`], or what is wrong with the settings.
pub fn by_name(name: &str, settings: toml::Table) -> Result<Box<dyn Term>, SettingsError> {
    let method = METHODS.iter().find(|method| method.name == name).ok_or_else(|| {
        let known = METHODS.iter().map(|method| method.name.to_owned()).collect();
        SettingsError::UnknownLoss { name: name.to_owned(), known }
    })?;
    (method.build)(settings)
        .map_err(|error| SettingsError::Loss { loss: name.to_owned(), message: error.to_string() })
}

fn build<S: LossSettings>(settings: toml::Table) -> Result<Box<dyn Term>, SettingsError> {
    let parsed: S =
        settings.try_into().map_err(|e: toml::de::Error| SettingsError::Parse(e.message().to_owned()))?;
    Ok(Box::new(parsed.build()?))
}
