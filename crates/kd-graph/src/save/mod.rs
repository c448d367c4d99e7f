//! Graphs in files: `NAME.json` for nodes and attributes, `NAME.safetensors` beside it for the tensors of parameters and constants, by node name.
//!
//! ```
//! use burn::tensor::TensorData;
//! use kd_graph::{Graph, Op, Role, Shape, TensorType};
//!
//! let mut graph = Graph::new();
//! let x = graph.input("x", TensorType::float(Shape::batched([4])))?;
//! let weight = graph.parameter("fc.weight", Role::Weight, TensorData::ones::<f32, _>([4, 2]))?;
//! let fc = graph.add("fc", Op::Linear, &[x, weight])?;
//! graph.set_outputs(&[fc])?;
//!
//! let folder = tempfile::tempdir()?;
//! graph.save(folder.path().join("net.json"))?;
//! assert_eq!(Graph::load(folder.path().join("net.json"))?, graph);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod read;
mod tensors;
#[cfg(test)]
mod tests;
mod write;

pub use error::FileError;

use serde::{Deserialize, Serialize};

use crate::Graph;

/// What the files say they are.
const FORMAT: &str = "kd-graph";
/// Raised whenever older programs could not read the files any more.
const VERSION: u32 = 1;
/// Ending of the file with the tensors.
const TENSORS: &str = "safetensors";

/// The beginning of a file, which every version has.
#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    version: u32,
}

#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    header: Header,
    /// Checksum of the other file: the two belong together.
    tensors_crc32: u32,
    graph: &'a Graph,
}

#[derive(Deserialize)]
struct Read {
    tensors_crc32: u32,
    graph: Graph,
}
