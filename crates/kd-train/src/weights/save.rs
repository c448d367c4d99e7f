//! Writing a finished network.

use std::path::Path;

use burn::module::Module;
use burn_store::{ModuleStore, SafetensorsStore};

use super::WeightsError;
use super::format::Format;

/// Writes the module's weights and running statistics, as burnpack or safetensors by the extension of `path`. The file is there as a
/// whole or not at all.
///
/// What is written is the module in evaluation mode with reparameterisations folded in, so that burn alone loads it into the plain
/// struct: `Module::load_file` reads the burnpack file, `burn_store::SafetensorsStore` the other.
///
/// ```
/// use burn::{module::Module, nn::LinearConfig, tensor::Device};
/// use kd_train::weights;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("layer.bpk");
/// let layer = LinearConfig::new(3, 2).init(&Device::flex());
/// weights::save(&layer, &path)?;
///
/// let other = LinearConfig::new(3, 2).init(&Device::flex()).load_file(&path);
/// assert_eq!(weights::fingerprint(&layer)?, weights::fingerprint(&other)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`WeightsError::Extension`] or [`WeightsError::ReadOnly`] for another extension, [`WeightsError::Write`] for a tensor that the format
/// cannot hold, [`WeightsError::Io`] when the system refuses.
pub fn save<M: Module>(module: &M, path: &Path) -> Result<(), WeightsError> {
    let failed = |message| WeightsError::Write { path: path.to_owned(), message };
    let format = Format::of(path)?;
    // `valid` also brings in the last update of the running statistics, which a record of a training module would miss.
    let module = module.valid().materialize();
    let bytes = match format {
        Format::Burnpack => crate::record::module_bytes(module).map_err(|error| failed(error.to_string()))?,
        Format::Safetensors => {
            // One entry only: several come out of a hash map in any order. `load` tells burn's layout from PyTorch's by it.
            let mut store = SafetensorsStore::from_bytes(None).clear_metadata().metadata("producer", "burn");
            store.collect_from(&module).map_err(|error| failed(error.to_string()))?;
            store.get_bytes().map_err(|error| failed(error.to_string()))?
        }
        Format::PyTorch => return Err(WeightsError::ReadOnly { path: path.to_owned() }),
    };
    crate::files::write(path, &bytes).map_err(|source| WeightsError::Io { path: path.to_owned(), source })
}
