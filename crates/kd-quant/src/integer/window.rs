//! How a window moves over an image.

use crate::QuantError;
use crate::error::in_range;

/// Stride, padding and dilation of a convolution's or pooling's window: vertical first, then horizontal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Step between places.
    pub stride: [usize; 2],
    /// Elements `(before, after)` each axis.
    pub padding: [(usize, usize); 2],
    /// Distance between the elements of the window; 1 is dense.
    pub dilation: [usize; 2],
}

impl Default for Window {
    /// Every place, no padding, dense.
    fn default() -> Self {
        Self { stride: [1; 2], padding: [(0, 0); 2], dilation: [1; 2] }
    }
}

impl Window {
    /// A dense window with the same padding before and after an axis.
    pub fn new(stride: [usize; 2], padding: [usize; 2]) -> Self {
        Self { stride, padding: padding.map(|p| (p, p)), ..Self::default() }
    }

    /// How many places a window of this size has on an image, down and across.
    ///
    /// # Errors
    /// [`QuantError::Setting`] for a stride or dilation of 0, [`QuantError::Shape`] for a window that is empty or larger than the padded image.
    pub fn places(&self, image: [usize; 2], kernel: [usize; 2]) -> Result<[usize; 2], QuantError> {
        in_range("stride", format!("{:?}", self.stride), !self.stride.contains(&0), "at least 1")?;
        in_range("dilation", format!("{:?}", self.dilation), !self.dilation.contains(&0), "at least 1")?;
        let along = |axis: usize| {
            let (before, after) = self.padding[axis];
            let reach = self.dilation[axis] * kernel[axis].checked_sub(1)? + 1;
            Some((image[axis] + before + after).checked_sub(reach)? / self.stride[axis] + 1)
        };
        match (along(0), along(1)) {
            (Some(down), Some(across)) => Ok([down, across]),
            _ => Err(QuantError::Shape {
                what: "the window",
                got: kernel.to_vec(),
                wanted: format!("at least 1x1 and no more than the padded {}x{} image", image[0], image[1]),
            }),
        }
    }

    /// Where element `k` of the window at a place lies along an axis of this size; `None` in the padding.
    pub fn inside(&self, axis: usize, place: usize, k: usize, size: usize) -> Option<usize> {
        let at = place * self.stride[axis] + k * self.dilation[axis];
        at.checked_sub(self.padding[axis].0).filter(|&i| i < size)
    }
}
