//! Loading.

use std::path::Path;
use std::sync::Arc;

use safetensors::SafeTensors;

use super::{FORMAT, FileError, Header, Read, TENSORS, VERSION, tensors};
use crate::{Graph, GraphError};

impl Graph {
    /// Reads what [`save`](Self::save) has written, and checks all of it.
    ///
    /// # Errors
    /// [`FileError`]: the file at fault and what was found there.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let path = path.as_ref();
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| FileError::Io {
                action: "read",
                path: path.to_owned(),
                source,
            })
        };
        let Read { tensors_crc32, graph } = parse(path, &read(path)?)?;
        let beside = path.with_extension(TENSORS);
        let bytes = read(&beside)?;
        let found = crc32fast::hash(&bytes);
        if found != tensors_crc32 {
            // A file that is cut off or no safetensors at all is told apart: its message says more.
            held(&beside, &bytes)?;
            return Err(FileError::Checksum { path: beside, found, wanted: tensors_crc32 });
        }
        let graph = fill(graph, &beside, &held(&beside, &bytes)?)?;
        graph.validate().map_err(|source| FileError::Graph { path: path.to_owned(), source })?;
        Ok(graph)
    }
}

fn parse(path: &Path, json: &[u8]) -> Result<Read, FileError> {
    let foreign = |source| FileError::Json { path: path.to_owned(), source };
    let Header { format, version } = serde_json::from_slice(json).map_err(foreign)?;
    if format != FORMAT {
        return Err(FileError::Foreign { path: path.to_owned(), found: format });
    }
    if version != VERSION {
        return Err(FileError::Version { path: path.to_owned(), found: version, newest: VERSION });
    }
    serde_json::from_slice(json).map_err(foreign)
}

fn held<'a>(path: &Path, bytes: &'a [u8]) -> Result<SafeTensors<'a>, FileError> {
    SafeTensors::deserialize(bytes).map_err(|source| FileError::Tensors { path: path.to_owned(), source })
}

/// The graph with names by node and tensors by name.
fn fill(mut graph: Graph, path: &Path, tensors: &SafeTensors) -> Result<Graph, FileError> {
    for (id, node) in &graph.nodes {
        if graph.names.insert(node.name.clone(), *id).is_some() {
            let source = GraphError::DuplicateName { name: node.name.clone() };
            return Err(FileError::Graph { path: path.with_extension("json"), source });
        }
    }
    for (name, view) in tensors.iter() {
        let Some(&id) = graph.names.get(name) else {
            return Err(FileError::Superfluous { path: path.to_owned(), name: name.to_owned() });
        };
        let value = tensors::read(&view).ok_or_else(|| FileError::DType {
            path: path.to_owned(),
            name: name.to_owned(),
            dtype: format!("{:?}", view.dtype()),
        })?;
        graph.values.insert(id, Arc::new(value));
    }
    let missing =
        graph.nodes.iter().find(|(id, node)| node.op.holds_tensor() && !graph.values.contains_key(id));
    match missing {
        Some((_, node)) => Err(FileError::Missing { path: path.to_owned(), name: node.name.clone() }),
        None => Ok(graph),
    }
}
