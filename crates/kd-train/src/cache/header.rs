//! Whose outputs a cache holds.

use kd_core::{SettingsError, in_range};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How numbers are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Half precision: 11 significant bits, up to ±65504.
    #[default]
    F16,
    /// Single precision: every bit of the teacher's output.
    F32,
}

/// How outputs are kept.
///
/// | Name | Default | Purpose | Range |
/// |---|---|---|---|
/// | `precision` | `f16` | bits of a number | `f16`, `f32` |
/// | `top_k` | none | keep so many of the largest logits only | 1 to the number of classes |
/// | `views` | 1 | augmented versions of a sample | 1 to 1024 |
///
/// With `top_k` the classes lie on the last axis of the output. The others share what probability is left evenly: they get the logit
/// $\log \sum_{j} e^{z_j} - \log (n - k)$ over the $n - k$ classes left out. The softmax of what is read then equals the teacher's on the
/// classes kept, at temperature 1; at a higher temperature the rest weighs more than it did in the teacher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheSettings {
    /// Bits of a number.
    pub precision: Precision,
    /// How many logits are kept, all if none.
    pub top_k: Option<usize>,
    /// Augmented versions of a sample.
    pub views: u64,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self { precision: Precision::default(), top_k: None, views: 1 }
    }
}

/// What identifies the samples of a cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheKey {
    /// Name, split and form of the data set.
    pub dataset: String,
    /// Settings and seed of the augmentation; `none` without one.
    pub augmentation: String,
    /// Samples of the data set: ids run from 0 to here.
    pub samples: usize,
    /// Shape of one sample's output: `[classes]`, or more axes for tokens and pixels.
    pub output: Vec<usize>,
}

impl CacheSettings {
    /// Checks the ranges, given what is to be cached.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] with key, value and range.
    pub fn validate(&self, key: &CacheKey) -> Result<(), SettingsError> {
        in_range("views", self.views, (1..=1024).contains(&self.views), "1 to 1024")?;
        let rank = key.output.len();
        in_range("output axes", rank, rank <= 3, "at most 3, the batch not counted")?;
        in_range("output", format!("{:?}", key.output), !key.output.contains(&0), "a shape without a 0")?;
        let classes = key.output.last().copied().unwrap_or(1);
        match self.top_k {
            Some(k) => in_range(
                "top_k",
                k,
                (1..=classes).contains(&k),
                format!("1 to {classes}, the number of classes"),
            ),
            None => Ok(()),
        }
    }
}

/// Layout of the files; raised when it changes.
const VERSION: u32 = 1;

/// The content of `header.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    version: u32,
    dataset: String,
    augmentation: String,
    samples: usize,
    output: Vec<usize>,
    views: u64,
    precision: Precision,
    top_k: Option<usize>,
    teacher: String,
}

impl Header {
    pub(super) fn new(key: &CacheKey, settings: &CacheSettings, teacher: &str) -> Self {
        let CacheKey { dataset, augmentation, samples, output } = key.clone();
        let CacheSettings { precision, top_k, views } = settings.clone();
        let teacher = teacher.to_owned();
        Self { version: VERSION, dataset, augmentation, samples, output, views, precision, top_k, teacher }
    }

    /// Records that the cache has room for.
    pub(super) fn records(&self) -> u64 {
        self.samples as u64 * self.views
    }

    pub(super) fn text(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Every field in which the header found differs from this one, in words.
    pub(super) fn differences(&self, found: &Self) -> Vec<String> {
        let (now, found) = (fields(self), fields(found));
        let differing = now.iter().filter(|(key, value)| found.get(*key) != Some(value));
        let absent = Value::Null;
        differing
            .map(|(key, value)| format!("{key} was {}, now {value}", found.get(key).unwrap_or(&absent)))
            .collect()
    }
}

fn fields(header: &Header) -> Map<String, Value> {
    match serde_json::to_value(header) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}
