//! Saving.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use burn::tensor::TensorData;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::{FORMAT, FileError, Header, TENSORS, VERSION, Written, tensors};
use crate::{Graph, GraphError};

impl Graph {
    /// Writes the graph to this file, `NAME.json` as a rule, and its tensors to `NAME.safetensors` beside it.
    ///
    /// Each file is written under a temporary name, synced and renamed, the tensors first. Should the second rename not happen, loading says that
    /// the files do not belong together. Tensors that burn keeps in 32-bit storage for another precision are written as what they hold.
    ///
    /// # Errors
    /// [`FileError::Io`]; [`FileError::Name`] for a name that ends in `.safetensors`; [`FileError::Graph`] for an inconsistent graph.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), FileError> {
        let path = path.as_ref();
        if path.extension().is_some_and(|ending| ending == TENSORS) {
            return Err(FileError::Name { path: path.to_owned() });
        }
        let inconsistent = |source| FileError::Graph { path: path.to_owned(), source };
        self.validate().map_err(inconsistent)?;
        let mut held: BTreeMap<&str, (Dtype, TensorData)> = BTreeMap::new();
        for (id, value) in &self.values {
            let name = self.node(*id).map_err(inconsistent)?.name();
            let (dtype, burns) = tensors::written(value.dtype()).ok_or_else(|| {
                inconsistent(GraphError::DType {
                    name: name.to_owned(),
                    dtype: format!("{:?}", value.dtype()),
                })
            })?;
            held.insert(name, (dtype, (**value).clone().convert_dtype(burns)));
        }
        let beside = path.with_extension(TENSORS);
        let failed = |source| FileError::Tensors { path: beside.clone(), source };
        let views = held.iter().map(|(name, (dtype, value))| {
            Ok((*name, TensorView::new(*dtype, value.shape().to_vec(), value.as_bytes()).map_err(failed)?))
        });
        let views = views.collect::<Result<Vec<_>, FileError>>()?;
        let bytes = safetensors::serialize(views, None).map_err(failed)?;

        let header = Header { format: FORMAT.to_owned(), version: VERSION };
        let written = Written { header, tensors_crc32: crc32fast::hash(&bytes), graph: self };
        let json = serde_json::to_vec_pretty(&written)
            .map_err(|source| FileError::Json { path: path.to_owned(), source })?;
        replace(&beside, &bytes)?;
        replace(path, &json)
    }
}

/// Writes a whole file or nothing.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    // Temporary files are otherwise the owner's alone.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let write = || {
        let mut file = builder.tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        // Makes the rename durable.
        if cfg!(unix) { std::fs::File::open(folder)?.sync_all() } else { Ok(()) }
    };
    write().map_err(|source| FileError::Io { action: "write", path: path.to_owned(), source })
}
