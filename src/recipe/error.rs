//! What can be wrong with a recipe.

use kd_core::SettingsError;

/// Why a recipe was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file could not be read.
    #[error("cannot read the recipe {origin}: {source}")]
    Read {
        /// The file.
        origin: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// No TOML, an unknown key, or a value of another type.
    #[error("{origin}: {message}")]
    Parse {
        /// The file.
        origin: String,
        /// What the parser said, in one line.
        message: String,
    },
    /// What is wrong in a file.
    #[error("{origin}: {source}")]
    In {
        /// The file.
        origin: String,
        /// The mistake.
        source: Box<RecipeError>,
    },
    /// A value out of range.
    #[error("in [{table}]: {source}")]
    Table {
        /// The table.
        table: String,
        /// Key, value and range.
        source: SettingsError,
    },
    /// A setting from the command line that is none.
    #[error("--set {set}: {message}")]
    Set {
        /// What was given.
        set: String,
        /// What is wrong with it.
        message: String,
    },
    /// A loss that compares, and nothing to compare with.
    #[error("a term of [objective] ({terms}) needs a teacher, but the recipe has none; add `teacher.model`")]
    NoTeacher {
        /// The objective's terms.
        terms: String,
    },
    /// A cache of outputs for images that are never the same twice.
    #[error(
        "[cache] with random augmentation needs `data.views`: the number of fixed augmented versions of an image"
    )]
    CacheWithoutViews,
    /// One teacher and several.
    #[error("the recipe has both [teacher] and [[teachers]]; put all of them into [[teachers]]")]
    TwoKindsOfTeachers,
    /// A table that the command has no use for.
    #[error("the recipe has [{table}]: {advice}")]
    Unused {
        /// The table.
        table: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// A table that the command needs.
    #[error("the recipe has no [{table}]: {advice}")]
    Missing {
        /// The table.
        table: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// A teacher that is to be read and to be trained.
    #[error("teacher `{model}` has both `weights` and [teacher.run]; keep the one that is meant")]
    WeightsAndRun {
        /// The teacher's model.
        model: String,
    },
}

impl RecipeError {
    /// The parser's words in one line: with position if it knows one, with the key's path otherwise.
    pub(super) fn parse(origin: &str, error: &toml::de::Error) -> Self {
        let text = error.to_string();
        let place = text.lines().next_back().filter(|line| line.starts_with("in `"));
        let position = text.lines().next().and_then(|line| line.strip_prefix("TOML parse error at "));
        let place = place.or(position).map(|place| format!(", {place}")).unwrap_or_default();
        Self::Parse { origin: origin.to_owned(), message: format!("{}{place}", error.message()) }
    }
}
