//! What a run found out, as one self-contained HTML page and as a table for the terminal.
//!
//! The page needs no network and no script; charts are inline SVG. [`table`] gives the same comparison as aligned text, [`json`] as data.

mod attention;
mod chart;
mod confusion;
mod curves;
mod numbers;
mod page;
mod sweep;
mod table;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::log::EpochRecord;

pub use table::{BASELINE, json, table};

/// Everything that a page shows. Empty parts are left out of it.
///
/// ```
/// use kd_train::report::{Report, Row};
///
/// let row = |name: &str, best: &[f64]| Row { name: name.into(), best: best.to_vec(), ..Row::default() };
/// let rows = vec![row("student alone", &[0.981, 0.983]), row("soft targets", &[0.986, 0.987])];
/// let report = Report { title: "LeNet-5 to half of it".into(), rows, ..Report::default() };
/// assert!(report.render()?.contains("98.65 ± 0.07 %"));
/// # Ok::<(), kd_train::report::ReportError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Heading of the page.
    pub title: String,
    /// One line: name, form used, checksum.
    pub dataset: String,
    /// The command that repeats the run.
    pub command: String,
    /// Anything a reader should know, one paragraph each.
    pub notes: Vec<String>,
    /// The comparison table.
    pub rows: Vec<Row>,
    /// Learning curves, one per run.
    pub curves: Vec<Curve>,
    /// What was varied, one section each.
    #[serde(default)]
    pub sweeps: Vec<Sweep>,
    /// Labels against predictions of one network.
    pub confusion: Option<ConfusionMatrix>,
    /// Attention maps on sample images.
    pub attention: Vec<AttentionSample>,
}

/// One network in the comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What it is; the row called [`BASELINE`] is what the others are compared with.
    pub name: String,
    /// Learnable numbers.
    pub parameters: u64,
    /// Multiply-accumulates for one sample.
    pub macs: Option<u64>,
    /// Size of the weights as a file.
    pub bytes: u64,
    /// Test accuracy in `[0, 1]` at the epoch that was best on validation, one per seed.
    pub best: Vec<f64>,
    /// Test accuracy in `[0, 1]` after the last epoch, one per seed.
    pub last: Vec<f64>,
    /// Wrong predictions on the test split at the best epoch, one per seed.
    pub errors: Vec<u64>,
    /// Share of the test split on which it predicts what the teacher predicts, in `[0, 1]`.
    pub agreement: Option<f64>,
    /// Expected calibration error, in `[0, 1]`.
    pub calibration_error: Option<f64>,
    /// Time of a forward pass, divided by the batch size.
    pub milliseconds_per_image: Option<f64>,
    /// Time of a forward pass of one image.
    #[serde(default)]
    pub milliseconds_single: Option<f64>,
}

/// The epochs of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// What the legend calls it.
    pub name: String,
    /// Its `metrics.jsonl`.
    pub records: Vec<EpochRecord>,
}

/// A number by something that is varied: a chart with a line for everything that was varied, and a table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sweep {
    /// Heading and caption.
    pub title: String,
    /// What is varied.
    pub axis: String,
    /// Whether it is a share in `[0, 1]`, written in percent.
    pub axis_is_share: bool,
    /// Whether the values are shares in `[0, 1]`, written in percent.
    pub value_is_share: bool,
    /// Name, and place along the axis with value.
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
    /// What a reader should know; may be empty.
    pub note: String,
}

/// Labels against predictions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfusionMatrix {
    /// Class names.
    pub classes: Vec<String>,
    /// `counts[label][prediction]`, as [`Confusion`](crate::metrics::Confusion) gives them.
    pub counts: Vec<Vec<u64>>,
}

/// An image with what networks look at in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AttentionSample {
    /// What the image shows.
    pub label: String,
    /// The image.
    pub image: Map,
    /// Maps with their names, such as `teacher stage2`.
    pub maps: Vec<(String, GrayMap)>,
}

/// An image of bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Map {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// 1 for grey, 3 for red, green and blue.
    pub channels: usize,
    /// `[height, width, channels]`.
    pub pixels: Vec<u8>,
}

/// An image of numbers, drawn from its smallest to its largest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GrayMap {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// `[height, width]`.
    pub values: Vec<f32>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The confusion matrix is not square.
    #[error(
        "the confusion matrix of {classes} classes has {found}; it needs {classes} rows of {classes} counts"
    )]
    Confusion {
        /// Number of class names.
        classes: usize,
        /// What is there instead.
        found: String,
    },
    /// An image or map has another number of values than its size says, or no size at all.
    #[error(
        "`{name}` of {height} x {width} x {channels} has {values} values; it needs as many as its size says, and 1 or 3 channels"
    )]
    Size {
        /// Label of the image or name of the map.
        name: String,
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// Channels.
        channels: usize,
        /// Number of values.
        values: usize,
    },
    /// A map holds a number that cannot be drawn.
    #[error("the map `{name}` holds {value}; the network that made it has diverged")]
    NotFinite {
        /// Name of the map.
        name: String,
        /// The number.
        value: f32,
    },
    /// A chart could not be drawn.
    #[error("the chart `{chart}` could not be drawn: {message}")]
    Chart {
        /// Its caption.
        chart: String,
        /// What the plotting library said.
        message: String,
    },
    /// Rows could not be written as JSON.
    #[error("the rows could not be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The page could not be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Report {
    /// The page.
    ///
    /// # Errors
    /// [`ReportError`] when the confusion matrix or a map is not what its size says.
    pub fn render(&self) -> Result<String, ReportError> {
        page::page(self)
    }

    /// Writes the page; a file that is already there is replaced as a whole or not at all.
    ///
    /// # Errors
    /// As [`render`](Self::render), and [`ReportError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), ReportError> {
        let page = self.render()?;
        crate::files::write(path, page.as_bytes())
            .map_err(|source| ReportError::Io { path: path.to_owned(), source })
    }
}
