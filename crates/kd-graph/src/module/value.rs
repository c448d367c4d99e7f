//! A tensor whose rank and kind are known at run time only.

use std::fmt;

use burn::backend::ops::{BoolTensorOps, FloatTensorOps, IntTensorOps};
use burn::backend::{Dispatch, DispatchAutodiffContext, DispatchTensor, TensorMetadata};
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};

use super::ValueError;
use crate::{Kind, TensorMap, Tensors};

/// A tensor of any rank and kind, over burn's rank-free primitive. Cloning is cheap and keeps the autodiff graph.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_graph::{Kind, Value};
///
/// let value = Value::from(Tensor::<2>::zeros([4, 10], &Device::flex()));
/// assert_eq!((value.kind(), value.shape()), (Kind::Float, vec![4, 10]));
/// assert_eq!(value.float::<2>()?.dims(), [4, 10]);
/// assert!(value.float::<4>().is_err());
/// # Ok::<(), kd_graph::ValueError>(())
/// ```
#[derive(Clone)]
pub enum Value {
    /// Floating point numbers.
    Float(DispatchTensor),
    /// Integers.
    Int(DispatchTensor),
    /// Truth values.
    Bool(DispatchTensor),
}

impl Value {
    /// Every tensor of a value, in order: what a traced forward pass takes or gives, as a graph takes or gives it.
    ///
    /// ```
    /// # use burn::tensor::{Device, Int, Tensor};
    /// # use kd_graph::Value;
    /// # let device = Device::flex();
    /// let (image, tokens) = (Tensor::<4>::zeros([2, 3, 8, 8], &device), Tensor::<2, Int>::zeros([2, 5], &device));
    /// assert_eq!(Value::all((image, tokens))[1].shape(), [2, 5]);
    /// ```
    pub fn all(tensors: impl Tensors) -> Vec<Self> {
        let mut collect = Collect(Vec::new());
        let _ = tensors.map(&mut collect);
        collect.0
    }

    /// What it holds.
    pub fn kind(&self) -> Kind {
        match self {
            Value::Float(_) => Kind::Float,
            Value::Int(_) => Kind::Int,
            Value::Bool(_) => Kind::Bool,
        }
    }

    /// Size of every axis.
    pub fn shape(&self) -> Vec<usize> {
        self.primitive().shape().to_vec()
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.primitive().shape().len()
    }

    /// Where it lives.
    pub fn device(&self) -> Device {
        Device::new(self.primitive().device())
    }

    /// Whether it lives on an autodiff device, tracked or not.
    pub fn is_autodiff(&self) -> bool {
        is_autodiff(self.primitive())
    }

    /// The tensor as floats of rank `D`.
    ///
    /// # Errors
    /// [`ValueError`] when the kind or the rank is another one.
    pub fn float<const D: usize>(&self) -> Result<Tensor<D>, ValueError> {
        self.of(Kind::Float, D).map(Tensor::from_dispatch)
    }

    /// The tensor as integers of rank `D`.
    ///
    /// # Errors
    /// [`ValueError`] when the kind or the rank is another one.
    pub fn int<const D: usize>(&self) -> Result<Tensor<D, Int>, ValueError> {
        self.of(Kind::Int, D).map(Tensor::from_dispatch)
    }

    /// The tensor as truth values of rank `D`.
    ///
    /// # Errors
    /// [`ValueError`] when the kind or the rank is another one.
    pub fn bool<const D: usize>(&self) -> Result<Tensor<D, Bool>, ValueError> {
        self.of(Kind::Bool, D).map(Tensor::from_dispatch)
    }

    /// Copies the numbers from the device.
    ///
    /// # Errors
    /// [`ValueError::Read`] when the device has failed.
    pub fn data(&self) -> Result<TensorData, ValueError> {
        let shape = self.primitive().shape();
        let row = [shape.num_elements()].into();
        let data = match self.clone() {
            Value::Float(t) => Tensor::<1>::from_dispatch(Dispatch::float_reshape(t, row)).try_into_data(),
            Value::Int(t) => Tensor::<1, Int>::from_dispatch(Dispatch::int_reshape(t, row)).try_into_data(),
            Value::Bool(t) => {
                Tensor::<1, Bool>::from_dispatch(Dispatch::bool_reshape(t, row)).try_into_data()
            }
        };
        let (bytes, _, dtype) =
            data.map_err(|error| ValueError::Read { reason: error.to_string() })?.into_parts();
        Ok(TensorData::from_bytes(bytes, shape, dtype))
    }

