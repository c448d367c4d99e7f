//! What can go wrong with a cache.

use std::path::PathBuf;

use kd_core::SettingsError;

/// Why a cache could not be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A setting is out of range.
    #[error("teacher cache: {0}")]
    Settings(#[from] SettingsError),
    /// A file could not be opened, read or written.
    #[error("teacher cache {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process has the cache open.
    #[error("teacher cache {}: another process uses it; wait for it to end or give this run a folder of its own", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// The cache was made of another teacher, data set or setting.
    #[error(
        "teacher cache {}: it was made for something else ({}); delete the folder to make it anew, or give this run another one",
        path.display(),
        differences.join("; ")
    )]
    Stale {
        /// The folder.
        path: PathBuf,
        /// What differs: key, value in the cache, value now.
        differences: Vec<String>,
    },
    /// The folder holds files that are not a cache.
    #[error("teacher cache {}: this is not a teacher cache ({message}); give this run another folder, or delete this one", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found.
        message: String,
    },
    /// A sample's number lies outside the data set.
    #[error("teacher cache: sample {id} does not exist, the cache was made for {samples} samples")]
    Sample {
        /// Number given.
        id: usize,
        /// Samples of the data set.
        samples: usize,
    },
    /// A view that the cache has no room for.
    #[error(
        "teacher cache: there is no view {view}, the cache has {views}; give the loader `views = {views}` so that epochs cycle through them"
    )]
    View {
        /// View given.
        view: u64,
        /// Views of the cache.
        views: u64,
    },
    /// The teacher's output has another shape than the cache was made for.
    #[error(
        "teacher cache: the teacher's output has the shape {found:?}, the cache was made for {expected:?}"
    )]
    Shape {
        /// Shape by the cache's key, batch first.
        expected: Vec<usize>,
        /// Shape that the teacher gave.
        found: Vec<usize>,
    },
    /// A tensor of this rank cannot be cached.
    #[error("teacher cache: the output has rank {rank}, batch included; it must be 1 to 4")]
    Rank {
        /// Rank found.
        rank: usize,
    },
    /// The teacher's output cannot be read.
    #[error("teacher cache: the teacher's output cannot be read: {message}")]
    Output {
        /// What is wrong with it.
        message: String,
    },
    /// A number that half precision cannot hold.
    #[error(
        "teacher cache: the output {value} is outside the range of half precision (±65504); set `precision = \"f32\"`"
    )]
    Range {
        /// The number.
        value: f32,
    },
}
