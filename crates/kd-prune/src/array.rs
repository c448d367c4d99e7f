//! A float tensor on the host, of any rank.

use burn::tensor::TensorData;
use serde::{Deserialize, Serialize};

use crate::PruneError;

/// Numbers in row-major order with a shape. Scores and weights are looked at here, off the device: choosing what to prune is sorting, which
/// happens once in a while, not in every step.
///
/// ```
/// use kd_prune::Array;
///
/// let array = Array::new([2, 3], vec![1.0, -2.0, 3.0, -4.0, 5.0, -6.0])?;
/// assert_eq!(array.map(f32::abs).values(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
/// assert!(Array::new([2, 2], vec![0.0]).is_err());
/// # Ok::<(), kd_prune::PruneError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Packed", into = "Packed")]
pub struct Array {
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Array {
    /// Numbers under a shape.
    ///
    /// # Errors
    /// [`PruneError::Shape`] when the shape holds another number of elements.
    pub fn new(shape: impl Into<Vec<usize>>, values: Vec<f32>) -> Result<Self, PruneError> {
        let shape = shape.into();
        if shape.iter().product::<usize>() == values.len() {
            return Ok(Self { shape, values });
        }
        let reason = format!("does not hold {} numbers", values.len());
        Err(PruneError::Shape { what: "an array".to_owned(), shape, reason })
    }

    /// No elements at all.
    pub(crate) fn empty() -> Self {
        Self { shape: vec![0], values: Vec::new() }
    }

    /// A tensor's numbers, in single precision.
    ///
    /// # Errors
    /// [`PruneError::Shape`] for a tensor that does not hold floats or integers.
    pub fn from_data(data: &TensorData) -> Result<Self, PruneError> {
        let shape = data.shape().to_vec();
        let values = data.clone().convert::<f32>().try_to_vec::<f32>();
        let values = values.map_err(|error| PruneError::Shape {
            what: "a tensor".to_owned(),
            shape: shape.clone(),
            reason: format!("can't be read as floats: {error:?}"),
        })?;
        Self::new(shape, values)
    }

    /// The tensor, for a device or a graph.
    pub fn to_data(&self) -> TensorData {
        TensorData::new(self.values.clone(), self.shape.clone())
    }

    /// Size of every axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The numbers.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The same shape with other numbers.
    #[must_use]
    pub fn map(&self, change: impl Fn(f32) -> f32) -> Self {
        Self { shape: self.shape.clone(), values: self.values.iter().map(|&value| change(value)).collect() }
    }

    /// As [`map`](Self::map), for a function that remembers what it has seen; it is called in row-major order.
    #[must_use]
    pub(crate) fn map_in_order(&self, change: impl FnMut(f32) -> f32) -> Self {
        Self { shape: self.shape.clone(), values: self.values.iter().copied().map(change).collect() }
    }

    /// Combines two arrays element by element.
    ///
    /// # Errors
    /// [`PruneError::Shape`] when the shapes differ.
    pub fn zip(&self, other: &Self, combine: impl Fn(f32, f32) -> f32) -> Result<Self, PruneError> {
        if self.shape != other.shape {
            return Err(PruneError::Shape {
                what: "an array".to_owned(),
                shape: other.shape.clone(),
                reason: format!("does not fit one of shape {:?}", self.shape),
            });
        }
        let values = self.values.iter().zip(&other.values).map(|(&a, &b)| combine(a, b)).collect();
        Ok(Self { shape: self.shape.clone(), values })
    }

    /// For every element, its index along an axis; none if there is no such axis.
    pub fn along(&self, axis: usize) -> Option<impl Iterator<Item = usize> + use<>> {
        let size = *self.shape.get(axis)?;
        let step: usize = self.shape.iter().skip(axis + 1).product();
        Some((0..self.values.len()).map(move |flat| flat / step.max(1) % size.max(1)))
    }

    /// The sum over all axes but one of a function of every element; none if there is no such axis.
    pub fn sums(&self, axis: usize, of: impl Fn(f32) -> f64) -> Option<Vec<f64>> {
        let mut sums = vec![0.0; *self.shape.get(axis)?];
        for (index, value) in self.along(axis)?.zip(&self.values) {
            if let Some(sum) = sums.get_mut(index) {
                *sum += of(*value);
            }
        }
        Some(sums)
    }
}

/// An array in a file: the bits of every number as eight hexadecimal digits, so that each comes back as it was.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Packed {
    shape: Vec<usize>,
    bits: String,
}

impl From<Array> for Packed {
    fn from(array: Array) -> Self {
        let bits = array.values.iter().map(|value| format!("{:08x}", value.to_bits())).collect();
        Self { shape: array.shape, bits }
    }
}

impl TryFrom<Packed> for Array {
    type Error = PruneError;

    fn try_from(packed: Packed) -> Result<Self, PruneError> {
        let digits = packed.bits.as_bytes().chunks(8).map(|digits| {
            let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.len() == 8)?;
            u32::from_str_radix(digits, 16).ok().map(f32::from_bits)
        });
        let values = digits.collect::<Option<Vec<f32>>>().ok_or_else(|| PruneError::Shape {
            what: "a saved array".to_owned(),
            shape: packed.shape.clone(),
            reason: "holds something else than eight hexadecimal digits a number".to_owned(),
        })?;
        Self::new(packed.shape, values)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sums_are_over_all_axes_but_the_one_named() {
        let array = Array::new([2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        assert_eq!(array.sums(0, f64::from).unwrap(), [6.0, 15.0]);
        assert_eq!(array.sums(1, f64::from).unwrap(), [5.0, 7.0, 9.0]);
        assert!(array.sums(2, f64::from).is_none());
    }

    #[test]
    fn a_tensor_survives_the_way_to_the_host_and_back() {
        let data = TensorData::from([[1.5f32, -0.0], [f32::MIN_POSITIVE, 4.0]]);
        assert_eq!(Array::from_data(&data).unwrap().to_data(), data);
    }

    #[test]
    fn a_saved_array_comes_back_bit_for_bit_and_a_damaged_one_is_refused() {
        let array = Array::new([2, 2], vec![0.1, -0.0, f32::INFINITY, f32::from_bits(1)]).unwrap();
        let text = serde_json::to_string(&array).unwrap();
        let read: Array = serde_json::from_str(&text).unwrap();
        let bits = |array: &Array| array.values().iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!((read.shape(), bits(&read)), (array.shape(), bits(&array)));
        for bad in [
            r#"{"shape":[1],"bits":"3f8"}"#,
            r#"{"shape":[1],"bits":"zzzzzzzz"}"#,
            r#"{"shape":[2],"bits":"3f800000"}"#,
        ] {
            assert!(serde_json::from_str::<Array>(bad).is_err(), "{bad}");
        }
    }
}
