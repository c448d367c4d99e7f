//! One process at a time downloads into a folder.

use std::fs::File;
use std::path::Path;

use crate::DataError;

/// Held while a download runs; the system releases it when the process ends, however it ends.
pub(super) struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Waits until no other process holds the folder.
    pub(super) fn acquire(folder: &Path) -> Result<Self, DataError> {
        let path = folder.join(".lock");
        let file = File::create(&path).map_err(DataError::io("create", &path))?;
        if file.try_lock().is_err() {
            tracing::info!(folder = %folder.display(), "waiting for another process that downloads here");
            file.lock().map_err(DataError::io("lock", &path))?;
        }
        Ok(Self { _file: file })
    }
}
