//! The one error type of this crate.

use std::path::{Path, PathBuf};

use crate::fetch::Attempt;

/// Everything that can go wrong between a dataset's name and a batch.
///
/// Each variant carries the offending value, so that a message needs no context to be understood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system refused to read or write a file.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried: `read`, `create`, `rename`, ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },

    /// A file does not start as its format prescribes.
    #[error("{path}: starts with {found:#010x}, but {expected:#010x} ({meaning}) was expected")]
    Magic {
        /// The file.
        path: PathBuf,
        /// The first four bytes, big-endian.
        found: u32,
        /// The bytes that the format prescribes.
        expected: u32,
        /// What the prescribed bytes stand for.
        meaning: &'static str,
    },

    /// A file ends before its content does.
    #[error("{path}: is cut short, {expected} bytes were expected and {found} found")]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes that the header or the manifest announces.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },

    /// A file holds more than its header or manifest announces, as a decompression bomb does.
    #[error("{path}: holds more than the {limit} bytes that were expected; reading was stopped there")]
    Oversized {
        /// The file.
        path: PathBuf,
        /// The bytes after which reading stopped.
        limit: u64,
    },

    /// A compressed stream or an archive is damaged.
    #[error("{path}: is damaged: {source}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The decoder's reason.
        source: std::io::Error,
    },

    /// An image inside a folder or an archive cannot be decoded.
    #[error("{path}: cannot be decoded: {source}")]
    Decode {
        /// The image, below its archive if it lies in one.
        path: PathBuf,
        /// The decoder's reason.
        source: image::ImageError,
    },

    /// An image has another size than its dataset.
    #[error("{path}: is {found_width}x{found_height} pixels, but the dataset's images are {width}x{height}")]
    ImageSize {
        /// The file.
        path: PathBuf,
        /// Width found, in pixels.
        found_width: usize,
        /// Height found, in pixels.
        found_height: usize,
        /// Width expected, in pixels.
        width: usize,
        /// Height expected, in pixels.
        height: usize,
    },

    /// A label names no class.
    #[error("{path}: sample {index} has label {label}, but labels go from 0 to {}", classes.saturating_sub(1))]
    Label {
        /// The file.
        path: PathBuf,
        /// The sample's position in the file.
        index: usize,
        /// The label found.
        label: u32,
        /// Number of classes.
        classes: usize,
    },

    /// A folder is named after no class of the dataset.
    #[error("{path}: {found:?} is no class of this dataset; its classes are {}", known.join(", "))]
    Class {
        /// The archive or folder.
        path: PathBuf,
        /// The folder's name.
        found: String,
        /// The classes there are.
        known: Vec<String>,
    },

    /// Two numbers that must agree do not, such as images and labels.
    #[error("{path}: {found} {what}, but {expected} were expected")]
    Count {
        /// The file.
        path: PathBuf,
        /// What was counted.
        what: &'static str,
        /// The number found.
        found: usize,
        /// The number that the manifest or the accompanying file prescribes.
        expected: usize,
    },

    /// An archive lacks a file.
    #[error("{path}: holds no {member}")]
    Member {
        /// The archive.
        path: PathBuf,
        /// The file that its format prescribes.
        member: String,
    },

    /// A file's checksum is not the published one.
    #[error(
        "{path}: its {algorithm} is {found}, but the published one is {expected}; \
         remove the file and fetch it again"
    )]
    Checksum {
        /// The file.
        path: PathBuf,
        /// `md5` or `sha256`, of the file or of its unpacked bytes.
        algorithm: &'static str,
        /// The checksum computed, in hexadecimal digits.
        found: String,
        /// The published checksum.
        expected: String,
    },

    /// A manifest is not valid.
    #[error("manifest {name}: {message}")]
    Manifest {
        /// The manifest's file or dataset name.
        name: String,
        /// What is wrong with it.
        message: String,
    },

    /// No dataset has this name.
    #[error("there is no dataset {name:?}; known are {}", known.join(", "))]
    UnknownDataset {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },

    /// A dataset is neither on disk nor to be had from the network.
    #[error("dataset {name} was not found\n  looked for {}{}\n  fetch it with: kd data fetch {name}",
        looked.join("\n  looked for "), attempts_text(attempts))]
    NotFound {
        /// The dataset.
        name: String,
        /// Where was looked and for what.
        looked: Vec<String>,
        /// The downloads that were tried; empty when downloads are switched off.
        attempts: Vec<Attempt>,
    },

    /// Every mirror of a file failed.
    #[error("cannot download {file}{}", attempts_text(attempts))]
    Download {
        /// The file's name in the manifest.
        file: String,
        /// One entry a mirror tried.
        attempts: Vec<Attempt>,
    },

    /// A dataset has no form that can be downloaded.
    #[error("dataset {name} has no mirror to download it from; put its files in {folder}")]
    NoMirror {
        /// The dataset.
        name: String,
        /// Where its files are looked for.
        folder: PathBuf,
    },

    /// A setting is outside its range.
    #[error("{key} = {value} is not allowed; use {allowed}")]
    Setting {
        /// The setting's name.
        key: &'static str,
        /// The value given.
        value: String,
        /// The values allowed.
        allowed: String,
    },

    /// A sample was asked for that is not there.
    #[error("sample {index} does not exist; the dataset holds {len}")]
    Index {
        /// The position asked for.
        index: usize,
        /// The number of samples.
        len: usize,
    },

    /// The background thread that assembles batches has died.
    #[error("the thread that assembles batches has stopped: {message}")]
    Worker {
        /// The panic's message.
        message: String,
    },

    /// Any other reason, for a user's own [`Dataset`](crate::Dataset).
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl DataError {
    /// Whether the dataset is merely absent: no file and no network, nothing broken.
    ///
    /// A program that has something else to work on may go on; any other error is to be shown.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::NoMirror { .. })
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_path_buf(), source }
    }

    pub(crate) fn setting(key: &'static str, value: impl ToString, allowed: impl Into<String>) -> Self {
        Self::Setting { key, value: value.to_string(), allowed: allowed.into() }
    }
}

fn attempts_text(attempts: &[Attempt]) -> String {
    attempts.iter().map(|attempt| format!("\n  tried {attempt}")).collect()
}
