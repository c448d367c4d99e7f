//! Downloading a dataset: mirrors in turn, resumed where a download was cut, verified before it gets its name.

mod lock;
mod transfer;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::DataError;
use crate::checksum::sums;
use crate::manifest::{Form, Format, Manifest, Source, manifest};
use crate::search::Search;

use lock::FolderLock;
use transfer::Transfer;

/// A download that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The address.
    pub url: String,
    /// Why it failed.
    pub reason: Reason,
}

/// Why a download failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// No answer, or the connection broke.
    Network(String),
    /// The server answered with this status instead of the file.
    Status(u16),
    /// The file came, but it is another one: the checksum found.
    Checksum {
        /// `md5` or `sha256`.
        algorithm: &'static str,
        /// The checksum of what came.
        found: String,
        /// The published one.
        expected: String,
    },
    /// The file is larger than any dataset file is allowed to be: this many bytes.
    TooLarge(u64),
}

impl Attempt {
    /// Whether the file was merely not to be had.
    pub fn is_absence(&self) -> bool {
        matches!(self.reason, Reason::Network(_) | Reason::Status(_))
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.url)?;
        match &self.reason {
            Reason::Network(text) => f.write_str(text),
            Reason::Status(status) => write!(f, "the server answered {status}"),
            Reason::Checksum { algorithm, found, expected } => {
                write!(f, "its {algorithm} is {found}, but {expected} is published")
            }
            Reason::TooLarge(limit) => write!(f, "more than {limit} bytes"),
        }
    }
}

/// Downloads a dataset's files, unless they are there already, and returns their paths.
///
/// Files go to [`Search::download_folder`]. A file appears under its name only when it is whole and its checksum is the
/// published one; what has come so far lies beside it as `.part` and is resumed. A second process waits for the first.
/// A dataset that the program draws itself has no files.
///
/// # Errors
/// [`DataError::NoMirror`]; [`DataError::Setting`] if no folder to download to is known; [`DataError::Download`] lists every mirror and why it failed; [`DataError::Io`].
pub fn fetch(name: &str, search: &Search) -> Result<Vec<PathBuf>, DataError> {
    fetch_manifest(&manifest(name)?, search)
}

/// As [`fetch`], for a manifest of one's own.
///
/// # Errors
/// As [`fetch`].
pub fn fetch_manifest(manifest: &Manifest, search: &Search) -> Result<Vec<PathBuf>, DataError> {
    if manifest.forms.iter().any(|form| form.format == Format::Drawn) {
        return Ok(Vec::new());
    }
    let nowhere =
        || DataError::setting("data_dir", "none", "a folder; this user has no cache folder to download to");
    let folder = search.download_folder().ok_or_else(nowhere)?.join(&manifest.name);
    let form = manifest.forms.iter().find(|form| !form.mirrors.is_empty());
    let form =
        form.ok_or_else(|| DataError::NoMirror { name: manifest.name.clone(), folder: folder.clone() })?;
    fs::create_dir_all(&folder).map_err(DataError::io("create", &folder))?;
    let _lock = FolderLock::acquire(&folder)?;
    form.files.iter().map(|file| fetch_file(form, file, &folder, search.progress)).collect()
}

fn fetch_file(form: &Form, file: &Source, folder: &Path, progress: bool) -> Result<PathBuf, DataError> {
    let target = folder.join(&file.path);
    if is_whole(&target, file)? {
        tracing::debug!(path = %target.display(), "already there");
        return Ok(target);
    }
    let mut attempts = Vec::new();
    for mirror in &form.mirrors {
        let transfer =
            Transfer { url: format!("{mirror}{}", file.path), target: &target, source: file, progress };
        match transfer.run()? {
            Ok(()) => {
                tracing::info!(url = transfer.url, path = %target.display(), "downloaded");
                return Ok(target);
            }
            Err(reason) => {
                let attempt = Attempt { url: transfer.url, reason };
                tracing::debug!("{attempt}");
                attempts.push(attempt);
            }
        }
    }
    Err(DataError::Download { file: file.path.clone(), attempts })
}

/// Whether the file lies there with its published checksum.
fn is_whole(path: &Path, file: &Source) -> Result<bool, DataError> {
    match fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(DataError::io("read", path)(error)),
        Ok(opened) => {
            let sums = sums(opened, path, u64::MAX)?;
            Ok(file.published.as_ref().is_none_or(|published| published.of(&sums) == published.digits()))
        }
    }
}

#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;
