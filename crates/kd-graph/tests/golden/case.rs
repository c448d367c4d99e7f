//! The format of a case.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::steps::{Module, Step};

/// Why a case failed.
pub type Failure = String;

#[derive(Debug, Deserialize)]
pub struct Case {
    #[serde(rename = "case")]
    pub name: String,
    params: Value,
    inputs: BTreeMap<String, Tensor>,
    expected: Value,
}

#[derive(Debug, Deserialize)]
struct Tensor {
    shape: Vec<usize>,
}

/// A group as the reference lists it.
#[derive(Debug, Deserialize)]
pub struct Group {
    pub root: String,
    pub size: usize,
    pub members: Vec<Member>,
}

#[derive(Debug, Deserialize)]
pub struct Member {
    pub layer: String,
    pub dim: String,
    pub count: usize,
    pub index_range: (usize, usize),
}

impl Case {
    /// Whether groups are asked for.
    pub fn has_groups(&self) -> bool {
        self.expected.get("groups").is_some()
    }

    pub fn groups(&self) -> Result<Vec<Group>, Failure> {
        parse(&self.expected, "groups")
    }

    pub fn graph(&self) -> Result<Vec<Step>, Failure> {
        parse(&self.params, "graph")
    }

    pub fn modules(&self) -> Result<Vec<Module>, Failure> {
        parse(&self.params, "modules")
    }

    pub fn ignored_layers(&self) -> Result<Vec<String>, Failure> {
        parse(&self.params, "ignored_layers")
    }

    /// The shape of an input, the batch being its first axis.
    pub fn input(&self, name: &str) -> Result<&[usize], Failure> {
        let input = self.inputs.get(name).ok_or_else(|| format!("inputs.{name} is missing"))?;
        Ok(&input.shape)
    }

    /// The shape of a tensor of the file that holds the weights.
    pub fn weight(&self, folder: &Path, name: &str) -> Result<Vec<usize>, Failure> {
        let file: String = parse(&self.params, "weights_file")?;
        let path = folder.join(file);
        let bytes = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let tensors = safetensors::SafeTensors::deserialize(&bytes);
        let tensors = tensors.map_err(|error| format!("{}: {error}", path.display()))?;
        let tensor = tensors.tensor(name).map_err(|error| format!("{}: {name}: {error}", path.display()))?;
        Ok(tensor.shape().to_vec())
    }
}

fn parse<T: for<'de> Deserialize<'de>>(value: &Value, key: &str) -> Result<T, Failure> {
    let field = value.get(key).ok_or_else(|| format!("{key} is missing"))?;
    T::deserialize(field).map_err(|error| format!("{key}: {error}"))
}

pub fn read(path: &Path) -> Result<Vec<Case>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Names of the JSON files beside the family's.
pub fn other_families(folder: &Path, family: &str) -> Vec<String> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let json = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let names = json.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
    let mut names: Vec<_> = names.filter(|name| name != family).collect();
    names.sort();
    names
}
