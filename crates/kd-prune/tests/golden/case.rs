//! One recorded case: inputs, hyper-parameters and the numbers a public implementation gave.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use kd_prune::{Array, Arrays, Mask};
use serde::Deserialize;
use serde_json::Value as Json;

use crate::steps::{Module, Step};

/// Why a case failed or could not run.
pub type Failure = String;

#[derive(Deserialize)]
pub struct Case {
    #[serde(rename = "case")]
    pub name: String,
    pub source: String,
    pub params: Json,
    pub inputs: Json,
    pub expected: Json,
    /// Where the file lies.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// What the importer of symbolic traces asks for.
impl Case {
    pub fn graph(&self) -> Result<Vec<Step>, Failure> {
        parse(&self.params, &["graph"])
    }

    pub fn modules(&self) -> Result<Vec<Module>, Failure> {
        parse(&self.params, &["modules"])
    }

    pub fn input(&self, name: &str) -> Result<Vec<usize>, Failure> {
        Ok(self.given(name)?.shape().to_vec())
    }

    pub fn weight(&self, folder: &Path, name: &str) -> Result<Vec<usize>, Failure> {
        let weights = self.weights(folder)?;
        let found = weights.get(name).ok_or_else(|| format!("`{name}` is not among the weights"))?;
        Ok(found.shape().to_vec())
    }

    /// The weights beside the case.
    pub fn weights(&self, folder: &Path) -> Result<Arrays, Failure> {
        let path = folder.join(parse::<String>(&self.params, &["weights_file"])?);
        let bytes = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let tensors = safetensors::SafeTensors::deserialize(&bytes);
        let tensors = tensors.map_err(|error| format!("{}: {error}", path.display()))?;
        let tensors = tensors.tensors().into_iter().filter(|(_, t)| t.dtype() == safetensors::Dtype::F32);
        let read = |(name, tensor): (String, safetensors::tensor::TensorView<'_>)| {
            let values = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            Ok((name, Array::new(tensor.shape(), values.collect()).map_err(text)?))
        };
        tensors.map(read).collect()
    }
}

/// Any error as a text.
pub fn text(error: impl std::fmt::Display) -> Failure {
    error.to_string()
}

/// A field by a path of keys, which are not split at dots.
pub fn field<'a>(json: &'a Json, keys: &[&str]) -> Result<&'a Json, Failure> {
    keys.iter().try_fold(json, |json, key| json.get(key).ok_or_else(|| format!("`{key}` is missing")))
}

pub fn parse<T: for<'a> Deserialize<'a>>(json: &Json, keys: &[&str]) -> Result<T, Failure> {
    T::deserialize(field(json, keys)?).map_err(|error| format!("{keys:?}: {error}"))
}

/// A tensor.
pub fn array(json: &Json) -> Result<Array, Failure> {
    #[derive(Deserialize)]
    struct Tensor {
        shape: Vec<usize>,
        data: Vec<f64>,
    }
    let tensor = Tensor::deserialize(json).map_err(text)?;
    Array::new(tensor.shape, tensor.data.into_iter().map(|x| x as f32).collect()).map_err(text)
}

/// A table of tensors.
pub fn arrays(json: &Json) -> Result<Arrays, Failure> {
    let table = json.as_object().ok_or("a table of tensors is wanted")?;
    table.iter().map(|(name, json)| Ok((name.clone(), array(json)?))).collect()
}

/// A number, bare or as a tensor.
pub fn number(json: &Json) -> Result<f64, Failure> {
    if let Some(number) = json.as_f64() {
        return Ok(number);
    }
    array(json)?.values().first().map(|x| f64::from(*x)).ok_or_else(|| "an empty tensor".to_owned())
}

impl Case {
    pub fn is(&self, source: &str, name: &str) -> bool {
        self.source.contains(source) && self.name.starts_with(name)
    }

    pub fn unknown<T>(&self) -> Result<T, Failure> {
        Err(format!("no function is known for a name that starts so, and source `{}`", self.source))
    }

    pub fn given(&self, name: &str) -> Result<Array, Failure> {
        array(field(&self.inputs, &[name])?)
    }

    pub fn expected(&self, name: &str) -> Result<Array, Failure> {
        array(field(&self.expected, &[name])?)
    }

    pub fn param(&self, name: &str) -> Result<f64, Failure> {
        parse(&self.params, &[name])
    }

    /// A tensor for a device.
    pub fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Result<Tensor<D>, Failure> {
        Ok(Tensor::from_data(self.given(name)?.to_data(), device))
    }

    /// Class numbers.
    pub fn labels(&self, name: &str, device: &Device) -> Result<Tensor<1, Int>, Failure> {
        let labels: Vec<i64> = self.given(name)?.values().iter().map(|x| *x as i64).collect();
        Ok(Tensor::from_data(TensorData::from(labels.as_slice()), device))
    }

    /// `max |a - b| <= tolerance * max(1, max |b|)`, or relative to `max |b|` alone.
    pub fn close(&self, what: &str, ours: &Array, tolerance: f64, relative: bool) -> Result<(), Failure> {
        close(what, ours, &self.expected(what)?, tolerance, relative)
    }

    /// A mask, exactly.
    pub fn same_mask(&self, what: &str, ours: &Mask) -> Result<(), Failure> {
        same_mask(what, ours, &self.expected(what)?)
    }
}

pub fn close(
    what: &str,
    ours: &Array,
    theirs: &Array,
    tolerance: f64,
    relative: bool,
) -> Result<(), Failure> {
    if ours.shape() != theirs.shape() {
        return Err(format!("{what} has shape {:?}, recorded is {:?}", ours.shape(), theirs.shape()));
    }
    let size = theirs.values().iter().fold(0.0f64, |m, x| m.max(f64::from(x.abs())));
    let size = if relative { if size == 0.0 { 1.0 } else { size } } else { size.max(1.0) };
    let off = |(a, b): (&f32, &f32)| if a == b { 0.0 } else { (f64::from(*a) - f64::from(*b)).abs() };
    let error = ours
        .values()
        .iter()
        .zip(theirs.values())
        .map(off)
        .fold(0.0f64, |m, e| if e.is_nan() { f64::INFINITY } else { m.max(e) });
    if error <= tolerance * size {
        return Ok(());
    }
    let first = (ours.values().first(), theirs.values().first());
    Err(format!("{what} is off by {:.2e} of its size (first: ours, recorded {first:?})", error / size))
}

pub fn same_mask(what: &str, ours: &Mask, theirs: &Array) -> Result<(), Failure> {
    if ours.shape() != theirs.shape() {
        return Err(format!("{what} has shape {:?}, recorded is {:?}", ours.shape(), theirs.shape()));
    }
    let differ = ours.keep().iter().zip(theirs.values()).filter(|(a, b)| **a != (**b != 0.0)).count();
    if differ == 0 { Ok(()) } else { Err(format!("{what} differs in {differ} of {} elements", theirs.len())) }
}
