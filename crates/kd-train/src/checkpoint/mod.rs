//! Checkpoints that survive a kill at any moment.
//!
//! A checkpoint is a folder `checkpoints/step-00001234` with `model.bpk` (student and adapters), `optimizer.bpk`, `schedule.bpk`, `best.bpk` (the
//! student of the best epoch so far) and `state.json`, which holds the checksums of the others. It is written under a temporary name, synced and
//! renamed; the two newest are kept. A corrupt one is reported and the one before it is used.

mod state;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub use state::{Best, Exact, State, Sums};

use crate::files;

/// Version of `state.json`.
const VERSION: u32 = 2;
const STATE: &str = "state.json";
const NAME: &str = "step-";
const UNFINISHED: &str = ".unfinished-";

/// A checkpoint read back.
pub struct Checkpoint {
    /// Everything that is not a tensor.
    pub state: State,
    /// Its folder.
    pub path: PathBuf,
    files: BTreeMap<String, Vec<u8>>,
}

impl Checkpoint {
    /// The bytes of one of its files.
    ///
    /// # Errors
    /// [`CheckpointError::Corrupt`] when there is no such file.
    pub fn file(&self, name: &str) -> Result<Vec<u8>, CheckpointError> {
        let missing =
            || CheckpointError::Corrupt { path: self.path.join(name), what: "it is missing".into() };
        self.files.get(name).cloned().ok_or_else(missing)
    }
}

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what was written.
    #[error("{} is corrupt: {what}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Every checkpoint is corrupt.
    #[error("no checkpoint in {} can be read; start the run anew by overwriting it; the newest failed with: {newest}", folder.display())]
    AllCorrupt {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with the newest.
        newest: Box<CheckpointError>,
    },
}

/// The checkpoints of one run.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
}

impl Checkpoints {
    /// Checkpoints in `folder`, of which the newest `keep` (at least one) stay.
    pub fn new(folder: impl Into<PathBuf>, keep: usize) -> Self {
        Self { folder: folder.into(), keep: keep.max(1) }
    }

    /// Writes a checkpoint and removes those that are too old; returns its folder.
    ///
    /// # Errors
    /// [`CheckpointError::Io`]; what was there before is then still there.
    pub fn save(&self, mut state: State, contents: &[(&str, &[u8])]) -> Result<PathBuf, CheckpointError> {
        let failed = |source| CheckpointError::Io { path: self.folder.clone(), source };
        fs::create_dir_all(&self.folder).map_err(failed)?;
        let temporary = unfinished(&self.folder).map_err(failed)?;
        // Those of a checkpoint that the run was resumed from.
        state.files.clear();
        for (name, bytes) in contents {
            files::write(&temporary.path().join(name), bytes).map_err(failed)?;
            state.files.insert((*name).to_owned(), sha256(bytes));
        }
        state.version = VERSION;
        let json = serde_json::to_vec_pretty(&state).map_err(|error| failed(error.into()))?;
        files::write(&temporary.path().join(STATE), &json).map_err(failed)?;
        let path = self.folder.join(format!("{NAME}{:08}", state.step));
        if path.exists() {
            // A run makes every checkpoint once; this one is of a run that was not resumed from it.
            fs::remove_dir_all(&path).map_err(failed)?;
        }
        fs::rename(temporary.keep(), &path).map_err(failed)?;
        files::sync_folder(&self.folder).map_err(failed)?;
        self.remove_old().map_err(failed)?;
        Ok(path)
    }

    /// The newest checkpoint that can be read; `None` if there is none at all.
    ///
    /// # Errors
    /// [`CheckpointError::AllCorrupt`].
    pub fn latest(&self) -> Result<Option<Checkpoint>, CheckpointError> {
        let mut newest = None;
        for path in
            self.paths().map_err(|source| CheckpointError::Io { path: self.folder.clone(), source })?
        {
            match load(&path) {
                Ok(checkpoint) => return Ok(Some(checkpoint)),
                Err(error) => {
                    tracing::warn!("{error}; using the checkpoint before it");
                    newest.get_or_insert(error);
                }
            }
        }
        match newest {
            None => Ok(None),
            Some(error) => {
                Err(CheckpointError::AllCorrupt { folder: self.folder.clone(), newest: Box::new(error) })
            }
        }
    }

    /// Removes all checkpoints. They are out of reach before the first one is deleted, so that a kill leaves all or none.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub fn remove(&self) -> Result<(), CheckpointError> {
        let removed = self.folder.with_extension("removed");
        let absent = |result: io::Result<()>| match result {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(CheckpointError::Io { path: self.folder.clone(), source: error })
            }
            _ => Ok(()),
        };
        absent(fs::remove_dir_all(&removed))?;
        absent(fs::rename(&self.folder, &removed))?;
        absent(fs::remove_dir_all(&removed))
    }

    /// Renames the checkpoints that are newer than `path`, which could not be read, so that they no longer count.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub fn set_aside_after(&self, path: &Path) -> Result<(), CheckpointError> {
        let failed = |source| CheckpointError::Io { path: self.folder.clone(), source };
        for newer in self.paths().map_err(failed)?.iter().take_while(|newer| newer.as_path() > path) {
            let aside = self.folder.join(format!("unreadable-{}", file_name(newer)));
            tracing::warn!("{} is kept as {}", newer.display(), aside.display());
            if aside.exists() {
                fs::remove_dir_all(&aside).map_err(failed)?;
            }
            fs::rename(newer, &aside).map_err(failed)?;
        }
        Ok(())
    }

    /// Folders of checkpoints, newest first.
    fn paths(&self) -> io::Result<Vec<PathBuf>> {
        self.entries(NAME)
    }

    /// Folders whose name starts with `prefix`, in falling order.
    fn entries(&self, prefix: &str) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut paths =
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
        paths.retain(|path| file_name(path).starts_with(prefix));
        paths.sort_by(|a, b| b.cmp(a));
        Ok(paths)
    }

    /// Removes what is too old, and what killed runs left half written.
    fn remove_old(&self) -> io::Result<()> {
        self.paths()?.iter().skip(self.keep).try_for_each(fs::remove_dir_all)?;
        self.entries(UNFINISHED)?.iter().try_for_each(fs::remove_dir_all)
    }
}

