//! Recipes: what to train, on what, and how, in a TOML file.

mod error;
mod objective;
mod overrides;
mod settings;

use std::path::Path;

use serde::{Deserialize, Serialize};

use kd_train::RunSettings;

use crate::pruning::PruneSettings;
use crate::quantising::QuantizeSettings;

pub use error::RecipeError;
pub use objective::{ObjectiveSettings, TermSettings};
pub use settings::{CacheSettings, DataSettings, StudentSettings, TeacherSettings};

/// A recipe, read and checked. It holds only what differs from the defaults; unknown keys are refused everywhere.
///
/// | table | content |
/// |---|---|
/// | `[data]` | [`DataSettings`]; `name` is required |
/// | `[student]` | [`StudentSettings`]: `model` |
/// | `[teacher]` or several `[[teachers]]` | [`TeacherSettings`]: `model`, and `weights` or `[teacher.run]` |
/// | `[run]` | [`RunSettings`] of the student |
/// | `[objective]`, `[[objective.terms]]` | [`ObjectiveSettings`], [`TermSettings`]; cross-entropy if there is none |
/// | `[cache]` | [`CacheSettings`]: teacher outputs kept on disk |
/// | `[prune]` | [`PruneSettings`]: what `kd prune` removes, and how the network recovers |
/// | `[quantize]` | [`QuantizeSettings`]: what `kd quantize` makes of the trained network |
///
/// ```
/// use kd::recipe::Recipe;
///
/// let text = r#"
/// data.name = "digits"
/// student.model = "lenet5-tenth"
/// teacher.model = "lenet5"
/// run.epochs = 3
///
/// [[objective.terms]]
/// loss = "soft-targets"
/// temperature = 6.0
/// "#;
/// let recipe = Recipe::parse("example", text, &["run.epochs=5".to_owned()])?;
/// assert_eq!(recipe.run.epochs, 5);
/// assert_eq!(recipe.objective.build()?.names(), ["soft-targets"]);
///
/// let error = Recipe::parse("example", text, &["run.epoch=5".to_owned()]).unwrap_err().to_string();
/// assert!(error.contains("unknown field `epoch`, expected one of `seed`, `epochs`"), "{error}");
/// # Ok::<(), kd::recipe::RecipeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Recipe {
    /// The data.
    pub data: DataSettings,
    /// The model to train.
    pub student: StudentSettings,
    /// The model to learn from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<TeacherSettings>,
    /// The models to learn from, if there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub teachers: Vec<TeacherSettings>,
    /// The student's training.
    #[serde(default)]
    pub run: RunSettings,
    /// What is minimised.
    #[serde(default)]
    pub objective: ObjectiveSettings,
    /// Whether the teachers' outputs are kept on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheSettings>,
    /// What the student is quantised to once it is trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantize: Option<QuantizeSettings>,
    /// What is removed from the student once it is trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prune: Option<PruneSettings>,
}

impl Recipe {
    /// Reads a file and applies `sets`, each `a.b=value`: the value is TOML, or a bare word as a string; arrays go by index.
    ///
    /// # Errors
    /// [`RecipeError`], with file, key, value and what is allowed.
    pub fn load(path: &Path, sets: &[String]) -> Result<Self, RecipeError> {
        let origin = path.display().to_string();
        let read = std::fs::read_to_string(path);
        let text = read.map_err(|source| RecipeError::Read { origin: origin.clone(), source })?;
        Self::parse(&origin, &text, sets)
    }

    /// As [`load`](Self::load), for text from elsewhere; `origin` is its name in messages.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn parse(origin: &str, text: &str, sets: &[String]) -> Result<Self, RecipeError> {
        let wrong = |error: toml::de::Error| RecipeError::parse(origin, &error);
        let mut table: toml::Table = toml::from_str(text).map_err(wrong)?;
        for set in sets {
            overrides::apply(&mut table, set)?;
        }
        overrides::expand_short_names(&mut table);
        let recipe: Self = table.try_into().map_err(wrong)?;
        recipe
            .validate()
            .map_err(|source| RecipeError::In { origin: origin.to_owned(), source: source.into() })?;
        Ok(recipe)
    }

    /// All teachers, whichever way they were written.
    pub fn all_teachers(&self) -> impl Iterator<Item = &TeacherSettings> {
        self.teacher.iter().chain(&self.teachers)
    }

    /// Checks every value, and that every term can be made and has the teachers it needs.
    fn validate(&self) -> Result<(), RecipeError> {
        let table = |name: &'static str| move |source| RecipeError::Table { table: name.to_owned(), source };
        self.data.validate().map_err(table("data"))?;
        self.run.validate().map_err(table("run"))?;
        if self.teacher.is_some() && !self.teachers.is_empty() {
            return Err(RecipeError::TwoKindsOfTeachers);
        }
        for teacher in self.all_teachers() {
            teacher.run.as_ref().map_or(Ok(()), RunSettings::validate).map_err(table("teacher.run"))?;
            if teacher.run.is_some() && teacher.weights.is_some() {
                return Err(RecipeError::WeightsAndRun { model: teacher.model.to_string() });
            }
        }
        self.cache.as_ref().map_or(Ok(()), CacheSettings::validate).map_err(table("cache"))?;
        if self.cache.is_some() && self.data.fixed_views().is_none() {
            return Err(RecipeError::CacheWithoutViews);
        }
        self.prune.as_ref().map_or(Ok(()), PruneSettings::validate).map_err(table("prune"))?;
        self.quantize.as_ref().map_or(Ok(()), QuantizeSettings::validate).map_err(table("quantize"))?;
        let objective = self.objective.build()?;
        // A pruned network learns from what it was.
        let teaches_itself = self.prune.is_some();
        if objective.wants().needs_teacher && !teaches_itself && self.all_teachers().next().is_none() {
            return Err(RecipeError::NoTeacher { terms: objective.names().join(", ") });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
