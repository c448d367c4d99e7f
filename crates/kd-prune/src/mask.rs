//! Which weights are kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Array, PruneError};

/// For every parameter that is pruned, by path, which of its elements are kept.
pub type Masks = BTreeMap<String, Mask>;

/// Which elements of a tensor are kept.
///
/// ```
/// use kd_prune::{Array, Mask};
///
/// let mask = Mask::new([2, 2], vec![true, false, false, true])?;
/// let weight = Array::new([2, 2], vec![1.0, 2.0, 3.0, 4.0])?;
/// assert_eq!(mask.apply(&weight)?.values(), [1.0, 0.0, 0.0, 4.0]);
/// assert_eq!((mask.kept(), mask.sparsity()), (2, 0.5));
/// # Ok::<(), kd_prune::PruneError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Packed", into = "Packed")]
pub struct Mask {
    shape: Vec<usize>,
    keep: Vec<bool>,
}

impl Mask {
    /// Truth values under a shape; true is kept.
    ///
    /// # Errors
    /// [`PruneError::Shape`] when the shape holds another number of elements.
    pub fn new(shape: impl Into<Vec<usize>>, keep: Vec<bool>) -> Result<Self, PruneError> {
        let shape = shape.into();
        if shape.iter().product::<usize>() == keep.len() {
            return Ok(Self { shape, keep });
        }
        let reason = format!("does not hold {} elements", keep.len());
        Err(PruneError::Shape { what: "a mask".to_owned(), shape, reason })
    }

    /// Everything is kept.
    pub fn dense(shape: &[usize]) -> Self {
        Self { shape: shape.to_vec(), keep: vec![true; shape.iter().product()] }
    }

    /// What is not zero is kept.
    pub fn of_nonzeros(array: &Array) -> Self {
        Self {
            shape: array.shape().to_vec(),
            keep: array.values().iter().map(|value| *value != 0.0).collect(),
        }
    }

    /// Size of every axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// True for what is kept, in row-major order.
    pub fn keep(&self) -> &[bool] {
        &self.keep
    }

    /// Number of kept elements.
    pub fn kept(&self) -> usize {
        self.keep.iter().filter(|keep| **keep).count()
    }

    /// Share of pruned elements; 0 for an empty tensor.
    pub fn sparsity(&self) -> f64 {
        if self.keep.is_empty() { 0.0 } else { 1.0 - self.kept() as f64 / self.keep.len() as f64 }
    }

    /// Ones and zeros.
    pub fn to_array(&self) -> Array {
        let ones = self.keep.iter().map(|&keep| f32::from(u8::from(keep))).collect();
        // The lengths agree by construction.
        Array::new(self.shape.clone(), ones).unwrap_or_else(|_| Array::empty())
    }

    /// Zeros in place of what is pruned; an infinite or undefined weight becomes zero too.
    ///
    /// # Errors
    /// [`PruneError::Shape`] for a tensor of another shape.
    pub fn apply(&self, array: &Array) -> Result<Array, PruneError> {
        array.zip(&self.to_array(), |value, keep| if keep == 0.0 { 0.0 } else { value })
    }
}

/// A mask in a file: eight elements a byte, the first in the lowest bit, as hexadecimal digits.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Packed {
    shape: Vec<usize>,
    bits: String,
}

impl From<Mask> for Packed {
    fn from(mask: Mask) -> Self {
        let byte =
            |bits: &[bool]| bits.iter().enumerate().fold(0u8, |byte, (at, bit)| byte | u8::from(*bit) << at);
        let bits = mask.keep.chunks(8).map(|bits| format!("{:02x}", byte(bits))).collect();
        Self { shape: mask.shape, bits }
    }
}

impl TryFrom<Packed> for Mask {
    type Error = PruneError;

    fn try_from(packed: Packed) -> Result<Self, PruneError> {
        let elements = packed.shape.iter().try_fold(1usize, |all, size| all.checked_mul(*size));
        let elements = elements.filter(|n| packed.bits.is_ascii() && packed.bits.len() == n.div_ceil(8) * 2);
        let digits = |count| PruneError::Shape {
            what: "a saved mask".to_owned(),
            shape: packed.shape.clone(),
            reason: format!("does not fit its {count} hexadecimal digits"),
        };
        let elements = elements.ok_or_else(|| digits(packed.bits.len()))?;
        let mut keep = Vec::with_capacity(elements);
        for place in 0..packed.bits.len() / 2 {
            let byte = packed.bits.get(2 * place..2 * place + 2);
            let byte = byte.and_then(|digits| u8::from_str_radix(digits, 16).ok());
            let byte = byte.ok_or_else(|| digits(packed.bits.len()))?;
            keep.extend((0..8).map(|at| byte >> at & 1 == 1));
        }
        keep.truncate(elements);
        Self::new(packed.shape, keep)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_pruned_infinity_is_zero_and_not_undefined() {
        let mask = Mask::new([2], vec![false, true]).unwrap();
        let array = Array::new([2], vec![f32::INFINITY, 3.0]).unwrap();
        assert_eq!(mask.apply(&array).unwrap().values(), [0.0, 3.0]);
    }

    #[test]
    fn a_mask_of_another_shape_is_refused() {
        assert!(Mask::dense(&[2, 2]).apply(&Array::new([4], vec![0.0; 4]).unwrap()).is_err());
        assert!(Mask::new([3], vec![true]).is_err());
    }

    #[test]
    fn a_saved_mask_comes_back_and_a_cut_one_is_refused() {
        let mask = Mask::new([3, 7], (0..21).map(|i| i % 4 == 1).collect()).unwrap();
        let text = serde_json::to_string(&mask).unwrap();
        assert_eq!(serde_json::from_str::<Mask>(&text).unwrap(), mask);
        for bad in
            [r#"{"shape":[8],"bits":""}"#, r#"{"shape":[8],"bits":"zz"}"#, r#"{"shape":[9],"bits":"ff"}"#]
        {
            assert!(serde_json::from_str::<Mask>(bad).is_err(), "{bad}");
        }
    }
}
