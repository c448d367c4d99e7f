//! Reading weights into a module.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::DType;
use burn_store::burn_pack::Tensor;
use burn_store::{
    Applier, ApplyError, ApplyResult, FloatCastAdapter, KeyRemapper, ModuleAdapter, ModuleSnapshot,
    PyTorchToBurnAdapter, map_indices_contiguous_except,
};
use serde::{Deserialize, Serialize};

use super::format::{Format, Layout};
use super::{Mismatch, STUDENT, WeightsError};

/// Where weights come from and how their names become those of the network.
///
/// | Name | Default | Purpose |
/// |---|---|---|
/// | `path` | | a `.bpk`, `.safetensors`, `.pt` or `.pth` file, or the folder of a finished run |
/// | `remap` | `[]` | pairs of a regular expression and its replacement (`$1` is the first group), applied to every name in turn |
/// | `allow_unused` | `false` | whether the file may hold tensors that the network has not |
/// | `layout` | `auto` | whose conventions the file follows, for a file whose origin its format does not tell |
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Source {
    /// File, or folder of a finished run.
    pub path: PathBuf,
    /// Regular expressions and their replacements, in the order in which they are applied.
    pub remap: Vec<(String, String)>,
    /// Whether tensors that the network has not are passed over.
    pub allow_unused: bool,
    /// Conventions of the file.
    pub layout: Layout,
}

impl Source {
    /// A file or run folder whose names are those of the network.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }

    /// Adds a rule: names that `pattern` matches get `replacement` in the place of the match.
    #[must_use]
    pub fn remap(mut self, pattern: impl Into<String>, replacement: impl Into<String>) -> Self {
        self.remap.push((pattern.into(), replacement.into()));
        self
    }

    fn file(&self) -> Result<PathBuf, WeightsError> {
        if !self.path.is_dir() {
            return Ok(self.path.clone());
        }
        let file = self.path.join(STUDENT);
        if file.is_file() { Ok(file) } else { Err(WeightsError::Folder { path: self.path.clone() }) }
    }

    fn renamed(&self, tensors: Vec<Tensor>) -> Result<Vec<Tensor>, WeightsError> {
        let mut remapper = KeyRemapper::new();
        for (pattern, replacement) in &self.remap {
            remapper = remapper.add_pattern(pattern, replacement).map_err(|error| WeightsError::Pattern {
                pattern: pattern.clone(),
                message: error.to_string(),
            })?;
        }
        Ok(remapper.remap(tensors).0)
    }
}

/// Fills a module with the weights of a file. Every tensor of the module must be there in its shape; floats take the module's element type.
///
/// For PyTorch's conventions linear weights are transposed, `weight` and `bias` of norms become `gamma` and `beta`, gaps in the numbering
/// of lists are closed where the module has none, and batch norm's `num_batches_tracked`, which burn has not, is passed over.
///
/// ```
/// use burn::{nn::LinearConfig, tensor::Device};
/// use kd_train::weights::{self, Source};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("layer.safetensors");
/// let layer = LinearConfig::new(3, 2).init(&Device::flex());
/// weights::save(&layer, &path)?;
///
/// let other = weights::load(LinearConfig::new(3, 2).init(&Device::flex()), &Source::new(&path))?;
/// assert_eq!(weights::fingerprint(&layer)?, weights::fingerprint(&other)?);
/// let narrow = weights::load(LinearConfig::new(2, 2).init(&Device::flex()), &Source::new(&path));
/// assert!(narrow.unwrap_err().to_string().contains("weight is [2, 2] in the network and [3, 2] in the file"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`WeightsError::Mismatch`] lists all tensors that do not fit; others name the file and what was found in it.
pub fn load<M: Module>(module: M, source: &Source) -> Result<M, WeightsError> {
    let path = source.file()?;
    let format = Format::of(&path)?;
    let (tensors, found) = format.read(&path)?;
    let mut tensors = source.renamed(tensors)?;
    let layout = if source.layout == Layout::Auto { found } else { source.layout };
    let pytorch = layout == Layout::PyTorch;

    let expected = module.collect(None, None, pytorch);
    let element = expected.iter().map(|tensor| tensor.dtype).find(DType::is_float).unwrap_or(DType::F32);
    let expected: Shapes = shapes(&expected);
    if pytorch {
        tensors = without_gaps(tensors, &expected);
        tensors.retain(|tensor| {
            expected.contains_key(&tensor.name) || !tensor.name.ends_with("num_batches_tracked")
        });
    }
    let given = shapes(&tensors);
    distinct(&tensors, &path)?;

    // Half-precision files would otherwise leave the module with mixed element types.
    let cast = FloatCastAdapter::to(element);
    let adapter: Box<dyn ModuleAdapter> =
        if pytorch { Box::new(PyTorchToBurnAdapter.chain(cast)) } else { Box::new(cast) };
    let mut applier = Applier::new(tensors, None, Some(adapter), pytorch);
    let module = module.map(&mut applier);
    let mismatch = mismatch(applier.into_result(), &expected, &given, source.allow_unused);
    if mismatch.is_empty() { Ok(module) } else { Err(WeightsError::Mismatch { path, mismatch }) }
}

