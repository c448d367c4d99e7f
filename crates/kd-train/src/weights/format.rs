//! File formats: what an extension stands for, and the tensors of a file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use burn_store::burn_pack::{Reader, Tensor};
use burn_store::pytorch_reader::PytorchReader;
use burn_store::{ModuleStore, SafetensorsStore, bridge};
use serde::{Deserialize, Serialize};

use super::WeightsError;

/// How a file names and orders its numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// burn's for burnpack and for safetensors that burn wrote, PyTorch's for all others.
    #[default]
    Auto,
    /// Linear weights are `[in, out]`, norms have `gamma` and `beta`.
    Burn,
    /// Linear weights are `[out, in]`, norms have `weight` and `bias`, the layers of a list may be numbered with gaps.
    PyTorch,
}

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Burnpack,
    Safetensors,
    PyTorch,
}

impl Format {
    pub(super) fn of(path: &Path) -> Result<Self, WeightsError> {
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        match extension.as_deref() {
            Some("bpk") => Ok(Format::Burnpack),
            Some("safetensors") => Ok(Format::Safetensors),
            Some("pt" | "pth") => Ok(Format::PyTorch),
            _ => Err(WeightsError::Extension { path: path.to_owned() }),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Format::Burnpack => "burnpack",
            Format::Safetensors => "safetensors",
            Format::PyTorch => "PyTorch",
        }
    }

    /// The file's tensors, their bytes not read yet, and the layout that [`Layout::Auto`] stands for.
    pub(super) fn read(self, path: &Path) -> Result<(Vec<Tensor>, Layout), WeightsError> {
        let io = |source| WeightsError::Io { path: path.to_owned(), source };
        let corrupt = |message| WeightsError::Corrupt { path: path.to_owned(), format: self.name(), message };
        // The readers below say "no such file" in their own ways.
        let mut file = File::open(path).map_err(io)?;
        // A reader of a damaged file may panic on a size that it did not expect; to the caller that is a damaged file like any other.
        let read = std::panic::AssertUnwindSafe(|| -> Result<_, String> {
            match self {
                Format::Burnpack => {
                    let reader = Reader::from_file_exact(path).map_err(|error| error.to_string())?;
                    Ok((reader.into_tensors().map_err(|error| error.to_string())?, Layout::Burn))
                }
                Format::Safetensors => {
                    let mut store = SafetensorsStore::from_file(path);
                    let tensors = store.get_all_tensors().map_err(|error| error.to_string())?;
                    Ok((tensors.values().cloned().collect(), written_by(&mut file)))
                }
                Format::PyTorch => {
                    let tensors = PytorchReader::new(path).map_err(|error| error.to_string())?.into_tensors();
                    Ok((tensors.into_values().map(bridge::from_pytorch).collect(), Layout::PyTorch))
                }
            }
        });
        match std::panic::catch_unwind(read) {
            Ok(result) => result.map_err(corrupt),
            Err(_) => Err(corrupt("its sizes contradict each other".to_owned())),
        }
    }
}

/// The layout of a safetensors file that is known to be readable, from what its header says about its writer.
fn written_by(file: &mut File) -> Layout {
    #[derive(Deserialize)]
    struct Header {
        #[serde(rename = "__metadata__", default)]
        metadata: BTreeMap<String, String>,
    }
    let mut header = || -> Option<Header> {
        let mut length = [0; 8];
        file.read_exact(&mut length).ok()?;
        let mut text = String::new();
        file.take(u64::from_le_bytes(length)).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    };
    let producer = header().and_then(|header| header.metadata.get("producer").cloned());
    if producer.as_deref() == Some("burn") { Layout::Burn } else { Layout::PyTorch }
}
