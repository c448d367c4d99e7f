//! What a run writes down: `metrics.jsonl`, one line an epoch and the same for every repetition, and `timing.jsonl`, which is not.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

/// A line of `metrics.jsonl`: one epoch. Holds nothing that depends on the clock, so that a resumed run writes the same
/// bytes. JSON knows no NaN and no infinity: a value that is not finite is `null` there and comes back as NaN.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Optimizer steps done at its end.
    pub step: usize,
    /// Learning rate of its last step.
    pub learning_rate: f64,
    /// Mean of the weighted loss over the epoch.
    #[serde(deserialize_with = "number")]
    pub loss: f64,
    /// Mean of every term, unweighted.
    #[serde(deserialize_with = "numbers")]
    pub terms: BTreeMap<String, f64>,
    /// Weight of every term at the epoch's first step.
    pub weights: BTreeMap<String, f64>,
    /// Norm of every weighted term's gradient on the epoch's first batch.
    #[serde(deserialize_with = "numbers")]
    pub gradient_norms: BTreeMap<String, f64>,
    /// Metrics on the validation split.
    #[serde(deserialize_with = "numbers")]
    pub validation: BTreeMap<String, f64>,
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

fn numbers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, f64>, D::Error> {
    let numbers = BTreeMap::<String, Option<f64>>::deserialize(deserializer)?;
    Ok(numbers.into_iter().map(|(name, value)| (name, value.unwrap_or(f64::NAN))).collect())
}

/// A line of `timing.jsonl`: what an epoch cost, in seconds; of one that was resumed, the part since then.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TimingRecord {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Training steps, diagnostics not included.
    pub train: f64,
    /// Share of `train` spent waiting for the loader.
    pub loader: f64,
    /// Share of `train` spent in the teacher.
    pub teacher: f64,
    /// Gradient norm of every term on the first batch.
    pub diagnostics: f64,
    /// Validation.
    pub validation: f64,
    /// Training samples per second.
    pub samples_per_second: f64,
}

/// Why a log could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file could not be opened, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line is not what it should be.
    #[error("{} line {line}: {message}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What the parser said.
        message: String,
    },
}

/// Appends one record as a line and waits until it is on the disk: a checkpoint that counts it must not outlive it.
///
/// # Errors
/// [`LogError::Io`].
pub fn append<T: Serialize>(path: &Path, record: &T) -> Result<(), LogError> {
    let failed = |source| LogError::Io { path: path.to_owned(), source };
    let mut line = serde_json::to_string(record).map_err(|error| failed(error.into()))?;
    line.push('\n');
    let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
    file.write_all(line.as_bytes()).and_then(|()| file.sync_data()).map_err(failed)
}

/// All records of a file; none if there is no file. A torn last line, as a killed run leaves it, is left out.
///
/// # Errors
/// [`LogError`] for a file that cannot be read or a line in its middle that cannot be parsed.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, LogError> {
    let failed = |source| LogError::Io { path: path.to_owned(), source };
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file.map_err(failed)?,
    };
    let lines = BufReader::new(file).lines().collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let mut records = Vec::with_capacity(lines.len());
    for (index, line) in lines.iter().enumerate() {
        match serde_json::from_str(line) {
            Ok(record) => records.push(record),
            Err(_) if index + 1 == lines.len() => {}
            Err(error) => {
                let message = error.to_string();
                return Err(LogError::Line { path: path.to_owned(), line: index + 1, message });
            }
        }
    }
    Ok(records)
}

/// Keeps the lines whose record `keep` accepts, byte for byte, as a resumed run needs it: what lies after its checkpoint is cut.
///
/// # Errors
/// [`LogError::Io`].
pub fn retain<T: DeserializeOwned>(path: &Path, keep: impl Fn(&T) -> bool) -> Result<(), LogError> {
    let failed = |source| LogError::Io { path: path.to_owned(), source };
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        text => text.map_err(failed)?,
    };
    let kept = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n') && serde_json::from_str(line).is_ok_and(|record| keep(&record)));
    crate::files::write(path, kept.collect::<String>().as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn record(epoch: usize) -> EpochRecord {
        EpochRecord { epoch, loss: 0.1 + 0.2 * epoch as f64, ..Default::default() }
    }

    #[test]
    fn a_torn_last_line_is_left_out_and_a_torn_middle_line_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        append(&path, &record(0)).unwrap();
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"epo").unwrap();
        assert_eq!(read::<EpochRecord>(&path).unwrap(), [record(0)]);
        std::fs::write(&path, "{\"epo\n{}\n").unwrap();
        assert!(read::<EpochRecord>(&path).unwrap_err().to_string().contains("line 1"));
    }

    #[test]
    fn lines_after_a_checkpoint_are_cut_and_the_others_keep_every_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        (0..4).for_each(|epoch| append(&path, &record(epoch)).unwrap());
        let before = std::fs::read_to_string(&path).unwrap();
        retain(&path, |record: &EpochRecord| record.epoch < 2).unwrap();
        let after = std::fs::read_to_string(&path).unwrap();
        assert_eq!(after.lines().count(), 2);
        assert!(before.starts_with(&after));
    }

    #[test]
    fn a_value_that_is_not_finite_is_read_back_as_nan_and_survives_a_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let validation = [("error".to_owned(), f64::INFINITY), ("accuracy".to_owned(), 0.5)];
        append(&path, &EpochRecord { validation: validation.into(), ..record(0) }).unwrap();
        append(&path, &record(1)).unwrap();
        retain(&path, |record: &EpochRecord| record.epoch < 1).unwrap();
        let records = read::<EpochRecord>(&path).unwrap();
        assert_eq!(records.len(), 1);
        assert!(records[0].validation["error"].is_nan() && records[0].validation["accuracy"] == 0.5);
    }
}
