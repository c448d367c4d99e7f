//! In which form a dataset was read: for reports, caches and table names.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::checksum::sha256;

/// The form of a dataset that was read, with the checksums of its files.
///
/// Displays as one line: `mnist idx from /data/mnist, unpacked bytes match the published checksums, sha256 0a1b…`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormUsed {
    /// The dataset.
    pub dataset: String,
    /// The form's name in the manifest.
    pub form: String,
    /// The archive or folder that was read; none if the dataset was drawn.
    pub path: Option<PathBuf>,
    /// The files.
    pub files: Vec<FileUsed>,
}

/// One file that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileUsed {
    /// Its name.
    pub name: String,
    /// SHA-256 of the file as it lies on disk.
    pub sha256: String,
    /// What is known of it.
    pub verified: Verified,
}

/// What a file's checksum was compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verified {
    /// The file is the publisher's, bit for bit.
    Download,
    /// Its unpacked bytes are the publisher's.
    Unpacked,
    /// No checksum is published for this form.
    Unpublished,
    /// Made by this program.
    Drawn,
}

impl FormUsed {
    /// Whether every file matched a published checksum, packed or unpacked.
    pub fn matches_published(&self) -> bool {
        matches!(self.verified(), Verified::Download | Verified::Unpacked)
    }

    /// What is known of the least certain file.
    pub fn verified(&self) -> Verified {
        self.files.iter().map(|file| file.verified).max().unwrap_or(Verified::Unpublished)
    }

    /// SHA-256 over all names and checksums: equal for equal files, for the keys of caches.
    ///
    /// A single file's fingerprint is its own SHA-256.
    pub fn fingerprint(&self) -> String {
        match &self.files[..] {
            [file] => file.sha256.clone(),
            files => {
                let lines: String =
                    files.iter().map(|file| format!("{} {}\n", file.name, file.sha256)).collect();
                sha256(lines.as_bytes())
            }
        }
    }

    /// Name for a table or a folder: `mnist (idx)`, `cifar10 (image-folder)`.
    pub fn label(&self) -> String {
        format!("{} ({})", self.dataset, self.form)
    }
}

impl fmt::Display for FormUsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.dataset, self.form)?;
        if let Some(path) = &self.path {
            write!(f, " from {}", path.display())?;
        }
        f.write_str(match self.verified() {
            Verified::Download => ", files match the published checksums",
            Verified::Unpacked => ", unpacked bytes match the published checksums",
            Verified::Unpublished => ", no published checksum",
            Verified::Drawn => ", drawn by this program",
        })?;
        write!(f, ", sha256 {}", self.fingerprint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(files: &[(&str, Verified)]) -> FormUsed {
        let file = |&(name, verified): &(&str, Verified)| FileUsed {
            name: name.into(),
            sha256: sha256(name.as_bytes()),
            verified,
        };
        let files = files.iter().map(file).collect();
        FormUsed { dataset: "mnist".into(), form: "idx".into(), path: Some("/d/mnist".into()), files }
    }

    #[test]
    fn one_line_names_form_path_and_certainty() {
        let one = used(&[("a", Verified::Unpublished)]);
        assert_eq!(
            one.to_string(),
            "mnist idx from /d/mnist, no published checksum, \
             sha256 ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
        );
        assert_eq!(one.label(), "mnist (idx)");
    }

    #[test]
    fn the_least_certain_file_decides() {
        assert!(used(&[("a", Verified::Download), ("b", Verified::Unpacked)]).matches_published());
        assert!(!used(&[("a", Verified::Download), ("b", Verified::Unpublished)]).matches_published());
    }

    #[test]
    fn the_fingerprint_is_that_of_all_files() {
        let (ab, ac) = (
            used(&[("a", Verified::Download), ("b", Verified::Download)]),
            used(&[("a", Verified::Download), ("c", Verified::Download)]),
        );
        assert_ne!(ab.fingerprint(), ac.fingerprint());
    }
}
