//! What a study found, as a file and as a report.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use kd_data::{FormUsed, Verified};
use kd_train::log;
use kd_train::report::{AttentionSample, ConfusionMatrix, Curve, Report, Row, Sweep, table};
use serde::{Deserialize, Serialize};

use super::data::Data;
use super::error::StudyError;
use super::measure::{Latency, Measured};

/// Everything a study measured: the content of `results.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Results {
    /// Name of the study.
    pub title: String,
    /// Name of the data for tables.
    pub data: String,
    /// Form and checksums of the data.
    pub form: FormUsed,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Where it ran.
    pub device: String,
    /// The command line.
    pub command: String,
    /// The networks, in the order in which they were trained.
    pub candidates: Vec<Candidate>,
    /// Where networks look in sample images.
    #[serde(default)]
    pub attention: Vec<AttentionSample>,
    /// What was varied, with a chart each.
    #[serde(default)]
    pub sweeps: Vec<Sweep>,
    /// What else a reader should know.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Candidate {
    /// Name of the row.
    pub name: String,
    /// Numbers that training set.
    pub parameters: usize,
    /// Multiply-accumulates per image, if the network knows them.
    pub macs: Option<u64>,
    /// Size of its weights on disk.
    pub bytes: u64,
    /// One result for every seed.
    pub seeds: Vec<SeedResult>,
}

/// One seed of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SeedResult {
    /// The seed; none for a network that was neither trained here nor made of one that was.
    pub seed: Option<u64>,
    /// The run's folder, within the study's.
    pub folder: Option<PathBuf>,
    /// The epoch that validation chose, from 0.
    pub best_epoch: Option<usize>,
    /// Test results of the chosen epoch.
    pub best: Measured,
    /// Test results of the last epoch.
    pub last: Measured,
    /// Time of a forward pass.
    pub latency: Latency,
}

impl Candidate {
    pub(super) fn new(name: &str, parameters: usize, macs: Option<u64>, bytes: u64) -> Self {
        Self { name: name.to_owned(), parameters, macs, bytes, seeds: Vec::new() }
    }

    /// Mean test accuracy of the chosen epochs.
    pub fn accuracy(&self) -> f64 {
        self.mean(|seed| Some(seed.best.accuracy)).unwrap_or(f64::NAN)
    }

    /// Mean over the seeds, if every one has a value.
    fn mean(&self, read: impl Fn(&SeedResult) -> Option<f64>) -> Option<f64> {
        let values: Vec<f64> = self.seeds.iter().map(read).collect::<Option<_>>()?;
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }

    fn row(&self) -> Row {
        Row {
            name: self.name.clone(),
            parameters: self.parameters as u64,
            macs: self.macs,
            bytes: self.bytes,
            best: self.seeds.iter().map(|seed| seed.best.accuracy).collect(),
            last: self.seeds.iter().map(|seed| seed.last.accuracy).collect(),
            errors: self.seeds.iter().map(|seed| seed.best.errors).collect(),
            agreement: self.mean(|seed| seed.best.agreement),
            calibration_error: self.mean(|seed| Some(seed.best.calibration_error)),
            milliseconds_per_image: self.mean(|seed| Some(seed.latency.batched)),
            milliseconds_single: self.mean(|seed| Some(seed.latency.single)),
        }
    }
}

