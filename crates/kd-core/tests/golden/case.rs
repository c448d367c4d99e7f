//! One recorded case: inputs, hyper-parameters and the numbers a public implementation gave.

use std::cell::RefCell;
use std::collections::BTreeMap;

use burn::tensor::{Device, Int, Tensor};
use kd_core::Value;
use serde::Deserialize;
use serde_json::Value as Json;

/// Why a case failed or could not run.
pub type Failure = String;

/// Relative tolerance of losses and gradients in float32.
const TOLERANCE: f64 = 1e-5;

#[derive(Deserialize)]
pub struct Case {
    #[serde(rename = "case")]
    pub name: String,
    pub source: String,
    params: Json,
    inputs: BTreeMap<String, Input>,
    expected: BTreeMap<String, Json>,
    #[serde(skip)]
    leaves: RefCell<BTreeMap<String, Tensor<1>>>,
}

#[derive(Clone, Deserialize)]
struct Input {
    shape: Vec<usize>,
    data: Vec<f64>,
}

impl Case {
    /// The device all cases run on.
    pub fn device(&self) -> Device {
        Device::flex().autodiff()
    }

    /// Whether the name starts with `words` and the source's path ends in `file`.
    pub fn is(&self, file: &str, words: &str) -> bool {
        let path = self.source.split('@').next().unwrap_or_default();
        path.ends_with(file) && self.name.starts_with(words)
    }

    /// A case whose function is not known.
    pub fn unknown<T>(&self) -> Result<T, Failure> {
        Err(format!("no function is known for source `{}` and a name that starts so", self.source))
    }

    pub fn has(&self, input: &str) -> bool {
        self.inputs.contains_key(input)
    }

    pub fn inputs(&self) -> Vec<&str> {
        self.inputs.keys().map(String::as_str).collect()
    }

    pub fn rank(&self, input: &str) -> Result<usize, Failure> {
        Ok(self.input(input)?.shape.len())
    }

    /// A float input that takes part in the gradient check; asking twice gives the same leaf.
    pub fn leaf<const D: usize>(&self, name: &str) -> Result<Tensor<D>, Failure> {
        let shape = shape::<D>(name, &self.input(name)?.shape)?;
        let flat = self.flat(name)?;
        let mut leaves = self.leaves.borrow_mut();
        let leaf = leaves.entry(name.to_owned()).or_insert_with(|| flat.require_grad());
        Ok(leaf.clone().reshape(shape))
    }

    /// A float input without gradient.
    pub fn constant<const D: usize>(&self, name: &str) -> Result<Tensor<D>, Failure> {
        let shape = shape::<D>(name, &self.input(name)?.shape)?;
        Ok(self.flat(name)?.reshape(shape))
    }

    /// As [`leaf`](Self::leaf), of rank 1 to 4.
    pub fn leaf_value(&self, name: &str) -> Result<Value, Failure> {
        Ok(match self.rank(name)? {
            1 => self.leaf::<1>(name)?.into(),
            2 => self.leaf::<2>(name)?.into(),
            3 => self.leaf::<3>(name)?.into(),
            _ => self.leaf::<4>(name)?.into(),
        })
    }

    /// As [`constant`](Self::constant), of rank 1 to 4.
    pub fn constant_value(&self, name: &str) -> Result<Value, Failure> {
        Ok(match self.rank(name)? {
            1 => self.constant::<1>(name)?.into(),
            2 => self.constant::<2>(name)?.into(),
            3 => self.constant::<3>(name)?.into(),
            _ => self.constant::<4>(name)?.into(),
        })
    }

    /// Labels of any rank in one row.
    pub fn labels(&self) -> Result<Tensor<1, Int>, Failure> {
        let data: Vec<i64> = self.input("labels")?.data.iter().map(|&x| x as i64).collect();
        Ok(Tensor::from_ints(data.as_slice(), &self.device()))
    }

    fn flat(&self, name: &str) -> Result<Tensor<1>, Failure> {
        let data: Vec<f32> = self.input(name)?.data.iter().map(|&x| x as f32).collect();
        Ok(Tensor::from_floats(data.as_slice(), &self.device()))
    }

    /// An integer input.
    pub fn ints<const D: usize>(&self, name: &str) -> Result<Tensor<D, Int>, Failure> {
        let input = self.input(name)?;
        let shape = shape::<D>(name, &input.shape)?;
        let data: Vec<i64> = input.data.iter().map(|&x| x as i64).collect();
        Ok(Tensor::<1, Int>::from_ints(data.as_slice(), &self.device()).reshape(shape))
    }

    /// A hyper-parameter, where the case gives one; null counts as absent.
    pub fn param(&self, key: &str) -> Option<&Json> {
        self.params.get(key).filter(|value| !value.is_null())
    }

    /// The hyper-parameter in the type that `read` finds, if there is one.
    fn optional<'a, T>(
        &'a self,
        key: &str,
        kind: &str,
        read: impl Fn(&'a Json) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        let wrong = |value| format!("params.{key} is {value}, not {kind}");
        self.param(key).map(|value| read(value).ok_or_else(|| wrong(value))).transpose()
    }

