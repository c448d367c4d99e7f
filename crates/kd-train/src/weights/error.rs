//! What can go wrong with a weights file.

use std::fmt;
use std::path::PathBuf;

/// Why weights could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file name says nothing about the format.
    #[error(
        "{}: the format of a weights file is told by its extension: .bpk (burnpack), .safetensors, .pt or .pth (PyTorch, read only)",
        path.display()
    )]
    Extension {
        /// The file.
        path: PathBuf,
    },
    /// PyTorch files are read, not written.
    #[error("{}: PyTorch files can be read but not written; use .safetensors or .bpk", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// A folder without a finished student.
    #[error("{}: the folder holds no {}; give a run folder whose run has finished, or a weights file", path.display(), super::STUDENT)]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// The file could not be opened, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not what its extension says, or is damaged.
    #[error("{}: not a readable {format} file: {message}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The format that its extension stands for.
        format: &'static str,
        /// What was found.
        message: String,
    },
    /// The module holds something that the format cannot.
    #[error("{}: cannot write: {message}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the format says.
        message: String,
    },
    /// A remapping rule is no regular expression.
    #[error("key remapping `{pattern}` is not a regular expression: {message}")]
    Pattern {
        /// The rule's left side.
        pattern: String,
        /// What the parser said.
        message: String,
    },
    /// Two tensors of the file have the same name after remapping.
    #[error("{}: after key remapping two tensors are called `{name}`; make the rules more specific", path.display())]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// The file's tensors are not those of the module.
    #[error("{}: {mismatch}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What differs.
        mismatch: Mismatch,
    },
}

/// How the tensors of a file differ from those of a module. Names are the module's, and the file's after key remapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// In the module, not in the file: name and shape.
    pub missing: Vec<(String, Vec<usize>)>,
    /// In the file, not in the module: name and shape.
    pub unexpected: Vec<(String, Vec<usize>)>,
    /// In both with different shapes: name, the module's shape, the file's.
    pub shapes: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// In both, but the file's tensor cannot be used: name and reason.
    pub unusable: Vec<(String, String)>,
}

impl Mismatch {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty()
            && self.unexpected.is_empty()
            && self.shapes.is_empty()
            && self.unusable.is_empty()
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the tensors do not fit the network; rename them with key remapping if only names differ",
        )?;
        for (name, shape) in &self.missing {
            write!(f, "\n  missing:     {name} {shape:?}")?;
        }
        for (name, shape) in &self.unexpected {
            write!(f, "\n  unexpected:  {name} {shape:?}")?;
        }
        for (name, module, file) in &self.shapes {
            write!(f, "\n  wrong shape: {name} is {module:?} in the network and {file:?} in the file")?;
        }
        for (name, reason) in &self.unusable {
            write!(f, "\n  unusable:    {name}: {reason}")?;
        }
        Ok(())
    }
}