type Shapes = BTreeMap<String, Vec<usize>>;

fn shapes(tensors: &[Tensor]) -> Shapes {
    tensors.iter().map(|tensor| (tensor.name.clone(), tensor.shape.to_vec())).collect()
}

fn distinct(tensors: &[Tensor], path: &Path) -> Result<(), WeightsError> {
    let mut seen = std::collections::BTreeSet::new();
    match tensors.iter().find(|tensor| !seen.insert(&tensor.name)) {
        None => Ok(()),
        Some(tensor) => Err(WeightsError::Duplicate { path: path.to_owned(), name: tensor.name.clone() }),
    }
}

/// Renumbers lists with gaps, as PyTorch's `Sequential` has them where a layer without parameters stands, unless the module has the
/// numbers as they are.
fn without_gaps(tensors: Vec<Tensor>, expected: &Shapes) -> Vec<Tensor> {
    let entries = |name: &str, prefix: &str| -> Option<String> {
        let rest = name.strip_prefix(prefix)?.strip_prefix('.')?;
        let index = rest.split('.').next()?;
        index.parse::<usize>().ok().map(|_| format!("{prefix}.{index}."))
    };
    let names: Vec<String> = tensors.iter().map(|tensor| tensor.name.clone()).collect();
    let module_has = |entry: String| expected.keys().any(|name| name.starts_with(&entry));
    let keep = |prefix: &str| names.iter().filter_map(|name| entries(name, prefix)).all(module_has);
    map_indices_contiguous_except(tensors, keep).0
}

fn mismatch(result: ApplyResult, expected: &Shapes, given: &Shapes, allow_unused: bool) -> Mismatch {
    let with_shape = |names: Vec<String>, shapes: &Shapes| -> Vec<_> {
        let shape = |name: &String| shapes.get(name).cloned().unwrap_or_default();
        names.into_iter().map(|name| (name.clone(), shape(&name))).collect()
    };
    let mut mismatch = Mismatch {
        missing: with_shape(result.missing.into_iter().map(|(name, _)| name).collect(), expected),
        unexpected: if allow_unused { Vec::new() } else { with_shape(result.unused, given) },
        ..Mismatch::default()
    };
    for error in result.errors {
        match error {
            ApplyError::ShapeMismatch { path, expected, found } => {
                mismatch.shapes.push((path, expected.to_vec(), found.to_vec()));
            }
            ApplyError::DTypeMismatch { path, expected, found } => {
                mismatch
                    .unusable
                    .push((path, format!("{expected:?} in the network and {found:?} in the file")));
            }
            ApplyError::AdapterError { path, message } | ApplyError::LoadError { path, message } => {
                mismatch.unusable.push((path, message));
            }
        }
    }
    mismatch
}
