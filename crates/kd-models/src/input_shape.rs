//! The shape of one image.

use std::fmt;

/// The shape of one image: what a model is built for.
///
/// ```
/// use kd_models::InputShape;
///
/// assert_eq!(InputShape::new(3, 32, 32).to_string(), "3x32x32");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputShape {
    /// Colour channels: 1 for grey, 3 for RGB.
    pub channels: usize,
    /// Rows of pixels.
    pub height: usize,
    /// Columns of pixels.
    pub width: usize,
}

impl InputShape {
    /// MNIST and Fashion-MNIST.
    pub const MNIST: Self = Self::new(1, 28, 28);
    /// CIFAR-10 and CIFAR-100.
    pub const CIFAR: Self = Self::new(3, 32, 32);

    /// Channels, height, width.
    pub const fn new(channels: usize, height: usize, width: usize) -> Self {
        Self { channels, height, width }
    }

    /// Numbers in one image.
    pub const fn len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Whether an image of this shape holds no number.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for InputShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.channels, self.height, self.width)
    }
}
