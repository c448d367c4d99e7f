//! Between tensors and plain numbers.

use burn::tensor::{Device, Tensor, TensorData};

use crate::QuantError;

/// A tensor's numbers, row-major.
pub(crate) fn numbers<const D: usize>(what: &'static str, x: Tensor<D>) -> Result<Vec<f32>, QuantError> {
    let read = |why: String| QuantError::Read { what, why };
    let data = x.try_into_data().map_err(|error| read(error.to_string()))?;
    data.convert::<f32>().try_into_vec().map_err(|error| read(format!("{error:?}")))
}

/// As [`numbers`], every one finite.
pub(crate) fn finite<const D: usize>(what: &'static str, x: Tensor<D>) -> Result<Vec<f32>, QuantError> {
    let values = numbers(what, x)?;
    check_finite(what, &values)?;
    Ok(values)
}

/// An error that names the first value which is not finite, or that there is none at all.
pub(crate) fn check_finite(what: &'static str, values: &[f32]) -> Result<(), QuantError> {
    if values.is_empty() {
        return Err(QuantError::Empty { what });
    }
    match values.iter().position(|v| !v.is_finite()) {
        Some(index) => Err(QuantError::NonFinite { what, value: values[index], index }),
        None => Ok(()),
    }
}

/// Numbers as a tensor. The caller has counted them.
pub(crate) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}
