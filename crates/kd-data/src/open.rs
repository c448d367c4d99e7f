//! From a dataset's name to its images.

mod archive;
mod idx;

use std::path::Path;

use crate::checksum::{Published, Sums, sha256};
use crate::fetch::fetch_manifest;
use crate::form_used::{FileUsed, FormUsed, Verified};
use crate::manifest::{Manifest, Source, manifest};
use crate::search::{Files, Located, Search};
use crate::{DataError, Images, digits};

/// A dataset in memory.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The dataset's name.
    pub name: String,
    /// The training split, validation images included; see [`Images::hold_out`].
    pub train: Images,
    /// How many of the training images to hold out for validation unless the user says otherwise.
    pub validation: usize,
    /// The test split.
    pub test: Images,
    /// The form in which it was read.
    pub form: FormUsed,
}

/// Finds a dataset by name, downloads it if it is nowhere, reads and verifies it.
///
/// `digits` touches neither disk nor network.
///
/// # Errors
/// [`DataError::NotFound`] tells what was looked for and where, and the command that fetches it;
/// [`DataError::is_missing`] tells that case from files that are there but broken, for which every reader has its errors.
///
/// # Example
/// ```
/// use kd_data::{Search, open};
///
/// # fn main() -> Result<(), kd_data::DataError> {
/// let digits = open("digits", &Search::default())?;
/// assert_eq!((digits.train.len(), digits.test.len()), (12_000, 2_000));
/// # Ok(())
/// # }
/// ```
pub fn open(name: &str, search: &Search) -> Result<Opened, DataError> {
    open_manifest(&manifest(name)?, search)
}

/// As [`open`], for a manifest of one's own.
///
/// # Errors
/// As [`open`].
pub fn open_manifest(manifest: &Manifest, search: &Search) -> Result<Opened, DataError> {
    if let Some(located) = search.locate(manifest) {
        return read(manifest, &located);
    }
    let missing = |attempts| DataError::NotFound {
        name: manifest.name.clone(),
        looked: search.looked_for(manifest),
        attempts,
    };
    if !search.download {
        return Err(missing(Vec::new()));
    }
    match fetch_manifest(manifest, search) {
        Ok(_) => {}
        Err(DataError::NoMirror { .. }) => return Err(missing(Vec::new())),
        // A mirror that answered with something else than the dataset is no mere absence.
        Err(DataError::Download { attempts, .. }) if attempts.iter().all(|attempt| attempt.is_absence()) => {
            return Err(missing(attempts));
        }
        Err(error) => return Err(error),
    }
    read(manifest, &search.locate(manifest).ok_or_else(|| missing(Vec::new()))?)
}

fn read(manifest: &Manifest, located: &Located<'_>) -> Result<Opened, DataError> {
    let (train, test, files) = match &located.files {
        Files::Drawn => drawn(),
        Files::Idx(paths) => idx::read(manifest, located.form, paths)?,
        Files::Archive(path) => archive::read_packed(manifest, located.form, path)?,
        Files::Unpacked(folder) => archive::read_unpacked(manifest, located.form, folder)?,
    };
    let path = match &located.files {
        Files::Drawn => None,
        Files::Idx(_) => Some(located.folder.clone()),
        Files::Archive(path) | Files::Unpacked(path) => Some(path.clone()),
    };
    for (what, images, expected) in
        [("training images", &train, manifest.train), ("test images", &test, manifest.test)]
    {
        if images.len() != expected {
            let path = path.clone().unwrap_or_default();
            return Err(DataError::Count { path, what, found: images.len(), expected });
        }
    }
    let form = FormUsed { dataset: manifest.name.clone(), form: located.form.name.clone(), path, files };
    tracing::debug!(%form, "dataset read");
    Ok(Opened { name: manifest.name.clone(), train, validation: manifest.validation, test, form })
}

/// Training images, test images, the files they came from.
type Splits = (Images, Images, Vec<FileUsed>);

fn drawn() -> Splits {
    let (train, test) = digits::splits();
    let used = |name: &str, images: &Images| FileUsed {
        name: name.into(),
        sha256: sha256(images.all_pixels()),
        verified: Verified::Drawn,
    };
    let files = vec![used("train", &train), used("test", &test)];
    (train, test, files)
}

/// Compares a file with its published checksum.
fn verify_download(path: &Path, source: &Source, sums: &Sums) -> Result<Verified, DataError> {
    match &source.published {
        None => Ok(Verified::Unpublished),
        Some(published) if published.of(sums) == published.digits() => Ok(Verified::Download),
        Some(published) => Err(mismatch(path, published, sums)),
    }
}

fn mismatch(path: &Path, published: &Published, sums: &Sums) -> DataError {
    DataError::Checksum {
        path: path.into(),
        algorithm: published.algorithm(),
        found: published.of(sums).into(),
        expected: published.digits().into(),
    }
}

#[cfg(test)]
mod tests;
