//! What can be wrong with a file.

use std::path::PathBuf;

use safetensors::SafeTensorError;

use crate::GraphError;

/// Why a graph could not be saved or loaded.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The name is that of the file with the tensors.
    #[error("{} cannot be the name of a graph: its tensors are in the file of that ending; use `.json`", path.display())]
    Name {
        /// The file.
        path: PathBuf,
    },
    /// Not JSON, or not the JSON of a graph.
    #[error("{} is not a graph", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What was found, with line and column.
        source: serde_json::Error,
    },
    /// JSON of something else.
    #[error("{} is not a graph: its format is `{found}`, not `kd-graph`", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The format that it names.
        found: String,
    },
    /// Written by a newer program.
    #[error("{} has version {found}; this program reads version {newest}: update it", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest that can be read.
        newest: u32,
    },
    /// Not safetensors, or cut off.
    #[error("{} does not hold tensors in the safetensors format", path.display())]
    Tensors {
        /// The file.
        path: PathBuf,
        /// What was found.
        source: SafeTensorError,
    },
    /// The two files do not belong together, or one is damaged.
    #[error(
        "{} is damaged or belongs to another graph: its checksum is {found:08x}, the graph's file says {wanted:08x}",
        path.display()
    )]
    Checksum {
        /// The file with the tensors.
        path: PathBuf,
        /// Its checksum.
        found: u32,
        /// The checksum that it should have.
        wanted: u32,
    },
    /// The graph needs a tensor that is not there.
    #[error("{} has no tensor `{name}`, which the graph needs", path.display())]
    Missing {
        /// The file with the tensors.
        path: PathBuf,
        /// Name of the node.
        name: String,
    },
    /// A tensor that the graph does not need.
    #[error("{} has a tensor `{name}`, which the graph does not know", path.display())]
    Superfluous {
        /// The file with the tensors.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
    },
    /// A precision that graphs do not hold.
    #[error("{}: tensor `{name}` holds {dtype}, which graphs do not", path.display())]
    DType {
        /// The file with the tensors.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
        /// Its precision.
        dtype: String,
    },
    /// The files contradict each other or themselves.
    #[error("{} is not a consistent graph", path.display())]
    Graph {
        /// The file.
        path: PathBuf,
        /// The contradiction.
        source: GraphError,
    },
}
