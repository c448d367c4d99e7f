//! Arguments of one call.

use burn::backend::DispatchTensor;

use super::super::Value;

/// Why an operation refused its arguments, in words.
pub(in super::super) type Reason = String;

/// Arguments, taken one after the other.
pub(in super::super) struct Args {
    values: std::vec::IntoIter<Value>,
}

impl Args {
    pub(in super::super) fn new(values: Vec<Value>) -> Self {
        Self { values: values.into_iter() }
    }

    /// The next argument.
    pub(super) fn any(&mut self) -> Result<Value, Reason> {
        self.values.next().ok_or_else(|| "an argument is missing".to_owned())
    }

    /// The next argument, which must be floats.
    pub(in super::super) fn float(&mut self) -> Result<DispatchTensor, Reason> {
        match self.any()? {
            Value::Float(tensor) => Ok(tensor),
            other => Err(format!("an argument holds {} instead of float", other.kind())),
        }
    }

    /// The next argument, which must be integers.
    pub(super) fn int(&mut self) -> Result<DispatchTensor, Reason> {
        match self.any()? {
            Value::Int(tensor) => Ok(tensor),
            other => Err(format!("an argument holds {} instead of int", other.kind())),
        }
    }

    /// The next argument, which must be truth values.
    pub(super) fn bool(&mut self) -> Result<DispatchTensor, Reason> {
        match self.any()? {
            Value::Bool(tensor) => Ok(tensor),
            other => Err(format!("an argument holds {} instead of bool", other.kind())),
        }
    }

    /// The next argument, if there is one: floats.
    pub(in super::super) fn optional_float(&mut self) -> Result<Option<DispatchTensor>, Reason> {
        if self.values.len() == 0 { Ok(None) } else { self.float().map(Some) }
    }

    /// All that are left.
    pub(super) fn rest(self) -> Vec<Value> {
        self.values.collect()
    }
}
