//! The `[objective]` of a recipe.

use kd_core::losses::{METHODS, by_name};
use kd_core::{Normalize, Objective, Reduction, Schedule};
use serde::{Deserialize, Serialize};

use super::RecipeError;

/// What is minimised: the weighted sum of the terms; without terms, cross-entropy.
///
/// | key | default | |
/// |---|---|---|
/// | `normalize` | `none` | `none`, or `gradient`: every term's gradient as long as the first one's |
/// | `terms` | cross-entropy | see [`TermSettings`] |
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ObjectiveSettings {
    /// Whether the terms are balanced against each other.
    pub normalize: Normalize,
    /// The terms.
    pub terms: Vec<TermSettings>,
}

/// One term.
///
/// | key | default | |
/// |---|---|---|
/// | `loss` | required | a name of `kd list losses` |
/// | `weight` | the loss's published one | a number or a [`Schedule`] |
/// | `name` | the loss's | what logs and reports call it |
/// | `reduction` | `mean` | `mean` or `sum` |
/// | any other | | a setting of the loss |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TermSettings {
    /// Which loss.
    pub loss: String,
    /// Its weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<Schedule>,
    /// What it is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How its values become one.
    #[serde(default)]
    pub reduction: Reduction,
    /// The loss's own settings.
    #[serde(flatten)]
    pub settings: toml::Table,
}

impl ObjectiveSettings {
    /// The objective of these settings.
    ///
    /// # Errors
    /// [`RecipeError::Table`] names the term and what is wrong with it.
    pub fn build(&self) -> Result<Objective, RecipeError> {
        let mut objective = Objective::new().normalized(self.normalize);
        if self.terms.is_empty() {
            return TermSettings::of("cross-entropy").add_to(objective, 0);
        }
        for (index, term) in self.terms.iter().enumerate() {
            objective = term.add_to(objective, index)?;
        }
        Ok(objective)
    }
}

impl TermSettings {
    /// A loss with its defaults.
    fn of(loss: &str) -> Self {
        let settings = toml::Table::new();
        Self { loss: loss.to_owned(), weight: None, name: None, reduction: Reduction::default(), settings }
    }

    /// The taps of student and teacher that it reads, if it is a loss on attention maps: worth a picture.
    pub fn attention_taps(&self) -> Option<(Vec<String>, Vec<String>)> {
        let taps = |key: &str| -> Option<Vec<String>> {
            self.settings.get(key)?.as_array()?.iter().map(|tap| Some(tap.as_str()?.to_owned())).collect()
        };
        (self.loss == "attention-transfer").then(|| Some((taps("student")?, taps("teacher")?))).flatten()
    }

    fn add_to(&self, objective: Objective, index: usize) -> Result<Objective, RecipeError> {
        let wrong = |source| RecipeError::Table { table: format!("objective.terms.{index}"), source };
        let term = by_name(&self.loss, self.settings.clone()).map_err(wrong)?;
        let published =
            METHODS.iter().find(|method| method.name == self.loss).map_or(1.0, |method| method.weight);
        let weight = self.weight.clone().unwrap_or(Schedule::Constant(published));
        weight.validate().map_err(wrong)?;
        let name = self.name.as_deref().unwrap_or(&self.loss);
        Ok(objective.with_boxed(name, term, weight, self.reduction))
    }
}
