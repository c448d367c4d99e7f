//! A tensor on its way through an integer network.

use burn::tensor::{Device, TensorData};
use kd_graph::Value;

use crate::integer::epilogue::Finished;
use crate::integer::{Format, dequantize};

/// Codes on the host, or what an operation without integer form reads and gives.
#[derive(Clone, Debug)]
pub(super) enum Cell {
    Codes(Codes),
    Plain(Value),
}

#[derive(Clone, Debug)]
pub(super) struct Codes {
    pub values: Vec<i32>,
    pub shape: Vec<usize>,
    pub format: Format,
}

impl Codes {
    /// The sizes of images.
    pub fn images(&self) -> Result<[usize; 4], String> {
        let shape = self.shape.as_slice();
        shape.try_into().map_err(|_| format!("{shape:?} is no batch of images"))
    }
}

impl Cell {
    /// What an epilogue gave, in a shape.
    pub fn finished(finished: Finished, shape: Vec<usize>, device: &Device) -> Self {
        match finished {
            Finished::Codes(values, format) => Cell::Codes(Codes { values, shape, format }),
            Finished::Float(values) => Cell::Plain(Value::from_data(TensorData::new(values, shape), device)),
        }
    }

    pub fn codes(&self) -> Result<&Codes, String> {
        match self {
            Cell::Codes(codes) => Ok(codes),
            Cell::Plain(value) => Err(format!("codes were expected, not a tensor of {}", value.kind())),
        }
    }

    /// The numbers that codes stand for.
    pub fn value(&self, device: &Device) -> Value {
        match self {
            Cell::Plain(value) => value.clone(),
            Cell::Codes(Codes { values, shape, format }) => {
                let values: Vec<f32> = values.iter().map(|&code| dequantize(code, format.codes)).collect();
                Value::from_data(TensorData::new(values, shape.clone()), device)
            }
        }
    }
}

/// A float tensor's numbers.
pub(super) fn numbers(value: &Value) -> Result<Vec<f32>, String> {
    let data = value.data().map_err(|error| error.to_string())?;
    Ok(data.iter::<f32>().collect())
}
