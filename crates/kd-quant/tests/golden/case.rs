//! One recorded case: inputs, hyper-parameters and the numbers a public implementation gave.

use burn::tensor::{Device, Gradients, Tensor};
use serde::Deserialize;
use serde_json::Value as Json;

/// Why a case failed or could not run.
pub type Failure = String;

#[derive(Deserialize)]
pub struct Case {
    #[serde(rename = "case")]
    pub name: String,
    params: Json,
    inputs: Json,
    pub expected: Json,
}

/// Numbers of a tensor, a list or a bare number.
pub fn numbers(json: &Json) -> Option<Vec<f64>> {
    match json {
        Json::Object(_) => numbers(json.get("data")?),
        Json::Array(list) => list.iter().map(number).collect(),
        _ => Some(vec![number(json)?]),
    }
}

fn number(json: &Json) -> Option<f64> {
    match json {
        Json::String(word) => word.parse().ok(),
        _ => json.as_f64(),
    }
}

fn f32s(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

impl Case {
    /// The device all cases run on.
    pub fn device(&self) -> Device {
        Device::flex().autodiff()
    }

    /// A hyper-parameter, where the case gives one; null counts as absent.
    pub fn param(&self, key: &str) -> Option<&Json> {
        self.params.get(key).filter(|value| !value.is_null())
    }

    pub fn number(&self, key: &str) -> Result<f64, Failure> {
        self.param(key).and_then(number).ok_or_else(|| format!("params.{key} is no number"))
    }

    pub fn bits(&self, key: &str) -> Result<u32, Failure> {
        Ok(self.number(key)? as u32)
    }

    pub fn flag(&self, key: &str) -> Result<bool, Failure> {
        self.param(key).and_then(Json::as_bool).ok_or_else(|| format!("params.{key} is no flag"))
    }

    /// A hyper-parameter that recorders put in `params`, or at the end of the case's name: `larq_ste_sign_clip_1.25`.
    pub fn setting(&self, key: &str, prefix: &str) -> Result<f64, Failure> {
        let named = || self.name.strip_prefix(prefix)?.trim_start_matches('_').parse().ok();
        let found = self.param(key).and_then(number).or_else(named);
        found.ok_or_else(|| format!("neither params.{key} nor the name behind `{prefix}` is a number"))
    }

    /// The numbers at the end of the names of expected results that begin so, ascending: 1 and 100 of `B_sum_epoch1`, `B_sum_epoch100`.
    pub fn numbered(&self, prefix: &str) -> Result<Vec<usize>, Failure> {
        let names = self.expected.as_object().into_iter().flat_map(|results| results.keys());
        let mut found: Vec<usize> =
            names.filter_map(|name| name.strip_prefix(prefix)?.parse().ok()).collect();
        found.sort_unstable();
        if found.is_empty() {
            Err(format!("nothing is expected of `{prefix}` and a number"))
        } else {
            Ok(found)
        }
    }

    pub fn has(&self, input: &str) -> bool {
        self.inputs.get(input).is_some()
    }

    /// An input's numbers, row-major.
    pub fn values(&self, name: &str) -> Result<Vec<f64>, Failure> {
        self.inputs.get(name).and_then(numbers).ok_or_else(|| format!("there is no input `{name}`"))
    }

    pub fn ints(&self, name: &str) -> Result<Vec<i32>, Failure> {
        Ok(self.values(name)?.into_iter().map(|v| v as i32).collect())
    }

    pub fn scalar(&self, name: &str) -> Result<f64, Failure> {
        self.values(name)?.first().copied().ok_or_else(|| format!("input `{name}` is empty"))
    }

    /// An input's shape.
    pub fn shape(&self, name: &str) -> Result<Vec<usize>, Failure> {
        let list = self.inputs.get(name).and_then(|input| input.get("shape")?.as_array());
        let list = list.ok_or_else(|| format!("input `{name}` has no shape"))?;
        Ok(list.iter().filter_map(Json::as_u64).map(|d| d as usize).collect())
    }

    /// An input's rows, if it has two axes.
    pub fn rows(&self, name: &str) -> Result<Vec<Vec<f64>>, Failure> {
        let shape = self.shape(name)?;
        let width = *shape.get(1).ok_or_else(|| format!("input `{name}` is no matrix"))?;
        Ok(self.values(name)?.chunks(width).map(<[f64]>::to_vec).collect())
    }

    /// A float input, its shape filled up to four axes by ones at the end.
    pub fn tensor(&self, name: &str) -> Result<Tensor<4>, Failure> {
        let mut shape = [1; 4];
        for (to, from) in shape.iter_mut().zip(self.shape(name)?) {
            *to = from;
        }
        Ok(self.flat(name)?.reshape(shape))
    }

    /// As [`tensor`](Self::tensor), with a gradient.
    pub fn leaf(&self, name: &str) -> Result<Tensor<4>, Failure> {
        Ok(self.tensor(name)?.detach().require_grad())
    }

    /// A float input in one row.
    pub fn flat(&self, name: &str) -> Result<Tensor<1>, Failure> {
        Ok(self.row(&self.values(name)?))
    }

    pub fn row(&self, values: &[f64]) -> Tensor<1> {
        Tensor::from_floats(f32s(values).as_slice(), &self.device())
    }

    /// Numbers as a leaf of one axis.
    pub fn row_leaf(&self, values: &[f64]) -> Tensor<1> {
        self.row(values).require_grad()
    }

    /// An expected result's numbers.
    pub fn wanted(&self, name: &str) -> Result<Vec<f64>, Failure> {
        self.expected.get(name).and_then(numbers).ok_or_else(|| format!("nothing is expected of `{name}`"))
    }

    /// A list of expected rows.
    pub fn expected_rows(&self, name: &str) -> Result<&Vec<Json>, Failure> {
        self.expected.get(name).and_then(Json::as_array).ok_or_else(|| format!("expected.{name} is no list"))
    }

    /// Within `tolerance * max(1, max |wanted|)`.
    pub fn near(&self, name: &str, got: &[f64], tolerance: f64) -> Result<(), Failure> {
        close(name, got, &self.wanted(name)?, tolerance, 1.0)
    }

    /// Within `tolerance * max |wanted|`.
    pub fn relative(&self, name: &str, got: &[f64], tolerance: f64) -> Result<(), Failure> {
        close(name, got, &self.wanted(name)?, tolerance, 0.0)
    }

    /// A result of four axes within 1e-6.
    pub fn value(&self, name: &str, got: &Tensor<4>) -> Result<(), Failure> {
        self.near(name, &read(got), 1e-6)
    }

    /// The gradients of `y` for the incoming gradient that the case gives.
    pub fn backward(&self, y: &Tensor<4>, upstream: &str) -> Result<Gradients, Failure> {
        let upstream = self.tensor(upstream)?;
        Ok((y.clone() * upstream).sum().backward())
    }

    /// A leaf's gradient within 1e-4, relative.
    pub fn gradient<const D: usize>(
        &self,
        name: &str,
        leaf: &Tensor<D>,
        gradients: &Gradients,
    ) -> Result<(), Failure> {
        let gradient = leaf.grad(gradients).ok_or_else(|| format!("`{name}`: no gradient"))?;
        self.relative(name, &read(&gradient), 1e-4)
    }
}

/// A tensor's numbers.
pub fn read<const D: usize>(x: &Tensor<D>) -> Vec<f64> {
    x.to_data().iter::<f64>().collect()
}

/// Numbers as f64.
pub fn wide<T: Copy + Into<f64>>(values: &[T]) -> Vec<f64> {
    values.iter().map(|&v| v.into()).collect()
}

/// Whether all numbers lie within a tolerance times the largest wanted magnitude, or `least` if that is more.
pub fn close(name: &str, got: &[f64], wanted: &[f64], tolerance: f64, least: f64) -> Result<(), Failure> {
    if got.len() != wanted.len() {
        return Err(format!("{name}: {} numbers instead of {}", got.len(), wanted.len()));
    }
    let largest = wanted.iter().filter(|w| w.is_finite()).fold(least, |m, w| m.max(w.abs()));
    for (i, (g, w)) in got.iter().zip(wanted).enumerate() {
        if g != w && ((g - w).abs() > tolerance * largest || g.is_nan()) {
            return Err(format!("{name}[{i}] is {g}, not {w} (tolerance {tolerance:e}, largest {largest})"));
        }
    }
    Ok(())
}

/// The library's error as a failure.
pub fn ok<T, E: std::fmt::Display>(result: Result<T, E>) -> Result<T, Failure> {
    result.map_err(|error| error.to_string())
}
