//! A tensor of any rank and kind, kept behind one type.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor};

/// What a [`Value`] holds: floats or integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Floating point numbers: logits, features, regression targets.
    Float,
    /// Integers: labels, token ids.
    Int,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Float => "float",
            Kind::Int => "int",
        })
    }
}

/// Why a [`Value`] could not be read as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The rank or kind asked for is not the one held.
    #[error(
        "asked for a {asked_kind} tensor of rank {asked_rank}, but it is a {kind} tensor of shape {shape:?}"
    )]
    Type {
        /// Kind asked for.
        asked_kind: Kind,
        /// Rank asked for.
        asked_rank: usize,
        /// Kind held.
        kind: Kind,
        /// Shape held.
        shape: Vec<usize>,
    },
    /// The class axis lies outside the shape.
    #[error("class axis {axis} does not exist in a tensor of shape {shape:?}")]
    Axis {
        /// The axis asked for; negative counts from the end.
        axis: isize,
        /// Shape held.
        shape: Vec<usize>,
    },
}

/// A tensor whose rank and kind are known at run time only.
///
/// Networks of any input and output rank meet the losses through this type. Cloning is cheap and keeps the autodiff graph.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_core::Value;
///
/// let value = Value::from(Tensor::<2>::zeros([4, 10], &Device::flex()));
/// assert_eq!(value.shape(), [4, 10]);
/// assert!(value.float::<2>().is_ok());
/// assert!(value.float::<4>().is_err());
/// ```
#[derive(Clone)]
pub struct Value(Arc<dyn Erased>);

/// The operations that need the rank, chosen when the value is made.
trait Erased: Send + Sync {
    fn any(&self) -> &dyn Any;
    fn kind(&self) -> Kind;
    fn shape(&self) -> Vec<usize>;
    fn device(&self) -> Device;
    fn inner(&self) -> Value;
    fn autodiff(&self) -> Value;
    /// `[rows, classes]`, the given axis moved to the end and all others flattened in order.
    fn rows(&self, axis: usize) -> Option<Tensor<2>>;
    /// All elements, in order.
    fn flat(&self) -> Flat;
}

/// A [`Value`] with all its axes flattened.
enum Flat {
    Float(Tensor<1>),
    Int(Tensor<1, Int>),
}

impl<const D: usize> Erased for Tensor<D> {
    fn any(&self) -> &dyn Any {
        self
    }
    fn kind(&self) -> Kind {
        Kind::Float
    }
    fn shape(&self) -> Vec<usize> {
        self.dims().to_vec()
    }
    fn device(&self) -> Device {
        Tensor::device(self)
    }
    fn inner(&self) -> Value {
        if self.is_autodiff() { self.clone().inner().into() } else { self.clone().into() }
    }
    fn autodiff(&self) -> Value {
        if self.is_autodiff() { self.clone().into() } else { self.clone().autodiff().into() }
    }
    fn rows(&self, axis: usize) -> Option<Tensor<2>> {
        let dims = self.dims();
        let classes = *dims.get(axis)?;
        let mut order = [0isize; D];
        let others = (0..D).filter(|&a| a != axis).chain([axis]);
        for (slot, a) in order.iter_mut().zip(others) {
            *slot = a as isize;
        }
        let rows = dims.iter().product::<usize>() / classes.max(1);
        let last = if axis + 1 == D { self.clone() } else { self.clone().permute(order) };
        Some(last.reshape([rows, classes]))
    }
    fn flat(&self) -> Flat {
        Flat::Float(self.clone().reshape([self.dims().iter().product::<usize>()]))
    }
}

impl<const D: usize> Erased for Tensor<D, Int> {
    fn any(&self) -> &dyn Any {
        self
    }
    fn kind(&self) -> Kind {
        Kind::Int
    }
    fn shape(&self) -> Vec<usize> {
        self.dims().to_vec()
    }
    fn device(&self) -> Device {
        Tensor::device(self)
    }
    fn inner(&self) -> Value {
        if self.is_autodiff() { self.clone().inner().into() } else { self.clone().into() }
    }
    fn autodiff(&self) -> Value {
        if self.is_autodiff() { self.clone().into() } else { self.clone().autodiff().into() }
    }
    fn rows(&self, _axis: usize) -> Option<Tensor<2>> {
        None
    }
    fn flat(&self) -> Flat {
        Flat::Int(self.clone().reshape([self.dims().iter().product::<usize>()]))
    }
}

impl<const D: usize> From<Tensor<D>> for Value {
    fn from(tensor: Tensor<D>) -> Self {
        Self(Arc::new(tensor))
    }
}

impl<const D: usize> From<Tensor<D, Int>> for Value {
    fn from(tensor: Tensor<D, Int>) -> Self {
        Self(Arc::new(tensor))
    }
}

impl<const D: usize> TryFrom<Value> for Tensor<D> {
    type Error = ValueError;
    fn try_from(value: Value) -> Result<Self, ValueError> {
        value.float()
    }
}

impl<const D: usize> TryFrom<Value> for Tensor<D, Int> {
    type Error = ValueError;
    fn try_from(value: Value) -> Result<Self, ValueError> {
        value.int()
    }
}

impl Value {
    /// Size of every axis; the first is the batch.
    pub fn shape(&self) -> Vec<usize> {
        self.0.shape()
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape().len()
    }

    /// Size of the first axis, 0 for a tensor without axes.
    pub fn batch(&self) -> usize {
        self.shape().first().copied().unwrap_or(0)
    }

    /// Floats or integers.
    pub fn kind(&self) -> Kind {
        self.0.kind()
    }

