//! The tables of a recipe that are the program's own.

use std::path::PathBuf;

use kd_core::{SettingsError, in_range};
use kd_data::Augment;
use kd_models::ModelSpec;
use kd_train::RunSettings;
use kd_train::cache::Precision;
use serde::{Deserialize, Serialize};

/// `[data]`: which data, and how it reaches the network.
///
/// | key | default | range |
/// |---|---|---|
/// | `name` | required | a name of `kd list datasets` |
/// | `validation` | the dataset's | training images held out to choose the best epoch, 1 or more |
/// | `batch-size` | 128 | 1 or more |
/// | `limit` | none | use so many training images only, of every class in proportion, 1 or more |
/// | `augment` | none | see [`Augment`] |
/// | `views` | none | epochs cycle through so many fixed augmentations, 1 or more |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DataSettings {
    /// The dataset.
    pub name: String,
    /// Training images held out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<usize>,
    /// Samples a batch.
    #[serde(default = "batch_size")]
    pub batch_size: usize,
    /// Training images used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Random changes to training images.
    #[serde(default)]
    pub augment: Augment,
    /// Fixed augmentations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub views: Option<u64>,
}

fn batch_size() -> usize {
    128
}

impl DataSettings {
    /// The dataset `name`, everything else at its default.
    pub fn new(name: impl Into<String>) -> Self {
        let batch_size = batch_size();
        let augment = Augment::default();
        Self { name: name.into(), validation: None, batch_size, limit: None, augment, views: None }
    }

    /// If asked, four small batches and one of validation images: a run on them shows every step within seconds, and no accuracy.
    #[must_use]
    pub fn smallest_if(self, asked: bool) -> Self {
        if !asked {
            return self;
        }
        Self { limit: Some(256), validation: Some(64), batch_size: 64, ..self }
    }

    /// Fixed views through which epochs cycle; images without augmentation have but one.
    pub fn fixed_views(&self) -> Option<u64> {
        self.views.or(self.augment.is_none().then_some(1))
    }

    /// Checks every value that can be checked without the data.
    ///
    /// # Errors
    /// [`SettingsError`]; an unknown dataset lists those there are.
    pub fn validate(&self) -> Result<(), SettingsError> {
        kd_data::manifest(&self.name).map_err(|error| SettingsError::Parse(error.to_string()))?;
        in_range("batch-size", self.batch_size, self.batch_size > 0, "1 or more")?;
        let positive = |key: &str, value: Option<usize>| match value {
            Some(0) => in_range(key, 0, false, "1 or more, or left out"),
            _ => Ok(()),
        };
        positive("validation", self.validation)?;
        positive("limit", self.limit)?;
        positive("views", self.views.map(|views| views.min(1) as usize))
    }
}

/// `[student]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StudentSettings {
    /// The model: a name of `kd list models`, or a table of name and dropout.
    pub model: ModelSpec,
}

/// `[teacher]`, or one of `[[teachers]]`.
///
/// | key | default | |
/// |---|---|---|
/// | `model` | required | a name of `kd list models` |
/// | `weights` | none | a run's folder, or a `.bpk`, `.safetensors` or `.pt` file; without it the teacher is trained on the spot |
/// | `run` | the defaults | how it is trained |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TeacherSettings {
    /// The model.
    pub model: ModelSpec,
    /// Where its weights come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
    /// How it is trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunSettings>,
}

/// `[cache]`: keeps the teachers' outputs on disk, so that only the first epoch pays for them. Other taps are not kept.
///
/// | key | default | range |
/// |---|---|---|
/// | `folder` | `cache` in the study's folder | where |
/// | `top-k` | all | only so many largest logits of a sample, 1 or more |
/// | `dtype` | `f16` | `f16` or `f32` |
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct CacheSettings {
    /// Where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// How many logits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
    /// How a logit is stored.
    pub dtype: Precision,
}

impl CacheSettings {
    /// Checks every value that can be checked without the teacher.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`].
    pub fn validate(&self) -> Result<(), SettingsError> {
        in_range("top-k", self.top_k.unwrap_or(1), self.top_k != Some(0), "1 or more, or left out")
    }
}