impl Results {
    pub(super) fn new(title: String, data: &Data, device: &Device) -> Self {
        let (label, form, classes) = (data.label(), data.form().clone(), data.classes().to_vec());
        let (device, command) = (format!("{device:?}"), command());
        Self {
            title,
            data: label,
            form,
            classes,
            device,
            command,
            candidates: Vec::new(),
            attention: Vec::new(),
            sweeps: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, candidate: Candidate, result: SeedResult) {
        match self.candidates.iter_mut().find(|known| known.name == candidate.name) {
            Some(known) => known.seeds.push(result),
            None => self.candidates.push(Candidate { seeds: vec![result], ..candidate }),
        }
    }

    /// The row of this name.
    pub fn candidate(&self, name: &str) -> Option<&Candidate> {
        self.candidates.iter().find(|candidate| candidate.name == name)
    }

    /// Reads `results.json` of a study's folder.
    ///
    /// # Errors
    /// [`StudyError::Io`] when it is not there or no such file.
    pub fn read(folder: &Path) -> Result<Self, StudyError> {
        let path = folder.join("results.json");
        let text = std::fs::read_to_string(&path).map_err(StudyError::io(&path))?;
        serde_json::from_str(&text).map_err(|error| StudyError::io(path)(error.into()))
    }

    /// The comparison as text, headed by title and data.
    pub fn table(&self) -> String {
        format!("{} on {}\n{}", self.title, self.data, table(&self.rows()))
    }

    /// Writes `results.json` and `report.html` into `folder`, which holds the runs with their logs.
    ///
    /// # Errors
    /// [`StudyError::Io`], [`StudyError::Log`], [`StudyError::Report`].
    pub fn write(&self, folder: &Path) -> Result<(), StudyError> {
        let path = folder.join("results.json");
        let text = serde_json::to_string_pretty(self).map_err(|error| StudyError::io(&path)(error.into()))?;
        kd_train::files::write(&path, text.as_bytes()).map_err(StudyError::io(path))?;
        Ok(self.report(folder)?.write(&folder.join("report.html"))?)
    }

    fn rows(&self) -> Vec<Row> {
        self.candidates.iter().map(Candidate::row).collect()
    }

    fn report(&self, folder: &Path) -> Result<Report, StudyError> {
        let seeds = self.candidates.iter().map(|candidate| candidate.seeds.len()).max().unwrap_or(0);
        let mut notes = vec![format!(
            "Every number is of the test split, at the epoch that was best on validation images unless it says otherwise; {seeds} seed{} a row. Device: {}.",
            if seeds == 1 { "" } else { "s at most" },
            self.device
        )];
        if self.form.verified() == Verified::Unpublished {
            notes.push(format!("The data is not the published form: {}.", self.form));
        }
        notes.extend(self.notes.iter().cloned());
        if let Some(candidate) = self.candidates.last() {
            notes.push(format!("The confusion matrix is that of \u{201c}{}\u{201d}.", candidate.name));
        }
        Ok(Report {
            title: self.title.clone(),
            dataset: format!("{}: {}", self.data, self.form),
            command: self.command.clone(),
            notes,
            rows: self.rows(),
            curves: self.curves(folder)?,
            confusion: self.candidates.last().and_then(|last| self.confusion(last)),
            sweeps: self.sweeps.clone(),
            attention: self.attention.clone(),
        })
    }

    /// The epochs of every run.
    fn curves(&self, folder: &Path) -> Result<Vec<Curve>, StudyError> {
        let mut curves = Vec::new();
        for candidate in &self.candidates {
            for result in &candidate.seeds {
                let (Some(run), Some(seed)) = (&result.folder, result.seed) else { continue };
                let several = candidate.seeds.len() > 1;
                let name =
                    if several { format!("{}, seed {seed}", candidate.name) } else { candidate.name.clone() };
                curves.push(Curve { name, records: log::read(&folder.join(run).join("metrics.jsonl"))? });
            }
        }
        Ok(curves)
    }

    /// The last row's, of its first seed.
    fn confusion(&self, candidate: &Candidate) -> Option<ConfusionMatrix> {
        let counts = candidate.seeds.first()?.best.confusion.clone();
        Some(ConfusionMatrix { classes: self.classes.clone(), counts })
    }
}

/// The command line, which repeats the study.
fn command() -> String {
    let mut arguments = std::env::args();
    let program = arguments.next().unwrap_or_default();
    let program = Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    std::iter::once(program).chain(arguments).collect::<Vec<_>>().join(" ")
}