/// With the permissions of an ordinary new folder; temporary ones are otherwise the owner's alone.
fn unfinished(folder: &Path) -> io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(UNFINISHED);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    builder.tempdir_in(folder)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn load(path: &Path) -> Result<Checkpoint, CheckpointError> {
    let read = |name: &str| {
        let path = path.join(name);
        fs::read(&path).map_err(|source| CheckpointError::Io { path, source })
    };
    let corrupt = |name: &str, what: String| CheckpointError::Corrupt { path: path.join(name), what };
    let state: State =
        serde_json::from_slice(&read(STATE)?).map_err(|error| corrupt(STATE, error.to_string()))?;
    if state.version != VERSION {
        return Err(corrupt(
            STATE,
            format!("it has version {}, this program reads {VERSION}", state.version),
        ));
    }
    let mut files = BTreeMap::new();
    for (name, expected) in &state.files {
        let bytes = read(name)?;
        let found = sha256(&bytes);
        if found != *expected {
            return Err(corrupt(name, format!("its sha256 is {found}, written was {expected}")));
        }
        files.insert(name.clone(), bytes);
    }
    Ok(Checkpoint { state, path: path.to_owned(), files })
}

/// The sha256 of `bytes`, in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn state(step: usize) -> State {
        State { step, scales: vec![Exact(0.1 + 0.2), Exact(f64::NAN)], ..Default::default() }
    }

    fn saved(steps: &[usize]) -> (tempfile::TempDir, Checkpoints) {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(folder.path(), 2);
        for &step in steps {
            checkpoints.save(state(step), &[("model.bpk", &[step as u8; 64])]).unwrap();
        }
        (folder, checkpoints)
    }

    #[test]
    fn the_newest_comes_back_bit_for_bit_and_only_two_are_kept() {
        let (folder, checkpoints) = saved(&[1, 9, 10]);
        let loaded = checkpoints.latest().unwrap().unwrap();
        assert_eq!((loaded.state.step, loaded.state.scales.clone()), (10, state(10).scales));
        assert_eq!(loaded.file("model.bpk").unwrap(), [10; 64]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_corrupt_checkpoint_is_passed_over_for_the_one_before() {
        for damage in [&b""[..], b"short", &[11; 64]] {
            let (folder, checkpoints) = saved(&[1, 2]);
            fs::write(folder.path().join("step-00000002/model.bpk"), damage).unwrap();
            assert_eq!(checkpoints.latest().unwrap().unwrap().state.step, 1);
        }
    }

    #[test]
    fn if_all_are_corrupt_the_error_says_what_is_wrong_with_the_newest() {
        let (folder, checkpoints) = saved(&[1, 2]);
        for step in ["step-00000001", "step-00000002"] {
            fs::write(folder.path().join(step).join(STATE), "{").unwrap();
        }
        let error = checkpoints.latest().err().unwrap().to_string();
        assert!(error.contains("step-00000002"), "{error}");
    }

    #[test]
    fn an_unfinished_folder_is_no_checkpoint_and_goes_with_the_next_one() {
        let (folder, checkpoints) = saved(&[3]);
        let unfinished = folder.path().join(".unfinished-abc");
        fs::create_dir(&unfinished).unwrap();
        assert_eq!(checkpoints.latest().unwrap().unwrap().state.step, 3);
        checkpoints.save(state(4), &[]).unwrap();
        assert!(!unfinished.exists());
    }

    #[test]
    fn a_corrupt_checkpoint_that_was_set_aside_takes_no_good_ones_place() {
        let (folder, checkpoints) = saved(&[1, 9]);
        fs::write(folder.path().join("step-00000009").join(STATE), "{").unwrap();
        let loaded = checkpoints.latest().unwrap().unwrap();
        checkpoints.set_aside_after(&loaded.path).unwrap();
        assert!(folder.path().join("unreadable-step-00000009").exists());
        for step in [2, 3] {
            checkpoints.save(state(step), &[]).unwrap();
        }
        let steps = checkpoints.paths().unwrap();
        assert_eq!(
            steps.iter().map(|path| file_name(path)).collect::<Vec<_>>(),
            ["step-00000003", "step-00000002"]
        );
    }

    #[test]
    fn removed_checkpoints_are_gone_and_removing_none_is_fine() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(folder.path().join("checkpoints"), 2);
        checkpoints.remove().unwrap();
        checkpoints.save(state(1), &[]).unwrap();
        checkpoints.remove().unwrap();
        assert!(checkpoints.latest().unwrap().is_none());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
