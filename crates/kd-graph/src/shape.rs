//! Shapes in which the batch is a symbol.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Size of one axis: a number, or a multiple of the batch size.
///
/// ```
/// use kd_graph::Dim;
///
/// assert_eq!(Dim::Fixed(16).at(128), 16);
/// assert_eq!(Dim::Batch(2).at(128), 256); // two tokens an example, say, folded into the batch
/// assert_eq!(Dim::Batch(1).to_string(), "B");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dim {
    /// The same for every batch.
    Fixed(usize),
    /// This many times the batch size; at least 1.
    Batch(usize),
}

impl Dim {
    /// The size at a given batch size.
    pub fn at(self, batch: usize) -> usize {
        match self {
            Dim::Fixed(size) => size,
            Dim::Batch(times) => times.saturating_mul(batch),
        }
    }

    /// The number, unless it depends on the batch.
    pub fn fixed(self) -> Option<usize> {
        match self {
            Dim::Fixed(size) => Some(size),
            Dim::Batch(_) => None,
        }
    }

    /// Whether it depends on the batch.
    pub fn is_batch(self) -> bool {
        matches!(self, Dim::Batch(_))
    }

    /// The size that is `first` at one batch size and `second` at another, if it is a number or a multiple of the batch.
    pub fn between(first: usize, second: usize, batches: [usize; 2]) -> Option<Self> {
        let [small, large] = batches;
        if first == second {
            return Some(Dim::Fixed(first));
        }
        let times = first.checked_div(small)?;
        (times > 0 && times * small == first && times * large == second).then_some(Dim::Batch(times))
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(size) => write!(f, "{size}"),
            Dim::Batch(1) => f.write_str("B"),
            Dim::Batch(times) => write!(f, "{times}B"),
        }
    }
}

/// Size of every axis, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shape(Vec<Dim>);

impl Shape {
    /// A shape without batch.
    pub fn fixed(sizes: impl IntoIterator<Item = usize>) -> Self {
        sizes.into_iter().map(Dim::Fixed).collect()
    }

    /// The batch, then these sizes.
    pub fn batched(sizes: impl IntoIterator<Item = usize>) -> Self {
        [Dim::Batch(1)].into_iter().chain(sizes.into_iter().map(Dim::Fixed)).collect()
    }

    /// All axes.
    pub fn dims(&self) -> &[Dim] {
        &self.0
    }

    /// All axes, to be changed.
    pub(crate) fn dims_mut(&mut self) -> &mut [Dim] {
        &mut self.0
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// One axis, if there is such an axis.
    pub fn dim(&self, axis: usize) -> Option<Dim> {
        self.0.get(axis).copied()
    }

    /// The sizes at a given batch size.
    pub fn at(&self, batch: usize) -> Vec<usize> {
        self.0.iter().map(|dim| dim.at(batch)).collect()
    }

    /// Number of elements at a given batch size.
    pub fn elements(&self, batch: usize) -> usize {
        self.0.iter().map(|dim| dim.at(batch)).fold(1, usize::saturating_mul)
    }

    /// Whether any axis depends on the batch.
    pub fn has_batch(&self) -> bool {
        self.0.iter().any(|dim| dim.is_batch())
    }

    /// The number of elements as `(factor, power of the batch)`: two shapes hold the same number of elements at every batch size exactly
    /// when these are equal.
    pub fn volume(&self) -> (usize, usize) {
        self.0.iter().fold((1, 0), |(factor, power), dim| match *dim {
            Dim::Fixed(size) => (factor.saturating_mul(size), power),
            Dim::Batch(times) => (factor.saturating_mul(times), power + 1),
        })
    }

    /// The same shape with one axis of another size; an axis that does not exist changes nothing.
    #[must_use]
    pub fn with(mut self, axis: usize, dim: Dim) -> Self {
        if let Some(slot) = self.0.get_mut(axis) {
            *slot = dim;
        }
        self
    }
}

impl FromIterator<Dim> for Shape {
    fn from_iter<I: IntoIterator<Item = Dim>>(dims: I) -> Self {
        Self(dims.into_iter().collect())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (axis, dim) in self.0.iter().enumerate() {
            if axis > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{dim}")?;
        }
        f.write_str("]")
    }
}

/// What a tensor holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Floating point numbers, of the device's default precision unless cast.
    Float,
    /// Integers.
    Int,
    /// Truth values.
    Bool,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Float => "float",
            Kind::Int => "int",
            Kind::Bool => "bool",
        })
    }
}

/// What is known of a tensor before anything is run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TensorType {
    /// Floats, integers or truth values.
    pub kind: Kind,
    /// Size of every axis.
    pub shape: Shape,
}

impl TensorType {
    /// Floats of a shape.
    pub fn float(shape: Shape) -> Self {
        Self { kind: Kind::Float, shape }
    }

    /// Integers of a shape.
    pub fn int(shape: Shape) -> Self {
        Self { kind: Kind::Int, shape }
    }

    /// Truth values of a shape.
    pub fn bool(shape: Shape) -> Self {
        Self { kind: Kind::Bool, shape }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Float => write!(f, "{}", self.shape),
            kind => write!(f, "{kind} {}", self.shape),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_fixed_a_multiple_of_the_batch_or_neither() {
        assert_eq!(Dim::between(16, 16, [2, 3]), Some(Dim::Fixed(16)));
        assert_eq!(Dim::between(8, 12, [2, 3]), Some(Dim::Batch(4)));
        assert_eq!(Dim::between(3, 4, [2, 3]), None);
        assert_eq!(Dim::between(4, 9, [2, 3]), None);
        assert_eq!(Dim::between(0, 3, [2, 3]), None);
    }

    #[test]
    fn volumes_are_equal_when_shapes_hold_as_much_at_every_batch_size() {
        let folded: Shape = [Dim::Batch(4), Dim::Fixed(3)].into_iter().collect();
        assert_eq!(Shape::batched([3, 4]).volume(), folded.volume());
        assert_ne!(Shape::batched([3]).volume(), Shape::fixed([3]).volume());
        assert_eq!(Shape::batched([3, 4]).to_string(), "[B, 3, 4]");
    }
}
