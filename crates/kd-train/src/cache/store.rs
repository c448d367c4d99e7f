//! The files of a cache.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::CacheError;
use super::header::Header;

const HEADER: &str = "header.json";
const RECORDS: &str = "outputs.bin";
const LOCK: &str = "lock";

/// A mark that the record was written, and its checksum.
const FRAME: usize = 1 + 4;
const WRITTEN: u8 = 1;

/// Records of fixed size in one file, each with a checksum.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    file: File,
    record: usize,
    planned: u64,
    /// Held as long as the store lives; the system lets go of it when the process dies, however it dies.
    _lock: File,
}

impl Store {
    /// Opens the cache in `folder`, or makes one for records of `bytes` bytes.
    pub(super) fn open(folder: &Path, header: &Header, bytes: usize) -> Result<Self, CacheError> {
        std::fs::create_dir_all(folder)
            .map_err(|source| CacheError::Io { path: folder.to_owned(), source })?;
        let lock = lock(folder)?;
        let text = header.text().map_err(|error| io(&folder.join(HEADER), error.into()))?;
        let size = header.records() * (FRAME + bytes) as u64;
        let planned = size + text.len() as u64;
        let path = folder.join(RECORDS);
        match found(folder)? {
            Some(other) if other == *header => {}
            Some(other) => {
                return Err(CacheError::Stale {
                    path: folder.to_owned(),
                    differences: header.differences(&other),
                });
            }
            None if path.exists() => {
                let message = format!("there is {RECORDS} but no {HEADER}");
                return Err(CacheError::Foreign { path: folder.to_owned(), message });
            }
            None => {
                tracing::info!(
                    "teacher cache {}: {planned} bytes for {} records",
                    folder.display(),
                    header.records()
                );
                crate::files::write(&folder.join(HEADER), text.as_bytes())
                    .map_err(|error| io(&folder.join(HEADER), error))?;
            }
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|error| io(&path, error))?;
        let length = file.metadata().map_err(|error| io(&path, error))?.len();
        if length > size {
            let message = format!("{RECORDS} has {length} bytes, it should have {size}");
            return Err(CacheError::Foreign { path: folder.to_owned(), message });
        }
        if 0 < length && length < size {
            tracing::warn!(
                "teacher cache {}: {length} of {size} bytes are there; the rest is made anew",
                folder.display()
            );
        }
        file.set_len(size).map_err(|error| io(&path, error))?;
        Ok(Self { path, file, record: bytes, planned, _lock: lock })
    }

    pub(super) fn planned_bytes(&self) -> u64 {
        self.planned
    }

    /// The record at `place`, or none if it was not written, or not as a whole.
    pub(super) fn read(&mut self, place: u64) -> Result<Option<Vec<u8>>, CacheError> {
        let mut frame = vec![0; FRAME + self.record];
        self.seek(place)?;
        self.file.read_exact(&mut frame).map_err(|error| io(&self.path, error))?;
        let record = frame.split_off(FRAME);
        if frame == head(place, &record) {
            return Ok(Some(record));
        }
        if frame.iter().chain(&record).any(|&byte| byte != 0) {
            tracing::warn!("teacher cache {}: record {place} is torn and is made anew", self.path.display());
        }
        Ok(None)
    }

    /// Writes the record at `place`.
    pub(super) fn write(&mut self, place: u64, record: &[u8]) -> Result<(), CacheError> {
        let mut frame = head(place, record).to_vec();
        frame.extend(record);
        self.seek(place)?;
        self.file.write_all(&frame).map_err(|error| io(&self.path, error))
    }

    fn seek(&mut self, place: u64) -> Result<(), CacheError> {
        let offset = place * (FRAME + self.record) as u64;
        self.file.seek(SeekFrom::Start(offset)).map_err(|error| io(&self.path, error))?;
        Ok(())
    }
}

/// What stands before a record. The checksum covers its place too, so that a record that lands elsewhere is torn as well.
fn head(place: u64, record: &[u8]) -> [u8; FRAME] {
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&place.to_le_bytes());
    checksum.update(record);
    let [a, b, c, d] = checksum.finalize().to_le_bytes();
    [WRITTEN, a, b, c, d]
}

fn lock(folder: &Path) -> Result<File, CacheError> {
    let path = folder.join(LOCK);
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|error| io(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(CacheError::Locked { path: folder.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io(&path, error)),
    }
}

/// The header in the folder, if there is one.
fn found(folder: &Path) -> Result<Option<Header>, CacheError> {
    let path = folder.join(HEADER);
    let bytes = match std::fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(|error| io(&path, error))?,
    };
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|error| CacheError::Foreign { path, message: error.to_string() })
}

fn io(path: &Path, source: std::io::Error) -> CacheError {
    CacheError::Io { path: path.to_owned(), source }
}
