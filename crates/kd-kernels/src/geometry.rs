//! Sizes of a two-dimensional convolution, checked once.

use crate::KernelError;
use crate::conv::plan::Plan;
use crate::error::{elements, geometry};

/// Sizes of a two-dimensional convolution (cross-correlation, as in every framework).
///
/// $$ y_{n,i,j,o} = b_o + \sum_{k,l,c} x_{n,\;i s_h - p_h + k d_h,\;j s_w - p_w + l d_w,\;c}\; w_{o,c,k,l} $$
///
/// A one-dimensional convolution is one with height 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2d {
    /// Images.
    pub batch: usize,
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Step of the kernel over the input; 1 visits every position.
    pub stride: [usize; 2],
    /// Zeros on either side.
    pub padding: [usize; 2],
    /// Distance between the kernel's elements; 1 leaves no holes.
    pub dilation: [usize; 2],
    /// Independent groups that both channel counts are divided into.
    pub groups: usize,
}

/// A [`Conv2d`] that has been checked, with the plans that the kernels follow. Worth keeping: a call
/// then allocates nothing.
///
/// ```
/// use kd_kernels::{Conv2d, Geometry};
///
/// let settings = Conv2d {
///     batch: 8,
///     input: [32, 32],
///     in_channels: 16,
///     out_channels: 32,
///     kernel: [3, 3],
///     stride: [2, 2],
///     padding: [1, 1],
///     dilation: [1, 1],
///     groups: 1,
/// };
/// let geometry = Geometry::new(settings)?;
/// assert_eq!(geometry.output(), [16, 16]);
/// assert_eq!(geometry.weight_len(), 32 * 16 * 9);
/// assert!(Geometry::new(Conv2d { groups: 3, ..settings }).is_err());
/// # Ok::<(), kd_kernels::KernelError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Geometry {
    settings: Conv2d,
    output: [usize; 2],
    forward: Plan,
    backward: Plan,
}

impl Geometry {
    /// Checks the sizes.
    ///
    /// # Errors
    /// [`KernelError::Geometry`] for a size of zero, channels that the groups don't divide, a kernel larger
    /// than the padded input, or tensors that can't be addressed.
    pub fn new(settings: Conv2d) -> Result<Self, KernelError> {
        let Conv2d { batch, input, in_channels, out_channels, kernel, stride, padding, dilation, groups } =
            settings;
        let one = "at least 1";
        geometry(batch > 0, "batch", batch, one)?;
        geometry(input.iter().all(|&n| n > 0), "input", input, one)?;
        geometry(kernel.iter().all(|&n| n > 0), "kernel", kernel, one)?;
        geometry(stride.iter().all(|&n| n > 0), "stride", stride, one)?;
        geometry(dilation.iter().all(|&n| n > 0), "dilation", dilation, one)?;
        geometry(groups > 0, "groups", groups, one)?;
        for (name, channels) in [("in_channels", in_channels), ("out_channels", out_channels)] {
            let allowed = || format!("a positive multiple of the {groups} groups");
            geometry(channels > 0 && channels % groups == 0, name, channels, allowed())?;
        }
        let mut output = [0; 2];
        for axis in 0..2 {
            // Within 32 bits nothing below overflows.
            let small = |n: usize| n <= u32::MAX as usize;
            let sizes = [input[axis], kernel[axis], stride[axis], padding[axis], dilation[axis]];
            geometry(sizes.into_iter().all(small), "a size along one axis", sizes, "below 2^32")?;
            let padded = input[axis] + 2 * padding[axis];
            let extent = (kernel[axis] - 1).saturating_mul(dilation[axis]).saturating_add(1);
            let allowed = || format!("at most the padded input, {padded}");
            geometry(extent <= padded, "the kernel's extent (with dilation)", extent, allowed())?;
            output[axis] = (padded - extent) / stride[axis] + 1;
        }
        let padded = [input[0] + 2 * padding[0], input[1] + 2 * padding[1]];
        elements(
            "input (padded, in blocks of 16 channels)",
            &[batch, padded[0], padded[1], in_channels, 16],
        )?;
        elements("output (in blocks of 16 channels)", &[batch, output[0], output[1], out_channels, 16])?;
        elements("weight", &[out_channels, in_channels, kernel[0], kernel[1], 16])?;
        let forward =
            Plan::winograd(&settings, output, false).unwrap_or_else(|| Plan::forward(&settings, output));
        let backward =
            Plan::winograd(&settings, output, true).unwrap_or_else(|| Plan::backward(&settings, output));
        Ok(Self { settings, output, forward, backward })
    }

    /// The sizes it was made from.
    #[must_use]
    pub const fn settings(&self) -> &Conv2d {
        &self.settings
    }

    /// Height and width of the output.
    #[must_use]
    pub const fn output(&self) -> [usize; 2] {
        self.output
    }

    /// Numbers in the input, `[batch, height, width, in_channels]`.
    #[must_use]
    pub const fn input_len(&self) -> usize {
        let s = &self.settings;
        s.batch * s.input[0] * s.input[1] * s.in_channels
    }

    /// Numbers in the output, `[batch, height, width, out_channels]`.
    #[must_use]
    pub const fn output_len(&self) -> usize {
        self.settings.batch * self.output[0] * self.output[1] * self.settings.out_channels
    }

    /// Numbers in the weight, `[out_channels, in_channels / groups, height, width]`.
    #[must_use]
    pub const fn weight_len(&self) -> usize {
        let s = &self.settings;
        s.out_channels * (s.in_channels / s.groups) * s.kernel[0] * s.kernel[1]
    }

    /// Multiplications and additions of one pass (forward; either gradient has as many), padding included.
    #[must_use]
    pub const fn operations(&self) -> usize {
        2 * self.settings.batch * self.output[0] * self.output[1] * self.weight_len()
    }

    /// How the forward pass is computed, and the weight gradient beside it.
    pub(crate) const fn forward_plan(&self) -> &Plan {
        &self.forward
    }

    /// How the input gradient is computed.
    pub(crate) const fn backward_plan(&self) -> &Plan {
        &self.backward
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const BASE: Conv2d = Conv2d {
        batch: 2,
        input: [7, 9],
        in_channels: 4,
        out_channels: 6,
        kernel: [3, 2],
        stride: [2, 1],
        padding: [1, 0],
        dilation: [1, 3],
        groups: 2,
    };

    #[test]
    fn the_output_size_follows_the_formula() {
        let g = Geometry::new(BASE).unwrap();
        assert_eq!(g.output(), [(7 + 2 - 3) / 2 + 1, (9 - 4) + 1]);
        assert_eq!((g.input_len(), g.output_len(), g.weight_len()), (504, 2 * 4 * 6 * 6, 6 * 2 * 6));
        assert_eq!(g.operations(), 2 * 2 * 24 * 72);
    }

    #[test]
    fn impossible_sizes_are_errors_that_name_the_value() {
        for (settings, text) in [
            (Conv2d { batch: 0, ..BASE }, "batch is 0"),
            (Conv2d { stride: [1, 0], ..BASE }, "stride is [1, 0]"),
            (Conv2d { out_channels: 5, ..BASE }, "out_channels is 5"),
            (Conv2d { kernel: [10, 2], ..BASE }, "is 10, but it must be at most the padded input, 9"),
            (Conv2d { padding: [usize::MAX, 0], ..BASE }, "below 2^32"),
            (Conv2d { batch: usize::MAX, ..BASE }, "small enough"),
        ] {
            let error = Geometry::new(settings).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
