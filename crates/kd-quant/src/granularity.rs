//! How many elements share a scale.

use std::fmt;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::QuantError;

/// Which elements of a tensor share a scale: these make a block.
///
/// Every quantiser works on the matrix `[blocks, elements]` that [`split`](Self::split) gives, and keeps its scales as `[blocks]`, so that none knows of
/// ranks or axes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Granularity {
    /// One block.
    #[default]
    Tensor,
    /// One block for each index of an axis: axis 0 of a convolution's weight `[out, in, h, w]`, axis 1 of a linear weight `[in, out]`.
    Channel {
        /// The axis.
        axis: usize,
    },
    /// Blocks of `size` neighbours within each index of the axis, in the order in which the other axes lie (Q-BERT's groups).
    Group {
        /// The axis.
        axis: usize,
        /// How many elements share a scale.
        size: usize,
    },
}

impl fmt::Display for Granularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Granularity::Tensor => write!(f, "tensor"),
            Granularity::Channel { axis } => write!(f, "channel (axis {axis})"),
            Granularity::Group { axis, size } => write!(f, "groups of {size} (axis {axis})"),
        }
    }
}

impl Granularity {
    fn axis(self) -> usize {
        match self {
            Granularity::Tensor => 0,
            Granularity::Channel { axis } | Granularity::Group { axis, .. } => axis,
        }
    }

    /// How many blocks a tensor of this shape has.
    ///
    /// # Errors
    /// [`QuantError::Blocks`] for an axis that the shape hasn't, or groups that do not divide it; [`QuantError::Empty`] without elements.
    pub fn blocks(self, shape: &[usize]) -> Result<usize, QuantError> {
        let elements: usize = shape.iter().product();
        if elements == 0 {
            return Err(QuantError::Empty { what: "the tensor" });
        }
        let refuse = |why: String| QuantError::Blocks { shape: shape.to_vec(), granularity: self, why };
        let channels = |axis: usize| {
            shape.get(axis).copied().ok_or_else(|| refuse(format!("it has {} axes", shape.len())))
        };
        match self {
            Granularity::Tensor => Ok(1),
            Granularity::Channel { axis } => channels(axis),
            Granularity::Group { axis, size } => {
                let row = elements / channels(axis)?;
                if size == 0 || !row.is_multiple_of(size) {
                    return Err(refuse(format!("{size} does not divide the {row} elements of a channel")));
                }
                Ok(elements / size)
            }
        }
    }

    /// The tensor as `[blocks, elements]`, on the tape.
    ///
    /// # Errors
    /// As [`blocks`](Self::blocks).
    pub fn split<const D: usize>(self, x: Tensor<D>) -> Result<Tensor<2>, QuantError> {
        let shape = x.dims();
        let blocks = self.blocks(&shape)?;
        let elements = shape.iter().product::<usize>() / blocks;
        let x = if self.axis() == 0 { x } else { x.swap_dims(0, self.axis()) };
        Ok(x.reshape([blocks, elements]))
    }

    /// The way back from [`split`](Self::split) to `shape`.
    pub fn join<const D: usize>(self, blocks: Tensor<2>, shape: [usize; D]) -> Tensor<D> {
        let axis = self.axis();
        if axis == 0 || axis >= D {
            return blocks.reshape(shape);
        }
        let mut swapped = shape;
        swapped.swap(0, axis);
        blocks.reshape(swapped).swap_dims(0, axis)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Int};

    #[test]
    fn joining_undoes_splitting_for_every_axis() {
        let x = Tensor::<1, Int>::arange(0..24, &Device::flex()).float().reshape([2, 3, 4]);
        let all = [
            Granularity::Tensor,
            Granularity::Channel { axis: 0 },
            Granularity::Channel { axis: 1 },
            Granularity::Channel { axis: 2 },
            Granularity::Group { axis: 1, size: 4 },
        ];
        for granularity in all {
            let back = granularity.join(granularity.split(x.clone()).unwrap(), x.dims());
            assert_eq!(back.into_data(), x.to_data(), "{granularity}");
        }
    }

    #[test]
    fn a_block_holds_one_channel() {
        let x = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, 4.0]], &Device::flex());
        let split = Granularity::Channel { axis: 1 }.split(x).unwrap();
        assert_eq!(split.into_data().try_to_vec::<f32>().unwrap(), [1.0, 3.0, 2.0, 4.0]);
    }

    #[test]
    fn what_does_not_divide_is_named() {
        let error = Granularity::Group { axis: 0, size: 5 }.blocks(&[2, 9]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a tensor of shape [2, 9] can't be cut by groups of 5 (axis 0): 5 does not divide the 9 elements of a channel"
        );
        assert!(Granularity::Channel { axis: 2 }.blocks(&[2, 9]).is_err());
        assert!(Granularity::Tensor.blocks(&[2, 0]).is_err());
    }
}