    /// A tensor of any rank on a device, in the precision of its kind that is the device's default.
    pub fn from_data(data: TensorData, device: &Device) -> Self {
        let dtype = data.dtype();
        let settings = device.settings();
        let on = device.as_dispatch();
        if dtype.is_float() {
            let data = data.convert_dtype(settings.float_dtype.into());
            Value::Float(Dispatch::float_from_data(data, on))
        } else if matches!(dtype, DType::Bool(_)) {
            let data = data.convert_dtype(settings.bool_dtype.into());
            Value::Bool(Dispatch::bool_from_data(data, on))
        } else {
            let data = data.convert_dtype(settings.int_dtype.into());
            Value::Int(Dispatch::int_from_data(data, on))
        }
    }

    /// The same numbers on another device.
    pub(crate) fn to_device(&self, device: &Device) -> Self {
        let on = device.as_dispatch();
        match self.clone() {
            Value::Float(t) => Value::Float(Dispatch::float_to_device(t, on)),
            Value::Int(t) => Value::Int(Dispatch::int_to_device(t, on)),
            Value::Bool(t) => Value::Bool(Dispatch::bool_to_device(t, on)),
        }
    }

    /// burn's tensor without rank and kind.
    pub(crate) fn primitive(&self) -> &DispatchTensor {
        match self {
            Value::Float(tensor) | Value::Int(tensor) | Value::Bool(tensor) => tensor,
        }
    }

    /// burn's tensor without rank and kind.
    pub(crate) fn into_primitive(self) -> DispatchTensor {
        match self {
            Value::Float(tensor) | Value::Int(tensor) | Value::Bool(tensor) => tensor,
        }
    }

    fn of(&self, kind: Kind, rank: usize) -> Result<DispatchTensor, ValueError> {
        if (self.kind(), self.rank()) == (kind, rank) {
            return Ok(self.primitive().clone());
        }
        Err(ValueError::Type { asked: kind, asked_rank: rank, kind: self.kind(), shape: self.shape() })
    }
}

/// Whether a tensor lives on an autodiff device, tracked or not.
pub(super) fn is_autodiff(tensor: &DispatchTensor) -> bool {
    tensor.autodiff != DispatchAutodiffContext::Disabled
}

struct Collect(Vec<Value>);

impl TensorMap for Collect {
    fn float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
        self.0.push(tensor.clone().into());
        tensor
    }

    fn int<const D: usize>(&mut self, tensor: Tensor<D, Int>) -> Tensor<D, Int> {
        self.0.push(tensor.clone().into());
        tensor
    }

    fn bool<const D: usize>(&mut self, tensor: Tensor<D, Bool>) -> Tensor<D, Bool> {
        self.0.push(tensor.clone().into());
        tensor
    }
}

impl<const D: usize> From<Tensor<D>> for Value {
    fn from(tensor: Tensor<D>) -> Self {
        match tensor.dtype() {
            DType::QFloat(_) => Value::Float(tensor.dequantize().into_dispatch()),
            _ => Value::Float(tensor.into_dispatch()),
        }
    }
}

impl<const D: usize> From<Tensor<D, Int>> for Value {
    fn from(tensor: Tensor<D, Int>) -> Self {
        Value::Int(tensor.into_dispatch())
    }
}

impl<const D: usize> From<Tensor<D, Bool>> for Value {
    fn from(tensor: Tensor<D, Bool>) -> Self {
        Value::Bool(tensor.into_dispatch())
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({} {:?})", self.kind(), self.shape())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reading_another_rank_or_kind_is_an_error_that_names_both() {
        let value = Value::from(Tensor::<3>::zeros([2, 3, 4], &Device::flex()));
        let error = value.int::<1>().unwrap_err().to_string();
        assert!(error.contains("int tensor of rank 1") && error.contains("float tensor of shape [2, 3, 4]"));
    }

    #[test]
    fn data_keeps_shape_and_numbers_of_every_kind() {
        let device = Device::flex();
        let int = Tensor::<2, Int>::from_data([[1, 2], [3, 4]], &device);
        let data = Value::from(int.clone()).data().unwrap();
        assert_eq!(data, int.clone().into_data());
        let bool = int.greater_elem(2);
        assert_eq!(Value::from(bool.clone()).data().unwrap(), bool.into_data());
    }

    #[test]
    fn a_tensor_made_of_data_takes_the_precision_of_the_device() {
        let device = Device::flex();
        let value = Value::from_data(TensorData::from([[1.0f64, 2.0]]), &device);
        assert_eq!(value.float::<2>().unwrap().dtype(), DType::F32);
        assert!(!value.is_autodiff());
        let value = Value::from_data(TensorData::from([true, false]), &device.autodiff());
        assert_eq!(value.kind(), Kind::Bool);
    }
}