    pub fn number(&self, key: &str) -> Result<f64, Failure> {
        self.optional_number(key)?.ok_or_else(|| missing(key))
    }

    pub fn optional_number(&self, key: &str) -> Result<Option<f64>, Failure> {
        self.optional(key, "a number", Json::as_f64)
    }

    pub fn text(&self, key: &str) -> Result<&str, Failure> {
        self.optional_text(key)?.ok_or_else(|| missing(key))
    }

    pub fn optional_text(&self, key: &str) -> Result<Option<&str>, Failure> {
        self.optional(key, "a text", Json::as_str)
    }

    pub fn flag(&self, key: &str) -> Result<bool, Failure> {
        self.optional(key, "a boolean", Json::as_bool)?.ok_or_else(|| missing(key))
    }

    pub fn numbers(&self, key: &str) -> Result<Vec<f64>, Failure> {
        self.optional_numbers(key)?.ok_or_else(|| missing(key))
    }

    pub fn optional_numbers(&self, key: &str) -> Result<Option<Vec<f64>>, Failure> {
        let numbers = |list: &Json| list.as_array()?.iter().map(Json::as_f64).collect();
        self.optional(key, "a list of numbers", numbers)
    }

    /// Compares the loss and the gradient of every input that has a recorded one.
    pub fn check(&self, loss: Tensor<1>) -> Result<(), Failure> {
        let expected = self.expected.get("loss").and_then(Json::as_f64).ok_or("expected.loss is missing")?;
        let value = f64::from(loss.clone().into_scalar::<f32>());
        close("loss", &[value as f32], &[expected])?;
        let Some(grads) = self.expected.get("grads") else { return Ok(()) };
        let recorded: BTreeMap<String, Input> = parse("grads", grads)?;
        let grads = if loss.is_tracked() { Some(loss.backward()) } else { None };
        let leaves = self.leaves.borrow();
        for (name, recorded) in recorded {
            let leaf = leaves.get(&name).ok_or_else(|| format!("the gradient of `{name}` is not checked"))?;
            let gradient = grads.as_ref().and_then(|grads| leaf.grad(grads));
            let gradient = gradient.and_then(|gradient| gradient.into_data().try_to_vec::<f32>().ok());
            let gradient = gradient.unwrap_or_else(|| vec![0.0; recorded.data.len()]);
            close(&format!("gradient of `{name}`"), &gradient, &recorded.data)?;
        }
        Ok(())
    }

    /// Whether a further output is recorded.
    pub fn records(&self, key: &str) -> bool {
        self.expected.contains_key(key)
    }

    /// Compares a further recorded output: a tensor, a list of numbers or a number.
    pub fn check_output<const D: usize>(&self, key: &str, value: &Tensor<D>) -> Result<(), Failure> {
        let recorded = self.expected.get(key).ok_or_else(|| format!("expected.{key} is missing"))?;
        let recorded = match recorded {
            Json::Object(_) => parse::<Input>(key, recorded)?.data,
            Json::Array(_) => parse(key, recorded)?,
            _ => vec![parse(key, recorded)?],
        };
        let value = value.clone().into_data().try_to_vec::<f32>().map_err(|e| format!("{e:?}"))?;
        close(key, &value, &recorded)
    }

    fn input(&self, name: &str) -> Result<&Input, Failure> {
        let missing = || format!("there is no input `{name}`; there are {:?}", self.inputs());
        let input = self.inputs.get(name).ok_or_else(missing)?;
        let (size, numbers) = (input.shape.iter().product::<usize>(), input.data.len());
        if size != numbers {
            return Err(format!("input `{name}` of shape {:?} holds {numbers} numbers", input.shape));
        }
        Ok(input)
    }
}

fn missing(key: &str) -> Failure {
    format!("params.{key} is missing")
}

fn parse<T: for<'a> Deserialize<'a>>(key: &str, value: &Json) -> Result<T, Failure> {
    T::deserialize(value).map_err(|error| format!("expected.{key}: {error}"))
}

fn shape<const D: usize>(name: &str, shape: &[usize]) -> Result<[usize; D], Failure> {
    shape.try_into().map_err(|_| format!("input `{name}` has shape {shape:?}, rank {D} is needed"))
}

/// `max|a - b| <= tolerance * max|b|`, absolute where the recorded numbers are (all but) zero.
fn close(what: &str, ours: &[f32], recorded: &[f64]) -> Result<(), Failure> {
    if ours.len() != recorded.len() {
        return Err(format!("{what} has {} numbers, recorded are {}", ours.len(), recorded.len()));
    }
    if let Some(bad) = ours.iter().find(|x| !x.is_finite()) {
        return Err(format!("{what} holds {bad}"));
    }
    let size = recorded.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let size = if size < 1e-6 { 1.0 } else { size };
    let error = ours.iter().zip(recorded).fold(0.0f64, |m, (a, b)| m.max((f64::from(*a) - b).abs()));
    if error <= TOLERANCE * size {
        return Ok(());
    }
    let (ours, recorded) = (ours.first(), recorded.first());
    Err(format!(
        "{what} is off by {:.2e} of its size (first: ours {ours:?}, recorded {recorded:?})",
        error / size
    ))
}