    /// Where the tensor lives.
    pub fn device(&self) -> Device {
        self.0.device()
    }

    /// The tensor as floats of rank `D`.
    ///
    /// # Errors
    /// [`ValueError::Type`] when the rank or the kind is another one.
    pub fn float<const D: usize>(&self) -> Result<Tensor<D>, ValueError> {
        self.cast(Kind::Float, D)
    }

    /// The tensor as integers of rank `D`.
    ///
    /// # Errors
    /// [`ValueError::Type`] when the rank or the kind is another one.
    pub fn int<const D: usize>(&self) -> Result<Tensor<D, Int>, ValueError> {
        self.cast(Kind::Int, D)
    }

    /// Scores as `[rows, classes]`: `class_axis` becomes the last axis, all others are flattened in order.
    /// Negative axes count from the end, so `-1` suits `[batch, class]` and `[batch, token, class]`, and `1` suits pixels `[batch, class, h, w]`.
    ///
    /// # Errors
    /// [`ValueError::Axis`] when there is no such axis, [`ValueError::Type`] for integers.
    pub fn rows(&self, class_axis: isize) -> Result<Tensor<2>, ValueError> {
        let shape = self.shape();
        let axis = if class_axis < 0 { class_axis + shape.len() as isize } else { class_axis };
        let axis = usize::try_from(axis).ok().filter(|&a| a < shape.len());
        let axis = axis.ok_or(ValueError::Axis { axis: class_axis, shape })?;
        self.0.rows(axis).ok_or_else(|| self.wrong(Kind::Float, self.rank()))
    }

    /// All floats in one row.
    ///
    /// # Errors
    /// [`ValueError::Type`] for integers.
    pub fn flat_float(&self) -> Result<Tensor<1>, ValueError> {
        match self.0.flat() {
            Flat::Float(tensor) => Ok(tensor),
            Flat::Int(_) => Err(self.wrong(Kind::Float, 1)),
        }
    }

    /// All integers in one row, in the order of [`rows`](Self::rows).
    ///
    /// # Errors
    /// [`ValueError::Type`] for floats.
    pub fn flat_int(&self) -> Result<Tensor<1, Int>, ValueError> {
        match self.0.flat() {
            Flat::Int(tensor) => Ok(tensor),
            Flat::Float(_) => Err(self.wrong(Kind::Int, 1)),
        }
    }

    /// Features as `[batch, features]`.
    ///
    /// # Errors
    /// [`ValueError::Type`] for integers or a tensor without axes.
    pub fn per_sample(&self) -> Result<Tensor<2>, ValueError> {
        let shape = self.shape();
        let batch = shape.first().copied().ok_or_else(|| self.wrong(Kind::Float, 2))?;
        let features = shape.iter().skip(1).product();
        Ok(self.flat_float()?.reshape([batch, features]))
    }

    /// Features as maps `[batch, channel, h, w]`; vectors `[batch, feature]` become maps of one position.
    ///
    /// # Errors
    /// [`ValueError::Type`] for integers or another rank.
    pub fn as_map(&self) -> Result<Tensor<4>, ValueError> {
        if self.rank() == 2 {
            return Ok(self.float::<2>()?.unsqueeze_dims(&[2, 3]));
        }
        self.float()
    }

    /// The same numbers without gradient, off the autodiff device.
    #[must_use]
    pub fn inner(&self) -> Self {
        self.0.inner()
    }

    /// The same numbers on the autodiff device; gradients do not flow into what made them.
    #[must_use]
    pub fn autodiff(&self) -> Self {
        self.0.autodiff()
    }

    fn cast<T: Clone + 'static>(&self, kind: Kind, rank: usize) -> Result<T, ValueError> {
        self.0.any().downcast_ref::<T>().cloned().ok_or_else(|| self.wrong(kind, rank))
    }

    fn wrong(&self, asked_kind: Kind, asked_rank: usize) -> ValueError {
        ValueError::Type { asked_kind, asked_rank, kind: self.kind(), shape: self.shape() }
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
        assert!(error.contains("int tensor of rank 1") && error.contains("[2, 3, 4]"), "{error}");
    }

    #[test]
    fn rows_puts_the_class_axis_last_and_keeps_the_order_of_the_others() {
        let device = Device::flex();
        let pixels = Tensor::<1, Int>::arange(0..12, &device).float().reshape([1, 3, 2, 2]);
        let rows = Value::from(pixels).rows(1).unwrap();
        let expected = [0., 4., 8., 1., 5., 9., 2., 6., 10., 3., 7., 11.];
        assert_eq!(rows.dims(), [4, 3]);
        assert_eq!(rows.into_data().try_to_vec::<f32>().unwrap(), expected);
    }

    #[test]
    fn vectors_are_maps_of_one_position() {
        let value = Value::from(Tensor::<2>::zeros([2, 3], &Device::flex()));
        assert_eq!(value.as_map().unwrap().dims(), [2, 3, 1, 1]);
        assert!(Value::from(Tensor::<3>::zeros([2, 3, 4], &Device::flex())).as_map().is_err());
    }

    #[test]
    fn an_axis_outside_the_shape_is_an_error() {
        let value = Value::from(Tensor::<2>::zeros([2, 3], &Device::flex()));
        assert_eq!(value.rows(2).unwrap_err(), ValueError::Axis { axis: 2, shape: vec![2, 3] });
        assert_eq!(value.rows(-3).unwrap_err(), ValueError::Axis { axis: -3, shape: vec![2, 3] });
    }
}
